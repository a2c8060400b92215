"""Controls among the suspects of a session.

``scoring.queue.random_controls`` draws the controls; which rows are blind is the audit's
(``dashboard.blinding.model_output``), so their cells come without the model. A blind decision's evidence gets the
probability with which the queue drew the example where the event is written (``with_draw_probability``): in the cell it
would tell controls from suspects. Only such decisions can say what the ranking misses. Controls are mixed in where
audit.toml sets a goal, or where the page is asked to.

Inputs → outputs: the rows of a queue → their order with controls; cells and evidence with how they were drawn.
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
    """The rows of a queue, most suspicious first, with controls among them, and which were drawn at all."""
    ids = table["example_id"].to_pylist()
    ranked = pd.Series(range(len(ids), 0, -1), index=pd.Index(ids, dtype=object), dtype=float)
    mixed = audit_queue(audit, run, ranked, split)
    place = {example: at for at, example in enumerate(ids)}
    order = pa.array([place[example] for example in mixed["example_id"]], pa.int64())
    return table.take(order), frozenset(mixed["example_id"])


def with_draw_evidence(cell: dict[str, Any], drawn: Collection[str]) -> dict[str, Any]:
    """A cell of a session with controls: its evidence says whether it was blind, and that the queue drew it."""
    if cell.get("blind") or cell["id"] not in drawn:
        return cell
    return cell | {"evidence": cell["evidence"] | {"blind": False}}


def with_draw_probability(audit: Audit, example_id: str, evidence: Any) -> Any:
    """The evidence of a blind decision with the probability of the draw, 1 for a suspect."""
    if not isinstance(evidence, dict) or evidence.get("blind") is not True:
        return evidence
    chance = model_output.draw_probabilities(audit).get(example_id, 1.0)
    return evidence | {"draw_probability": chance, "probability": chance}
