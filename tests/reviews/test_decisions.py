import numpy as np
import pandas as pd
import pytest

from scoring.reviews import ReviewLog, decisions
from scoring.reviews.event import Event

RULES = (decisions.decisions, decisions.consensus, decisions.flags, decisions.comments)


@pytest.fixture
def log(tmp_path):
    with ReviewLog.open(tmp_path / "reviews.sqlite", "digits") as log:
        yield log


class Reviewer:
    """Counts the events of one client and appends each at once."""

    def __init__(self, log, name):
        self.log, self.name, self.seq = log, name, 0

    def __call__(self, action, example_id="a", **fields):
        self.seq += 1
        self.log.append(
            [
                Event(
                    client=self.name,
                    seq=self.seq,
                    reviewer=self.name,
                    action=action,
                    example_id=example_id,
                    **fields,
                )
            ]
        )
        return self.name, self.seq


@pytest.fixture
def ana(log):
    return Reviewer(log, "ana")


@pytest.fixture
def ben(log):
    return Reviewer(log, "ben")


def only(frame):
    assert len(frame) == 1
    return frame.iloc[0]


def test_the_last_decision_of_a_reviewer_counts(log, ana):
    ana("decide", verdict="unsure", issues=["bad image"])
    ana("decide", verdict="other", label="3", new_label="5")
    row = only(log.decisions())
    assert (row.verdict, row.new_label, row.issues) == ("other", "5", ())


def test_an_undo_brings_back_the_decision_before(log, ana):
    ana("decide", verdict="given")
    wrong = ana("decide", verdict="none")
    undo = ana("undo", undoes=wrong)
    assert only(log.decisions()).verdict == "given"
    ana("undo", undoes=undo)
    assert only(log.decisions()).verdict == "none"


def test_an_undo_of_one_takes_back_the_whole_bulk_act(log, ana):
    ana("decide", "a", verdict="given")
    for example in "abc":
        last = ana("decide", example, verdict="none", batch="bulk 1")
    ana("decide", "d", verdict="none", batch="bulk 2")
    undo = ana("undo", undoes=last)
    assert dict(zip(log.decisions().example_id, log.decisions().verdict, strict=True)) == {
        "a": "given",
        "d": "none",
    }
    ana("undo", undoes=undo)
    assert set(log.decisions().verdict) == {"none"} and len(log.decisions()) == 4


def test_bulk_acts_of_two_clients_with_one_name_are_two_acts(log, ana, ben):
    theirs = ana("decide", "a", verdict="none", batch="bulk")
    ben("decide", "b", verdict="none", batch="bulk")
    ana("undo", undoes=theirs)
    assert only(log.decisions()).reviewer == "ben"


def test_an_undo_does_not_reach_what_its_bulk_act_adds_later(log, ana):
    first = ana("decide", "a", verdict="none", batch="bulk")
    ana("undo", undoes=first)
    ana("decide", "b", verdict="none", batch="bulk")
    assert only(log.decisions()).example_id == "b"


def test_the_last_act_goes_back_as_far_as_the_log(log, ana, ben):
    acts = [ana("decide", verdict="given"), ana("flag"), ana("comment", note="why?")]
    ben("decide", verdict="none")
    for act in reversed(acts):
        last = log.last_act("ana")
        assert (last["client"], last["seq"]) == act
        ana("undo", undoes=act)
    assert log.last_act("ana") is None


def test_two_verdicts_make_a_dispute_and_an_adjudication_settles_it(log, ana, ben):
    ana("decide", label="3", verdict="given", note="a three", issues=["bad image"])
    assert only(log.consensus()).status == "agreed"
    ben("decide", label="3", verdict="other", new_label="5", issues=["duplicate"])
    row = only(log.consensus())
    assert row.status == "disputed" and row.reviewers == ("ana", "ben") and row.issues == ("bad image", "duplicate")
    assert pd.isna(row.verdict) and pd.isna(row.new_label) and pd.isna(row.note)
    ruling = Reviewer(log, "lea")("adjudicate", label="3", verdict="other", new_label="5", note="open top")
    row = only(log.consensus())
    assert (row.status, row.new_label, row.note, row.issues) == ("adjudicated", "5", "open top", ())
    assert row.reviewers == ("ana", "ben", "lea")
    ben("decide", label="3", verdict="none")
    assert only(log.consensus()).new_label == "5", "a ruling stands until it is undone"
    Reviewer(log, "lea2").log.append(
        [Event(client="lea2", seq=1, reviewer="lea", action="undo", example_id="a", undoes=ruling)]
    )
    assert only(log.consensus()).status == "disputed"


