"""Assignments, locks, second opinions and agreement, on both databases where the database matters."""

import threading
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.queue import locks
from scoring.queue.assignments import assignees, assignment_events, distribute, for_reviewer, release_events, workload
from scoring.queue.second_reader_policy import ReviewPolicy, drawn
from scoring.reviews import Event, ReviewLog, annotator_agreement
from scoring.reviews.event import EventRefused

from ..databases import log_url, postgres, postgres_server  # noqa: F401  pytest finds the fixtures by name
from ..synthetic import make_audit

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
NONE = ReviewPolicy(second_opinions=0.0)
QUEUE = pd.DataFrame({"example_id": list("abcdef"), "rank": range(1, 7)})
_seqs = iter(range(1, 10**6))


@pytest.fixture
def log(log_url):
    with ReviewLog.open(log_url, "digits") as log:
        yield log


def decide(log, example, reviewer, verdict="given", **fields):
    fields = {"label": "3", **fields}
    log.append(
        [
            Event(
                client=reviewer,
                seq=next(_seqs),
                example_id=example,
                reviewer=reviewer,
                action="decide",
                verdict=verdict,
                **fields,
            )
        ]
    )


def left(log, reviewer, policy=NONE, now=NOW, queue=QUEUE):
    return for_reviewer(queue, log, reviewer, now, policy=policy)


def ids(frame):
    return frame["example_id"].tolist()


def test_what_nobody_touched_is_everybodys_in_the_order_of_the_queue(log):
    found = left(log, "ana")
    assert ids(found) == list("abcdef") and found["rank"].tolist() == [1, 2, 3, 4, 5, 6]
    assert set(found["reading"]) == {"first"} and not found["assigned"].any() and not found["blind"].any()


def test_what_is_decided_is_nobodys(log):
    decide(log, "a", "ana")
    assert ids(left(log, "ana")) == ids(left(log, "ben")) == list("bcdef")


def test_assigned_examples_come_first_to_their_assignee_and_not_at_all_to_others(log):
    log.append(assignment_events({"d": "ana", "b": "ben"}, "lea", "lea 1"))
    assert ids(left(log, "ana")) == list("dacef") and left(log, "ana")["assigned"].tolist() == [True] + 4 * [False]
    assert ids(left(log, "ben")) == list("bacef")
    assert ids(left(log, "cem")) == list("acef")
    assert assignees(log) == {"d": ("ana",), "b": ("ben",)}


def test_released_or_undone_assignments_are_open_again(log):
    log.append(assignment_events({"a": "ana", "b": "ana", "c": "ben"}, "lea", "lea 1"))
    log.append(release_events(["a"], "lea", "lea 2"))
    assert ids(left(log, "cem")) == list("adef")
    log.append([Event(client="lea 3", seq=1, example_id="b", reviewer="lea", action="undo", undoes=("lea 1", 1))])
    assert ids(left(log, "cem")) == list("abcdef"), "one undo takes the whole act back"


def test_of_two_assignees_one_may_be_released(log):
    log.append(assignment_events({"a": "ana"}, "lea", "lea 1") + assignment_events({"a": "ben"}, "lea", "lea 2"))
    log.append(release_events(["a"], "lea", "lea 3", assignee="ana"))
    assert assignees(log) == {"a": ("ben",)}
    log.append(assignment_events({"a": "ana"}, "lea", "lea 4"))
    assert set(assignees(log)["a"]) == {"ana", "ben"}


def test_an_assignment_names_somebody():
    with pytest.raises(EventRefused, match="assignee"):
        Event(client="lea", seq=1, example_id="a", reviewer="lea", action="assign")
    with pytest.raises(EventRefused, match="assignee"):
        Event(client="lea", seq=1, example_id="a", reviewer="lea", action="flag", assignee="ana")


def test_work_is_dealt_by_share_and_the_same_whoever_deals():
    dealt = distribute(map(str, range(4000)), {"ana": 0.5, "ben": 0.25, "cem": 0.25}, seed=3)
    counts = pd.Series(dealt).value_counts()
    assert abs(counts["ana"] - 2000) < 120 and abs(counts["ben"] - 1000) < 110
    assert dealt == distribute(map(str, reversed(range(4000))), {"ana": 2, "ben": 1, "cem": 1}, seed=3)
    with pytest.raises(HardlookError, match="above 0"):
        distribute(["a"], {"ana": 0})


def test_how_far_everybody_is(log):
    log.append(assignment_events({"a": "ana", "b": "ana", "c": "ben"}, "lea", "lea 1"))
    decide(log, "a", "ana")
    decide(log, "c", "cem")
    assert workload(log).to_dict("list") == {
        "assignee": ["ana", "ben"],
        "assigned": [2, 1],
        "read": [1, 0],
        "open": [1, 1],
    }


# -- locks -----------------------------------------------------------------------------------------------------------


