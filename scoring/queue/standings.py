"""How each example of a log stands now, kept up to date event by event.

    act      =  one event, without what only its page needs;  it stands ⇔ no act that undoes it stands
    stand    =  one example: the current decision of each reviewer, what they come to, its flag, its assignees
    states   =  word → examples: decided, each verdict, issue, disputed, flagged

The rules are those of ``scoring.reviews.decisions``, which derives the same as tables over a whole log; the tests hold
the two together on random logs. Only events after the last known position are read, and only examples that something
happened to are judged again. ``Followed`` keeps what is derived from stands, such as the examples that wait for a
second reader, in the same way.

Inputs → outputs: a review log → plain dicts and sets. Cost: one reading of the whole log at the first look (some 20 µs
an event), then some 50 µs for each new event; about 0.6 kB of memory an event. Safe to share among threads.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import pandas as pd

from scoring.reviews import ReviewLog
from scoring.reviews.verdicts import VERDICTS, verdicts_with_field

Value = TypeVar("Value")
TEXTS = ("example_id", "reviewer", "action", "client", "batch", "verdict", "new_label", "label", "assignee")
OTHERS = ("position", "undoes_position", "labels", "issues", "evidence")
SHOWN = ("run", "model", "panel")
"""Of the evidence of a decision, what tells which model was on screen, and where it was made."""
NAMES_A_LABEL = frozenset(name for name, kind in VERDICTS.items() if kind.true in ("label", "new_label"))
TAKES_NEW_LABEL, TAKES_LABELS = (frozenset(verdicts_with_field(name)) for name in ("new_label", "labels"))


@dataclass(slots=True, eq=False)
class Act:
    """One event of the log. ``targets``: what it undoes; ``undone_by``: the acts that name it."""

    example_id: str
    reviewer: str
    action: str
    client: str
    batch: str | None
    verdict: str | None
    new_label: str | None
    label: str | None
    assignee: str | None
    position: int
    undoes: int | None
    labels: tuple[str, ...]
    issues: tuple[str, ...]
    evidence: Mapping[str, Any]
    stands: bool = True
    targets: tuple[Act, ...] = ()
    undone_by: list[Act] = field(default_factory=list)

    def stood_at(self, position: int) -> bool:
        """Returns whether the act was in the log and stood when this position was the last."""
        return self.position <= position and not any(undo.stood_at(position) for undo in self.undone_by)


@dataclass(frozen=True, slots=True)
class Stand:
    """How one example stands. ``decisions``: the current one of each reviewer, in commit order; ``status``: agreed,
    disputed, adjudicated, or None without a decision; ``verdict``, ``issues``: what they come to."""

    decisions: tuple[Act, ...] = ()
    status: str | None = None
    verdict: str | None = None
    issues: tuple[str, ...] = ()
    flagged: bool = False
    assignees: tuple[str, ...] = ()

    @property
    def words(self) -> frozenset[str]:
        """The states that the example is in."""
        found = {"decided"} if self.status is not None else set()
        found |= {self.verdict} if self.verdict is not None else set()
        found |= {"disputed"} if self.status == "disputed" else set()
        return frozenset(found | ({"issue"} if self.issues else set()) | ({"flagged"} if self.flagged else set()))


NOTHING = Stand()
WORDS = ("decided", *VERDICTS, "issue", "disputed", "flagged")


class Standings:
    """The stands of one log's examples, as far as the log was read."""

    def __init__(self, log: ReviewLog):
        self.log = log
        self.position = 0
        self._acts: dict[int, Act] = {}
        self._bulk: dict[tuple[str, str], list[Act]] = {}
        self._about: dict[str, list[Act]] = {}
        self._stands: dict[str, Stand] = {}
        self._words: dict[str, set[str]] = {word: set() for word in WORDS}
        self._frozen: dict[str, frozenset[str]] = {}
        self._own: dict[str, dict[str, int]] = {}
        self._given: dict[str, tuple[str, ...]] = {}
        self._changes: list[str] = []
        self._lock = threading.RLock()

    def look(self) -> int:
        """Reads what is new in the log and returns its last position."""
        with self._lock:
            if self.log.position() > self.position:
                fresh = self.log.events(after=self.position)
                self._fold(fresh)
                self.position = int(fresh["position"].iloc[-1])
            return self.position

    def states(self) -> dict[str, frozenset[str]]:
        """Returns the examples of each of ``WORDS``."""
        with self._lock:
            for word in WORDS:
                if word not in self._frozen:
                    self._frozen[word] = frozenset(self._words[word])
            return dict(self._frozen)

    def of(self, example_id: str) -> Stand:
        """Returns how one example stands."""
        return self._stands.get(example_id, NOTHING)

    def decided_by(self, reviewer: str | None) -> dict[str, int]:
        """Returns the examples that a reviewer has decided, each with the position of the decision."""
        with self._lock:
            return dict(self._own.get(reviewer, {})) if reviewer is not None else {}

    def assignees(self) -> dict[str, tuple[str, ...]]:
        """Returns the assigned examples, each with its assignees in the order of the assignments."""
        with self._lock:
            return dict(self._given)

    def was_decided(self, example_id: str, position: int) -> bool:
        """Returns whether the example was decided when this position of the log was the last."""
        with self._lock:
            acts = self._about.get(example_id, ())
            return any(act.action in ("decide", "adjudicate") and act.stood_at(position) for act in acts)

    def changed(self, since: int) -> tuple[int, dict[str, Stand]]:
        """Returns the stands of the examples that changed after change number ``since``, and the last number; from 0
        on all of them."""
        with self._lock:
            examples = dict.fromkeys(self._changes[since:])
            return len(self._changes), {one: self.of(one) for one in examples}

    # -- folding ------------------------------------------------------------------------------------------------------

    def _fold(self, events: pd.DataFrame) -> None:
        touched: dict[str, None] = {}
        for act in _acts(events):
            if act.undoes is not None:
                self._undo(act, touched)
            self._acts[act.position] = act
            if act.batch is not None:
                self._bulk.setdefault((act.client, act.batch), []).append(act)
            self._about.setdefault(act.example_id, []).append(act)
            touched[act.example_id] = None
        for example in touched:
            self._judge(example)

    def _undo(self, undo: Act, touched: dict[str, None]) -> None:
        """Takes back what an act names, and gives back what this took back in its turn."""
        named = self._acts[undo.undoes] if undo.undoes is not None else undo
        members = [named] if named.batch is None else self._bulk[named.client, named.batch]
        undo.targets = tuple(members)
        for act in members:
            act.undone_by.append(undo)
        open_ones = list(members)
        while open_ones:
            act = open_ones.pop()
            stands = not any(other.stands for other in act.undone_by)
            if stands != act.stands:
                act.stands = stands
                touched[act.example_id] = None
                open_ones.extend(act.targets)

    def _judge(self, example: str) -> None:
        """Derives the stand of an example again."""
        before, now = self.of(example), judged([act for act in self._about[example] if act.stands])
        if now == before:
            return
        self._stands[example] = now
        self._changes.append(example)
        for word in before.words ^ now.words:
            (self._words[word].add if word in now.words else self._words[word].discard)(example)
            self._frozen.pop(word, None)
        for act in before.decisions:
            self._own[act.reviewer].pop(example, None)
        for act in now.decisions:
            self._own.setdefault(act.reviewer, {})[example] = act.position
        if now.assignees:
            self._given[example] = now.assignees
        else:
            self._given.pop(example, None)


