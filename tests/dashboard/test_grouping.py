"""Grouping by a metadata column: the groups against pandas, and what every page makes of them."""

import json

import pandas as pd
import pytest

from dashboard.auth.serving import serve_this
from dashboard.pages import PAGES
from dashboard.queries import database
from dashboard.queries.score_columns import find_column
from dashboard.queries.selection import Selection
from dashboard.widgets import grouping
from scoring.audit.storage import read_table
from scoring.evaluation import error_by_decile
from scoring.reviews import Event, ReviewLog

from ..synthetic import make_audit, write_dynamics
from .test_compare_view import figures
from .test_slices_view import sliced  # noqa: F401  pytest finds the fixtures by name
from .test_views import cells, grids, page, quiet, said  # noqa: F401  pytest finds the fixtures by name

NOTE = "file:note *odd*"


@pytest.fixture(scope="module")
def audit(tmp_path_factory):
    made = make_audit(tmp_path_factory.mktemp("grouped") / "audit", 400, 4, splits=("train", "test", "pool"))
    write_dynamics(made, made.run())
    serve_this(made.root)
    return made


@pytest.fixture(scope="module")
def truth(audit):
    """Examples with their predictions: the oracle."""
    frame = read_table(audit.examples_path).to_pandas().set_index("example_id")
    return frame.join(
        read_table(audit.run().predictions_path, ["example_id", "correct"]).to_pandas().set_index("example_id")
    )


def named(frame) -> pd.Series:
    """The camera of each example, as its group is called."""
    return frame["meta.camera"].fillna(grouping.NOTHING)


def test_a_column_of_few_values_is_grouped_by_them_and_by_what_has_none(audit, truth):
    found = grouping.groups_of_column(audit, "camera")
    sizes = named(truth).value_counts()
    assert {group.name: group.n for group in found.groups} == sizes.to_dict()
    assert [group.n for group in found.groups] == sorted(sizes, reverse=True) and not found.omitted_note
    members = grouping.group_by_example(audit, found)
    assert members.to_dict() == named(truth).to_dict()


def test_numbers_are_grouped_by_quartiles_each_example_in_one(audit, truth):
    found = grouping.groups_of_column(audit, "width")
    members = grouping.group_by_example(audit, found)
    assert len(found.groups) == 4 and sorted(members.index) == sorted(truth.index)
    assert sum(group.n for group in found.groups) == len(truth) and min(group.n for group in found.groups) > 80
    low = truth["meta.width"].groupby(members.reindex(truth.index)).agg(["min", "max"]).reindex(found.names)
    assert low["min"].is_monotonic_increasing and (low["max"].to_numpy()[:-1] < low["min"].to_numpy()[1:]).all()


def test_of_a_column_of_texts_the_most_frequent_are_groups_and_the_page_says_so(audit):
    found = grouping.groups_of_column(audit, NOTE)
    assert len(found.groups) == grouping.MOST and found.left_out == 400 - grouping.MOST
    assert "380 more values are not shown" in found.omitted_note
    assert grouping.groups_of_column(audit, "no such column") is None and grouping.groups_of_column(audit, None) is None


def test_accuracy_and_deciles_of_a_group_are_those_of_its_examples(audit, truth):
    found, run = grouping.groups_of_column(audit, "camera"), audit.run()
    test = truth[(truth["split"] == "test") & truth["correct"].notna()]
    accuracy = grouping.accuracy(audit, run, Selection("test"), found).set_index("label")["accuracy"]
    expected = test["correct"].astype(bool).groupby(named(test)).mean()
    assert accuracy.to_dict() == pytest.approx(expected.to_dict())
    column = find_column(database.score_columns(run), "aum.aum")
    scores = read_table(run.score_path("aum"), ["example_id", "aum"]).to_pandas().set_index("example_id")["aum"]
    deciles = grouping.decile_errors(audit, run, column, Selection("test"), found)
    own = (
        test[named(test) == "north"]
        .join(scores)
        .dropna(subset=["aum"])
        .reset_index()
        .sort_values(["aum", "example_id"])
    )
    wanted = error_by_decile(own["aum"].to_numpy(), ~own["correct"].astype(bool).to_numpy())
    assert deciles[deciles["class"] == "north"]["error"].tolist() == pytest.approx(
        wanted["error"].tolist(), nan_ok=True
    )


