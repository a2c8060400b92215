import numpy as np
import pandas as pd
import pytest

from scoring.reviews.event import Event, EventRefused


def event(**fields):
    base = {
        "client": "tab",
        "seq": 1,
        "example_id": "a.png",
        "reviewer": "ana",
        "action": "decide",
        "verdict": "given",
    }
    return Event(**{**base, **fields})


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"action": "judge"}, "action 'judge' is unknown; one of decide"),
        ({"verdict": "maybe"}, "verdict 'maybe' is unknown; one of given"),
        ({"verdict": None}, "needs a verdict"),
        ({"verdict": "other"}, "needs new_label"),
        ({"verdict": "several"}, "needs labels"),
        ({"verdict": "none", "new_label": "cat"}, "contradicts new_label 'cat'"),
        ({"action": "flag"}, "only decide and adjudicate can have one"),
        ({"action": "undo", "verdict": None}, "undo needs undoes"),
        ({"undoes": ("tab", 1)}, "no other action can have it"),
        ({"action": "undo", "verdict": None, "undoes": "tab"}, r"needs to be \(client, seq\)"),
        ({"action": "comment", "verdict": None}, "comment needs a note"),
        ({"seq": -1}, "seq is -1, needs to be a whole number"),
        ({"seq": 1.5}, "seq is 1.5"),
        ({"seq": True}, "seq is True"),
        ({"seq": 2**63}, "whole number from 0"),
        ({"client": ""}, "client is missing"),
        ({"client": "c" * 201}, "client has 201 characters, but at most 200"),
        ({"reviewer": None}, "reviewer is missing"),
        ({"example_id": 7}, "example_id is 7, needs to be text"),
        ({"note": "a\0b"}, "note has a NUL character, which PostgreSQL cannot store"),
        ({"issues": ["bad\0image"]}, "issues has a NUL character"),
        ({"evidence": {"page": "a\0b"}}, "evidence has a NUL character"),
        ({"note": "\ud800"}, "an unpaired surrogate"),
        ({"issues": "bad image"}, "needs to be a list of names"),
        ({"evidence": [1]}, "needs to be a mapping"),
        ({"evidence": {"when": object()}}, "which JSON cannot"),
        ({"seconds": -1}, "seconds is -1"),
        ({"seconds": float("inf")}, "seconds is inf"),
    ],
)
def test_an_event_that_cannot_be_kept_says_why(fields, reason):
    with pytest.raises(EventRefused, match=reason):
        event(**fields)


def test_a_refusal_names_the_event_for_the_client_that_sent_it():
    with pytest.raises(EventRefused, match="event 'tab' 9: ") as refused:
        event(seq=9, verdict="maybe")
    assert (refused.value.client, refused.value.seq) == ("tab", 9)


def test_the_nulls_of_pandas_are_nulls():
    plain = event(label=np.nan, fingerprint=pd.NA, seconds=np.nan, round=None)
    assert plain == event()


def test_numpy_values_become_plain_ones():
    made = event(seq=np.int64(3), seconds=np.float32(0.5), evidence={"p": np.float32(0.25), "ids": np.arange(2)})
    assert type(made.seq) is int and type(made.seconds) is float
    assert made.evidence == {"p": 0.25, "ids": [0, 1]}


def test_numbers_that_json_lacks_become_null_in_evidence():
    assert event(evidence={"loss": float("nan"), "rank": np.inf}).evidence == {"loss": None, "rank": None}


def test_evidence_is_a_copy_that_nobody_changes_later():
    scores = {"aum": [1.0]}
    made = event(evidence=scores)
    scores["aum"].append(2.0)
    assert made.evidence == {"aum": [1.0]}


def test_a_verdict_may_be_missing_where_an_issue_is_named():
    assert event(verdict=None, issues=["bad image"]).issues == ("bad image",)


def test_a_name_stands_once_among_several():
    assert event(verdict="several", labels=["cat", "dog", "cat"]).labels == ("cat", "dog")


def test_a_new_label_must_be_a_class_where_the_classes_are_known():
    event(verdict="other", new_label="cat").check_classes(frozenset({"cat"}))
    with pytest.raises(EventRefused, match="'cat' is not a class of this audit"):
        event(verdict="other", new_label="cat").check_classes(frozenset({"dog"}))
    with pytest.raises(EventRefused, match="'cat' is not a class"):
        event(verdict="several", labels=["dog", "cat"]).check_classes(frozenset({"dog"}))