def test_an_adjudication_needs_no_decision_before_it(log, ana):
    ana("adjudicate", verdict="none")
    row = only(log.consensus())
    assert (row.status, row.verdict, row.reviewers) == ("adjudicated", "none", ("ana",))


@pytest.mark.parametrize(
    ("first", "second", "status"),
    [
        ({"verdict": "given"}, {"verdict": "given"}, "agreed"),
        ({"verdict": "given", "label": "3"}, {"verdict": "given"}, "agreed"),
        ({"verdict": "given", "label": "3"}, {"verdict": "other", "label": "3", "new_label": "3"}, "agreed"),
        ({"verdict": "other", "label": "3", "new_label": "5"}, {"verdict": "given", "label": "5"}, "agreed"),
        ({"verdict": "given", "label": "3"}, {"verdict": "given", "label": "5"}, "disputed"),
        ({"verdict": "other", "new_label": "5"}, {"verdict": "other", "new_label": "6"}, "disputed"),
        (
            {"verdict": "several", "labels": ["a", "b"]},
            {"verdict": "several", "labels": ["b", "a"]},
            "agreed",
        ),
        (
            {"verdict": "several", "labels": ["a", "b"]},
            {"verdict": "several", "labels": ["a", "c"]},
            "disputed",
        ),
        ({"verdict": "several", "labels": ["a,b"]}, {"verdict": "several", "labels": ["a", "b"]}, "disputed"),
        ({"verdict": "given"}, {"verdict": "unsure"}, "disputed"),
        ({"verdict": "none"}, {"verdict": "other", "new_label": "none"}, "disputed"),
        ({"verdict": "given"}, {"issues": ["bad image"]}, "agreed"),
        ({"issues": ["duplicate"]}, {"issues": ["bad image"]}, "agreed"),
    ],
)
def test_answers_agree_when_they_say_the_same_is_true(log, ana, ben, first, second, status):
    ana("decide", **first)
    ben("decide", **second)
    assert only(log.consensus()).status == status


def test_an_issue_alone_leaves_the_verdict_to_the_one_who_gave_it(log, ana, ben):
    ana("decide", verdict="other", new_label="5")
    ben("decide", issues=["bad image"])
    row = only(log.consensus())
    assert (row.verdict, row.new_label, row.issues) == ("other", "5", ("bad image",))


def test_a_flag_stands_until_anybody_takes_it_down(log, ana, ben):
    flag = ana("flag", note="discuss")
    ana("flag", "b")
    assert log.flags().example_id.tolist() == ["a", "b"] and log.flags().note[0] == "discuss"
    down = ben("unflag")
    assert log.flags().example_id.tolist() == ["b"]
    ben("undo", undoes=down)
    assert log.flags().example_id.tolist() == ["a", "b"]
    ana("undo", undoes=flag)
    assert log.flags().example_id.tolist() == ["b"]


def test_comments_add_up_and_can_be_taken_back(log, ana, ben):
    first = ana("comment", note="odd")
    ben("comment", note="very")
    assert log.comments().note.tolist() == ["odd", "very"]
    ana("undo", undoes=first)
    assert log.comments().note.tolist() == ["very"]


def test_derived_tables_have_the_same_types_empty_and_full(log, ana):
    rules = ("events", "decisions", "consensus", "flags", "comments")
    empty = {rule: getattr(log, rule)() for rule in rules}
    assert all(frame.empty for frame in empty.values())
    ana("decide", verdict="several", labels=["a", "b"], seconds=1.5, round=2, evidence={"rank": 1})
    ana("adjudicate", verdict="given", label="3")
    ana("flag")
    ana("comment", note="n")
    for rule in rules:
        full = getattr(log, rule)()
        assert len(full) and full.dtypes.to_dict() == empty[rule].dtypes.to_dict(), rule
    assert tuple(log.decisions()) == decisions.DECISION_COLUMNS
    assert tuple(log.consensus()) == decisions.CONSENSUS_COLUMNS
    assert tuple(log.flags()) == decisions.FLAG_COLUMNS


