"""What pages read, against pandas: rankings, filters, pages of them, numbers, and what the log says at a
position.
"""

from itertools import chain

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dashboard.auth.serving import serve_this
from dashboard.presenters import cells
from dashboard.queries import database, decisions
from dashboard.queries.score_columns import (
    ScoreColumn,
    describe_ends,
    find_column,
    first_column,
    group_columns,
    stages_overlap,
)
from dashboard.queries.selection import MetaFilter, Selection
from dashboard.review_session import frozen_ranking
from dashboard.style import formatting
from dashboard.widgets import inputs
from scoring.audit.errors import HardlookError
from scoring.audit.storage import read_table, write_table
from scoring.evaluation import deciles, error_by_decile
from scoring.queue import order
from scoring.reviews import Event
from scoring.scorers import Column

from ..synthetic import AWKWARD, make_audit


@pytest.fixture(scope="module")
def audit(tmp_path_factory):
    return make_audit(tmp_path_factory.mktemp("audits") / "it's [1]*", 300, 4, splits=("train", "test", "pool"))


@pytest.fixture(scope="module")
def run(audit):
    return audit.run()


@pytest.fixture(scope="module")
def truth(audit, run):
    """Everything in one pandas frame, by example_id: the oracle."""
    frame = read_table(audit.examples_path).to_pandas().set_index("example_id")
    frame = frame.join(read_table(run.predictions_path).to_pandas().set_index("example_id"))
    for name in run.score_names():
        scores = read_table(run.score_path(name)).to_pandas().set_index("example_id")
        frame = frame.join(scores.drop(columns=["fingerprint", "label"]).add_prefix(f"{name}."))
    return frame


def column_of(run, address) -> ScoreColumn:
    return find_column(database.score_columns(run), address)


def ranked(truth, address, where=True):
    chosen = truth[where & truth[address].notna()].reset_index()
    return chosen.sort_values([address, "example_id"], kind="stable")["example_id"].tolist()


def test_a_ranking_is_the_sorted_score_without_what_is_not_scored(audit, run, truth):
    table = database.ranking(audit, run, column_of(run, "vog.late_label_logit_z"), Selection())
    assert table["example_id"].to_pylist() == ranked(truth, "vog.late_label_logit_z")
    assert table.num_rows < len(truth)


def test_a_ranking_holds_the_selected_examples_alone(audit, run, truth):
    column = column_of(run, "uncertainty.entropy")
    name = audit.classes[1]
    cases = {
        Selection("test"): truth["split"] == "test",
        Selection("train", name): (truth["split"] == "train") & (truth["label"] == name),
        Selection(class_name=name, index="prediction"): truth["prediction"] == name,
        Selection(meta=(MetaFilter("meta.camera", values=("north", None)),)): ~truth["meta.camera"].eq("south"),
        Selection(meta=(MetaFilter("meta.width", low=500, high=700),)): truth["meta.width"].between(500, 700),
        Selection(meta=(MetaFilter("meta.file:note *odd*", contains="NOTE 12"),)): truth[
            "meta.file:note *odd*"
        ].str.contains("note 12"),
        Selection(example="train/000003.png"): truth.index == "train/000003.png",
    }
    for chosen, where in cases.items():
        found = database.ranking(audit, run, column, chosen)["example_id"].to_pylist()
        assert found == ranked(truth, "uncertainty.entropy", where), chosen
        assert 0 < len(found) < len(truth), chosen


def test_a_filter_takes_hostile_text_as_text(audit, run):
    column = column_of(run, "uncertainty.entropy")
    for text in ("'; DROP TABLE e; --", '" OR 1=1', "\\", "%", "*", "?", "$1"):
        for chosen in (
            Selection(class_name=text),
            Selection(meta=(MetaFilter("meta.camera", contains=text),)),
            Selection(meta=(MetaFilter("meta.camera", values=(text,)),)),
            Selection(example=text),
        ):
            assert database.ranking(audit, run, column, chosen).num_rows == 0, (text, chosen)


