"""Facts about a reviewer's session, from the log: its start, its pace, what was inspected, what to review again.

    session    =  the reviewer's decisions since the last pause of more than ``PAUSE`` seconds
    active     =  Σ min(gap between two decisions, ``IDLE``)
    inspected  ⇔  opened, or on screen for half a second (``LEAST``), as the event's evidence says
    reopened   ⇔  decided before a model was seen, and that model says otherwise

All of it is derived from events, so it is the same on any machine and after a reload. A model contradicts a decision
when the class that it finds most probable (out-of-fold, else the mean over epochs, else the last checkpoint:
``scoring.queue.order``) is none of the labels that the decision calls true; *none* and *unsure* name no label and are
never contradicted. A decision made with a model's opinion on screen is never contradicted by the same model.

Inputs → outputs: event frames of ``scoring.reviews`` → plain values and sets of ids. Cost: one pass over the events.
Limit: last-checkpoint opinions about training examples are in-sample and contradict little after memorisation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from scoring.audit import Run
from scoring.reviews.verdicts import true_labels

PAUSE = 15 * 60.0
IDLE = 60.0
LEAST = 0.5


@dataclass(frozen=True)
class ReviewSession:
    """Decisions of one session: number of examples, start (epoch seconds; None without a decision), active seconds."""

    decided: int = 0
    began: float | None = None
    active: float = 0.0


def review_session(
    decisions: pd.DataFrame, now: pd.Timestamp, pause: float = PAUSE, idle: float = IDLE
) -> ReviewSession:
    """Returns the session open ``now``, from one reviewer's decisions (``created_at``, UTC); empty after a pause.

    >>> times = pd.to_datetime([0, 3600, 3610, 3700], unit="s", utc=True)
    >>> frame = pd.DataFrame({"created_at": times, "example_id": list("abcc")})
    >>> review_session(frame, pd.Timestamp(3730, unit="s", tz="UTC"))
    ReviewSession(decided=2, began=3600.0, active=70.0)
    """
    times = decisions["created_at"].astype("datetime64[ns, UTC]").astype("int64").to_numpy() / 1e9
    order = np.argsort(times, kind="stable")
    times = times[order]
    known = times <= now.timestamp() + pause  # later ones are of before the clock was set back
    order, times = order[known], np.minimum(times[known], now.timestamp())
    if not len(times) or now.timestamp() - times[-1] > pause:
        return ReviewSession()
    gaps = np.diff(times)
    breaks = np.flatnonzero(gaps > pause)
    start = int(breaks[-1]) + 1 if len(breaks) else 0
    examples = decisions["example_id"].to_numpy()[order][start:]
    active = float(np.minimum(gaps[start:], idle).sum())
    return ReviewSession(int(pd.unique(examples).size), float(times[start]), active)


def inspected(events: pd.DataFrame) -> np.ndarray:
    """(n,) bool: at which events the reviewer had really looked at the example.

    Evidence says ``opened`` (it was opened on purpose) and ``on_screen`` (seconds); events without them, from before
    they were kept or from a script, count by ``seconds``.

    >>> inspected(pd.DataFrame({"evidence": [{"opened": True}, {"on_screen": 0.2}, None], "seconds": [None, 9, 0.7]}))
    array([ True, False,  True])
    """
    rows = zip(events["evidence"], events["seconds"], strict=True)
    return np.array([_inspected(evidence, seconds) for evidence, seconds in rows], dtype=bool)


def _inspected(evidence: Any, seconds: Any) -> bool:
    known = evidence if isinstance(evidence, Mapping) else {}
    if known.get("opened"):
        return True
    shown = known.get("on_screen", seconds)
    return shown is not None and not pd.isna(shown) and float(shown) >= LEAST


def model_of(run: Run) -> str | None:
    """A short name of a run's model: the sha256 of its last checkpoint. It goes into each decision's evidence."""
    checkpoints = run.record().get("checkpoints") or [{}]
    digest = checkpoints[-1].get("sha256") if isinstance(checkpoints[-1], Mapping) else None
    return str(digest)[:16] if digest else None


class Answer(Protocol):
    """What is read of one decision; rows of the log's frames and ``scoring.queue.standings.Act`` have it."""

    @property
    def verdict(self) -> str | None: ...
    @property
    def label(self) -> str | None: ...
    @property
    def new_label(self) -> str | None: ...
    @property
    def labels(self) -> Sequence[str]: ...
    @property
    def evidence(self) -> Mapping[str, Any] | None: ...


def is_contradicted(answers: Sequence[Answer], opinion: str | None, run: str, model: str | None) -> bool:
    """Returns whether a later model contradicts the decisions about one example.

    answers: those that stand, oldest first, of which the last with a verdict counts; opinion: the class that the model
    finds most probable; run, model: by which evidence tells whether the model was on screen already.
    """
    if opinion is None or any(_saw(answer, run, model) for answer in answers):
        return False
    said = [one for one in answers if isinstance(one.verdict, str)]
    labels = true_labels(said[-1].verdict, said[-1].label, said[-1].new_label, said[-1].labels) if said else ()
    return bool(labels) and opinion not in labels


def _saw(answer: Answer, run: str, model: str | None) -> bool:
    evidence = answer.evidence if isinstance(answer.evidence, Mapping) else {}
    if model and evidence.get("model"):
        return evidence["model"] == model
    return evidence.get("run", run) == run


def reopened(events: pd.DataFrame, opinions: Mapping[str, str], run: str, model: str | None) -> set[str]:
    """The decided examples that a later model contradicts.

    events: those that stand and decide, oldest first, with ``evidence``; opinions: {example_id: class that the model
    finds most probable}; run, model: as of ``is_contradicted``.
    """
    answers: dict[str, list[Any]] = {}
    for row in events.itertuples():
        answers.setdefault(str(row.example_id), []).append(row)
    return {one for one, said in answers.items() if is_contradicted(said, opinions.get(one), run, model)}
