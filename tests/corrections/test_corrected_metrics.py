"""Metrics on original and on corrected labels, counted by hand, and where pages and the report show them."""

import numpy as np
import pandas as pd
import pytest

from dashboard.presenters import corrected_metrics
from dashboard.queries import database, decisions
from dashboard.queries.selection import Selection
from scoring.audit.storage import read_table, write_table, write_vectors
from scoring.corrections.corrected_metrics import by_decile, by_group, by_slice, decile_band, judged
from scoring.report import render
from scoring.reviews import Event, ReviewLog
from scoring.slices.slicing_run import SliceSettings, read_slicing, slice_run

from ..dashboard.test_views import quiet  # noqa: F401  pytest finds the fixtures by name
from ..synthetic import make_audit

EXAMPLES = pd.DataFrame(
    {
        "example_id": list("abcdefg"),
        "split": ["train"] * 3 + ["test"] * 4,
        "label": ["x", "x", "y", "x", "y", "y", None],
        "fingerprint": list("1234567"),
    }
)
PREDICTIONS = pd.DataFrame({"example_id": list("abcdefg"), "prediction": ["x", "y", "y", "y", "y", "x", "x"]})


@pytest.fixture
def log(tmp_path):
    with ReviewLog.open(tmp_path / "log.sqlite", "audit") as log:
        yield log


def say(log, seq, example, verdict, **fields):
    row = EXAMPLES.set_index("example_id").loc[example]
    log.append(
        [
            Event(
                client="ana",
                seq=seq,
                example_id=example,
                reviewer="ana",
                action="decide",
                verdict=verdict,
                label=row["label"],
                fingerprint=row["fingerprint"],
                **fields,
            )
        ]
    )


def on_both_labels(examples, predictions, log, by=("split",)):
    return by_group(judged(examples, predictions, log), by)


def test_without_decisions_both_are_the_same(log):
    found = on_both_labels(EXAMPLES, PREDICTIONS, log).set_index("split")
    assert found.loc["train"].to_list() == [3, 2 / 3, 3, 2 / 3, 0, 0]
    assert found.loc["test"].to_list() == [3, 1 / 3, 3, 1 / 3, 0, 0], "the example without a label counts nowhere"


def test_a_new_label_an_excluded_example_and_an_unsure_one_count_as_the_patch_has_them(log):
    say(log, 1, "d", "other", new_label="y")  # the model said y: right now
    say(log, 2, "e", "none")  # excluded: was right
    say(log, 3, "f", "unsure")  # waits: keeps its label, stays wrong
    found = on_both_labels(EXAMPLES, PREDICTIONS, log).set_index("split")
    assert found.loc["test"].to_list() == [3, 1 / 3, 2, 1 / 2, 1, 1]
    assert found.loc["train"].to_list() == [3, 2 / 3, 3, 2 / 3, 0, 0], (
        "what is said about test changes nothing in train"
    )
    both = on_both_labels(EXAMPLES, PREDICTIONS, log, by=["split", "label"]).set_index(["split", "label"])
    assert both.loc[("test", "x")].to_list() == [1, 0, 1, 1, 1, 0]


def test_where_all_is_excluded_there_is_no_corrected_accuracy(log):
    for seq, example in enumerate("abc", start=1):
        say(log, seq, example, "none")
    found = on_both_labels(EXAMPLES, PREDICTIONS, log).set_index("split")
    assert pd.isna(found.loc["train", "corrected"]) and found.loc["train", "original"] == 2 / 3