def test_the_ten_deciles_of_a_selection_part_it(audit, run, truth):
    column = column_of(run, "vog.late_label_logit_z")
    parts = [
        database.ranking(audit, run, column, Selection("train", decile=d))["example_id"].to_pylist()
        for d in range(1, 11)
    ]
    assert list(chain(*parts)) == ranked(truth, column.address, (truth["split"] == "train") & truth["correct"].notna())


def test_error_per_decile_is_of_the_examples_that_the_decile_shows(audit, run, truth):
    column = column_of(run, "aum.aum")
    frame = database.decile_errors(audit, run, column, Selection("train"))
    for decile in (1, 10):
        ids = database.ranking(audit, run, column, Selection("train", decile=decile))["example_id"].to_pylist()
        assert frame["error"][decile - 1] == pytest.approx(1 - truth.loc[ids, "correct"].astype(bool).mean())
        assert frame["n"][decile - 1] == len(ids)


def test_error_per_decile_agrees_with_evaluation(audit, run, truth):
    column = column_of(run, "aum.aum")
    known = truth[(truth["split"] == "test") & truth["correct"].notna() & truth["aum.aum"].notna()]
    expected = error_by_decile(known["aum.aum"].to_numpy(), ~known["correct"].astype(bool).to_numpy())
    pd.testing.assert_frame_equal(database.decile_errors(audit, run, column, Selection("test")), expected)


def test_deciles_within_classes_are_those_of_each_class_alone(audit, run):
    column = column_of(run, "aum.aum")
    frame = database.class_decile_errors(audit, run, column, Selection("train"), audit.classes[:2])
    alone = database.decile_errors(audit, run, column, Selection("train", audit.classes[1]))
    assert frame[frame["class"] == audit.classes[1]]["error"].tolist() == pytest.approx(
        alone["error"].tolist(), nan_ok=True
    )


def test_details_come_in_the_order_asked_for_and_unknown_ids_are_empty(audit, run, truth):
    ids = ["train/000005.png", "no such", "train/000001.png"]
    frame = database.details(audit, run, ids)
    assert frame.index.tolist() == ids
    assert frame["prediction"].tolist()[0] == truth.loc[ids[0], "prediction"]
    assert frame.loc["no such"].isna().all()


def test_accuracy_and_counts_agree_with_pandas(audit, run, truth):
    found = database.accuracy(audit, run, Selection(), ["split", "label"])
    found = database.with_intervals(found).set_index(["split", "label"])
    known = truth[truth["correct"].notna()]
    expected = known["correct"].astype(bool).groupby([known["split"], known["label"]]).mean()
    assert found["accuracy"].to_dict() == pytest.approx(expected.to_dict())
    assert (found["low"] <= found["accuracy"]).all() and (found["accuracy"] <= found["high"]).all()
    counts = database.counts(audit, Selection(), ["split"]).set_index("split")
    assert counts["n"].to_dict() == truth["split"].value_counts().to_dict()
    assert counts["problems"].sum() == truth["problem"].notna().sum()


def test_metadata_is_filtered_by_values_by_range_or_by_text(audit):
    kinds = {name: database.meta_choices(audit, name)[0] for name in database.meta_columns(audit)}
    assert kinds == {"meta.camera": "values", "meta.width": "range", "meta.file:note *odd*": "text"}
    assert set(database.meta_choices(audit, "meta.camera")[1]) == {"north", "south", None}


def test_a_file_written_anew_is_read_anew(tmp_path):
    audit = make_audit(tmp_path / "audit", 50, 2)
    run = audit.run()
    column = column_of(run, "aum.aum")
    before = database.ranking(audit, run, column, Selection())
    table = read_table(run.score_path("aum"))
    flipped = pa.array(-table["aum"].to_numpy(), pa.float32(), mask=np.isnan(table["aum"].to_numpy()))
    write_table(run.score_path("aum"), table.set_column(3, table.schema.field("aum"), flipped))
    after = database.ranking(audit, run, column, Selection())
    assert after["example_id"].to_pylist() == before["example_id"].to_pylist()[::-1]


