"""The table of verdicts drives the log, the policy, the estimates, the minutes and the pages: a sixth row is a sixth
verdict."""

from dataclasses import replace

import pandas as pd
import pytest

from dashboard.queries import decisions
from dashboard.queries.selection import decision_words
from scoring.audit.errors import HardlookError
from scoring.corrections import label_patch
from scoring.queue.estimates.answered_controls import wrong_labels
from scoring.queue.second_reader_policy import ReviewPolicy
from scoring.reviews import ReviewLog, disposition, meeting_minutes
from scoring.reviews.decisions import answers
from scoring.reviews.event import Event
from scoring.reviews.verdicts import (
    VERDICTS,
    VerdictKind,
    browser_table,
    label_is_wrong,
    true_labels,
    verdicts_by_label_status,
)

from ..sixth_verdict import NAME, SIXTH


@pytest.fixture
def sixth(monkeypatch):
    monkeypatch.setitem(VERDICTS, NAME, SIXTH)


def event(verdict, seq=1, **more):
    return Event(
        client="tab", seq=seq, example_id=f"{seq}", reviewer="ana", action="decide", verdict=verdict, label="a", **more
    )


STORED = ("given", "other", "several", "none", "unsure")


def test_a_key_that_does_something_else_is_refused():
    with pytest.raises(HardlookError, match="key 'f' does something else"):
        replace(VERDICTS["given"], key="f")
    with pytest.raises(HardlookError, match="key '3'"):
        replace(VERDICTS["given"], key="3")


def test_the_stored_names_and_what_follows_from_each_are_what_they_were():
    assert tuple(VERDICTS)[:5] == STORED
    assert (
        disposition.default_policy().items()
        >= {
            "given": "keep",
            "other": "relabel",
            "several": "second reader",
            "none": "exclude",
            "unsure": "second reader",
            "bad image": "exclude",
        }.items()
    )
    kinds = [VERDICTS[name] for name in STORED]
    assert [kind.takes for kind in kinds] == [None, "new_label", "labels", None, None]
    assert [kind.key for kind in kinds] == list("qlbou")
    assert [label_is_wrong(name, "a", "b", ("a", "b")) for name in STORED] == [False, True, False, True, None]
    assert [label_is_wrong(name, "a", "a", ("b", "c")) for name in STORED] == [False, False, True, True, None]
    assert [true_labels(name, "a", "b", ("b", "c")) for name in STORED] == [("a",), ("b",), ("b", "c"), (), ()]
    assert (verdicts_by_label_status("open"), verdicts_by_label_status("right")) == (("unsure",), ("given",))


@pytest.mark.parametrize("field", ["key", "act", "title", "words", "badge"])
def test_no_two_verdicts_share_what_tells_them_apart(field):
    values = [getattr(kind, field) for kind in VERDICTS.values()]
    assert len(set(values)) == len(values)


def test_its_disposition_is_one_that_patches_know():
    assert {kind.disposition for kind in VERDICTS.values()} <= set(disposition.DISPOSITIONS)
    assert {kind.label_is for kind in VERDICTS.values()} == {"right", "wrong", "either", "open"}


def test_a_sixth_is_refused_until_it_stands_in_the_table():
    with pytest.raises(
        HardlookError, match="verdict 'ambiguous' is unknown; one of given, other, several, none, unsure"
    ):
        event(NAME)


def test_a_sixth_goes_through_log_policy_and_estimates(sixth, tmp_path):
    examples = pd.DataFrame({"example_id": ["1", "2"], "split": "train", "label": "a", "fingerprint": None})
    with ReviewLog.open(f"sqlite:///{tmp_path / 'r.sqlite'}", audit="x") as log:
        log.append([event(NAME), event("given", 2)])
        found = log.consensus()
        assert found["verdict"].tolist() == [NAME, "given"]
        assert wrong_labels(found).tolist() == [None, False]
        assert answers(log.decisions()).tolist() == [NAME, "label:a"]
        patch = label_patch.corrected_labels(examples, log)
        assert patch["disposition"].tolist() == ["exclude", "keep"]
        states = decisions.group_by_state(found, log.decisions(), log.flags())
    assert states[NAME] == {"1"}
    assert disposition.full_policy({NAME: "keep"})[NAME] == "keep"
    with pytest.raises(HardlookError, match="'ambiguous' gives no new label"):
        disposition.full_policy({NAME: "relabel"})
    assert ReviewPolicy(second_opinions=0, dispositions={NAME: "keep"}).wants_second("1", NAME, (), "train"), (
        "it is open"
    )


def test_a_sixth_that_takes_a_field_needs_it_and_is_judged_by_it(monkeypatch):
    for takes, given, wrong in (("new_label", {"new_label": "b"}, True), ("labels", {"labels": ("a", "b")}, False)):
        facts = {name: getattr(SIXTH, name) for name in VerdictKind.__dataclass_fields__} | {
            "true": takes,
            "label_is": "either",
        }
        monkeypatch.setitem(VERDICTS, NAME, VerdictKind(**facts))
        with pytest.raises(HardlookError, match=f"verdict 'ambiguous' needs {takes}"):
            event(NAME)
        said = event(NAME, **given)
        assert label_is_wrong(NAME, "a", said.new_label, said.labels) is wrong
        assert disposition.full_policy({NAME: "relabel"})[NAME] == "relabel"
        row = {
            "audit": "x",
            "example_id": "1",
            "verdict": NAME,
            "new_label": said.new_label,
            "labels": said.labels,
            "label": "a",
        }
        told = {"new_label": "label:b", "labels": f'{NAME}:["a", "b"]'}
        assert answers(pd.DataFrame([row]).astype({"verdict": "string", "label": "string"})).tolist() == [told[takes]]


def test_a_sixth_stands_on_the_pages(sixth):
    assert decision_words()[NAME] == "ambiguous"
    row = pd.Series({"verdict": NAME, "label": "a", "new_label": None, "labels": (), "issues": (), "note": None})
    assert meeting_minutes.answer_text(row) == "nobody can tell"
    assert browser_table()[-1]["name"] == NAME
    assert {"name", "act", "key", "title", "help", "bulk", "badge", "takes", "true"} <= set(browser_table()[-1])