class Followed(Generic[Value]):
    """A value of some examples, derived from their stands and kept up to date: only those that changed are derived
    again. ``rule``: stands by example → the values of those that have one."""

    def __init__(self, standings: Standings, rule: Callable[[Mapping[str, Stand]], Mapping[str, Value]]):
        self.standings, self.rule = standings, rule
        self._known = 0
        self._values: dict[str, Value] = {}
        self._lock = threading.Lock()

    def now(self) -> Mapping[str, Value]:
        """Returns the values as the log stands, a new mapping where something changed."""
        with self._lock:
            known, changed = self.standings.changed(self._known)
            if changed:
                kept = {one: value for one, value in self._values.items() if one not in changed}
                self._values = {**kept, **self.rule(changed)}
            self._known = known
            return self._values


# -- one example ------------------------------------------------------------------------------------------------------


def judged(acts: list[Act]) -> Stand:
    """Returns how an example stands after its standing acts, in commit order."""
    toggles = [act.action for act in acts if act.action in ("flag", "unflag")]
    flagged, assignees = toggles[-1:] == ["flag"], _assignees(acts)
    latest: dict[str, Act] = {}
    for act in acts:
        if act.action == "decide":
            latest.pop(act.reviewer, None)
            latest[act.reviewer] = act
    decisions = tuple(latest.values())
    rulings = [act for act in acts if act.action == "adjudicate"]
    if rulings:
        return Stand(decisions, "adjudicated", rulings[-1].verdict, rulings[-1].issues, flagged, assignees)
    if not decisions:
        return Stand(flagged=flagged, assignees=assignees)
    issues = tuple(dict.fromkeys(name for act in decisions for name in act.issues))
    answered = [act for act in decisions if act.verdict is not None]
    if len({_answer(act, decisions) for act in answered}) > 1:
        return Stand(decisions, "disputed", None, issues, flagged, assignees)
    return Stand(decisions, "agreed", (answered or decisions)[-1].verdict, issues, flagged, assignees)


def _answer(act: Act, decisions: tuple[Act, ...]) -> tuple[str, str]:
    """Returns what a decision says is true, equal for equal answers. A label that was not sent is known from
    another's."""
    verdict = act.verdict or ""
    if verdict in NAMES_A_LABEL:
        label = next((one.label for one in (act, *decisions) if one.label is not None), None)
        return "label", (act.new_label if verdict in TAKES_NEW_LABEL else label) or ""
    return verdict, json.dumps(sorted(act.labels)) if verdict in TAKES_LABELS else ""


def _assignees(acts: list[Act]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for act in acts:
        if act.action == "assign" and act.assignee is not None:
            found.pop(act.assignee, None)
            found[act.assignee] = None
        elif act.action == "release":
            for name in list(found) if act.assignee is None else [act.assignee]:
                found.pop(name, None)
    return tuple(found)


def _acts(events: pd.DataFrame) -> Iterable[Act]:
    """Returns the events of a log's frame as acts."""
    shown: dict[str, dict[str, Any]] = {}
    texts = {name: events[name].astype(object).where(events[name].notna(), None).tolist() for name in TEXTS}
    rest = {name: events[name].tolist() for name in OTHERS}
    for values in zip(*texts.values(), *rest.values(), strict=True):
        act = Act(*values)
        known = {name: act.evidence[name] for name in SHOWN if name in act.evidence} if act.evidence else {}
        act.evidence = shown.setdefault(json.dumps(known), known)  # nearly all are alike
        act.undoes = None if pd.isna(act.undoes) else act.undoes
        yield act
