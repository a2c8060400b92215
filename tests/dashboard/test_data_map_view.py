"""/data-map: where each example stood after any recorded epoch, its regions, and the lasso selection."""

import json

import numpy as np
import pandas as pd
import pytest

from dashboard.auth.serving import serve_this
from dashboard.charts.data_map import data_map as chart_of
from dashboard.queries import data_map_epochs
from dashboard.queries.data_map_epochs import Quantiles
from dashboard.queries.selection import Selection
from dashboard.queries.slicings import MOST_POINTS, subsample
from scoring.audit.storage import read_table, write_table
from scoring.scorers.data_map import data_map, data_map_regions
from scoring.training.dynamics import read_dynamics

from ..synthetic import make_audit, write_dynamics
from .test_compare_view import figures, numbers
from .test_views import cells, grids, page, quiet, said, sound  # noqa: F401  pytest finds the fixtures by name


@pytest.fixture(scope="module")
def audit(tmp_path_factory):
    made = make_audit(tmp_path_factory.mktemp("maps") / "audit", 400, 4, splits=("train", "test", "pool"))
    write_dynamics(made, made.run())
    write_dynamics(made, made.run(), 2, "other", seed=1)
    serve_this(made.root)
    return made


def expected(audit, upto: int, split: str = "train") -> pd.DataFrame:
    """Confidence, variability and correctness by the library's own function."""
    examples = pd.read_parquet(audit.examples_path)
    examples = examples[(examples["split"] == split) & examples["label"].notna() & examples["problem"].isna()]
    ids = examples["example_id"].tolist()
    recorded = read_dynamics(audit.run().dynamics_files("main")[:upto], ids)
    columns = dict(
        zip(
            ("confidence", "variability", "correctness"),
            data_map(recorded["p_label"], recorded["correct"]),
            strict=True,
        )
    )
    return pd.DataFrame(columns, index=ids).sort_index()


@pytest.mark.parametrize("upto", [1, 3, 5])
def test_after_every_epoch_the_map_is_that_of_the_scorer_over_the_epochs_so_far(audit, upto):
    found = data_map_epochs.positions(audit, audit.run(), "main", upto, Selection("train")).set_index("example_id")
    wanted = expected(audit, upto)
    assert found.index.tolist() == wanted.index.tolist()
    for name in wanted:
        np.testing.assert_allclose(found[name].to_numpy(dtype=float), wanted[name], atol=2e-6, err_msg=name)
    last = read_dynamics(audit.run().dynamics_files("main")[upto - 1 : upto], wanted.index.tolist(), ["correct"])
    assert found["correct"].tolist() == (last["correct"][0] == 1).tolist()


def test_examples_recorded_under_another_label_have_no_place(tmp_path):
    audit = make_audit(tmp_path / "audit", 100, 3)
    write_dynamics(audit, audit.run())
    table = read_table(audit.examples_path)
    examples = table.to_pandas()
    first = examples.index[examples["split"] == "train"][0]
    examples.loc[first, "label"] = next(c for c in audit.classes if c != examples.loc[first, "label"])
    write_table(audit.examples_path, table.set_column(table.column_names.index("label"), "label", [examples["label"]]))
    found = data_map_epochs.positions(audit, audit.run(), "main", 5, Selection("train"))
    assert examples.loc[first, "example_id"] not in found["example_id"].tolist()
    assert len(found) == len(expected(audit, 5)) - 1


def test_the_progress_is_the_mean_of_each_epoch(audit):
    found = data_map_epochs.progress(audit, audit.run(), "main", Selection("train"))
    p = read_dynamics(audit.run().dynamics_files("main"), expected(audit, 1).index.tolist(), ["p_label"])["p_label"]
    np.testing.assert_allclose(found["p_label"], p.mean(1), rtol=1e-5)
    assert found["epoch"].tolist() == [1, 2, 3, 4, 5] and found["p_label"].is_monotonic_increasing


def test_regions_are_the_librarys_and_each_is_listed_purest_first(audit):
    points = data_map_epochs.positions(audit, audit.run(), "main", 5, Selection("train"))
    cuts = Quantiles(easy=0.8, hard=0.1, ambiguous=0.9)
    points["region"] = data_map_epochs.regions(points, cuts)
    wanted = data_map_regions(points["confidence"], points["variability"], easy=0.8, hard=0.1, ambiguous=0.9)
    assert points["region"].tolist() == list(wanted)
    assert data_map_epochs.region_examples(points, "hard")["confidence"].is_monotonic_increasing
    assert data_map_epochs.region_examples(points, "ambiguous")["variability"].is_monotonic_decreasing
    assert data_map_epochs.region_examples(points, "easy")["confidence"].is_monotonic_decreasing


def test_the_page_draws_every_example_and_shows_the_hard_ones(audit):
    app = page(audit, "data-map")
    data = figures(app)[0]["data"]
    wanted = expected(audit, 5)
    assert sum(len(numbers(trace["x"])) for trace in data) == len(wanted)
    cell = grids(app)[0]["panels"][0]["cells"][0]
    assert cell["evidence"]["region"] == "hard" and cell["evidence"]["epoch"] == 5
    assert cell["evidence"]["confidence"] == pytest.approx(wanted.loc[cell["id"], "confidence"], abs=1e-4)


