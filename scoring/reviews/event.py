"""An event, one act of a reviewer: its fields, and the checks before it is written.

An event says who (reviewer, client, seq), about what (example_id, and the fingerprint and label that were on
screen) and what is true (verdict, issues) or was done (flag, comment, undo …). What happens to the example is
no part of it: that is a policy applied at export (``scoring.corrections.label_patch``).

Inputs are keyword arguments as a page has them, nulls of pandas included; ``Event.row`` gives the plain
values that a database keeps. Cost: some microseconds per event. Known limit: one label per example;
``labels`` names several only for the verdict that several fit.
"""

from __future__ import annotations

import json
import math
import numbers
import operator
import reprlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from scoring.audit.errors import HardlookError
from scoring.reviews.verdicts import VERDICTS

ACTIONS = ("decide", "flag", "unflag", "comment", "undo", "adjudicate", "assign", "release")
JUDGING = ("decide", "adjudicate")  # the actions that carry a verdict
LONGEST_KEY = 200  # characters; PostgreSQL indexes at most 2,704 bytes per row, and keys are indexed
LARGEST_NUMBER = 2**63 - 1
DEEPEST = 50  # levels of the evidence


class EventRefused(HardlookError):
    """An event that cannot be written as it is, however often it is sent; ``client`` and ``seq`` name it."""

    def __init__(self, client: Any, seq: Any, reason: str) -> None:
        super().__init__(f"event {reprlib.repr(client)} {reprlib.repr(seq)}: {reason}")
        self.client, self.seq = client, seq


@dataclass(frozen=True, kw_only=True)
class Event:
    """One act of one reviewer on one example, checked when it is made.

    client, seq: who numbers it. A client (a browser tab, a script) counts its events without gaps from any
    first number. example_id, fingerprint, label: what was on screen; label is the given label, a class name,
    null in the pool. reviewer: the person; action: one of ``ACTIONS``; batch: the name of one bulk act,
    shared by its events. assignee: to whom ``assign`` gives the example, or from whom alone ``release`` takes it.
    verdict: one of ``scoring.reviews.verdicts.VERDICTS``, for ``decide`` and ``adjudicate``; new_label goes with
    other, labels with several; issues: any number of names, with or without a verdict. A later decision
    replaces the earlier one as a whole. undoes: (client, seq) of the event that an ``undo`` takes back; note:
    free text, stored as given. evidence: what the reviewer had on screen, as JSON; numbers that JSON lacks
    (NaN, infinity) become null. seconds: time spent; round: which pass of reviews.

    Raises ``EventRefused`` with the reason.

    >>> Event(client="tab", seq=1, example_id="a.png", reviewer="ana", action="decide", verdict="other")
    Traceback (most recent call last):
    scoring.reviews.event.EventRefused: event 'tab' 1: verdict 'other' needs new_label, the class that is right
    """

    client: str
    seq: int
    example_id: str
    reviewer: str
    action: str
    fingerprint: str | None = None
    label: str | None = None
    verdict: str | None = None
    new_label: str | None = None
    labels: tuple[str, ...] = ()
    issues: tuple[str, ...] = ()
    note: str | None = None
    batch: str | None = None
    undoes: tuple[str, int] | None = None
    evidence: Mapping[str, Any] | None = None
    seconds: float | None = None
    round: int | None = None
    assignee: str | None = None

    def __post_init__(self) -> None:
        try:
            self._normalise()
            self._check()
        except HardlookError as error:
            raise EventRefused(self.client, self.seq, str(error)) from None

    def _normalise(self) -> None:
        """Bring every field to its plain Python type, so that equal content is equal whoever sent it."""
        for name in ("client", "example_id", "reviewer", "action"):
            self._set(name, needed_text(name, getattr(self, name)))
        for name in ("fingerprint", "label", "verdict", "new_label", "note", "batch", "assignee"):
            self._set(name, _text(name, getattr(self, name)))
        for name in ("labels", "issues"):
            self._set(name, _names(name, getattr(self, name)))
        self._set("seq", _whole("seq", self.seq))
        self._set("round", None if _absent(self.round) else _whole("round", self.round))
        self._set("seconds", None if _absent(self.seconds) else _seconds(self.seconds))
        self._set("undoes", None if _absent(self.undoes) else _reference(self.undoes))
        self._set("evidence", None if _absent(self.evidence) else _evidence(self.evidence))

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _check(self) -> None:
        """What must hold between the fields."""
        if len(self.client) > LONGEST_KEY:
            raise HardlookError(f"client has {len(self.client)} characters, but at most {LONGEST_KEY} are allowed")
        if self.action not in ACTIONS:
            raise HardlookError(f"action {self.action!r} is unknown; one of {', '.join(ACTIONS)}")
        if self.action in JUDGING:
            self._check_verdict()
        elif self.verdict is not None:
            raise HardlookError(
                f"action {self.action!r} has verdict {self.verdict!r}; only decide and adjudicate can have one"
            )
        if (self.action == "undo") != (self.undoes is not None):
            raise HardlookError("undo needs undoes=(client, seq) of the event to undo, and no other action can have it")
        if self.action == "assign" and not self.assignee:
            raise HardlookError("assign needs an assignee, the person who will review the example")
        if self.assignee is not None and self.action not in ("assign", "release"):
            raise HardlookError(f"action {self.action!r} has an assignee; only assign and release can have one")
        if self.action == "comment" and not self.note:
            raise HardlookError("comment needs a note")

    def _check_verdict(self) -> None:
        if self.verdict is None and not self.issues:
            raise HardlookError(f"{self.action} needs a verdict ({', '.join(VERDICTS)}) or an issue")
        if self.verdict is not None and self.verdict not in VERDICTS:
            raise HardlookError(f"verdict {reprlib.repr(self.verdict)} is unknown; one of {', '.join(VERDICTS)}")
        takes = VERDICTS[self.verdict].takes if self.verdict else None
        if takes == "new_label" and not self.new_label:
            raise HardlookError(f"verdict {self.verdict!r} needs new_label, the class that is right")
        if takes == "labels" and not self.labels:
            raise HardlookError(f"verdict {self.verdict!r} needs labels, all the classes that fit")
        if takes is None and self.new_label not in (None, self.label):
            raise HardlookError(f"verdict {self.verdict!r} contradicts new_label {reprlib.repr(self.new_label)}")

    def check_classes(self, classes: frozenset[str]) -> None:
        """Refuse a new label that is no class of the audit."""
        for name in (self.new_label, *self.labels):
            if name is not None and name not in classes:
                found = f"{reprlib.repr(name)} is not a class of this audit; it has {len(classes)}"
                raise EventRefused(self.client, self.seq, f"{found}, or the verdict is 'none'")

    def row(self) -> dict[str, Any]:
        """The event as plain database values: JSON text for lists and evidence, ``undoes`` in two columns."""
        values = asdict(self)
        undone = values.pop("undoes") or (None, None)
        values["undoes_client"], values["undoes_seq"] = undone
        for name in ("labels", "issues", "evidence"):
            values[name] = None if values[name] is None else to_json(values[name])
        return values


