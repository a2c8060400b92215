"""The current status of each example, and what changed since a position of the log, for grids that poll once a second.

Inputs → outputs: the review log → plain dicts per example, ready for JSON:
``{decisions: [{reviewer, verdict, new_label, labels, issues}], flags: [reviewer], notes: n, settled}``. ``settled``
tells ``dashboard.blinding`` that a lead has adjudicated the example; it is not sent on.

Cost: a poll without news is one indexed query at most every 0.2 s, for any number of browsers. With news, the derived
tables of ``scoring.reviews`` are computed once for all of them. Limit: a browser that missed more than ``REMEMBERED``
events, or an undo (which may take back a bulk act), has to request the status of all its examples again.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import Any

import pandas as pd

from dashboard.queries.log_tail import Tail
from scoring.reviews import ReviewLog, decisions

LOOK_SECONDS = 0.2
LOOKS_PER_DERIVATION = 1.5  # looks at the log between two derivations
REMEMBERED = 20_000
UNDO = ""  # stands for an undo, which may concern several examples


class LiveStatus:
    """The current status of one log's examples, shared by all requests of this process."""

    def __init__(self, log: ReviewLog):
        self.log = log
        self._tail = Tail(log)
        self._recent: deque[tuple[int, str]] = deque(maxlen=REMEMBERED)
        self._oldest = 0  # ``_recent`` holds every event after this position
        self._looked = 0.0
        self._frames: tuple[int, dict[str, pd.DataFrame]] = (-1, {})
        self._lock = threading.Lock()
        self._deriving = threading.Lock()
        self._derived = 0.0

    def now(self, *, at_once: bool = False) -> int:
        """Returns the log's last position, at most ``LOOK_SECONDS`` old, or read now if ``at_once``."""
        with self._lock:
            if at_once or time.monotonic() - self._looked > LOOK_SECONDS:
                self._look()
            return self.position

    @property
    def position(self) -> int:
        """The log's last position as it is known; −1 before the first look."""
        return self._tail.position

    def _look(self) -> None:
        first = self.position < 0
        fresh = self._tail.look()
        self._looked = time.monotonic()
        if first:
            self._oldest = self._tail.began
        if not len(fresh):
            return
        named = fresh["example_id"].where(fresh["action"] != "undo", UNDO)
        if len(self._recent) + len(fresh) > REMEMBERED:
            self._oldest = int(fresh["position"].iloc[-1])
            self._recent.clear()
        else:
            self._recent.extend(zip(fresh["position"].tolist(), named.tolist(), strict=True))

    def changed(self, after: int) -> dict[str, Any]:
        """Returns {position, examples: their status, again: whether the browser has to request all its examples
        again}."""
        position = self.now()
        if after == position or self._too_soon(after):
            return {"position": after, "examples": {}, "again": False}
        with self._lock:
            touched = {example for at, example in self._recent if at > after}
            again = after < self._oldest or after > position or UNDO in touched
        return {"position": position, "examples": {} if again else self._states(touched), "again": again}

    def _too_soon(self, after: int) -> bool:
        """Returns whether the tables were derived a moment ago and hold nothing new for this browser, which polls
        again in a second. A team that decides fourteen times a second has its tables derived three times a second."""
        known, _ = self._frames
        return (
            known <= after <= self.position and time.monotonic() - self._derived < LOOKS_PER_DERIVATION * LOOK_SECONDS
        )

    def of(self, ids: Iterable[str]) -> dict[str, Any]:
        """Returns {position, examples}: the status of these examples, also of those without events."""
        return {"position": self.now(), "examples": self._states(set(ids))}

    def _states(self, ids: set[str]) -> dict[str, dict[str, Any]]:
        states: dict[str, dict[str, Any]] = {
            example: {"decisions": [], "flags": [], "notes": 0, "settled": False} for example in ids
        }
        frames = self._current()
        for row in _rows(frames["decisions"], ids):
            states[row["example_id"]]["decisions"].append(decision_json(row))
        for row in _rows(frames["flags"], ids):
            states[row["example_id"]]["flags"].append(row["reviewer"])
        for row in _rows(frames["comments"], ids):
            states[row["example_id"]]["notes"] += 1
        settled = frames["consensus"][frames["consensus"]["status"] == "adjudicated"]
        for example in settled.loc[settled["example_id"].isin(ids), "example_id"]:
            states[example]["settled"] = True
        return states

    def _current(self) -> dict[str, pd.DataFrame]:
        with self._deriving:  # of many requests at once, one derives the tables
            position, frames = self._frames
            if position != self.position:
                position = self.position
                names = ("decisions", "flags", "comments", "consensus")
                frames = {name: getattr(self.log, name)() for name in names}
                self._frames, self._derived = (position, frames), time.monotonic()
            return frames


def undo_preview(log: ReviewLog, act: dict[str, Any], reviewer: str) -> dict[str, Any]:
    """Returns the effect of an undo: ``before``, per example the reviewer's own decision, flag and notes that are
    then current, and ``opens``, the examples that the reviewer has then not decided any more."""
    events, stands = log.without(act)
    frames = {name: getattr(decisions, name)(events, stands) for name in ("decisions", "flags", "comments")}
    own = frames["decisions"][frames["decisions"]["reviewer"] == reviewer]
    before = {row["example_id"]: decision_json(row) for row in own.to_dict("records")}
    flagged, notes = set(frames["flags"]["example_id"]), frames["comments"]["example_id"].value_counts()
    now = log.decisions()
    decided = set(now.loc[(now["reviewer"] == reviewer) & now["verdict"].notna(), "example_id"])
    ids = list(dict.fromkeys(events["example_id"]))
    return {
        "before": {
            one: {"decision": before.get(one), "flag": one in flagged, "notes": int(notes.get(one, 0))} for one in ids
        },
        "opens": [one for one in ids if one in decided and not (before.get(one) or {}).get("verdict")],
    }


def decision_json(row: dict[str, Any]) -> dict[str, Any]:
    """Returns a decision as plain data for JSON."""
    texts = {name: json_value(row[name]) for name in ("reviewer", "verdict", "new_label")}
    return {**texts, "labels": list(row["labels"]), "issues": list(row["issues"])}


def json_value(value: Any) -> Any:
    """Returns a scalar of pandas as plain data for JSON: nulls as None, times in ISO format."""
    if value is None or value is pd.NaT or (not isinstance(value, (str, list, tuple)) and pd.isna(value)):
        return None
    return value.isoformat() if hasattr(value, "isoformat") else value


def _rows(frame: pd.DataFrame, ids: set[str]) -> list[dict[str, Any]]:
    return frame[frame["example_id"].isin(ids)].to_dict("records") if len(frame) else []