def test_the_grid_stands_in_groups_each_with_its_own_ends(audit, truth):
    app = page(audit, "grid", grouped="camera", score="AUM", split="train")
    panels = [panel for grid in grids(app) for panel in grid["panels"]]
    assert [panel["title"].split(" · ")[0] for panel in panels] == [
        name for name in grouping.groups_of_column(audit, "camera").names for _ in (0, 1)
    ]
    groups = named(truth)
    scores = read_table(audit.run().score_path("aum"), ["example_id", "aum"]).to_pandas().set_index("example_id")["aum"]
    for panel in panels:
        name, ids = panel["title"].split(" · ")[0], [cell["id"] for cell in panel["cells"]]
        own = scores[
            (groups == name).reindex(scores.index) & (truth["split"] == "train").reindex(scores.index)
        ].dropna()
        ordered = own.reset_index().sort_values(["aum", "example_id"], ascending="Lowest" in panel["title"])
        assert ids == ordered["example_id"].tolist()[: len(ids)] and len(ids) == 10


HEADED = {"overview": "By camera", "deciles": "Within each camera", "data-map": "By camera", "reviews": "By camera"}


@pytest.mark.parametrize("column", ["camera", "width", NOTE])
@pytest.mark.parametrize("name", [one.name for one in PAGES])
def test_every_page_stands_in_groups(audit, name, column):
    with ReviewLog.open(audit.log_url, audit=audit.log_name(audit.log_url)) as log:
        log.append([Event(client="c", seq=1, example_id="train/000010.png", reviewer="ada", action="flag")])
    app = page(audit, name, grouped=column)
    if column == "camera":
        assert HEADED.get(name, "") in said(app)


def test_a_pair_of_scores_is_compared_within_each_group(audit):
    app = page(audit, "compare", grouped="camera", a="AUM", b="Loss")
    assert "Correlation within each camera" in said(app)


def test_the_queue_keeps_the_groups_of_the_sidebar_together(audit, truth):
    ids = cells(page(audit, "suspects", view="Sheet", grouped="camera", size="100"))
    groups = named(truth).reindex(ids)
    assert groups.iloc[0] != grouping.NOTHING or len(groups) > 1
    with_one = groups[groups != grouping.NOTHING]
    assert (with_one != with_one.shift()).sum() <= 2, "the members of a group follow each other"


def test_slices_are_counted_by_group(sliced):
    columns = [name.removeprefix("meta.") for name in database.meta_columns(sliced)]
    assert columns, "the sample has metadata"
    app = page(sliced, "slices", slicing="four", grouped=columns[0])
    tables = [element.value for element in app.dataframe]
    assert any("members" in table.columns for table in tables)


def test_reviews_count_the_decisions_of_each_group(audit, truth):
    now = {"decided": frozenset(["train/000010.png"])}
    table = grouping.progress(audit, Selection(), grouping.groups_of_column(audit, "camera"), now).set_index("group")
    assert table["examples"].to_dict() == named(truth).value_counts().to_dict()
    assert table["decided"].sum() == 1 and table.loc[named(truth)["train/000010.png"], "decided"] == 1


def test_groups_of_a_blind_test_show_no_numbers_of_the_model(tmp_path):
    made = make_audit(tmp_path / "audit", 400, 4)
    with (made.root / "audit.toml").open("a", encoding="utf8") as file:
        file.write('\n[policy]\ntest = "blind"\n')
    assert "not for a part chosen by metadata" in said(page(made, "deciles", grouped="camera"))
    app = page(made, "overview", grouped="camera")
    charts = [json.dumps(figure, ensure_ascii=False) for figure in figures(app)]
    told = [one for one in charts if "north, train" in one and "right (95" in one]
    assert told and not any("north, test" in one for one in told)
