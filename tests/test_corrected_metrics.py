"""Accuracy on original and on corrected labels, counted by hand."""

import pandas as pd
import pytest

from scoring.corrected_metrics import on_both_labels
from scoring.reviews import Event, ReviewLog

EXAMPLES = pd.DataFrame({
    "example_id": list("abcdefg"), "split": ["train"] * 3 + ["test"] * 4,
    "label": ["x", "x", "y", "x", "y", "y", None], "fingerprint": list("1234567"),
})  # fmt: skip
PREDICTIONS = pd.DataFrame({"example_id": list("abcdefg"), "prediction": ["x", "y", "y", "y", "y", "x", "x"]})


@pytest.fixture
def log(tmp_path):
    with ReviewLog.open(tmp_path / "log.sqlite", "audit") as log:
        yield log


def say(log, seq, example, verdict, **fields):
    row = EXAMPLES.set_index("example_id").loc[example]
    log.append([Event(client="ana", seq=seq, example_id=example, reviewer="ana", action="decide", verdict=verdict,
                      label=row["label"], fingerprint=row["fingerprint"], **fields)])  # fmt: skip


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
    assert found.loc["train"].to_list() == [3, 2 / 3, 3, 2 / 3, 0, 0], "what is said about test changes nothing in train"
    both = on_both_labels(EXAMPLES, PREDICTIONS, log, by=["split", "label"]).set_index(["split", "label"])
    assert both.loc[("test", "x")].to_list() == [1, 0, 1, 1, 1, 0]


def test_where_all_is_excluded_there_is_no_corrected_accuracy(log):
    for seq, example in enumerate("abc", start=1):
        say(log, seq, example, "none")
    found = on_both_labels(EXAMPLES, PREDICTIONS, log).set_index("split")
    assert pd.isna(found.loc["train", "corrected"]) and found.loc["train", "original"] == 2 / 3
