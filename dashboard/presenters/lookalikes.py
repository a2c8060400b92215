"""Look-alike suspects: the same label, the same suggested label and similar features, to be decided together.

The search starts at one example and follows nearest neighbours (``neighbours.parquet``) that have its label and
suggested label and are *suspects*: in the most suspicious ``SUSPECT`` share of their split by the queue's order, or as
suspicious as the first example. Decided examples are excluded.

Input → output: an example_id and a run → member ids, nearest first. Cost: one query per step of the search, at most
``STEPS``. Limit: the search can drift, so all members are previewed before they are decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from dashboard.blinding import model_output
from dashboard.presenters import example_details
from dashboard.presenters.session_facts import neighbour_ids, plain_cells
from dashboard.queries import database, decisions
from scoring.audit import Audit, Run

STEPS = 3
MOST = 200
SUSPECT = 0.2
MISSING = "Look-alikes need nearest neighbours by features. `hardlook score` computes them."


def find_lookalikes(audit: Audit, run: Run | None, example_id: str) -> dict[str, Any]:
    """Returns {members: cells, the example itself first; note: why there are none, else null}."""
    if run is None or not run.neighbours_path.is_file():
        return {"members": [], "note": MISSING}
    if reason := model_output.refusal(audit, [example_id]):
        return {"members": [], "note": f"{reason} Decide it alone."}
    found = members(audit, run, example_id)
    hidden = model_output.hidden_reasons(audit, found)
    found = [one for one in found if one not in hidden]
    made = plain_cells(audit, run, found)
    note = (
        None
        if len(found) > 1
        else ("No look-alikes: no other suspect has the same label, the same suggested label and similar features.")
    )
    return {"members": [made[one] for one in found if one in made], "note": note}


def members(audit: Audit, run: Run, example_id: str) -> list[str]:
    """Returns the example and its look-alikes, nearest first."""
    first = _facts(audit, run, [example_id])
    if not len(first) or not isinstance(first["suggestion"].iloc[0], str) or pd.isna(first["label"].iloc[0]):
        return [example_id]
    same = first.iloc[0]
    limit = _limit(audit, run, same["split"], example_id)
    decided = decisions.state_at(audit)["decided"]
    found, frontier, visited = [example_id], [example_id], {example_id}
    for _ in range(STEPS):
        near = neighbour_ids(run, frontier)
        reached = sorted(((d, name) for one in frontier for name, d in near.get(one, []) if name not in visited))
        names = [name for name in dict.fromkeys(name for _, name in reached) if name not in decided]
        visited.update(names)
        facts = _facts(audit, run, names)
        alike = facts[(facts["label"] == same["label"]) & (facts["suggestion"] == same["suggestion"])]
        frontier = list(_suspects(audit, run, alike.index.tolist(), same["split"], limit))
        found += frontier
        if not frontier or len(found) >= MOST:
            break
    return found[:MOST]


def _facts(audit: Audit, run: Run, ids: Sequence[str]) -> pd.DataFrame:
    """Returns split, label and suggestion of some examples, in their order."""
    frame = database.details(audit, run, ids)[["split", "label"]]
    return frame.assign(suggestion=database.suggestions(audit, run, frame["label"])["suggested_label"])


def _suspicion(audit: Audit, run: Run, ids: Sequence[str], split: str) -> dict[str, float]:
    """Returns how suspicious some examples are by the queue's order; higher is more suspicious."""
    order = database.start_order(audit, run, split)
    if order is None or not ids:
        return {}
    sign = 1 if order.suspicious == "high" else -1
    found = database.rows(run.score_path(order.scorer), ids, [order.column]).to_pylist()
    return {row["example_id"]: sign * row[order.column] for row in found if row[order.column] is not None}


def _limit(audit: Audit, run: Run, split: str, example_id: str) -> float:
    """Returns the suspicion above which an example is a suspect."""
    own = _suspicion(audit, run, [example_id], split).get(example_id, np.inf)
    order = database.start_order(audit, run, split)
    if order is None:
        return -np.inf
    path = run.score_path(order.scorer)
    values = example_details.split_values(database.stamp(path), database.stamp(audit.examples_path), split).get(
        order.column
    )
    if values is None or not len(values):
        return own
    sign, share = (1, 1 - SUSPECT) if order.suspicious == "high" else (-1, SUSPECT)
    return min(own, sign * float(values[min(int(share * len(values)), len(values) - 1)]))


def _suspects(audit: Audit, run: Run, ids: Sequence[str], split: str, limit: float) -> list[str]:
    suspicion = _suspicion(audit, run, ids, split)
    return [one for one in ids if suspicion.get(one, -np.inf) >= limit]
