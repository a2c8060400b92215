"""/compare: scores beside each other, run against run, and curves where the truth is known."""

import base64
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from dashboard.auth.serving import serve_this
from dashboard.queries import database, score_frames
from dashboard.queries.score_columns import ScoreColumn
from dashboard.queries.selection import MetaFilter, Selection
from scoring.audit import Audit
from scoring.audit.storage import read_table

from ..synthetic import make_audit
from .test_views import cells, grids, page, quiet, said, sound  # noqa: F401  pytest finds the fixtures by name


@pytest.fixture(scope="module")
def audit(tmp_path_factory):
    made = make_audit(
        tmp_path_factory.mktemp("compared") / "audit",
        600,
        4,
        runs=("main", "second"),
        splits=("train", "test", "pool"),
    )
    return known(made)


def known(audit, share: float = 1.0):
    """The audit with a truth: a label is wrong where the synthetic margin is lowest."""
    aum = read_table(audit.run().score_path("aum"), ["example_id", "aum", "label"]).to_pandas().dropna()
    aum = aum.iloc[: int(share * len(aum))]
    other = {name: audit.classes[(at + 1) % len(audit.classes)] for at, name in enumerate(audit.classes)}
    lowest = aum["aum"].rank() <= 0.1 * len(aum)
    aum["true_label"] = aum["label"].where(~lowest, aum["label"].map(other))
    aum[["example_id", "true_label"]].to_csv(audit.root / "truth.csv", index=False)
    text = (audit.root / "audit.toml").read_text()
    (audit.root / "audit.toml").write_text(text + '\n[truth]\npath = "truth.csv"\n')
    return Audit.open(audit.root)


def figures(app) -> list[dict]:
    return [json.loads(chart.proto.spec) for chart in app.get("plotly_chart")]


def numbers(value) -> np.ndarray:
    """An array of a figure, which Plotly may have packed."""
    if isinstance(value, dict):
        return np.frombuffer(base64.b64decode(value["bdata"]), dtype=value["dtype"])
    return np.array(value, dtype=float).reshape(-1)


def test_the_heat_map_is_scipys_correlation_of_turned_scores(audit):
    data = figures(page(audit, "compare"))[0]["data"]
    pairs = {tuple(pair): at for at, pair in enumerate(data[1]["customdata"])}
    values = numbers(data[0]["z"])
    scores = [
        read_table(audit.run().score_path(name)).to_pandas().set_index("example_id") for name in ("aum", "uncertainty")
    ]
    both = scores[0].join(scores[1][["loss", "entropy"]])
    both = both[both.index.str.startswith("train/")].dropna(subset=["aum", "loss"])
    expected = stats.spearmanr(-both["aum"], both["loss"]).statistic
    assert values[pairs["aum.aum", "uncertainty.loss"]] == pytest.approx(expected, abs=1e-6)
    assert values[pairs["aum.aum", "aum.aum"]] == pytest.approx(1)


def test_scores_without_the_label_are_told_from_those_with_it(audit):
    serve_this(audit.root)
    run = audit.run()
    takes = score_frames.uses_label(audit, run, database.score_columns(run))
    assert takes["aum.aum"] and not takes["uncertainty.entropy"] and not takes["vog.late_prediction_logit"]
    assert takes["vog.late_label_logit"]
    declared = ScoreColumn("uncertainty", "entropy", "Entropy", uses_label=True)
    assert score_frames.uses_label(audit, run, [declared]) == {"uncertainty.entropy": True}
    assert "pairs of two scores that do not" in said(page(audit, "compare"))


def test_scores_with_the_label_are_set_against_those_without(audit):
    pairs = figures(page(audit, "compare", pairs="with the label against without"))[0]["data"][1]["customdata"]
    assert {a for a, _ in pairs} == {
        "vog.late_label_logit_z",
        "aum.aum",
        "data_map.confidence",
        "data_map.variability",
        "uncertainty.loss",
    } - {"data_map.variability"}
    assert {b for _, b in pairs} == {
        "vog.late_prediction_logit_z",
        "uncertainty.entropy",
        "data_map.variability",
    }


def test_a_pair_in_the_address_shows_where_the_two_disagree(audit):
    app = page(audit, "compare", a="AUM", b="Loss")
    panels = grids(app)[0]["panels"]
    assert [panel["title"] for panel in panels] == [
        "Suspicious by AUM, not suspicious by Loss",
        "Suspicious by Loss, not suspicious by AUM",
    ]
    first = panels[0]["cells"][0]
    assert first["evidence"]["scores"] == ["aum.aum", "uncertainty.loss"]
    places = [cell["evidence"]["places"] for cell in panels[0]["cells"]]
    gaps = [a - b for a, b in places]
    assert gaps == sorted(gaps, reverse=True) and gaps[-1] > 0
    assert all(a < b for a, b in (cell["evidence"]["places"] for cell in panels[1]["cells"]))
    assert len(numbers(figures(app)[-1]["data"][0]["x"])) == 4  # the pair within each class