def test_what_changed_since_it_was_scored_is_stale(tmp_path):
    audit = make_audit(tmp_path / "audit", 50, 3)
    run = audit.run()
    assert database.coverage(audit, run)["stale"].tolist() == [0] * 4
    examples = read_table(audit.examples_path).to_pandas()
    examples.loc[0, "fingerprint"] = "f" * 64
    examples.loc[1, "label"] = next(name for name in audit.classes if name != examples.loc[1, "label"])
    examples.loc[2, "example_id"] = "train/new.png"
    write_table(audit.examples_path, pa.Table.from_pandas(examples, preserve_index=False))
    coverage = database.coverage(audit, run)
    assert coverage["stale"].tolist() == [2] * 4
    assert coverage["missing"].tolist() == [1] * 4


def test_a_broken_score_file_is_named_and_the_others_are_read(tmp_path):
    audit = make_audit(tmp_path / "audit", 50, 2)
    run = audit.run()
    run.score_path("broken").write_bytes(b"PAR1 no")
    assert database.broken_scores(run) == ["broken"]
    assert {column.scorer for column in database.score_columns(run)} == {"aum", "data_map", "uncertainty", "vog"}


def test_without_scores_or_predictions_rankings_are_empty(tmp_path):
    audit = make_audit(tmp_path / "audit", 20, 2, predictions=False, scores=False)
    run = audit.run()
    column = ScoreColumn("aum", "aum", "AUM")
    assert database.ranking(audit, run, column, Selection()).num_rows == 0
    assert database.decile_errors(audit, run, column, Selection())["n"].sum() == 0
    assert database.accuracy(audit, run, Selection(), ["split"]).empty
    assert "prediction" not in database.details(audit, run, ["train/000000.png"])


def test_duplicates_are_grouped_by_content(audit):
    frame = database.duplicates(audit)
    assert frame["copies"].tolist() == [2, 2, 2, 2]


# -- score columns
# ---------------------------------------------------------------------------------------------------


def test_an_unknown_score_is_known_from_its_file_alone(tmp_path):
    audit = make_audit(tmp_path / "audit", 20, 2)
    run = audit.run()
    field = Column(name="oddness", title="Oddness", help="How odd.", unit="odds", suspicious="low").arrow_field()
    table = pa.table(
        {"example_id": ["train/000000.png"], "oddness": pa.array([1.5], pa.float32())},
        schema=pa.schema([pa.field("example_id", pa.string()), field]),
    )
    write_table(run.score_path("unheard_of"), table)
    column = column_of(run, "unheard_of.oddness")
    assert (column.title, column.unit, column.hard_end) == ("Oddness", "odds", "low")
    assert database.ranking(audit, run, column, Selection())["score"].to_pylist() == [1.5]


def test_variants_of_one_score_are_one_choice_with_steps(run):
    scores = {score.title: score for score in group_columns(database.score_columns(run))}
    assert scores["VoG"].steps == ["stage", "index", "form", "normalised"]
    assert len(scores["VoG"].columns) == 24
    assert scores["AUM"].steps == []
    assert set(scores) == {"VoG", "AUM", "Data map confidence", "Data map variability", "Loss", "Entropy"}


def test_two_scores_of_one_title_are_told_apart():
    titles = [score.title for score in group_columns([ScoreColumn("a", "x", "Loss"), ScoreColumn("b", "x", "Loss")])]
    assert titles == ["Loss (a.x)", "Loss (b.x)"]


def test_the_grid_starts_with_late_logit_vog_of_the_label_as_z(run):
    assert first_column(database.score_columns(run)).address == "vog.late_label_logit_z"
    with pytest.raises(HardlookError, match="no score to show"):
        first_column([])


