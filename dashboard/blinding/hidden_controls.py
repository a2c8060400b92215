"""Controls in the queue of a session.

``scoring.queue.random_controls`` draws the controls. The audit determines which rows are blind
(``dashboard.blinding.model_output``); their cells have no model output. The evidence of a blind decision gets the
probability with which the queue drew the example when the event is written (``with_draw_probability``), because in the
cell it would reveal which examples are controls. Only these decisions allow an estimate of what the ranking misses.
Controls are mixed in if audit.toml sets a goal or the reviewer chooses them on the page.

Inputs → outputs: the rows of a queue → their order with controls; cells and evidence → the same with the draw.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from dashboard.blinding import model_output
from dashboard.queries import database
from scoring.audit import Audit, Run
from scoring.queue.random_controls import audit_queue


def mix_controls(audit: Audit, run: Run, ids: Sequence[str], split: str | None) -> tuple[list[int], frozenset[str]]:
    """Returns the places of the rows of a queue, most suspicious first, with controls among them, and the set of rows
    that were drawn."""
    stamps = tuple(database.stamp(path) for path in (audit.config_path, audit.examples_path, audit.controls_path))
    return _mixed(audit.root, run.name, split, tuple(ids), stamps)


@lru_cache(maxsize=4)
def _mixed(
    root: Path, run: str, split: str | None, ids: tuple[str, ...], _stamps: tuple[Any, ...]
) -> tuple[list[int], frozenset[str]]:
    audit = database.audit_at(root)
    ranked = pd.Series(range(len(ids), 0, -1), index=pd.Index(ids, dtype=object), dtype=float)
    mixed = audit_queue(audit, audit.run(run), ranked, split)["example_id"].tolist()
    place = {example: at for at, example in enumerate(ids)}
    return [place[example] for example in mixed], frozenset(mixed)


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