def test_deciles_and_slices_by_hand(log):
    """Ten examples, one per decile: the third was called wrong by the model and is relabelled to what it said, the
    fifth was right and is relabelled away, the last is excluded."""
    ids = [f"e{k}" for k in range(10)]
    examples = pd.DataFrame({"example_id": ids, "split": "test", "label": "x", "fingerprint": ids})
    predictions = pd.DataFrame({"example_id": ids, "prediction": ["x", "x", "y", "y", "x", "x", "x", "x", "x", "y"]})
    said = {"e2": ("other", "y"), "e4": ("other", "y"), "e9": ("none", None)}
    log.append(
        [
            Event(
                client="c",
                seq=at,
                example_id=one,
                reviewer="ana",
                action="decide",
                verdict=verdict,
                new_label=new,
                label="x",
                fingerprint=one,
            )
            for at, (one, (verdict, new)) in enumerate(said.items(), 1)
        ]
    )
    found = judged(examples, predictions, log)
    scores = pd.Series(np.arange(10.0), index=ids)
    table = by_decile(found, scores)
    assert table["original"].tolist() == [0, 0, 1, 1, 0, 0, 0, 0, 0, 1]
    assert table["corrected"].tolist()[:9] == [0, 0, 0, 1, 1, 0, 0, 0, 0] and np.isnan(table["corrected"].iloc[9])
    assert table["relabelled"].tolist() == [0, 0, 1, 0, 1, 0, 0, 0, 0, 0] and table["excluded"].sum() == 1
    assert by_decile(found, scores.drop("e9"))["n"].sum() == 9, "what has no score is in no decile"
    slices = by_slice(found, pd.DataFrame({"example_id": ids, "slice_id": [0] * 3 + [1] * 2 + [2] * 4 + [-1]}))
    assert slices[["slice_id", "original", "corrected", "relabelled"]].to_numpy().tolist() == [
        [0, 2 / 3, 1, 1],
        [1, 1 / 2, 0, 1],
        [2, 1, 1, 0],
    ]


def test_deciles_over_several_runs_by_hand(log):
    """Two runs of ten examples that rank in opposite orders: each is cut into its own deciles and judged by its own
    model."""
    ids = [f"e{k}" for k in range(10)]
    examples = pd.DataFrame({"example_id": ids, "split": "test", "label": "x", "fingerprint": ids})
    models = {"a": ["y"] * 2 + ["x"] * 8, "b": ["x"] * 9 + ["y"]}
    for seq, (one, verdict, new) in enumerate([("e0", "other", "y"), ("e9", "none", None)], 1):
        log.append(
            [
                Event(
                    client="c",
                    seq=seq,
                    example_id=one,
                    reviewer="ana",
                    action="decide",
                    verdict=verdict,
                    new_label=new,
                    label="x",
                    fingerprint=one,
                )
            ]
        )
    found = {
        run: judged(examples, pd.DataFrame({"example_id": ids, "prediction": said}), log)
        for run, said in models.items()
    }
    up = pd.Series(np.arange(10.0), index=ids)
    band = decile_band(found, {"a": up, "b": -up}).set_index("decile")
    # a, lowest first: e0 right now, e1 wrong, …, e9 left out; b: e9 left out, e8 … e1 right, e0 wrong now
    assert band["mean"].tolist() == [0, 0.5, 0, 0, 0, 0, 0, 0, 0, 1]
    assert band["runs"].tolist() == [1, 2, 2, 2, 2, 2, 2, 2, 2, 1]
    assert band["changed"].tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 0, 1], "two changed labels in each run"
    assert band.loc[2, "deviation"] == pytest.approx(0.5**0.5) and np.isnan(band.loc[1, "deviation"])


# -- on pages ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reviewed(tmp_path_factory):
    """300 examples with slices of test; 12 wrong test examples relabelled to what the model said."""
    from dashboard.auth.serving import serve_this

    audit = make_audit(tmp_path_factory.mktemp("corrected") / "audit", 600, 3, wrong=0.2, runs=("main", "second"))
    run, frame = audit.run(), read_table(audit.examples_path, ["example_id", "split", "label"])
    predicted = read_table(run.predictions_path)
    write_table(
        run.predictions_path, predicted.append_column("split", frame["split"]).append_column("label", frame["label"])
    )
    rng = np.random.default_rng(0)
    write_vectors(run.influence_path, frame["example_id"].to_pylist(), rng.normal(size=(600, 4)).astype(np.float32))
    slice_run(audit, run, SliceSettings(n_slices=2), "two")
    serve_this(audit.root)
    both = frame.to_pandas().merge(predicted.to_pandas()[["example_id", "prediction", "correct"]], on="example_id")
    wrong = both[(both["split"] == "test") & both["correct"].eq(False)].head(12)
    assert len(wrong) == 12
    decisions.open_log(audit).append(
        [
            Event(
                client="c",
                seq=at,
                example_id=row.example_id,
                reviewer="ana",
                action="decide",
                verdict="other",
                label=row.label,
                new_label=row.prediction,
            )
            for at, row in enumerate(wrong.itertuples(), 1)
        ]
    )
    return audit


