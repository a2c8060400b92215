"""How examples stand, folded event by event: the same as the tables that are derived from the whole log."""

import json
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dashboard.queries.decisions import group_by_state
from scoring.queue.assignments import assignees
from scoring.queue.second_reader_policy import ReviewPolicy
from scoring.queue.standings import NOTHING, Followed, Standings
from scoring.reviews import Event, ReviewLog

CLIENTS = {"ana 1": "ana", "ana 2": "ana", "ben 1": "ben", "lea 1": "lea"}
SAID = [
    {"verdict": "given"},
    {"verdict": "given", "label": "5"},
    {"verdict": "given", "label": None},
    {"verdict": "other", "new_label": "5"},
    {"verdict": "other", "new_label": "3"},
    {"verdict": "several", "labels": ["3", "5"]},
    {"verdict": "several", "labels": ["5", "3"], "issues": ["duplicate"]},
    {"verdict": "none", "issues": ["bad image", "duplicate"]},
    {"verdict": "unsure"},
    {"issues": ["bad image"]},
]
ACTS = st.one_of(
    st.tuples(st.sampled_from(["decide", "decide", "decide", "adjudicate"]), st.sampled_from(SAID)),
    st.tuples(st.sampled_from(["flag", "unflag"]), st.just({})),
    st.tuples(st.just("comment"), st.just({"note": "?"})),
    st.tuples(st.just("assign"), st.sampled_from([{"assignee": "ana"}, {"assignee": "ben"}])),
    st.tuples(st.just("release"), st.sampled_from([{"assignee": "ana"}, {"assignee": "ben"}, {"assignee": None}])),
    st.tuples(st.just("undo"), st.fixed_dictionaries({"of": st.integers(0, 60)})),
    st.tuples(st.just("undo"), st.just({"of": 0})),  # the last act: undo of undo of undo
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(sorted(CLIENTS)),
        st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True),
        ACTS,
        st.sampled_from([1, 2]),
    ),
    max_size=40,
)


def events_of(client, examples, act, round_, made):
    """The events of one step, a bulk act where it is about several examples; none for an undo of nothing."""
    action, fields = act
    own = [one for one in made if one.reviewer == CLIENTS[client]]
    seq = sum(one.client == client for one in made)
    if action == "undo":
        if not own:
            return []
        named = own[-1 - fields["of"] % len(own)]
        fields, examples = {"undoes": (named.client, named.seq)}, [named.example_id]
    more = {"label": "3", "round": round_, "batch": f"{client} {seq}" if len(examples) > 1 else None, **fields}
    return [
        Event(client=client, seq=seq + n, example_id=one, reviewer=CLIENTS[client], action=action, **more)
        for n, one in enumerate(examples, 1)
    ]


def same_as_the_tables(standings, log):
    """Everything that a stand tells is what the log's tables tell."""
    decisions, consensus = log.decisions(), log.consensus()
    assert standings.states() == group_by_state(consensus, decisions, log.flags())
    told = consensus.set_index("example_id")[["status", "verdict", "issues"]]
    for one in "abcd":
        stand = standings.of(one)
        own = decisions[decisions["example_id"] == one]
        assert [act.position for act in stand.decisions] == own["position"].tolist()
        if one in told.index:
            row = told.loc[one]
            verdict = row["verdict"] if isinstance(row["verdict"], str) else None
            assert (stand.status, stand.verdict, stand.issues) == (row["status"], verdict, row["issues"])
        else:
            assert stand.status is None
    for reviewer in ("ana", "ben", "lea"):
        own = decisions[decisions["reviewer"] == reviewer]
        assert standings.decided_by(reviewer) == dict(zip(own["example_id"], own["position"], strict=True))
    assert standings.assignees() == assignees(log)


DECIDE, UNDO = ("decide", {"verdict": "given"}), ("undo", {"of": 0})
TWICE_UNDONE = [("ana 1", ["a"], DECIDE, 1), *[("ana 1", ["a"], UNDO, 1)] * 4]
BULK_UNDONE = [("ana 1", ["a", "b"], DECIDE, 1), ("ana 1", ["a", "b"], DECIDE, 2), *[("ana 1", ["a"], UNDO, 1)] * 3]
A_LABEL_NOT_SENT = [
    ("ana 1", ["a"], ("decide", {"verdict": "given", "label": None}), 1),
    ("ben 1", ["a"], ("decide", {"verdict": "given"}), 1),
    ("lea 1", ["a"], ("decide", {"verdict": "other", "new_label": "3"}), 2),
]


@example(steps=TWICE_UNDONE, looks=1)
@example(steps=BULK_UNDONE, looks=1)
@example(steps=A_LABEL_NOT_SENT, looks=1)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, looks=st.integers(1, 5))
def test_a_folded_log_stands_as_its_tables_say(steps, looks, tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "reviews.sqlite"
    with ReviewLog.open(path, audit="digits") as log:
        standings, made = Standings(log), []
        policy = ReviewPolicy(second_opinions=0.5)
        waiting = Followed(standings, policy.waiting_stands)
        decided_then = {}
        for number, step in enumerate(steps):
            new = events_of(*step, made)
            made += new
            log.append(new)
            if number % looks == 0:
                position = standings.look()
                same_as_the_tables(standings, log)
                consensus = log.consensus()
                settled = consensus.loc[consensus["status"] == "adjudicated", "example_id"]
                assert waiting.now() == policy.waiting(log.decisions(), settled)
                decided_then[position] = standings.states()["decided"]
        standings.look()
        same_as_the_tables(standings, log)
        for position, decided in decided_then.items():
            assert {one for one in "abcd" if standings.was_decided(one, position)} == decided
        fresh = Standings(log)
        fresh.look()
        assert fresh.states() == standings.states() and fresh.assignees() == standings.assignees()


def test_a_look_reads_only_what_is_new(tmp_path):
    with ReviewLog.open(tmp_path / "reviews.sqlite", audit="digits") as log:
        log.append([decided(1, "a"), decided(2, "b")])
        read = []

        def events(after=0):
            found = log.events(after=after)
            read.append(len(found))
            return found

        standings = Standings(SimpleNamespace(position=log.position, events=events))
        assert standings.look() == 2 and standings.look() == 2 and read == [2]
        log.append([decided(3, "c")])
        assert standings.look() == 3 and read == [2, 1]
        assert standings.changed(2)[1].keys() == {"c"} and standings.changed(3) == (3, {})


@pytest.mark.parametrize("audit", ["digits", "letters"])
def test_another_audit_in_the_same_database_changes_nothing(tmp_path, audit):
    with (
        ReviewLog.open(tmp_path / "r.sqlite", audit="digits") as log,
        ReviewLog.open(tmp_path / "r.sqlite", audit=audit) as to,
    ):
        to.append([decided(1, "a")])
        standings = Standings(log)
        standings.look()
        assert (standings.of("a") is not NOTHING) == (audit == "digits")


def test_the_model_on_screen_is_known_from_the_evidence(tmp_path):
    with ReviewLog.open(tmp_path / "reviews.sqlite", audit="digits") as log:
        log.append([decided(1, "a", evidence={"run": "main", "model": "m1", "rank": 3}), decided(2, "b")])
        standings = Standings(log)
        standings.look()
        assert json.dumps(standings.of("a").decisions[0].evidence) == '{"run": "main", "model": "m1"}'
        assert standings.of("b").decisions[0].evidence == {}


def decided(seq, example, **more):
    return Event(
        client="tab", seq=seq, example_id=example, reviewer="ana", action="decide", verdict="given", label="3", **more
    )
