"""Controls among the suspects of a session, and blind rows: what is not sent to the browser before the first verdict.

``scoring.controls`` draws the controls and says which rows are blind. A blind cell carries no score, prediction or
suggestion, and its evidence says so, with the probability with which the queue drew it: only such decisions can say what
the ranking misses. Controls are mixed in where audit.toml sets a goal, or where the page is asked to.

Inputs → outputs: the rows of a queue → their order with controls, and cells without what the model says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa

from scoring.audit import Audit, Run
from scoring.controls import audit_queue

OPINIONS = ("prediction", "score", "score_help", "suggestion", "suggestion_source")
SAID = ("value", "prediction", "p_prediction", "suggestion", "suggestion_source")
"""Keys of a cell, and of its evidence, that tell what the model says."""


@dataclass(frozen=True)
class Drawn:
    """How the queue drew an example: with which probability, and whether it is decided blind."""

    probability: float = 1.0
    blind: bool = False


def with_controls(audit: Audit, run: Run, table: pa.Table, split: str) -> tuple[pa.Table, dict[str, Drawn]]:
    """The rows of a queue, most suspicious first, with controls among them, and how each was drawn."""
    ids = table["example_id"].to_pylist()
    ranked = pd.Series(range(len(ids), 0, -1), index=pd.Index(ids, dtype=object), dtype=float)
    mixed = audit_queue(audit, run, ranked, split)
    place = {example: at for at, example in enumerate(ids)}
    order = pa.array([place[example] for example in mixed["example_id"]], pa.int64())
    drawn = {row.example_id: Drawn(float(row.probability), bool(row.blind)) for row in mixed.itertuples()}
    return table.take(order), drawn


def hide(cell: dict[str, Any], drawn: Drawn | None, decided: bool) -> dict[str, Any]:
    """The cell as its reviewer may see it before the first verdict."""
    if drawn is None:
        return cell
    evidence = cell["evidence"] | {"draw_probability": drawn.probability, "probability": drawn.probability}
    blind = drawn.blind and not decided
    if not blind:
        return cell | {"evidence": evidence | {"blind": False}}
    evidence = {key: value for key, value in evidence.items() if key not in SAID}
    nothing = dict.fromkeys(OPINIONS) | {"wrong": False, "blind": True}
    return cell | nothing | {"evidence": evidence | {"blind": True}}
