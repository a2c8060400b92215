"""Outcomes of meetings: precedents, merged and split classes, read from the events that meetings wrote and that stand.

Inputs → outputs: the log → outcomes, precedents, class mapping. An undo takes an outcome back. Cost: one reading of the
log.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from scoring.audit.errors import HardlookError
from scoring.reviews import decisions
from scoring.reviews.review_log import ReviewLog

LONGEST_TEXT = 10_000


def precedent(outcome: Mapping[str, Any], item: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns the precedent that an outcome sets, {text, examples}; None if it sets none."""
    text = (outcome.get("precedent") or "").strip()
    if not text:
        return None
    if len(text) > LONGEST_TEXT:
        raise HardlookError(f"the precedent has {len(text):,} characters; needed at most {LONGEST_TEXT:,}")
    return {"text": text, "examples": list(dict.fromkeys([*item["examples"], *outcome.get("look_alikes", ())]))}


def class_change(change: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A merge or split, checked: {kind, from: [names], to: [names]}.

    >>> class_change({"kind": "merge", "from": ["cat", "kitten"], "to": ["cat"]})["to"]
    ['cat']
    """
    if not change:
        return None
    kind = change.get("kind")
    old, new = ([name.strip() for name in change.get(side, ()) if name.strip()] for side in ("from", "to"))
    shape = {"merge": len(old) >= 2 and len(new) == 1, "split": len(old) == 1 and len(new) >= 2}
    if not shape.get(str(kind), False):
        raise HardlookError(
            f"a change of classes from {old} to {new} is no {kind!r}; a merge takes two or more classes into one, a "
            "split one into two or more"
        )
    return {"kind": kind, "from": list(dict.fromkeys(old)), "to": list(dict.fromkeys(new))}


def outcomes(log: ReviewLog) -> pd.DataFrame:
    """The standing events that meetings wrote, evidence included, in commit order."""
    events = log.events()
    if not len(events):
        return events
    stands = decisions.not_undone(events)
    from_meeting = [isinstance(one, Mapping) and "meeting" in one for one in events["evidence"]]
    return events[stands & pd.Series(from_meeting, index=events.index).to_numpy(dtype=bool)].reset_index(drop=True)


def precedents(log: ReviewLog) -> list[dict[str, Any]]:
    """Returns what meetings wanted remembered: [{text, examples, label, new_label, verdict, meeting, position}]."""
    return [
        {
            **row.evidence["precedent"],
            "label": none_if_null(row.label),
            "new_label": none_if_null(row.new_label),
            "verdict": none_if_null(row.verdict),
            "meeting": row.evidence["meeting"],
            "position": int(row.position),
        }
        for row in outcomes(log).itertuples()
        if row.evidence.get("precedent")
    ]


def precedents_for(
    found: Sequence[Mapping[str, Any]],
    example_id: str,
    neighbours: Iterable[str] = (),
    label: str | None = None,
    suggestion: str | None = None,
) -> list[dict[str, Any]]:
    """The precedents that an example looks like: it or a near neighbour is one of theirs, or label and suggestion are
    the label and the outcome of theirs. The newest first."""
    near = {example_id, *neighbours}
    alike = (
        one
        for one in found
        if near & set(one["examples"])
        or (suggestion is not None and (label, suggestion) == (one["label"], one["new_label"]))
    )
    return sorted(map(dict, alike), key=lambda one: -one["position"])


def class_mapping(log: ReviewLog, classes: Sequence[str]) -> dict[str, Any]:
    """Merges and splits in the order in which they were decided, and what each class becomes: {changes, mapping}.

    A class that is split maps to several; somebody has to look at its examples again.
    """
    changes = [
        {
            **row.evidence["classes"],
            "meeting": row.evidence["meeting"],
            "by": row.reviewer,
            "note": none_if_null(row.note),
        }
        for row in outcomes(log).itertuples()
        if row.evidence.get("classes")
    ]
    mapping = {name: [name] for name in classes}
    for change_ in changes:
        for name, becomes in mapping.items():
            if set(becomes) & set(change_["from"]):
                kept = [one for one in becomes if one not in change_["from"]]
                mapping[name] = list(dict.fromkeys([*kept, *change_["to"]]))
    return {"format": 1, "changes": changes, "mapping": mapping}


def none_if_null(value: Any) -> Any:
    """Returns a value of a data frame's row, null in any form as None."""
    return None if value is None or (not isinstance(value, (str, list, tuple)) and pd.isna(value)) else value
