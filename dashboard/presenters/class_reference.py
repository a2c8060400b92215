"""The reference of a class: its section of the guidelines, its gold examples and typical examples.

*Typical* examples are labelled training examples among the least suspicious of the class by the queue's own order,
those nearest to their mean in feature space first; without features, the least suspicious first. Examples whose label a
reviewer found wrong are left out. Gold examples are named in ``guidelines.md`` (``scoring.reviews.guidelines``).

Input → output: a class name and a run → one dict ready for JSON. Cost: one query per class, cached.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from dashboard.auth.serving import serving
from dashboard.blinding import model_output, second_reader
from dashboard.presenters.session_facts import plain_cells
from dashboard.queries import database, decisions
from dashboard.queries.selection import identifier, source
from scoring.audit import Audit, Run
from scoring.audit.storage import read_vectors
from scoring.reviews.guidelines import Section, sections
from scoring.reviews.verdicts import verdicts_by_label_status

MOST = 7
CANDIDATES = 200


def describe_class(audit: Audit, run: Run | None, name: str) -> dict[str, Any]:
    """Returns {name, text, gold, typical}: cells of gold and of typical examples."""
    section = guideline(audit, name)
    wrong, hidden = _found_wrong(audit), model_output.all_hidden(audit)
    likely = typical_ids(audit, run, name) if run else []
    typical = [one for one in likely if one not in wrong and one not in hidden][:MOST]
    made = plain_cells(audit, run, [*section.gold, *typical])
    gold = [_with_role(made[one], "gold") for one in section.gold if one in made]
    return {
        "name": name,
        "text": section.text,
        "gold": gold,
        "missing": [one for one in section.gold if one not in made],
        "typical": [_with_role(made[one], "typical") for one in typical if one in made],
    }


def _with_role(cell: dict[str, Any], role: str) -> dict[str, Any]:
    return cell | {"evidence": cell["evidence"] | {"role": role}}


def guideline(audit: Audit, name: str) -> Section:
    """Returns the class's section of guidelines.md; an empty one where there is none."""
    return _sections(database.stamp(audit.guidelines_path), tuple(audit.classes)).get(name, Section())


@lru_cache(maxsize=2)
def _sections(guidelines: database.Stamp | None, classes: Sequence[str]) -> dict[str, Section]:
    if guidelines is None:
        return {}
    return sections(Path(guidelines[0]).read_text(encoding="utf8", errors="replace"), classes)


def _found_wrong(audit: Audit) -> set[str]:
    states = second_reader.visible_states(audit, decisions.state_at(audit), serving().identity.reviewer)
    return set().union(*(states[verdict] for verdict in verdicts_by_label_status("wrong", "either")))


def typical_ids(audit: Audit, run: Run, name: str) -> list[str]:
    """Returns typical training examples of a class, the most typical first."""
    order = database.start_order(audit, run, "train")
    if order is None:
        return []
    files = (
        database.stamp(run.score_path(order.scorer)),
        database.stamp(audit.examples_path),
        database.stamp(run.features_path),
    )
    return _typical(files, order.column, "ASC" if order.suspicious == "high" else "DESC", name)


@lru_cache(maxsize=1024)
def _typical(files: tuple[Any, ...], column: str, direction: str, name: str) -> list[str]:
    scores, examples, features = files
    value = f"s.{identifier(column)}"
    query = (
        f"SELECT s.example_id FROM {source(scores[0])} s JOIN {source(examples[0])} e ON e.example_id = s.example_id "
        f"WHERE e.split = 'train' AND e.label = ? AND e.problem IS NULL AND {value} IS NOT NULL AND NOT isnan({value}) "
        f"ORDER BY {value} {direction}, s.example_id LIMIT {CANDIDATES}"
    )
    sure = database.sql(query, [name])["example_id"].to_pylist()
    if features is None or not sure:
        return sure[: 3 * MOST]
    ids, vectors = read_vectors(Path(features[0]), sure)
    vectors = np.array(vectors, dtype=np.float64)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    near = -(vectors @ np.nan_to_num(vectors.mean(axis=0)))
    return [ids[at] for at in np.argsort(near, kind="stable")[: 3 * MOST]]