def test_a_lock_keeps_others_off_until_it_expires(log):
    assert locks.claim(log, ["a", "b"], "ana", NOW, 10) == {"a": "ana", "b": "ana"}
    assert locks.claim(log, ["b", "c"], "ben", NOW, 10) == {"b": "ana", "c": "ben"}
    assert ids(left(log, "ben")) == list("cdef") and ids(left(log, "ana")) == list("abdef")
    later = NOW + timedelta(minutes=10, seconds=1)
    assert ids(left(log, "ben", now=later)) == list("abcdef")
    assert locks.claim(log, ["a"], "ben", later, 10) == {"a": "ben"}
    assert locks.held(log, later) == {"a": "ben"}


def test_a_lock_is_prolonged_and_given_back_by_its_holder_alone(log):
    locks.claim(log, ["a", "b"], "ana", NOW, 10)
    locks.claim(log, ["a"], "ana", NOW + timedelta(minutes=9), 10)
    locks.let_go(log, "ben")
    assert locks.held(log, NOW + timedelta(minutes=12)) == {"a": "ana"}
    locks.let_go(log, "ana", ["a"])
    assert locks.held(log, NOW) == {"b": "ana"}
    locks.claim(log, ["a", "b", "c"], "ana", NOW, 10)
    locks.let_go(log, "ana", keep=["c"])
    assert locks.held(log, NOW) == {"c": "ana"}


