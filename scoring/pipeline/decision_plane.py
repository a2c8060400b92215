"""The decision plane of one example of vector data: the model's decisions while two columns vary, with the data.

Columns x and y run over a grid, every other column stays as in the example; each point goes through the run's transform
and last checkpoint. Beside it lie labelled examples: the 400 of train (and the example's own split) that are nearest to
the plane, by the root mean square over the other columns of the difference in units of
``scoring.data.column_statistics``' spread. With two columns every example lies in the plane. These are the figures of
Agarwal et al. (2022) and Picard et al. (2022) on toy problems and ACAS Xu.

Inputs → outputs: a run and an example → a dict for JSON, kept as a file that pages read (``Run.cut_path``). Cost:
side² passes of the transform and the model. Limits: vectors whose columns the example table knows; a point far from all
data is decided as well, whatever that means.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from scoring.audit.errors import HardlookError
from scoring.audit.storage import read_table, write_json
from scoring.audit.user_code import close_names
from scoring.data.column_statistics import ALL, Deviations, cut_key
from scoring.data.examples import original_vector
from scoring.models.inputs import as_tensor
from scoring.pipeline.shards import BATCH, Context

SIDE = 61
MOST = 400
MARGIN = 0.06


def write_plane(
    context: Context, example_id: str, x: str | None = None, y: str | None = None, side: int = SIDE
) -> dict[str, Any]:
    """Compute a cut and keep it where pages look for it; without ``x`` or ``y``, the columns that deviate most."""
    found = cut(context, example_id, x, y, side)
    write_json(context.run.cut_path(cut_key(example_id, found["x"], found["y"])), found)
    return found


def cut(
    context: Context, example_id: str, x: str | None = None, y: str | None = None, side: int = SIDE
) -> dict[str, Any]:
    """The cut through an example, ready for JSON.

    ``xs`` and ``ys``: (side,) values of the two columns. ``decisions``: (side²,) index of the decided class, a row of
    xs for every y. ``p``: its probability. ``points``: example_id, x, y, label, prediction and ``away`` (distance to
    the plane) of the data nearby. Raises ``HardlookError`` for an unknown example or column, naming close ones.
    """
    if not 2 <= side <= 201:
        raise HardlookError(f"side = {side}; needed 2 to 201 points")
    known, row = _known(context), _row(context, example_id)
    values = original_vector(context.audit, row).astype(np.float64)
    i, j = _columns(known, values, row["label"], x, y)
    points = _points(context, known, row, values, i, j)
    xs, ys = (_range(points[axis], values[at], side) for axis, at in (("x", i), ("y", j)))
    decisions, p = _decide(context, _grid(values, i, j, xs, ys))
    return {
        "example_id": example_id,
        "fingerprint": row["fingerprint"],
        "x": known.columns[i],
        "y": known.columns[j],
        "at": [float(values[i]), float(values[j])],
        "xs": _short(xs),
        "ys": _short(ys),
        "decisions": decisions.tolist(),
        "p": np.round(p, 3).tolist(),
        "classes": context.audit.classes,
        "points": {name: column.tolist() for name, column in points.items()},
        "checkpoint": context.checkpoints[-1].sha256,
    }


def _known(context: Context) -> Deviations:
    if context.audit.media != "vector":
        raise HardlookError(
            f"a decision plane needs vector data, but {context.audit.root} holds {context.audit.media} data; choose a "
            "vector audit"
        )
    known = Deviations.read(context.audit)
    if known is None:
        raise HardlookError(
            f"{context.audit.root} has no columns.parquet yet; run `hardlook score {context.audit.root}`"
        )
    if len(known.columns) < 2:
        raise HardlookError("a decision plane needs two columns, but these vectors have one")
    return known


def _row(context: Context, example_id: str) -> pd.Series:
    found = context.examples[context.examples["example_id"] == example_id]
    if not len(found):
        raise HardlookError(
            f"there is no readable example {example_id!r} in {context.audit.root}; "
            f"{close_names(example_id, context.examples['example_id'].head(1000))}"
        )
    return found.iloc[0]


def _columns(known: Deviations, values: np.ndarray, label: Any, x: str | None, y: str | None) -> tuple[int, int]:
    """The positions of the two columns; those not named are the most deviating ones."""
    z = known.of(values, label if isinstance(label, str) else None)
    if z is None:
        raise HardlookError(
            f"this example has {len(values)} columns, but most have {len(known.columns)}; choose another example"
        )
    taken = [list(known.columns).index(_column(known.columns, name)) for name in (x, y) if name is not None]
    free = [int(at) for at in np.argsort(-np.abs(z), kind="stable") if at not in taken]
    if not taken:
        first, second = sorted(free[:2])
        return first, second
    i = taken.pop(0) if x is not None else free.pop(0)
    j = taken.pop(0) if y is not None else free.pop(0)
    if i == j:
        raise HardlookError(f"--x and --y are both {known.columns[i]!r}; needed two different columns")
    return i, j


def _column(names: Sequence[str], name: str) -> str:
    if name not in names:
        raise HardlookError(f"there is no column {name!r}; {close_names(name, names)}")
    return name


def _points(context: Context, known: Deviations, row: pd.Series, values: np.ndarray, i: int, j: int) -> pd.DataFrame:
    """Labelled examples nearest to the plane, the nearest first."""
    examples = context.examples
    rows = examples[examples["split"].isin(["train", row["split"]]) & examples["label"].notna()]
    kept = context.audit.originals
    vectors = [np.frombuffer(kept.get(example) or b"", dtype="<f4") for example in rows["example_id"]]
    same = np.array([len(vector) == len(values) for vector in vectors], dtype=bool)
    rows = rows[same]
    matrix = (
        np.stack([v for v, fits in zip(vectors, same, strict=True) if fits])
        if same.any()
        else np.empty((0, len(values)))
    )
    others = [at for at in range(len(values)) if at not in (i, j) and known.groups[ALL][1][at] > 0]
    away = (
        np.sqrt((((matrix - values)[:, others] / known.groups[ALL][1][others]) ** 2).mean(1))
        if others
        else np.zeros(len(matrix))
    )
    near = np.argsort(away, kind="stable")[:MOST]
    frame = pd.DataFrame(
        {
            "example_id": rows["example_id"].to_numpy()[near],
            "x": matrix[near, i].astype(float),
            "y": matrix[near, j].astype(float),
            "label": rows["label"].to_numpy()[near],
            "away": np.round(away[near], 3),
        }
    )
    if not context.run.predictions_path.is_file():
        return frame.assign(prediction=None)
    predicted = read_table(context.run.predictions_path, ["example_id", "prediction"]).to_pandas()
    merged = frame.merge(predicted, on="example_id", how="left")
    return merged.assign(prediction=merged["prediction"].astype(object).where(merged["prediction"].notna(), None))


def _range(column: pd.Series, value: float, side: int) -> np.ndarray:
    """The values that a column takes: those of nearly all points, and the example's own in any case."""
    low, high = np.nanpercentile(column, [1, 99]) if len(column) else (value, value)
    low, high = min(low, value), max(high, value)
    margin = MARGIN * (high - low) or abs(value) * MARGIN or 1.0
    return np.linspace(low - margin, high + margin, side)


def _grid(values: np.ndarray, i: int, j: int, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
    """(side², d): the example with columns i and j varied; a row of xs for every y."""
    grid = np.tile(values.astype(np.float32), (len(xs) * len(ys), 1))
    grid[:, i], grid[:, j] = np.tile(xs, len(ys)), np.repeat(ys, len(xs))
    return grid


def _decide(context: Context, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, d) raw vectors → the last checkpoint's (n,) class indices and their probabilities."""
    logits = []
    with context.model.at(context.checkpoints[-1]), context.progress("cut", len(grid)) as advance:
        for start in range(0, len(grid), BATCH):
            part = grid[start : start + BATCH]
            batch = torch.stack([as_tensor(context.inputs.transform(one.copy()), "of the cut") for one in part])
            logits.append(torch.from_numpy(context.model.predict(batch)[0]))
            advance(len(part))
    p, decided = torch.cat(logits).softmax(1).max(1)
    return decided.numpy(), p.numpy()


def _short(values: np.ndarray) -> list[float]:
    return [float(f"{value:.6g}") for value in values]