def to_json(value: Any) -> str:
    """The one JSON text of a value: keys sorted, no spaces, text as it is.

    >>> to_json({"b": 1, "a": "é"})
    '{"a":"é","b":1}'
    """
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _absent(value: Any) -> bool:
    """Returns whether a field is null in any of the ways that Python and pandas have."""
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def _text(name: str, value: Any) -> str | None:
    """Text as given, or the reason why no database can keep it."""
    if _absent(value):
        return None
    if not isinstance(value, str):
        raise HardlookError(f"{name} is {reprlib.repr(value)}, needs to be text")
    if "\0" in value:
        raise HardlookError(f"{name} has a NUL character, which PostgreSQL cannot store; remove it")
    try:
        value.encode("utf8")
    except UnicodeEncodeError:
        raise HardlookError(f"{name} has an unpaired surrogate, which is not valid text; remove it") from None
    return str(value)


def needed_text(name: str, value: Any) -> str:
    value = _text(name, value)
    if not value:
        raise HardlookError(f"{name} is missing")
    return value


def _names(name: str, value: Any) -> tuple[str, ...]:
    """A list of names, each once, in the order given."""
    if value is None:
        return ()
    if isinstance(value, (str, Mapping)) or not hasattr(value, "__iter__"):
        raise HardlookError(f"{name} is {reprlib.repr(value)}, needs to be a list of names")
    return tuple(dict.fromkeys(needed_text(name, item) for item in value))


def _whole(name: str, value: Any) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = -1
    if isinstance(value, bool) or not 0 <= number <= LARGEST_NUMBER:
        raise HardlookError(f"{name} is {reprlib.repr(value)}, needs to be a whole number from 0 to 2**63 - 1")
    return number


def _seconds(value: Any) -> float:
    try:
        seconds = math.nan if isinstance(value, bool) or not isinstance(value, numbers.Real) else float(value)
    except OverflowError:  # a whole number of more than 308 digits
        seconds = math.inf
    if not 0 <= seconds < math.inf:
        raise HardlookError(f"seconds is {reprlib.repr(value)}, needs to be a number from 0")
    return seconds


def _reference(value: Any) -> tuple[str, int]:
    if isinstance(value, str) or not hasattr(value, "__iter__") or len(value) != 2:
        raise HardlookError(f"undoes is {reprlib.repr(value)}, needs to be (client, seq)")
    client, seq = value
    return needed_text("undoes", client), _whole("undoes", seq)


def _evidence(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise HardlookError(f"evidence is {reprlib.repr(value)}, needs to be a mapping that JSON can hold")
    return _plain(value)


def _plain(value: Any, depth: int = 0) -> Any:
    """A value as JSON has it: numpy numbers unpacked, NaN and infinity null, tuples lists, text checked."""
    if depth > DEEPEST:
        raise HardlookError(f"evidence is nested deeper than {DEEPEST} levels; send a flatter one")
    if value is None or value is pd.NA or isinstance(value, bool):
        return None if value is pd.NA else value
    if isinstance(value, str):
        return _text("evidence", value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {_text("evidence", str(key)): _plain(item, depth + 1) for key, item in value.items()}
    if hasattr(value, "tolist"):  # numpy numbers and arrays
        return _plain(value.tolist(), depth)
    if isinstance(value, (list, tuple)):
        return [_plain(item, depth + 1) for item in value]
    raise HardlookError(f"evidence holds {reprlib.repr(value)}, which JSON cannot")