def test_the_epoch_region_and_training_stand_in_the_address(audit):
    app = page(audit, "data-map", epoch="2", examples="easy")
    assert "after epoch 2" in said(app)
    wanted = expected(audit, 2)
    first = cells(app)[0]
    assert wanted.loc[first, "confidence"] == wanted["confidence"].max()
    assert "after epoch 2" in said(page(audit, "data-map", training="other"))
    assert "after epoch 5" in said(page(audit, "data-map", epoch="99"))


def test_cuts_move_the_regions(audit):
    few = page(audit, "data-map", hard="5", examples="hard")
    many = page(audit, "data-map", hard="60", easy="90", ambiguous="100", examples="hard")
    assert grids(few)[0]["panels"][0]["note"] != grids(many)[0]["panels"][0]["note"]
    assert "quantile for hard is above" in said(page(audit, "data-map", hard="90", easy="50"))


def test_an_outline_in_the_address_shows_who_lies_inside(audit):
    app = page(audit, "data-map", lasso="-0.01,-0.01;0.6,-0.01;0.6,0.3;-0.01,0.3")
    wanted = expected(audit, 5)
    inside = wanted.index[wanted["confidence"] < 0.3]
    assert 0 < len(inside) == len(cells(app)) or len(cells(app)) == 24
    assert set(cells(app)) <= set(inside)
    assert "Selected" in grids(app)[0]["panels"][0]["title"]
    other = page(audit, "data-map", lasso="-0.01,-0.01;0.6,-0.01;0.6,0.3;-0.01,0.3", examples="easy")
    assert not set(cells(other)) & set(inside)


@pytest.mark.parametrize("colour", ["correctness", "label", "region", "AUM", "Entropy"])
def test_every_colour_draws_every_example(audit, colour):
    data = figures(page(audit, "data-map", colour=colour))[0]["data"]
    assert sum(len(numbers(trace["x"])) for trace in data) == len(expected(audit, 5))


@pytest.mark.parametrize(
    "filters", [{"class": "class 001"}, {"split": "test"}, {"filter": "camera", "meta.camera": "north"}]
)
def test_filters_restrict_the_map(audit, filters):
    examples = pd.read_parquet(audit.examples_path).set_index("example_id")
    rows = expected(audit, 5, filters.get("split", "train")).index
    rows = [i for i in rows if "class" not in filters or examples.loc[i, "label"] == filters["class"]]
    rows = [i for i in rows if "filter" not in filters or examples.loc[i, "meta.camera"] == "north"]
    assert f"{len(rows)} examples after epoch 5" in said(page(audit, "data-map", **filters))


def test_the_map_is_capped_evenly_with_every_flagged_point():
    n = 3 * MOST_POINTS
    rng = np.random.default_rng(0)
    points = pd.DataFrame(
        {
            "example_id": [f"id {at}" for at in range(n)],
            "label": np.where(np.arange(n) % 10 == 0, "rare", "common"),
            "prediction": "rare",
            "confidence": rng.random(n),
            "variability": rng.random(n) / 2,
            "correctness": rng.random(n),
            "score": np.nan,
            "region": "hard",
        }
    )
    flagged = {"id 1", f"id {n - 1}"}
    drawn = subsample(points, "label", always=flagged)
    assert len(drawn) == MOST_POINTS and flagged <= set(drawn["example_id"])
    assert (drawn["label"] == "rare").mean() == pytest.approx(0.1, abs=0.01)
    spec = json.loads(chart_of(drawn.head(50).reset_index(drop=True), "label", "").figure.to_json())
    assert {trace["name"].split(" (")[0] for trace in spec["data"]} == {"rare", "common"}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"classes": 1000}, "after epoch 5"),
        ({"classes": 1}, "after epoch 5"),
        ({"predictions": False, "scores": False}, "after epoch 5"),
    ],
    ids=str,
)
def test_the_page_stands(tmp_path, options, told):
    audit = make_audit(tmp_path / "audit", 100, **{"classes": 3, **options})
    write_dynamics(audit, audit.run())
    for colour in ("correctness", "label", "region"):
        assert told in said(page(audit, "data-map", colour=colour))


def test_without_a_recorded_training_the_page_says_what_to_run(tmp_path):
    audit = make_audit(tmp_path / "audit", 50, 3)
    assert f"hardlook train {audit.root}" in said(page(audit, "data-map"))


def test_a_single_epoch_has_no_slider(tmp_path):
    audit = make_audit(tmp_path / "audit", 50, 3)
    write_dynamics(audit, audit.run(), 1)
    assert "Only one epoch" in said(page(audit, "data-map"))


def test_filters_that_leave_nothing_say_so(audit):
    assert "No recorded example matches" in said(
        page(audit, "data-map", filter="file:note *odd*", **{"meta.file:note *odd*": "no such note"})
    )
