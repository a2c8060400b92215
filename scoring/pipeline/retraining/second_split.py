"""Second-split training: on one half of the examples, then on the other, recording when examples are forgotten.

For each seed, the labelled training examples are dealt into halves A and B. The model is trained on A, then goes on
on B alone; an example of A has a first-split learning time from the first part and a second-split forgetting time from
the second (``scoring.scorers.second_split``). Then the halves are swapped, so that every example has both (Maini et al.
2022, section 3). Both times are averaged over the seeds in which they are defined.

Output: ``runs/<run>/second_split.parquet`` (example_id, label, forgetting_time, learning_time, forgotten). Cost: two
trainings per seed, in four parts, and a pass over all examples per epoch. A killed command goes on in its part. Limits:
the learning-rate cycle begins anew on the second half.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from scoring.audit.errors import HardlookError
from scoring.audit.storage import digest, read_metadata, read_table, write_table
from scoring.pipeline.retraining.subset_training import Retraining
from scoring.pipeline.shards import Context
from scoring.scorers.data_map import mean_over_epochs
from scoring.scorers.second_split import first_split_learning_time, second_split_forgetting_time
from scoring.training.dynamics import read_dynamics


def measure_second_split(context: Context, *, seeds: int = 3, epochs: int | None = None) -> str:
    """Write both times of every labelled training example; returns a sentence about what was done."""
    if seeds < 1:
        raise HardlookError(f"found {seeds} seeds; needed at least one")
    work, path = Retraining(context, epochs), context.run.second_split_path
    ids, labels = work.examples["example_id"].tolist(), np.asarray(work.data.labels)
    key = digest([work.key, ids, labels.tolist(), context.audit.seed, seeds])
    if path.is_file() and read_metadata(path).get("key") == key:
        shutil.rmtree(context.run.parts_folder("second-split"), ignore_errors=True)
        return f"second-split times of {len(ids):,} examples exist already"
    with context.progress("second split", 2 * seeds * work.epochs * len(ids)) as advance:
        times = [_one_seed(work, context.audit.seed + number, advance) for number in range(seeds)]
    forgetting, learning = np.stack([t[0] for t in times]), np.stack([t[1] for t in times])
    table = pa.table(
        {
            "example_id": pa.array(ids, pa.string()),
            "label": pa.array(work.examples["label"], pa.string()),
            "forgetting_time": _numbers(mean_over_epochs(forgetting)),
            "learning_time": _numbers(mean_over_epochs(learning)),
            "forgotten": _numbers(np.isfinite(forgetting).mean(0)),
        }
    )
    write_table(path, table, {"key": key, "seeds": seeds, "epochs": work.epochs})
    shutil.rmtree(context.run.parts_folder("second-split"), ignore_errors=True)
    share = np.isfinite(forgetting).any(0).mean()
    word = "seed" if seeds == 1 else "seeds"
    return (
        f"second-split times of {len(ids):,} examples over {seeds} {word}, {share:.1%} forgotten for good with at "
        "least one seed"
    )


def _one_seed(work: Retraining, seed: int, advance: Callable[[int], object]) -> tuple[np.ndarray, np.ndarray]:
    """(n,) forgetting times and (n,) learning times of one seed, NaN where never."""
    half = work.assign_folds(2, seed)
    forgetting, learning = np.full(len(half), np.nan), np.full(len(half), np.nan)
    for order in (0, 1):
        rows = np.flatnonzero(half == order)
        found = _one_order(work, seed, order, half, advance)
        learning[rows], forgetting[rows] = found
    return forgetting, learning


def _one_order(
    work: Retraining, seed: int, order: int, half: np.ndarray, advance: Callable[[int], object]
) -> tuple[np.ndarray, np.ndarray]:
    """Learning and forgetting times of the half that is trained on first; kept in a file when both parts are done."""
    name, rows, others = f"split-{seed}-{order}", np.flatnonzero(half == order), np.flatnonzero(half != order)
    part = work.run.parts_folder("second-split") / f"{name}.parquet"
    labels = np.asarray(work.data.labels)[rows]
    ids = work.examples["example_id"].iloc[rows].tolist()
    key = digest(
        [
            work.key,
            seed,
            order,
            half.tolist(),
            work.examples["example_id"].tolist(),
            np.asarray(work.data.labels).tolist(),
        ]
    )
    if part.is_file() and read_metadata(part).get("key") == key:
        table = read_table(part)
        _forget(work, name)  # of a command that was killed before it had done so
        advance(work.epochs * len(half))
        return table["learning"].to_numpy(), table["forgetting"].to_numpy()
    work.train(f"{name}-first", rows, seed, advance, training=f"{name}-first")
    work.train(f"{name}-second", others, seed, advance, after=f"{name}-first", training=f"{name}-second")
    first, second = (
        read_dynamics(work.run.dynamics_files(f"{name}-{which}"), ids, ["correct"], labels)["correct"] == 1
        for which in ("first", "second")
    )
    learning, forgetting = first_split_learning_time(first), second_split_forgetting_time(second)
    write_table(part, pa.table({"learning": learning, "forgetting": forgetting}), {"key": key})
    _forget(work, name)
    return learning, forgetting


def _forget(work: Retraining, name: str) -> None:
    """Removes what both trainings kept."""
    for which in ("first", "second"):
        work.forget(f"{name}-{which}")
        shutil.rmtree(work.run.dynamics_folder(f"{name}-{which}"), ignore_errors=True)


def _numbers(values: np.ndarray) -> pa.Array:
    return pa.array(values.astype(np.float32), mask=~np.isfinite(values))
