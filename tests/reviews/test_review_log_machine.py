"""The review log under random interleavings of append, undo, adjudicate, crash and reopen, against a plain
model.

HARDLOOK_MACHINE_EXAMPLES=200 looks longer than the few seconds that every run of the tests takes.
"""

from __future__ import annotations

import itertools
import os

import pandas as pd
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from scoring.reviews import Event, EventRefused, LogUnavailable, ReviewLog, event_store

from ..databases import KINDS, new_schema, postgres, postgres_server  # noqa: F401  pytest finds the fixtures by name

CLIENTS = {"ana 1": "ana", "ana 2": "ana", "ben 1": "ben", "lea 1": "lea"}  # tab → reviewer
EXAMPLES = ("a", "b", "c")
clients = st.sampled_from(sorted(CLIENTS))
examples = st.sampled_from(EXAMPLES)
judgements = st.sampled_from(
    [
        {"verdict": "given"},
        {"verdict": "other", "new_label": "5"},
        {"verdict": "other", "new_label": "3"},
        {"verdict": "several", "labels": ["3", "5"]},
        {"verdict": "several", "labels": ["5", "3"], "issues": ["duplicate"]},
        {"verdict": "none", "issues": ["bad image", "duplicate"]},
        {"verdict": "unsure", "note": "?"},
        {"issues": ["bad image"]},
    ]
)


class Model:
    """What the log must say, written as plainly as possible: a list of events and loops over it."""

    def __init__(self):
        self.events: list[Event] = []

    def find(self, client, seq):
        return next(at for at, event in enumerate(self.events) if (event.client, event.seq) == (client, seq))

    def stands(self, at):
        return not any(
            later.action == "undo" and at in self.reach(undo) and self.stands(undo)
            for undo, later in enumerate(self.events[at + 1 :], start=at + 1)
        )

    def reach(self, undo):
        target = self.find(*self.events[undo].undoes)
        named = self.events[target]
        if named.batch is None:
            return [target]
        return [
            at
            for at, event in enumerate(self.events[:undo])
            if (event.client, event.batch) == (named.client, named.batch)
        ]

    def not_undone(self, *actions):
        return [event for at, event in enumerate(self.events) if event.action in actions and self.stands(at)]

    def decisions(self):
        return {(event.example_id, event.reviewer): event for event in self.not_undone("decide")}

    def consensus(self):
        rulings = {event.example_id: event for event in self.not_undone("adjudicate")}
        found = {}
        for example in EXAMPLES:
            decided = [event for (name, _), event in self.decisions().items() if name == example]
            answers = {answer(event) for event in decided if event.verdict}
            if example in rulings:
                found[example] = ("adjudicated", answer(rulings[example]))
            elif len(answers) > 1:
                found[example] = ("disputed", None)
            elif decided:
                found[example] = ("agreed", answers.pop() if answers else None)
        return found

    def flagged(self):
        last = {event.example_id: event.action for event in self.not_undone("flag", "unflag")}
        return {example for example, action in last.items() if action == "flag"}

    def assigned(self):
        found = set()
        for event in self.not_undone("assign", "release"):
            if event.action == "assign":
                found.add((event.example_id, event.assignee))
            else:
                found -= {one for one in found if one[0] == event.example_id and event.assignee in (None, one[1])}
        return found

    def acknowledged(self, client):
        seqs = {event.seq for event in self.events if event.client == client}
        if not seqs:
            return None
        return next(seq for seq in itertools.count(min(seqs)) if seq + 1 not in seqs)


def answer(row):
    """A decision as what it says is true; every example here carries label 3."""
    if pd.isna(row.verdict):
        return None
    names = {"given": "3", "other": row.new_label, "several": tuple(sorted(row.labels))}
    return names.get(row.verdict, row.verdict)


