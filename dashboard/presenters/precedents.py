"""Precedents of earlier meetings for similar examples: near neighbours by features, or the same label and suggested
label (``scoring.reviews.meeting_outcomes.precedents_for``).

Input → output: example_ids → {id: [{text, meeting, label, new_label, …}]}, newest first. Cost: the meetings' events,
read once per new event; one query for the neighbours of all ids. Limit: without ``neighbours.parquet`` only the example
itself and its label count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from dashboard.auth.serving import serving
from dashboard.queries import database, decisions
from scoring.audit import Audit, Run
from scoring.reviews import meeting_outcomes

NEAR = 10  # neighbours on features that count as look-alikes


def near(
    audit: Audit,
    run: Run | None,
    ids: Sequence[str],
    labels: Mapping[str, str | None] | None = None,
    suggestions: Mapping[str, str | None] | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """Returns the precedents for each example, without those that the example set itself."""
    known = _known(serving().log_url, decisions.last_position(audit))
    if not known:
        return {}
    alike = _neighbours(run, ids)
    labels, suggestions = labels or {}, suggestions or {}
    return {
        one: meeting_outcomes.precedents_for(
            [precedent for precedent in known if precedent["examples"][0] != one],
            one,
            alike.get(one, ()),
            labels.get(one),
            suggestions.get(one),
        )
        for one in ids
    }


@lru_cache(maxsize=2)
def _known(_url: str, _position: int) -> tuple[dict[str, Any], ...]:
    return tuple(meeting_outcomes.precedents(decisions.open_log(database.open_audit())))


def _neighbours(run: Run | None, ids: Sequence[str]) -> dict[str, list[str]]:
    if run is None or not run.neighbours_path.is_file():
        return {}
    found = database.rows(run.neighbours_path, ids, ["neighbours"]).to_pylist()
    return {row["example_id"]: row["neighbours"][:NEAR] for row in found}
