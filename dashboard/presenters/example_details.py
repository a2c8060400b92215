"""Everything the audit knows about one example: scores, probabilities, metadata and history.

Input → output: an example_id and a run → one dict ready for JSON. Cost: one look-up per score file, and one reading of
each new file. Limit: percentiles are among the examples of the same split.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.auth.serving import serving
from dashboard.blinding import model_output, second_reader
from dashboard.presenters import example_content, precedents
from dashboard.queries import database
from dashboard.queries.decisions import open_log
from dashboard.queries.live_status import decision_json, json_value
from dashboard.queries.score_columns import ScoreColumn
from dashboard.queries.selection import META, source
from scoring.audit import Audit, Run
from scoring.audit.scored_classes import scored_classes
from scoring.audit.storage import VectorFile
from scoring.evaluation.probabilities import softmax

MOST_CLASSES = 10
MOST_VALUES = 50_000  # per score; percentiles are exact up to this number, else to 0.002 %
HISTORY = ("action", "reviewer", "verdict", "new_label", "note")


def describe(audit: Audit, run: Run | None, example_id: str) -> dict[str, Any] | None:
    """Returns everything about one example, or None if there is no such example."""
    row = find(audit, example_id)
    if row is None:
        return None
    fixed = {name: json_value(row.get(name)) for name in ("example_id", "split", "label", "problem", "fingerprint")}
    reason = model_output.refusal(audit, [example_id])
    run = None if reason else run
    scores = scores_of(audit, run, example_id, fixed["split"]) if run else []
    return {
        **fixed,
        "hidden": reason,
        "content": example_content.full_content(audit, run, row),
        "scores": scores,
        "probabilities": probabilities_of(audit, run, example_id) if run else [],
        "probabilities_help": "Softmax of the last checkpoint's outputs. For train examples it is in-sample.",
        "metadata": metadata_of(row),
        "history": history_of(audit, example_id),
        "precedents": precedents.near(audit, run, [example_id]).get(example_id, []),
    }


def find(audit: Audit, example_id: str) -> dict[str, Any] | None:
    """Returns the example's row of the example table, or None."""
    if not audit.examples_path.is_file():
        return None
    return next(iter(database.rows(audit.examples_path, [example_id]).to_pylist()), None)


def metadata_of(row: dict[str, Any]) -> list[tuple[str, str | None]]:
    """Returns split, id, file and the dataset's own columns, as text."""
    pairs = [("split", row["split"]), ("example_id", row["example_id"]), ("file", row.get("reference"))]
    own = [(name.removeprefix(META), value) for name, value in row.items() if name.startswith(META)]
    return [(name, None if json_value(value) is None else str(json_value(value))) for name, value in pairs + own]


def scores_of(audit: Audit, run: Run, example_id: str, split: str) -> list[dict[str, Any]]:
    """Returns every score of the example with what it means: title, help, unit, suspicious, value, percentile."""
    columns = database.score_columns(run)
    found = []
    for scorer in dict.fromkeys(column.scorer for column in columns):
        found += _scores(audit, run, [c for c in columns if c.scorer == scorer], example_id, split)
    return found


def _scores(
    audit: Audit, run: Run, columns: Sequence[ScoreColumn], example_id: str, split: str
) -> list[dict[str, Any]]:
    """Returns the columns of one score file, each with its percentile among the examples of the split."""
    path = run.score_path(columns[0].scorer)
    own = database.rows(path, [example_id], [column.name for column in columns]).to_pylist()
    values = [own[0][column.name] if own else None for column in columns]
    values = [None if value is None or not np.isfinite(value) else float(value) for value in values]
    all_values = split_values(database.stamp(path), database.stamp(audit.examples_path), split)
    return [
        {
            "name": column.address,
            "title": column.title,
            "help": column.help,
            "unit": column.unit,
            "suspicious": column.suspicious,
            "value": value,
            "percentile": percentile(all_values.get(column.name), value),
        }
        for column, value in zip(columns, values, strict=True)
    ]


@lru_cache(maxsize=64)
def split_values(scores: database.Stamp, examples: database.Stamp, split: str) -> dict[str, np.ndarray]:
    """Returns each column's values within a split in ascending order, thinned to ``MOST_VALUES``: read once per
    score file."""
    query = (
        f"SELECT s.* EXCLUDE (example_id) FROM {source(scores[0])} s JOIN {source(examples[0])} e "
        "ON e.example_id = s.example_id WHERE e.split = ?"
    )
    table = database.sql(query, [split])
    return {f.name: _thinned(table[f.name]) for f in table.schema if pa.types.is_floating(f.type)}


def _thinned(column: pa.ChunkedArray) -> np.ndarray:
    values = column.drop_null().to_numpy()
    values = np.sort(values[np.isfinite(values)])
    if len(values) <= MOST_VALUES:
        return values
    return values[np.linspace(0, len(values) - 1, MOST_VALUES).round().astype(int)]


def percentile(ascending: np.ndarray | None, value: float | None) -> float | None:
    """Returns the share of the values below one, ties counted half, in percent; None for None.

    >>> percentile(np.array([1.0, 2.0, 2.0, 9.0]), 2.0)
    50.0
    """
    if value is None or ascending is None or not len(ascending):
        return None
    wanted = ascending.dtype.type(value)
    below, upto = np.searchsorted(ascending, wanted, "left"), np.searchsorted(ascending, wanted, "right")
    return float(50 * (below + upto) / len(ascending))


def probabilities_of(audit: Audit, run: Run, example_id: str) -> list[tuple[str, float]]:
    """Returns the most probable classes, highest first: (name, probability), from the logits of the last checkpoint."""
    logits = vector_of(run.logits_path, example_id)
    classes = scored_classes(audit, run)
    if logits is None or len(logits) != len(classes) or not np.isfinite(logits).all():
        return []
    p = softmax(logits[None])[0]
    return [(classes[at], float(p[at])) for at in np.argsort(-p, kind="stable")[:MOST_CLASSES]]


def vector_of(path: Path, example_id: str) -> np.ndarray | None:
    """Returns one vector of an Arrow file without reading the others; None if the file or the vector is missing."""
    if not path.is_file():
        return None
    file = VectorFile(path)
    at = pc.index(file.ids, example_id).as_py()
    return None if at < 0 else file.rows(at, at + 1)[0]


def history_of(audit: Audit, example_id: str) -> list[dict[str, Any]]:
    """Returns the example's events, newest first; ``stands`` marks the current ones."""
    log = open_log(audit)
    events = log.events(example_id=example_id)
    holding = [frame[frame["example_id"] == example_id] for frame in (log.decisions(), log.flags(), log.comments())]
    stands = {(row.client, int(row.seq)) for frame in holding for row in frame.itertuples()}
    shown = second_reader.visible_events(audit, events, serving().identity.reviewer)
    return [_event(row, stands) for row in shown.iloc[::-1].to_dict("records")]


def _event(row: dict[str, Any], stands: set[tuple[str, int]]) -> dict[str, Any]:
    texts = {name: json_value(row[name]) for name in (*HISTORY, "created_at")}
    return {
        **decision_json(row),
        **texts,
        "stands": (row["client"], int(row["seq"])) in stands or row["action"] == "adjudicate",
    }