class LogMachine(RuleBasedStateMachine):
    """Rules act on the log and on the model alike; invariants compare them after every step."""

    def __init__(self, new_url):
        super().__init__()
        self.url = new_url()
        self.log = self.watcher = None
        self.model = Model()
        self.next_seq = dict.fromkeys(CLIENTS, 1)

    @initialize()
    def open(self):
        self.log = ReviewLog.open(self.url, "digits")
        self.watcher = ReviewLog.open(self.url)

    def make(self, client, **fields):
        seq = self.next_seq[client]
        self.next_seq[client] += 1
        return Event(client=client, seq=seq, reviewer=CLIENTS[client], label="3", **fields)

    def send(self, events):
        acknowledged = self.log.append(events)
        known = {(event.client, event.seq) for event in self.model.events}
        self.model.events += [event for event in events if (event.client, event.seq) not in known]
        assert acknowledged == {event.client: self.model.acknowledged(event.client) for event in events}

    @rule(client=clients, example=examples, judgement=judgements)
    def decide(self, client, example, judgement):
        self.send([self.make(client, action="decide", example_id=example, **judgement)])

    @rule(client=clients, judgement=judgements, name=st.sampled_from(["bulk 1", "bulk 2"]))
    def decide_all(self, client, judgement, name):
        self.send([self.make(client, action="decide", example_id=one, batch=name, **judgement) for one in EXAMPLES])

    @rule(first=clients, second=clients, example=examples, judgement=judgements)
    def two_tabs_in_one_append(self, first, second, example, judgement):
        self.send([self.make(tab, action="decide", example_id=example, **judgement) for tab in (first, second)])

    @rule(client=clients, example=examples)
    def lose_one_on_the_way(self, client, example):
        """The second arrives before the first: acknowledged stays where it was until the first is there."""
        events = [self.make(client, action="decide", example_id=example, verdict="given") for _ in range(2)]
        self.send(events[1:])
        self.send(events)

    @rule(example=examples, judgement=judgements)
    def adjudicate(self, example, judgement):
        self.send([self.make("lea 1", action="adjudicate", example_id=example, **judgement)])

    @rule(client=clients, example=examples, action=st.sampled_from(["flag", "unflag"]))
    def flag(self, client, example, action):
        self.send([self.make(client, action=action, example_id=example)])

    @rule(names=st.lists(st.sampled_from(["ana", "ben"]), min_size=3, max_size=3))
    def assign(self, names):
        """All examples dealt out in one act."""
        pairs = zip(EXAMPLES, names, strict=True)
        self.send(
            [self.make("lea 1", action="assign", example_id=one, assignee=name, batch="deal") for one, name in pairs]
        )

    @rule(example=examples, name=st.sampled_from(["ana", "ben", None]))
    def release(self, example, name):
        self.send([self.make("lea 1", action="release", example_id=example, assignee=name)])

    @precondition(lambda self: self.model.events)
    @rule(data=st.data())
    def undo(self, data):
        """Any act, undos and bulk acts included, by any tab of the same reviewer."""
        target = data.draw(st.sampled_from(self.model.events))
        tabs = [tab for tab, reviewer in CLIENTS.items() if reviewer == target.reviewer]
        tab = data.draw(st.sampled_from(tabs))
        undone = (target.client, target.seq)
        self.send([self.make(tab, action="undo", example_id=target.example_id, undoes=undone)])

    @precondition(lambda self: self.model.events)
    @rule(data=st.data())
    def send_again(self, data):
        first = data.draw(st.integers(0, len(self.model.events) - 1))
        self.send(self.model.events[first : first + 5])

    @precondition(lambda self: self.model.events)
    @rule(data=st.data(), client=clients)
    def contradict(self, data, client):
        known = data.draw(st.sampled_from(self.model.events))
        changed = Event(**{**vars(known), "note": "changed"})
        fresh = Event(client=client, seq=10_000, reviewer=CLIENTS[client], action="flag", example_id="a")
        with pytest.raises(EventRefused):
            self.log.append([fresh, changed])

    @rule(client=clients, example=examples)
    def crash_before_the_commit(self, client, example):
        """The rows are in the transaction and the connection dies: nothing of it may stay."""
        event = self.make(client, action="decide", example_id=example, verdict="given")
        write = event_store.insert_events

        def die(connection, rows):
            write(connection, rows)
            connection.connection.driver_connection.close()

        event_store.insert_events = die
        try:
            with pytest.raises(LogUnavailable):
                self.log.append([event])
        finally:
            event_store.insert_events = write
        self.send([event])

    @rule()
    def reopen(self):
        self.log.close()
        self.log = ReviewLog.open(self.url, "digits")

    @rule()
    def look(self):
        """A page asks now and then; what it gets follows from what it got before and what came since."""
        stored = self.log.events()
        assert list(zip(stored.client, stored.seq, strict=True)) == [(e.client, e.seq) for e in self.model.events]
        assert stored.position.tolist() == list(range(1, len(stored) + 1))
        found = {(row.example_id, row.reviewer): (row.client, row.seq) for row in self.log.decisions().itertuples()}
        assert found == {key: (event.client, event.seq) for key, event in self.model.decisions().items()}
        assert set(self.log.flags().example_id) == self.model.flagged()
        given = self.log.assignments()
        assert set(zip(given.example_id, given.assignee, strict=True)) == self.model.assigned()
        assert not given.duplicated(["example_id", "assignee"]).any()

    @rule()
    def watch(self):
        """A second log, open across audits all the time, sees the same."""
        found = {row.example_id: (row.status, answer(row)) for row in self.watcher.consensus().itertuples()}
        assert found == self.model.consensus()

    def teardown(self):
        if self.log is not None:
            self.look()
            self.watch()
            self.log.close()
            self.watcher.close()


@pytest.mark.parametrize("kind", KINDS)
def test_the_log_agrees_with_a_plain_model_whatever_happens(kind, request, tmp_path):
    if kind == "sqlite":
        names = (tmp_path / f"{number}.sqlite" for number in itertools.count())
        new_url = lambda: str(next(names))
    else:
        server = request.getfixturevalue("postgres")
        new_url = lambda: new_schema(server)
    run_state_machine_as_test(
        lambda: LogMachine(new_url),
        settings=settings(
            max_examples=int(os.environ.get("HARDLOOK_MACHINE_EXAMPLES", 15)),
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