def test_the_hard_end_is_the_measured_one_and_a_warning_where_neither_is():
    def column(**direction):
        return ScoreColumn("vog", "x", "VoG", suspicious="measured", direction=direction)

    measured = {"low": -0.4, "high": -0.2, "n": 1000, "split": "test"}
    assert describe_ends(column(rho=-0.3, hard="low", **measured)) == (
        False,
        "The lowest values are hard in this run (rank correlation of score and model error -0.3, 95 % interval "
        "-0.4 to -0.2, over 1,000 test examples).",
    )
    warning, sentence = describe_ends(column(rho=-0.01, hard=None, **measured))
    assert warning and sentence.startswith("Neither end is hard in this run")
    warning, sentence = describe_ends(column(rho=-0.01, hard=None, both=True, **measured))
    assert warning and sentence.startswith("Both ends are hard in this run")
    assert describe_ends(column(rho=None, n=40, errors=0))[0]
    assert describe_ends(ScoreColumn("vog", "x", "VoG", suspicious="measured"))[0]
    assert describe_ends(ScoreColumn("aum", "x", "AUM", suspicious="low")) == (
        False,
        "The lowest values are suspicious, by the definition of the score.",
    )


def test_stages_overlap_with_fewer_than_six_checkpoints():
    assert stages_overlap({"checkpoints": [{}] * 5}) == 5
    assert stages_overlap({"checkpoints": [{}] * 6}) is None
    assert stages_overlap({}) is None


# -- decisions
# -------------------------------------------------------------------------------------------------------


def decide(log, seq, example_id, verdict="given", **more):
    log.append(
        [
            Event(
                client="test",
                seq=seq,
                example_id=example_id,
                reviewer="ada",
                action="decide",
                verdict=verdict,
                **more,
            )
        ]
    )


@pytest.fixture
def reviewed(tmp_path):
    """An audit that this process serves, and its log."""
    audit = make_audit(tmp_path / "audit", 40, 3)
    serve_this(audit.root)
    return audit, decisions.open_log(audit)


def test_the_state_at_a_position_is_what_the_log_said_then(reviewed):
    audit, log = reviewed
    decide(log, 1, "train/000001.png")
    then = decisions.last_position(audit)
    decide(log, 2, "train/000002.png", "other", new_label=audit.classes[0])
    log.append(
        [
            Event(
                client="test",
                seq=3,
                example_id="train/000001.png",
                reviewer="ada",
                action="undo",
                undoes=("test", 1),
            )
        ]
    )
    log.append([Event(client="test", seq=4, example_id="train/000003.png", reviewer="ada", action="flag")])
    assert decisions.state_at(audit, then)["decided"] == {"train/000001.png"}
    now = decisions.state_at(audit)
    assert now["decided"] == now["other"] == {"train/000002.png"}
    assert now["flagged"] == {"train/000003.png"}
    assert now["given"] == frozenset()


def test_a_queue_keeps_what_is_asked_for(reviewed):
    audit, log = reviewed
    table = pa.table({"example_id": ["a", "b", "c"]})
    decide(log, 1, "b")
    now = decisions.state_at(audit)
    assert decisions.filter_by_decision(table, "undecided", now)["example_id"].to_pylist() == ["a", "c"]
    assert decisions.filter_by_decision(table, "decided", now)["example_id"].to_pylist() == ["b"]
    assert decisions.filter_by_decision(table, None, now) is table


def test_a_frozen_queue_keeps_its_examples_while_they_are_decided(reviewed):
    audit, log = reviewed
    run = audit.run()
    column = column_of(run, "aum.aum")
    undecided = Selection(decision="undecided")
    first = frozen_ranking.freeze(audit, run, column, undecided, decisions.last_position(audit))
    decide(log, 1, first.table["example_id"][0].as_py())
    again = frozen_ranking.freeze(audit, run, column, undecided, first.as_of)
    assert again.table.equals(first.table)
    assert (
        frozen_ranking.freeze(audit, run, column, undecided, decisions.last_position(audit)).table.num_rows
        == first.table.num_rows - 1
    )


def test_progress_counts_what_each_reviewer_decided(reviewed):
    audit, log = reviewed
    decide(log, 1, "a")
    decide(log, 2, "b", "other", new_label=audit.classes[0], seconds=2.0)
    log.append([Event(client="other", seq=1, example_id="c", reviewer="bo", action="flag")])
    frame = decisions.progress(audit)
    assert frame.loc["ada", ["decided", "relabelled", "flagged"]].tolist() == [2, 1, 0]
    assert frame.loc["bo", ["decided", "flagged"]].tolist() == [0, 1]


