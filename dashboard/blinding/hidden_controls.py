"""Controls in the queue of a session.

``scoring.queue.random_controls`` draws the controls. The audit determines which rows are blind
(``dashboard.blinding.model_output``); their cells have no model output. The evidence of a blind decision gets the
probability with which the queue drew the example when the event is written (``with_draw_probability``), because in the
cell it would reveal which examples are controls. Only these decisions allow an estimate of what the ranking misses.
Controls are mixed in if audit.toml sets a goal or the reviewer chooses them on the page.

Inputs → outputs: the rows of a queue → their order with controls; cells and evidence → the same with the draw.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pandas as pd
import pyarrow as pa

from dashboard.blinding import model_output
from scoring.audit import Audit, Run
from scoring.queue.random_controls import audit_queue


def mix_controls(audit: Audit, run: Run, table: pa.Table, split: str | None) -> tuple[pa.Table, frozenset[str]]:
    """Returns the rows of a queue, most suspicious first, with controls among them, and the set of rows that were
    drawn."""
    ids = table["example_id"].to_pylist()
    ranked = pd.Series(range(len(ids), 0, -1), index=pd.Index(ids, dtype=object), dtype=float)
    mixed = audit_queue(audit, run, ranked, split)
    place = {example: at for at, example in enumerate(ids)}
    order = pa.array([place[example] for example in mixed["example_id"]], pa.int64())
    return table.take(order), frozenset(mixed["example_id"])


def with_draw_evidence(cell: dict[str, Any], drawn: Collection[str]) -> dict[str, Any]:
    """Returns a cell whose evidence says that the queue drew the example and whether it was blind."""
    if cell.get("blind") or cell["id"] not in drawn:
        return cell
    return cell | {"evidence": cell["evidence"] | {"blind": False}}


def with_draw_probability(audit: Audit, example_id: str, evidence: Any) -> Any:
    """Returns the evidence of a blind decision with the probability of the draw, which is 1 for a suspect."""
    if not isinstance(evidence, dict) or evidence.get("blind") is not True:
        return evidence
    chance = model_output.draw_probabilities(audit).get(example_id, 1.0)
    return evidence | {"draw_probability": chance, "probability": chance}