def test_of_many_who_ask_at_once_one_gets_each_example(log):
    got = {}

    def ask(name):
        got[name] = locks.claim(log, ["x" * 5000, *map(str, range(20))], name, NOW, 10)

    threads = [threading.Thread(target=ask, args=(f"r{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    final = locks.held(log, NOW)
    assert len(final) == 21
    for name, told in got.items():
        assert all(final[example] == holder for example, holder in told.items() if holder == name), "what is got stays"


# -- second opinions -------------------------------------------------------------------------------------------------


def test_every_unsure_goes_to_a_second_reader_and_to_no_third(log):
    decide(log, "c", "ana", "unsure")
    assert ids(left(log, "ana")) == list("abdef")
    found = left(log, "ben")
    assert ids(found) == list("cabdef") and found["reading"].tolist()[0] == "second" and found["blind"].tolist()[0]
    decide(log, "c", "ben", "other", new_label="5")
    assert ids(left(log, "cem")) == list("abdef"), "two answers are a dispute, and the lead's"


def test_the_share_is_the_same_for_all_and_about_as_large_as_said(log):
    policy = ReviewPolicy(second_opinions=0.2, seed=1)
    drawn_ones = [str(n) for n in range(2000) if policy.is_drawn(str(n))]
    assert 330 < len(drawn_ones) < 470
    some = drawn_ones[:3] + [str(n) for n in range(20) if not policy.is_drawn(str(n))][:3]
    for example in some:
        decide(log, example, "ana")
    found = left(log, "ben", policy, queue=pd.DataFrame({"example_id": some}))
    assert set(ids(found)) == set(drawn_ones[:3]) and (found["reading"] == "second").all()
    assert drawn(1, "second opinion", "x") != drawn(2, "second opinion", "x")


def test_what_the_policy_sends_to_a_second_reader_goes_there(log):
    decide(log, "a", "ana", "several", labels=["3", "5"])
    decide(log, "b", "ana", issues=["odd"])
    policy = ReviewPolicy(second_opinions=0, dispositions={"odd": "second reader"})
    assert set(ids(left(log, "ben", policy))[:2]) == {"a", "b"}


def test_an_adjudicated_example_waits_for_nobody(log):
    decide(log, "a", "ana", "unsure")
    log.append([Event(client="lea", seq=1, example_id="a", reviewer="lea", action="adjudicate", verdict="given")])
    assert "a" not in ids(left(log, "ben"))


def test_blind_test_examples_take_two_readers_and_train_ones_one(log):
    queue = pd.DataFrame({"example_id": ["a", "b"], "split": ["test", "train"]})
    policy = ReviewPolicy(test="blind", second_opinions=0)
    assert left(log, "ana", policy, queue=queue)["blind"].tolist() == [True, False]
    decide(log, "a", "ana")
    decide(log, "b", "ana")
    assert ids(left(log, "ben", policy, queue=queue)) == ["a"] and ids(left(log, "ana", policy, queue=queue)) == []


def test_a_second_opinion_that_was_given_to_somebody_is_theirs(log):
    decide(log, "a", "ana", "unsure")
    log.append(assignment_events({"a": "cem"}, "lea", "lea 1"))
    assert "a" not in ids(left(log, "ben")) and ids(left(log, "cem"))[0] == "a"


@pytest.mark.parametrize(
    "wrong", [{"test": "closed"}, {"second_opinions": 2}, {"second_opinions": True}, {"lock_minutes": 0}]
)
def test_a_policy_that_means_nothing_is_told(wrong):
    with pytest.raises(HardlookError, match=r"\[policy\]"):
        ReviewPolicy(**wrong)


# -- agreement -------------------------------------------------------------------------------------------------------


def decided(table):
    """{(example, reviewer): answer} as decisions; a digit is a new label, "-" the given one."""
    rows = [
        {
            "audit": "x",
            "example_id": example,
            "reviewer": reviewer,
            "label": "3",
            "labels": (),
            "issues": (),
            "verdict": {"-": "given", "?": "unsure"}.get(said, "other"),
            "new_label": said if said.isdigit() else None,
        }
        for (example, reviewer), said in table.items()
    ]
    return pd.DataFrame(rows).astype({"new_label": "str", "verdict": "str", "label": "str"})


def test_a_published_example():
    """Three coders, fifteen units: the worked example on Wikipedia ("Krippendorff's alpha"), 0.691 on the nominal
    scale."""
    text = """* * * * * 3 4 1 2 1 1 3 3 * 3
              1 * 2 1 3 3 4 3 * * * * * * *
              * * 2 1 3 4 4 * 2 1 1 3 3 * 4"""
    rows = [line.split() for line in text.splitlines()]
    found = pd.DataFrame(
        [
            (str(unit), str(coder), value)
            for coder, row in enumerate(rows)
            for unit, value in enumerate(row)
            if value != "*"
        ],
        columns=["example_id", "reviewer", "answer"],
    )
    assert annotator_agreement.alpha(found) == pytest.approx(0.691, abs=5e-4)


def test_two_readers_by_hand():
    """alpha by hand: of 4 units (8 values) one differs; D_o = 2/8, D_e = (5·3·2)/(8·7) = 30/56."""
    said = {
        ("a", "x"): "-",
        ("a", "y"): "-",
        ("b", "x"): "-",
        ("b", "y"): "5",
        ("c", "x"): "-",
        ("c", "y"): "-",
        ("d", "x"): "5",
        ("d", "y"): "5",
        ("e", "x"): "5",
    }
    whole = annotator_agreement.overall(decided(said))
    assert (whole["n"], whole["agreed"], whole["percent"]) == (4, 3, 75.0)
    assert whole["alpha"] == pytest.approx(1 - (2 / 8) / (30 / 56)) and not whole["rare"]


def test_a_new_label_equal_to_the_given_one_agrees_with_it():
    assert annotator_agreement.overall(decided({("a", "x"): "-", ("a", "y"): "3"}))["agreed"] == 1


def test_pairs_and_classes_are_told_apart():
    said = {("a", "x"): "-", ("a", "y"): "-", ("b", "x"): "-", ("b", "z"): "5"}
    pairs = annotator_agreement.by_pair(decided(said))
    assert pairs[["first", "second", "n", "agreed"]].to_numpy().tolist() == [["x", "y", 1, 1], ["x", "z", 1, 0]]
    assert annotator_agreement.by_class(decided(said))[["class", "n", "agreed"]].to_numpy().tolist() == [["3", 2, 1]]


def test_where_nearly_all_is_right_alpha_collapses_and_it_is_said():
    said = {}
    for number in range(100):
        said |= {(str(number), "x"): "5" if number == 0 else "-", (str(number), "y"): "5" if number == 1 else "-"}
    whole = annotator_agreement.overall(decided(said))
    assert whole["percent"] == 98 and abs(whole["alpha"]) < 0.05 and whole["rare"]


def test_nothing_read_twice_is_nothing_measured():
    empty = decided({("a", "x"): "-"})
    assert (
        annotator_agreement.overall(empty)["n"] == 0
        and len(annotator_agreement.by_pair(empty)) == len(annotator_agreement.by_class(empty)) == 0
    )


def test_where_all_answers_are_alike_alpha_is_null_with_its_reason():
    alike = decided({("a", "x"): "-", ("a", "y"): "-", ("b", "x"): "-", ("b", "z"): "5"})
    pairs = annotator_agreement.by_pair(alike)
    assert pairs["alpha"].isna().tolist() == [True, False] and pairs["no_alpha"].fillna("").tolist() == [
        annotator_agreement.ALL_ALIKE,
        "",
    ]
    assert str(pairs["alpha"].dtype) == "Float64" and pairs["alpha"][1] == 0
    one = annotator_agreement.overall(decided({("a", "x"): "-", ("a", "y"): "-"}))
    assert one["alpha"] is None and one["no_alpha"] == annotator_agreement.ALL_ALIKE and one["percent"] == 100


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ('unsuer = "keep"', "unsure"),
        ('"bad imge" = "exclude"', "bad image"),
        ("second_opinion = 0.1", "second_opinions"),
    ],
)
def test_a_typing_error_in_the_policy_names_what_was_meant(tmp_path, line, meant):
    audit = make_audit(tmp_path / "audit", 6, 2)
    config = audit.root / "audit.toml"
    config.write_text(f"{config.read_text()}\n[policy]\n{line}\n")
    with pytest.raises(HardlookError, match=f"did you mean '{meant}'"):
        ReviewPolicy.of(Audit.open(audit.root))


def test_a_policy_may_name_an_issue_that_the_list_has_no_more(tmp_path):
    audit = make_audit(tmp_path / "audit", 6, 2)
    config = audit.root / "audit.toml"
    config.write_text(f'{config.read_text()}\n[policy]\n"watermark" = "exclude"\n')
    assert ReviewPolicy.of(Audit.open(audit.root)).dispositions["watermark"] == "exclude"