def test_a_caller_may_change_the_frame_it_got(log, ana):
    ana("decide", verdict="given")
    mine = log.decisions()
    mine.loc[0, "verdict"] = "none"
    assert only(log.decisions()).verdict == "given"


def test_the_log_can_be_asked_how_it_stood(log, ana, ben):
    assert log.position() == 0
    ana("decide", "a", verdict="given")
    wrong = ben("decide", "a", verdict="none")
    before = log.position()
    ben("undo", undoes=wrong)
    ana("flag", "b")
    assert log.position() == before + 2
    assert only(log.consensus()).status == "agreed" and only(log.consensus(as_of=before)).status == "disputed"
    assert len(log.decisions(as_of=before)) == 2 and len(log.decisions(as_of=0)) == 0
    assert log.flags(as_of=before).empty and log.comments(as_of=before).empty and len(log.flags()) == 1


def test_the_last_act_says_what_an_undo_needs(log, ana):
    assert log.last_act("ana") is None
    ana("decide", "a", verdict="given", label="3", batch="bulk")
    found = {"client": "ana", "seq": 1, "action": "decide", "example_id": "a", "fingerprint": None}
    assert log.last_act("ana") == {**found, "label": "3", "batch": "bulk"}


@pytest.mark.parametrize("seed", range(4))
def test_what_would_stand_without_an_act_is_what_stands_once_it_is_undone(log, seed):
    log.append(random_events(seed))
    act = log.last_act("ana")
    events, stands = log.without(act)
    expected = {name: getattr(decisions, name)(events, stands) for name in ("decisions", "flags", "comments")}
    log.append(
        [
            Event(
                client="undoing",
                seq=1,
                example_id=act["example_id"],
                reviewer="ana",
                action="undo",
                undoes=(act["client"], act["seq"]),
            )
        ]
    )
    ids = set(events["example_id"])
    for name, table in expected.items():
        found = getattr(log, name)()
        found = found[found["example_id"].isin(ids)]
        assert sorted(zip(found["client"], found["seq"], strict=True)) == sorted(
            zip(table["client"], table["seq"], strict=True)
        )


def random_events(seed, n=250):
    """Events of three reviewers on 30 examples, bulk acts, undos of them and undos of undos among them."""
    rng = np.random.default_rng(seed)
    events = []
    for seq in range(1, n + 1):
        client = str(rng.choice(["ana", "ben", "cem"]))
        action = str(
            rng.choice(["decide", "undo", "adjudicate", "flag", "unflag", "comment"], p=[5 / 10] + [1 / 10] * 5)
        )
        fields = {
            "batch": f"bulk {seq // 10}" if rng.random() < 0.3 else None,
            "example_id": str(rng.integers(30)),
        }
        if action in ("decide", "adjudicate"):
            fields |= {
                "verdict": str(rng.choice(["given", "none", "unsure"])),
                "issues": ["odd"] * int(rng.integers(2)),
            }
        if action == "comment":
            fields["note"] = "note"
        if action == "undo":
            mine = [event for event in events if event.client == client]
            if not mine:
                continue
            fields["undoes"] = (client, mine[-1 - int(rng.integers(min(len(mine), 5)))].seq)
        events.append(Event(client=client, seq=seq, reviewer=client, action=action, **fields))
    return events


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_table_that_follows_the_log_is_the_table_made_at_once(log, rule):
    log.append(random_events(seed=1))
    events = log.events()
    table = decisions.Table(rule)
    redone = []
    table.rule = lambda part, stands: redone.append(len(part)) or rule(part, stands)
    for end in [0, 1, 2, *range(100, len(events) + 1, 7)]:
        so_far = events[:end]
        stands = decisions.not_undone(so_far)
        pd.testing.assert_frame_equal(table.follow(so_far, stands), rule(so_far, stands))
    assert max(redone[-3:]) < len(events) / 2, "only the examples that something happened to were derived again"
