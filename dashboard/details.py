"""All that an audit knows about one example, as the opened example shows it: scores, probabilities, metadata, history.

Input → output: an example_id and a run → one dict ready for JSON. Cost: a few scans of score columns, some 10 ms per
score file at 60,000 examples. Limit: a percentile is the place among the examples of the same split.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dashboard import state
from dashboard.columns import ScoreColumn
from dashboard.decisions import open_log
from dashboard.selection import META, identifier, source
from dashboard.standings import plain, told
from scoring.audit import Audit, Run
from scoring.queues import softmax

MOST_CLASSES = 10
HISTORY = ("action", "reviewer", "verdict", "new_label", "note")


def describe(audit: Audit, run: Run | None, example_id: str) -> dict[str, Any] | None:
    """Everything about one example, or None where there is no such example."""
    row = find(audit, example_id)
    if row is None:
        return None
    fixed = {name: plain(row.get(name)) for name in ("example_id", "split", "label", "problem", "fingerprint")}
    scores = scores_of(audit, run, example_id, fixed["split"]) if run else []
    return {
        **fixed,
        "scores": scores,
        "probabilities": probabilities_of(audit, run, example_id) if run else [],
        "probabilities_help": "Softmax of the last checkpoint's outputs; of train examples it is in-sample.",
        "metadata": metadata_of(row),
        "history": history_of(audit, example_id),
    }


def find(audit: Audit, example_id: str) -> dict[str, Any] | None:
    """The example's row of the example table, or None."""
    if not audit.examples_path.is_file():
        return None
    table = state.sql(f"SELECT * FROM {source(audit.examples_path)} WHERE example_id = ?", [example_id])
    return table.to_pylist()[0] if len(table) else None


def metadata_of(row: dict[str, Any]) -> list[tuple[str, str | None]]:
    """Split, id, file and the dataset's own columns, as text."""
    pairs = [("split", row["split"]), ("example_id", row["example_id"]), ("file", row.get("reference"))]
    own = [(name.removeprefix(META), value) for name, value in row.items() if name.startswith(META)]
    return [(name, None if plain(value) is None else str(plain(value))) for name, value in pairs + own]


def scores_of(audit: Audit, run: Run, example_id: str, split: str) -> list[dict[str, Any]]:
    """Every score of the example with what it means: title, help, unit, suspicious, value, percentile."""
    columns = state.score_columns(run)
    found = []
    for scorer in dict.fromkeys(column.scorer for column in columns):
        found += _scores(audit, run, [c for c in columns if c.scorer == scorer], example_id, split)
    return found


def _scores(audit: Audit, run: Run, columns: Sequence[ScoreColumn], example_id: str, split: str) -> list[dict]:
    """The columns of one score file: one look-up, one scan for the percentiles."""
    path = run.score_path(columns[0].scorer)
    names = ", ".join(identifier(column.name) for column in columns)
    own = state.sql(f"SELECT {names} FROM {source(path)} WHERE example_id = ?", [example_id]).to_pylist()
    values = [own[0][column.name] if own else None for column in columns]
    values = [None if value is None or not np.isfinite(value) else float(value) for value in values]
    ranks = _percentiles(audit, path, columns, values, split) if any(v is not None for v in values) else values
    return [
        {"name": column.address, "title": column.title, "help": column.help, "unit": column.unit,
         "suspicious": column.suspicious, "value": value, "percentile": rank}
        for column, value, rank in zip(columns, values, ranks, strict=True)
    ]  # fmt: skip


def _percentiles(audit: Audit, path, columns: Sequence[ScoreColumn], values: Sequence[float | None], split: str):
    """Share of the split's examples below each value, ties counted half, in percent; None for None."""
    parts, parameters = [], []
    for column, value in zip(columns, values, strict=True):
        name = f"s.{identifier(column.name)}"
        parts.append(
            f"100.0 * avg(CASE WHEN {name} IS NULL OR isnan({name}) THEN NULL WHEN {name} < ?::FLOAT THEN 1 "
            f"WHEN {name} = ?::FLOAT THEN 0.5 ELSE 0 END)"
        )
        parameters += [value, value]
    query = (f"SELECT {', '.join(parts)} FROM {source(path)} s JOIN {source(audit.examples_path)} e "
             "ON e.example_id = s.example_id WHERE e.split = ?")  # fmt: skip
    row = state.sql(query, [*parameters, split])
    return [None if value is None else row[at][0].as_py() for at, value in enumerate(values)]


def probabilities_of(audit: Audit, run: Run, example_id: str) -> list[tuple[str, float]]:
    """The most probable classes, highest first: (name, probability), from the logits of the last checkpoint."""
    logits = vector_of(run.logits_path, example_id)
    if logits is None or len(logits) != len(audit.classes) or not np.isfinite(logits).all():
        return []
    p = softmax(logits[None])[0]
    return [(audit.classes[at], float(p[at])) for at in np.argsort(-p, kind="stable")[:MOST_CLASSES]]


def vector_of(path, example_id: str) -> np.ndarray | None:
    """One vector of an Arrow file, without reading the others; None where it is not there."""
    if not path.is_file():
        return None
    with pa.memory_map(str(path)) as mapped:
        table = pa.ipc.open_file(mapped).read_all()
        at = pc.index(table["example_id"], example_id).as_py()
        return None if at < 0 else np.array(table["vector"][at].as_py(), dtype=np.float32)


def history_of(audit: Audit, example_id: str) -> list[dict[str, Any]]:
    """What was said about the example, newest first; ``stands`` tells what still holds."""
    log = open_log(audit)
    events = log.events(example_id=example_id)
    holding = [frame[frame["example_id"] == example_id] for frame in (log.decisions(), log.flags(), log.comments())]
    stands = {(row.client, int(row.seq)) for frame in holding for row in frame.itertuples()}
    return [_event(row, stands) for row in events.iloc[::-1].to_dict("records")]


def _event(row: dict[str, Any], stands: set[tuple[str, int]]) -> dict[str, Any]:
    texts = {name: plain(row[name]) for name in (*HISTORY, "created_at")}
    return {**told(row), **texts, "stands": (row["client"], int(row["seq"])) in stands or row["action"] == "adjudicate"}