def test_pages_show_both_wherever_they_show_one(reviewed, quiet):
    from ..dashboard.test_views import grids, page, said

    run, selection = reviewed.run(), Selection("test")
    column = next(one for one in database.score_columns(run) if one.address == "uncertainty.entropy")
    plain = database.decile_errors(reviewed, run, column, selection)
    beside = corrected_metrics.add_corrected_deciles(reviewed, run, column, selection, plain)
    assert beside["changed"].sum() == 12
    everything = corrected_metrics.corrected_examples(reviewed, run, selection)
    mine = by_decile(
        everything, read_table(run.score_path("uncertainty")).to_pandas().set_index("example_id")["entropy"]
    )
    assert np.allclose(mine["original"], plain["error"]), "the deciles are the page's own"
    app = page(reviewed, "deciles", split="test")
    assert "12 labels in all" in said(app) and "too high" in said(app), "with the warning about an open test"
    assert "on corrected labels" in str(app.get("plotly_chart")[0].proto.spec)
    app = page(reviewed, "overview")
    assert any("corrected" in str(chart.proto.spec) for chart in app.get("plotly_chart"))
    assert any(list(one.value.columns)[:2] == ["split", "label"] for one in app.dataframe), "per class"
    members = read_slicing(run, "two")[0]
    words = corrected_metrics.slice_accuracy_texts(reviewed, run, members)
    told = [
        fact for grid in grids(page(reviewed, "slices")) for card in grid.get("cards", ()) for fact in [card["facts"]]
    ]
    assert words and all(any(text in fact for fact in told) for text in words.values())
    assert next(iter(words.values())) in said(page(reviewed, "slices", slicing="two", slice=str(next(iter(words)))))


def test_the_error_over_several_runs_stands_on_corrected_labels_too(reviewed, quiet):
    from ..dashboard.test_compare_view import figures, numbers
    from ..dashboard.test_views import page, said

    app = page(reviewed, "compare", show="stability", split="test", one="Loss")
    assert "12 labels in all" in said(app) and "too high" in said(app), "with the warning about an open test"
    *_, mean, diamonds = figures(app)[1]["data"]
    assert [mean["name"], diamonds["name"]] == ["mean", "mean, corrected"]
    runs = [reviewed.run(name) for name in reviewed.run_names()]
    loss = [read_table(run.score_path("uncertainty")).to_pandas().set_index("example_id")["loss"] for run in runs]
    tables = [
        by_decile(corrected_metrics.corrected_examples(reviewed, run, Selection("test")), values)
        for run, values in zip(runs, loss, strict=True)
    ]
    assert np.allclose(numbers(mean["y"]), 50 * sum(table["original"] for table in tables)), "the page's own error"
    expected = 50 * sum(table["corrected"] for table in tables)
    where = sum(table["relabelled"] for table in tables).to_numpy() > 0
    assert where.sum() > 0 and list(numbers(diamonds["x"])) == list(1 + np.flatnonzero(where))
    assert np.allclose(numbers(diamonds["y"]), expected[where])
    assert "corrected" not in said(page(reviewed, "compare", show="stability", split="train", one="Loss")), (
        "none changed there"
    )


def test_the_report_shows_both(reviewed):
    text = render(reviewed, reviewed.run(), decisions.open_log(reviewed))
    assert (
        "on corrected labels" in text
        and "Diamonds: error on corrected labels, for deciles with changed labels (12 in all)" in text
    )
    assert "<title>on corrected labels" in text and "changed)</h3>" in text


def test_a_blind_test_shows_corrected_numbers_of_groups_with_many_changes_alone(reviewed, tmp_path):
    import shutil

    from dashboard.auth.serving import serve_this
    from scoring.audit import Audit

    shutil.copytree(reviewed.root, tmp_path / "blind")
    config = tmp_path / "blind" / "audit.toml"
    config.write_text(config.read_text() + '\n[policy]\ntest = "blind"\n')
    audit = Audit.open(config.parent)
    serve_this(audit.root)
    assert set(corrected_metrics.groups(audit, audit.run(), ["split"])["split"]) == {"train", "test"}
    by_class = corrected_metrics.groups(audit, audit.run(), ["split", "label"])
    assert (by_class.loc[by_class["split"] == "test", "relabelled"] >= 10).all()
    serve_this(reviewed.root)