def test_a_click_on_a_cell_picks_its_pair(audit):
    app = page(audit, "compare", a="AUM")
    assert "Click a cell above" in said(app)
    app.session_state["b"] = "Entropy"  # what the click does
    app = sound(app.run())
    assert "Suspicious by AUM, not suspicious by Entropy" in str(grids(app)[0]["panels"][0]["title"])


@pytest.mark.parametrize(
    "filters", [{"class": "class 001"}, {"split": "test"}, {"filter": "camera", "meta.camera": "north"}]
)
def test_filters_restrict_what_is_compared(audit, filters):
    serve_this(audit.root)
    n = int(said(page(audit, "compare", **filters)).split("Computed over ")[1].split(" examples")[0])
    examples = pd.read_parquet(audit.examples_path)
    rows = examples["split"].eq(filters.get("split", "train"))
    rows &= examples["label"].eq(filters["class"]) if "class" in filters else True
    rows &= examples["meta.camera"].eq("north") if "filter" in filters else True
    assert n == rows.sum()


def test_variants_stage_and_method_come_from_the_address(audit):
    one = figures(page(audit, "compare"))[0]["data"][0]
    every = figures(page(audit, "compare", variants="all", method="Kendall", stage="early"))[0]["data"][0]
    assert len(every["x"]) == len(one["x"]) + 22
    assert "Kendall" in said(page(audit, "compare", method="Kendall"))


def test_the_overlap_says_what_chance_would_share(audit):
    app = page(audit, "compare", show="overlap", top="10 %")
    assert "two unrelated scores share 10" in said(app)
    table = app.dataframe[0].value
    assert set(table["top"]) == {1, 5, 10} and table["overlap"].between(0, 100).all()


def test_stability_compares_the_runs_that_have_a_score(audit):
    app = page(audit, "compare", show="stability", split="test", one="Loss")
    steady, deciles, _ = figures(app)
    assert [trace["name"] for trace in deciles["data"]] == ["mean ± 1 SD", "main", "second", "mean"]
    assert "Over 2 runs" in said(app)
    loss = pd.DataFrame(
        {
            name: read_table(audit.run(name).score_path("uncertainty"), ["example_id", "loss"])
            .to_pandas()
            .set_index("example_id")["loss"]
            for name in ("main", "second")
        }
    )
    loss = loss[loss.index.str.startswith("test/")].dropna()
    expected = stats.spearmanr(loss["main"], loss["second"]).statistic
    assert any(x == pytest.approx(expected, abs=1e-6) for x in numbers(steady["data"][0]["x"]))
    assert cells(app) and app.dataframe[0].value.columns[1:].tolist() == [
        "first three and all",
        "last three and all",
    ]


def test_one_run_says_how_to_get_more(tmp_path):
    audit = make_audit(tmp_path / "audit", 100, 3)
    assert f"hardlook repeat {audit.root} --run main --seeds 1,2" in said(page(audit, "compare", show="stability"))


def test_curves_of_the_truth_are_those_of_scikit_learn(audit):
    from sklearn.metrics import roc_auc_score

    app = page(audit, "compare", show="truth")
    table = app.dataframe[0].value.set_index("score")
    assert table.loc["AUM", "AUROC"] == 1 or table.loc["AUM", "AUROC"] > 0.99
    loss = read_table(audit.run().score_path("uncertainty"), ["example_id", "label", "loss"]).to_pandas()
    loss = loss[loss["example_id"].str.startswith("train/")].dropna().set_index("example_id")
    truth = pd.read_csv(audit.root / "truth.csv").set_index("example_id")["true_label"].reindex(loss.index)
    wrong = truth.dropna() != loss["label"].reindex(truth.dropna().index)
    expected = roc_auc_score(wrong, loss["loss"].reindex(wrong.index))
    assert table.loc["Loss", "AUROC"] == pytest.approx(expected)
    recall, roc = figures(app)
    assert [trace["name"] for trace in recall["data"]][:2] == ["perfect", "chance"]
    assert [trace["name"].split(",")[0] for trace in roc["data"]] == ["chance", "main", "second", "mean"]
    assert cells(app) == []


def test_the_truth_of_few_examples_is_never_shown(audit):
    for filters in (
        {"split": "test", "class": "class 001"},
        {"filter": "file:note *odd*", "meta.file:note *odd*": "note 17"},
    ):
        app = page(audit, "compare", show="truth", **filters)
        assert "Curves need at least 50 verified examples" in said(app) or "No example" in said(app)
        assert not app.get("plotly_chart") and not app.dataframe
    for name in ("compare", "grid", "suspects"):
        assert "true_label" not in json.dumps(grids(page(audit, name))), name