# -- cells
# -----------------------------------------------------------------------------------------------------------


def test_a_cell_carries_what_the_reviewer_saw(audit, run, truth):
    serve_this(audit.root)
    column = column_of(run, "aum.aum")
    table = database.ranking(audit, run, column, Selection("train"))
    made = cells.make_cells(
        audit, run, table.slice(0, 3), column, ranks=[1, 2, 3], of=table.num_rows, url="http://x/suspects"
    )
    row = truth.loc[made[0]["id"]]
    assert (made[0]["label"], made[0]["prediction"]) == (row["label"], row["prediction"])
    evidence = made[0]["evidence"]
    assert evidence["rank"] == 1 and evidence["of"] == table.num_rows and evidence["score"] == "aum.aum"
    assert evidence["value"] == pytest.approx(row["aum.aum"])
    assert evidence["suggestion"] != row["label"] and evidence["suggestion_source"] == "last checkpoint"
    assert evidence["url"] == "http://x/suspects" and evidence["run"] == "main"
    assert all(type(value) in (str, int, float, bool, type(None)) for value in evidence.values())


def test_the_suggestions_of_a_page_are_those_of_the_whole(audit, run, truth):
    whole = order.suggestions(audit, run).set_index("example_id")
    page = ["train/000005.png", "no such", "train/000001.png"]
    found = database.suggestions(audit, run, truth["label"].reindex(page))
    assert found.index.tolist() == page
    pd.testing.assert_frame_equal(found.loc[[page[0], page[2]]], whole.loc[[page[0], page[2]]])
    assert found.loc["no such"].isna().all()


def test_a_pool_example_has_no_label_and_is_not_wrong(audit, run):
    pool = database.labels(audit).query("split == 'pool'")["example_id"].head(1).tolist()
    cell = cells.make_cells(audit, run, pa.table({"example_id": pool}), None)[0]
    assert cell["label"] is None and cell["wrong"] is False and cell["prediction"] is not None


def test_links_between_pages_carry_the_state_that_the_widgets_read(run):
    columns_ = database.score_columns(run)
    column = column_of(run, "vog.early_prediction_probability")
    assert inputs.score_parameters(columns_, column) == {
        "score": "VoG",
        "stage": "early",
        "by": "prediction",
        "form": "probability",
        "scale": "raw",
    }
    meta = (MetaFilter("meta.camera", values=("north", None)), MetaFilter("meta.width", low=5.0))
    assert inputs.meta_parameters(meta) == {
        "filter": ["camera", "width"],
        "meta.camera": ["north", inputs.NOTHING],
        "meta.width.from": "5.0",
    }


def test_names_cannot_break_out_of_markdown():
    for name in (*AWKWARD, "``", "`", " ", "", "a\nb"):
        text = formatting.quoted(name)
        fence = text[: len(text) - len(text.lstrip("`"))]
        assert text.endswith(fence) and fence not in text[len(fence) : -len(fence)].strip("`") and "\n" not in text


def test_deciles_of_evaluation_are_what_the_ranking_cuts():
    assert deciles(np.arange(10.0)).tolist() == list(range(1, 11))


def test_a_file_that_cannot_be_looked_at_has_no_stamp(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_text("")
    assert database.stamp(tmp_path / "file") is not None
    assert database.stamp(tmp_path / "loop") is None
    assert database.stamp(tmp_path / "file" / "inside") is None


def test_a_parquet_file_whose_footer_is_damaged_is_one_sentence_wherever_the_bit_lies(tmp_path):
    """A file without checksums, as earlier versions wrote it: DuckDB has an error of its own for each place."""
    pq.write_table(pa.table({"example_id": ["a", "b"] * 50, "x": np.arange(100.0)}), tmp_path / "plain.parquet")
    data, refused = (tmp_path / "plain.parquet").read_bytes(), 0
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    for at in range(footer, len(data) - 8):
        path = tmp_path / f"{at}.parquet"
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x80]) + data[at + 1 :])
        try:
            database.sql(f"SELECT * FROM read_parquet('{path}')")
        except HardlookError:
            refused += 1
    assert refused > 20
