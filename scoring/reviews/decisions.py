"""Derives decisions, flags, comments, assignments and consensus from the events of a log.

    an event stands  ⇔  no later undo that itself stands names it or a member of its bulk act
    decision         =  the last standing ``decide`` per (example, reviewer); it replaces those before
    consensus        =  per example: its last standing ``adjudicate``, else the one answer, else disputed

An undo of an undo therefore brings the decision back. Two answers are the same when they name the same true
label (*given* names the label that was on screen), or are the same of several (with the same classes), none
and unsure; any two different answers make a dispute, unsure included. A decision without a verdict (an issue
alone) disputes nothing.

Inputs → outputs: the event frame of ``scoring.reviews`` in commit order → data frames of fixed columns and
types. Cost: vectorised over the log once, then over the events of the examples that something happened to
(``Table``). Known limit: all events of the log are in memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd

from scoring.reviews.verdicts import VERDICTS, verdicts_with_field

DECISION_COLUMNS = (
    *("audit", "example_id", "reviewer", "verdict", "new_label", "labels", "issues", "note", "label"),
    *("fingerprint", "seconds", "round", "created_at", "position", "client", "seq", "batch"),
)
CONSENSUS_COLUMNS = (
    *("audit", "example_id", "status", "verdict", "new_label", "labels", "issues", "note", "label"),
    *("fingerprint", "reviewers", "created_at", "position"),
)
FLAG_COLUMNS = ("audit", "example_id", "reviewer", "note", "created_at", "position", "client", "seq")
ASSIGNMENT_COLUMNS = ("audit", "example_id", "assignee", "reviewer", "created_at", "position", "client", "seq")
EXAMPLE = ["audit", "example_id"]


def not_undone(events: pd.DataFrame) -> np.ndarray:
    """Returns (n,) bool: which events are not undone. An undo affects only earlier events.

    >>> events = pd.DataFrame({"position": [1, 2, 3], "audit": "a", "client": "tab", "batch": [None] * 3,
    ...     "action": ["decide", "undo", "undo"], "undoes_position": pd.array([None, 1, 2], dtype="Int64")})
    >>> not_undone(events).tolist(), not_undone(events[:2]).tolist()
    ([True, False, True], [False, True])
    """
    stands = np.ones(len(events), dtype=bool)
    undos = np.flatnonzero(events["action"] == "undo")
    if not len(undos):
        return stands
    undone = events["undoes_position"].iloc[undos].to_numpy(dtype=np.int64)
    targets = np.searchsorted(events["position"].to_numpy(), undone)
    acts = _bulk_acts(events, targets)
    # From the last to the first: what could take an undo back has then been settled.
    for undo, target in zip(undos[::-1].tolist(), targets[::-1].tolist(), strict=True):
        if stands[undo]:
            members = acts.get(target)
            stands[target if members is None else members[members < undo]] = False
    return stands


def _bulk_acts(events: pd.DataFrame, targets: np.ndarray) -> dict[int, np.ndarray]:
    """For each of the target rows that is part of a bulk act: the rows of that act, in order."""
    names = events["batch"].iloc[targets].dropna().unique()
    rows = np.flatnonzero(events["batch"].isin(names)) if len(names) else np.array([], dtype=int)
    acts = events.iloc[rows].groupby(["audit", "client", "batch"], sort=False).indices.values()
    return {row: rows[members] for members in acts for row in rows[members].tolist()}


def decisions(events: pd.DataFrame, stands: np.ndarray) -> pd.DataFrame:
    """One row per (example, reviewer) with a standing decision, in commit order: ``DECISION_COLUMNS``."""
    return _last(events[stands & (events["action"] == "decide")], [*EXAMPLE, "reviewer"], DECISION_COLUMNS)


def flags(events: pd.DataFrame, stands: np.ndarray) -> pd.DataFrame:
    """One row per example flagged for discussion, by whom and why: ``FLAG_COLUMNS``. Anybody may unflag."""
    toggles = events[stands & events["action"].isin(["flag", "unflag"])]
    last = _last(toggles, EXAMPLE, (*FLAG_COLUMNS, "action"))
    return last.loc[last["action"] == "flag", list(FLAG_COLUMNS)].reset_index(drop=True)


def comments(events: pd.DataFrame, stands: np.ndarray) -> pd.DataFrame:
    """Every standing comment, in commit order: ``FLAG_COLUMNS``."""
    return events.loc[stands & (events["action"] == "comment"), list(FLAG_COLUMNS)].reset_index(drop=True)


def assignments(events: pd.DataFrame, stands: np.ndarray) -> pd.DataFrame:
    """One row per (example, assignee) that was assigned and not released since: ``ASSIGNMENT_COLUMNS``."""
    rows = events[stands & events["action"].isin(["assign", "release"])]
    given = _last(rows[rows["action"] == "assign"], [*EXAMPLE, "assignee"], ASSIGNMENT_COLUMNS)
    released = rows[rows["action"] == "release"]
    one = released.dropna(subset=["assignee"]).groupby([*EXAMPLE, "assignee"])["position"].max().rename("one")
    every = released[released["assignee"].isna()].groupby(EXAMPLE)["position"].max().rename("every")
    ends = given.join(one, on=[*EXAMPLE, "assignee"]).join(every, on=EXAMPLE)[["one", "every"]].fillna(0).max(axis=1)
    return given[given["position"] > ends].reset_index(drop=True)


def _last(rows: pd.DataFrame, keys: list[str], columns: Iterable[str]) -> pd.DataFrame:
    return rows.drop_duplicates(keys, keep="last")[list(columns)].reset_index(drop=True)


def consensus(events: pd.DataFrame, stands: np.ndarray) -> pd.DataFrame:
    """One row per decided or adjudicated example: ``CONSENSUS_COLUMNS``, in the order of ``position``.

    status: agreed (all answers the same, be it one), disputed or adjudicated. Verdict, new_label and note are
    null and labels empty in a dispute; otherwise those of the adjudication or of the last reviewer with a
    verdict. issues: all that any reviewer named, or the adjudication's own. reviewers: all who decided, and
    the adjudicator last. created_at, position: of the adjudication, else of the last decision that speaks.
    """
    decided = _agreement(decisions(events, stands))
    rulings = _last(events[stands & (events["action"] == "adjudicate")], EXAMPLE, DECISION_COLUMNS)
    if not len(rulings):
        return decided
    ruled = pd.MultiIndex.from_frame(rulings[EXAMPLE])
    before = decided[pd.MultiIndex.from_frame(decided[EXAMPLE]).isin(ruled)]
    readers = dict(zip(zip(before["audit"], before["example_id"], strict=True), before["reviewers"], strict=True))
    leads = zip(ruled, rulings["reviewer"], strict=True)
    rulings["status"] = pd.array(["adjudicated"] * len(rulings), dtype=decided["status"].dtype)
    rulings["reviewers"] = _objects([_with_lead(readers.get(example, ()), lead) for example, lead in leads])
    both = pd.concat([decided.drop(before.index), rulings[list(CONSENSUS_COLUMNS)]])
    return both.sort_values("position", ignore_index=True)


def _with_lead(readers: tuple[str, ...], lead: str) -> tuple[str, ...]:
    return (*(name for name in readers if name != lead), lead)


def _agreement(decided: pd.DataFrame) -> pd.DataFrame:
    """One row per example: the decision that speaks for it, disputed and blank where answers differ."""
    shared = decided.duplicated(EXAMPLE, keep=False).to_numpy()
    alone = decided[~shared]
    alone = alone.assign(
        status=pd.array(["agreed"] * len(alone), dtype=decided["reviewer"].dtype),
        reviewers=_objects([(name,) for name in alone["reviewer"]], alone.index),
    )
    both = alone[list(CONSENSUS_COLUMNS)]
    if shared.any():
        both = pd.concat([both, _compared(decided[shared])])
    return both.sort_values("position", ignore_index=True)


def _compared(decided: pd.DataFrame) -> pd.DataFrame:
    """``_agreement`` of examples with several decisions."""
    decided = decided.reset_index(drop=True)
    group = decided.groupby(EXAMPLE, sort=False).ngroup().to_numpy()
    answered = decided["verdict"].notna().to_numpy()
    said = pd.DataFrame({"group": group, "answer": answers(decided)})[answered].drop_duplicates()
    n_groups = int(group.max()) + 1
    disputed = np.bincount(said["group"], minlength=n_groups) > 1
    # The last one with a verdict speaks for the example, else the last one.
    speaks = np.zeros(n_groups, dtype=int)
    np.maximum.at(speaks, group, np.arange(len(group)) + answered * len(group))
    result = decided.iloc[speaks % len(group)].reset_index(drop=True)
    result["status"] = pd.array(np.where(disputed, "disputed", "agreed"), dtype=decided["reviewer"].dtype)
    result["reviewers"] = _gathered(group, n_groups, [(name,) for name in decided["reviewer"]])
    result["issues"] = _gathered(group, n_groups, decided["issues"])
    result.loc[disputed, ["verdict", "new_label", "note"]] = None
    result["labels"] = _objects(
        [() if differ else labels for differ, labels in zip(disputed, result["labels"], strict=True)]
    )
    return result[list(CONSENSUS_COLUMNS)]


def answers(decided: pd.DataFrame) -> pd.Series:
    """Returns what each decision says is true, as text that is equal for equal answers; null without a verdict."""
    # A reviewer may have sent no label; another's decision on the same example knows it.
    label = decided["label"].fillna(decided.groupby(EXAMPLE)["label"].transform("first"))
    verdict = decided["verdict"]
    one = [name for name, kind in VERDICTS.items() if kind.true in ("label", "new_label")]
    truth = decided["new_label"].where(verdict.isin(verdicts_with_field("new_label")), label).fillna("")
    answers = ("label:" + truth).where(verdict.isin(one), verdict)
    several = verdict.isin(verdicts_with_field("labels")).to_numpy()
    said = decided.loc[several]
    fits = [
        f"{name}:{json.dumps(sorted(labels))}" for name, labels in zip(said["verdict"], said["labels"], strict=True)
    ]
    answers[several] = pd.array(fits, dtype=answers.dtype)
    return answers


def _gathered(group: np.ndarray, n_groups: int, names: Iterable[tuple[str, ...]]) -> pd.Series:
    """Per group all names of its rows, each once, in commit order."""
    found: list[dict[str, None]] = [{} for _ in range(n_groups)]
    for at, some in zip(group.tolist(), names, strict=True):
        found[at].update(dict.fromkeys(some))
    return _objects([tuple(one) for one in found])


def _objects(values: list[Any], index: pd.Index | None = None) -> pd.Series:
    """A column of tuples; pandas would otherwise take some for rows."""
    return pd.Series(values, dtype=object, index=index)


class Table:
    """One derived table that follows the log: only examples that something happened to are derived again.

    ``rule`` is one of this module's: (events, stands) → one or more rows per example, each with its position.
    """

    def __init__(self, rule: Callable[[pd.DataFrame, np.ndarray], pd.DataFrame]):
        self.rule = rule
        self.stands = np.array([], dtype=bool)
        self.frame: pd.DataFrame | None = None

    def follow(self, events: pd.DataFrame, stands: np.ndarray) -> pd.DataFrame:
        """The table over all of ``events``, which are those of the last call and then some."""
        known = len(self.stands)
        changed = np.concatenate([self.stands != stands[:known], np.ones(len(stands) - known, dtype=bool)])
        if self.frame is None or changed.sum() > len(changed) // 10:
            self.frame = self.rule(events, stands)
        elif changed.any():
            self.frame = self._redone(self.frame, events, stands, events["example_id"][changed].unique())
        self.stands = stands
        return self.frame

    def _redone(
        self, frame: pd.DataFrame, events: pd.DataFrame, stands: np.ndarray, examples: np.ndarray
    ) -> pd.DataFrame:
        """Returns the table with the rows of these examples derived again."""
        touched = events["example_id"].isin(examples).to_numpy()
        again = self.rule(events[touched], stands[touched])
        kept = np.flatnonzero(~frame["example_id"].isin(examples))
        if len(again):  # an empty part would have its say about the types
            kept = np.concatenate([kept, len(frame) + np.arange(len(again))])
            frame = pd.concat([frame, again], ignore_index=True) if len(frame) else again
        # One take for both leaving out and ordering: it is what costs here.
        order = kept[np.argsort(frame["position"].to_numpy()[kept], kind="stable")]
        return frame.take(order).reset_index(drop=True)