def test_many_wrong_labels_among_few_examples_are_not_shown_either(tmp_path):
    audit = make_audit(tmp_path / "audit", 45, 2, problems=0)
    examples = pd.read_parquet(audit.examples_path)
    other = examples["label"].map(dict(zip(audit.classes, reversed(audit.classes), strict=True)))
    true = other.where(np.arange(len(examples)) < 20, examples["label"])
    pd.DataFrame({"example_id": examples["example_id"], "true_label": true}).to_csv(
        audit.root / "truth.csv", index=False
    )
    text = (audit.root / "audit.toml").read_text()
    (audit.root / "audit.toml").write_text(text + '\n[truth]\npath = "truth.csv"\n')
    app = page(Audit.open(audit.root), "compare", show="truth")
    assert "at least 50 verified examples" in said(app) and not app.dataframe


def test_no_two_parts_whose_difference_tells_the_truth_of_one_example_are_shown(audit):
    serve_this(audit.root)
    north, wide = MetaFilter("meta.camera", ("north",)), MetaFilter("meta.width", low=100.0, high=1500.0)
    one = MetaFilter("meta.file:note *odd*", ("note 3",))
    told = {
        meta: score_frames.reveals_truth(audit, Selection("train", meta=meta))
        for meta in ((), (north,), (wide,), (north, wide), (one,), (MetaFilter("meta.camera", contains="n"),))
    }
    assert list(told.values()) == [False, False, True, True, True, True]
    assert score_frames.reveals_truth(audit, Selection("train", "class 001", meta=(north,))), (
        "too few of a class and a camera"
    )
    width = {"filter": ["width"], "meta.width.from": "100", "meta.width.to": "1900"}
    app = page(audit, "compare", show="truth", split="train", **width)
    assert "difference of two such selections" in said(app) and not app.dataframe


def test_without_truth_the_page_says_how_to_name_it(tmp_path):
    audit = make_audit(tmp_path / "audit", 100, 3)
    assert "[truth]" in said(page(audit, "compare", show="truth"))


@pytest.mark.parametrize("show", ["agreement", "overlap", "stability", "truth"])
@pytest.mark.parametrize("case", ["thousand classes", "one score", "pool alone", "one class"])
def test_the_page_stands(tmp_path, show, case):
    options = {
        "thousand classes": {"classes": 1000},
        "pool alone": {"splits": ("pool",)},
        "one class": {"classes": 1},
    }
    audit = make_audit(tmp_path / "audit", 200, **{"classes": 3, **options.get(case, {})})
    if case == "one score":
        for name in ("vog", "data_map", "uncertainty"):
            audit.run().score_path(name).unlink()
    app = page(audit, "compare", show=show, a="AUM", b="Loss")
    assert said(app)
    if case == "one score" and show in ("agreement", "overlap"):
        assert "A comparison needs two scores" in said(app) and "hardlook score" in said(app)


def test_one_of_each_score_is_compared_also_where_it_lacks_a_choice():
    vog = [
        ScoreColumn(
            "vog", f"{stage}{scale}", "", steps={"stage": stage, "index": "label", "form": "logit", "normalised": scale}
        )
        for stage in ("early", "late")
        for scale in ("raw", "z")
    ]
    other = [ScoreColumn("el2n", stage, "", steps={"stage": stage, "normalised": "raw"}) for stage in ("early", "all")]
    grand = ScoreColumn("grand", "early", "", steps={"stage": "early", "normalised": "raw"})
    found = score_frames.main_variants([*vog, *other, grand, ScoreColumn("aum", "aum", "")], "early")
    assert [c.address for c in found] == ["vog.earlyz", "el2n.early", "grand.early", "aum.aum"]
    late = score_frames.main_variants([*vog, *other, grand], "late")
    assert [c.address for c in late] == ["vog.latez", "el2n.early", "el2n.all", "grand.early"]


def test_scores_without_a_known_end_are_named(audit):
    assert "Neither end of these scores is known to be hard" in said(page(audit, "compare"))


def test_of_many_examples_the_same_sample_is_drawn(audit):
    serve_this(audit.root)
    run = audit.run()
    columns = score_frames.main_variants(database.score_columns(run), "late")
    one = score_frames.score_frame(audit, run, columns, Selection("train"), 50).values
    other = score_frames.score_frame(audit, run, columns[:1], Selection("train"), 50).values
    assert len(one) == 50 and one.index.equals(other.index)


def test_scores_of_the_sample_project_are_compared(scored_sample, tmp_path):
    audit = Audit.open(shutil.copytree(scored_sample, tmp_path / "audit"))
    app = page(audit, "compare")
    assert len(figures(app)[0]["data"][0]["x"]) >= 10
