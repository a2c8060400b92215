"""What the log's events come to: which of them stand, who decided what, and where reviewers agree.

    an event stands  ⇔  no later undo that itself stands names it or, when it is part of a bulk act, a member of its batch
    decision         =  the last standing ``decide`` per (example, reviewer); it replaces earlier ones as a whole
    consensus        =  per example: the last standing ``adjudicate``, else the one answer of all reviewers, else disputed

An undo of an undo therefore brings the decision back. Two answers are the same when they name the same true label
(*given* names the label that was on screen), or are the same of several (with the same classes), none and unsure; any
two different answers make a dispute, unsure included. A decision without a verdict (an issue alone) disputes nothing.

Inputs → outputs: the event frame of ``scoring.reviews`` in commit order → data frames of fixed columns and types.
Cost: vectorised, about a second per million events. Known limit: all events of the log are in memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

import numpy as np
import pandas as pd

DECISION_COLUMNS = ("audit", "example_id", "reviewer", "verdict", "new_label", "labels", "issues", "note", "label",
                    "fingerprint", "seconds", "round", "created_at", "position", "client", "seq", "batch")  # fmt: skip
CONSENSUS_COLUMNS = ("audit", "example_id", "status", "verdict", "new_label", "labels", "issues", "note", "label",
                     "fingerprint", "reviewers", "created_at", "position")  # fmt: skip
FLAG_COLUMNS = ("audit", "example_id", "reviewer", "note", "created_at", "position", "client", "seq")
EXAMPLE = ["audit", "example_id"]


def standing(events: pd.DataFrame) -> np.ndarray:
    """(n,) bool: which events nobody took back. An undo reaches only what stood before it.

    >>> events = pd.DataFrame({"position": [1, 2, 3], "audit": "a", "client": "tab", "batch": None,
    ...     "action": ["decide", "undo", "undo"], "undoes_position": pd.array([None, 1, 2], dtype="Int64")})
    >>> standing(events).tolist(), standing(events[:2]).tolist()
    ([True, False, True], [False, True])
    """
    stands = np.ones(len(events), dtype=bool)
    undos = np.flatnonzero(events["action"] == "undo")
    if not len(undos):
        return stands
    undone = events["undoes_position"].iloc[undos].to_numpy(dtype=np.int64)
    targets = np.searchsorted(events["position"].to_numpy(), undone)
    acts = _bulk_acts(events)
    # From the last to the first: what could take an undo back has then been settled.
    for undo, target in zip(undos[::-1], targets[::-1], strict=True):
        if stands[undo]:
            members = acts.get(target, np.array([target]))
            stands[members[members < undo]] = False
    return stands


def _bulk_acts(events: pd.DataFrame) -> dict[int, np.ndarray]:
    """For each row that is part of a bulk act: the rows of that act, in order."""
    bulk = events.loc[events["batch"].notna().to_numpy(), ["audit", "client", "batch"]]
    rows = np.flatnonzero(events["batch"].notna())
    groups = bulk.groupby(["audit", "client", "batch"], sort=False).indices.values()
    return {row: rows[members] for members in groups for row in rows[members].tolist()}


def current_decisions(events: pd.DataFrame) -> pd.DataFrame:
    """One row per (example, reviewer) with a standing decision, in commit order: ``DECISION_COLUMNS``."""
    return _last(events[standing(events) & (events["action"] == "decide")], [*EXAMPLE, "reviewer"], DECISION_COLUMNS)


def current_flags(events: pd.DataFrame) -> pd.DataFrame:
    """One row per example that is flagged for discussion, by whom and why: ``FLAG_COLUMNS``. Anybody may unflag."""
    toggles = events[standing(events) & events["action"].isin(["flag", "unflag"])]
    last = _last(toggles, EXAMPLE, (*FLAG_COLUMNS, "action"))
    return last.loc[last["action"] == "flag", list(FLAG_COLUMNS)].reset_index(drop=True)


def current_comments(events: pd.DataFrame) -> pd.DataFrame:
    """Every standing comment, in commit order: ``FLAG_COLUMNS``."""
    comments = events[standing(events) & (events["action"] == "comment")]
    return comments[list(FLAG_COLUMNS)].reset_index(drop=True)


def _last(rows: pd.DataFrame, keys: list[str], columns: Iterable[str]) -> pd.DataFrame:
    return rows.drop_duplicates(keys, keep="last")[list(columns)].reset_index(drop=True)


def consensus(events: pd.DataFrame) -> pd.DataFrame:
    """One row per decided or adjudicated example: ``CONSENSUS_COLUMNS``, by example_id within the audit.

    status: agreed (all answers the same, be it one), disputed or adjudicated. Verdict, new_label, labels and note are
    null (labels empty) in a dispute; otherwise those of the adjudication or of the last reviewer. issues: all that any
    reviewer named, or the adjudication's own. reviewers: all who decided, and the adjudicator last. created_at,
    position: of the last decision that counts.
    """
    decided = _agreement(current_decisions(events))
    rulings = events[standing(events) & (events["action"] == "adjudicate")]
    rulings = _last(rulings, EXAMPLE, (*DECISION_COLUMNS,)).assign(status="adjudicated")
    before = decided.set_index(EXAMPLE)["reviewers"] if len(decided) else pd.Series(dtype=object)
    rulings["reviewers"] = pd.Series(
        [
            (*(name for name in before.get((audit, example), ()) if name != lead), lead)
            for audit, example, lead in zip(rulings["audit"], rulings["example_id"], rulings["reviewer"], strict=True)
        ],
        dtype=object,
    )
    rulings = rulings[list(CONSENSUS_COLUMNS)].astype({"status": decided["status"].dtype})
    both = pd.concat([decided, rulings]) if len(rulings) else decided
    return _last(both, EXAMPLE, CONSENSUS_COLUMNS).sort_values(EXAMPLE, ignore_index=True)


def _agreement(decisions: pd.DataFrame) -> pd.DataFrame:
    """One row per example: the last reviewer's decision, blanked and called disputed where answers differ."""
    group = decisions.groupby(EXAMPLE, sort=False).ngroup().to_numpy()
    n_groups = int(group.max()) + 1 if len(group) else 0
    answered = decisions["verdict"].notna().to_numpy()
    answers = pd.DataFrame({"group": group, "answer": _answers(decisions)})[answered].drop_duplicates()
    disputed = np.bincount(answers["group"], minlength=n_groups) > 1
    # The row that speaks for the example: the last one with a verdict, else the last one.
    speaks = np.full(n_groups, -1)
    np.maximum.at(speaks, group, np.where(answered, np.arange(len(group)) + len(group), np.arange(len(group))))
    result = decisions.iloc[speaks % max(len(group), 1)].reset_index(drop=True)
    result["status"] = pd.array(np.where(disputed, "disputed", "agreed"), dtype=decisions["reviewer"].dtype)
    result["reviewers"] = _gathered(group, n_groups, [(name,) for name in decisions["reviewer"]])
    result["issues"] = _gathered(group, n_groups, decisions["issues"])
    result.loc[disputed, ["verdict", "new_label", "note"]] = None
    result["labels"] = pd.Series(
        [() if open_ else labels for open_, labels in zip(disputed, result["labels"], strict=True)], dtype=object
    )
    return result[list(CONSENSUS_COLUMNS)]


def _answers(decisions: pd.DataFrame) -> pd.Series:
    """What each decision says is true, as text that is equal for equal answers; null without a verdict."""
    # A reviewer may have sent no label; another's decision on the same example knows it.
    label = decisions["label"].fillna(decisions.groupby(EXAMPLE)["label"].transform("first"))
    verdict = decisions["verdict"]
    names = verdict.isin(["given", "other"])
    truth = decisions["new_label"].where(verdict == "other", label).fillna("")
    answers = ("label:" + truth).where(names, verdict)
    fits = ["several:" + json.dumps(sorted(labels)) for labels in decisions["labels"]]
    return answers.mask(verdict == "several", pd.Series(fits, index=answers.index, dtype=answers.dtype))


def _gathered(group: np.ndarray, n_groups: int, names: Iterable[tuple[str, ...]]) -> pd.Series:
    """Per group all names of its rows, each once, in commit order."""
    found: list[dict[str, None]] = [{} for _ in range(n_groups)]
    for at, some in zip(group.tolist(), names, strict=True):
        found[at].update(dict.fromkeys(some))
    return pd.Series([tuple(one) for one in found], dtype=object)
