"""Forgetting events, on sequences that can be counted by eye."""

import numpy as np
import pytest

from scoring.scorers import Shard
from scoring.scorers.forgetting import Forgetting, forgetting_events

SEQUENCES = {  # right (1) or wrong (0), epoch by epoch → events, learned
    "1111": (0, True),
    "0000": (0, False),
    "0001": (0, True),
    "1000": (1, True),
    "0101": (1, True),
    "1010": (2, True),
    "0110": (1, True),
    "1101": (1, True),
}


def columns(sequences):
    return np.array([[int(step) for step in sequence] for sequence in sequences]).T


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_an_event_is_a_step_from_right_to_wrong(sequence):
    events, learned = forgetting_events(columns([sequence]).astype(bool))
    assert (events[0], learned[0]) == SEQUENCES[sequence]


def test_many_examples_are_counted_at_once_and_each_by_itself():
    events, learned = forgetting_events(columns(SEQUENCES).astype(bool))
    assert list(zip(events, learned, strict=True)) == list(SEQUENCES.values())


def test_a_single_epoch_has_no_events():
    events, learned = forgetting_events(np.array([[True, False]]))
    assert events.tolist() == [0, 0] and learned.tolist() == [True, False]


def score(correct):
    n = correct.shape[1]
    shard = Shard(
        example_id=np.arange(n).astype(str),
        split=np.full(n, "train"),
        labels=np.zeros(n, int),
        classes=["a"],
        dynamics={"correct": correct.astype(np.float32)},
    )
    return Forgetting().score(shard, None)


def test_never_learned_is_a_flag_and_not_a_number_of_events():
    found = score(columns(["0000", "1010", "1111"]))
    np.testing.assert_array_equal(found["events"], [np.nan, 2, 0])
    np.testing.assert_array_equal(found["never_learned"], [1, 0, 0])


def test_an_example_with_an_epoch_missing_has_no_count():
    correct = columns(["1010", "1010"]).astype(float)
    correct[1, 0] = np.nan
    found = score(correct)
    np.testing.assert_array_equal(found["events"], [np.nan, 2])
    np.testing.assert_array_equal(found["never_learned"], [np.nan, 0])
