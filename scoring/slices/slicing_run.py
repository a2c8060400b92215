"""Slicings of a run: finds slices in its influence embeddings, summarises and stores them. Needs no torch.

``embedded`` joins the embeddings to examples and predictions; ``slice_run`` finds slices among the labelled examples
of one split and writes ``runs/<run>/slices/<name>.parquet`` (slice_id, example_id, distance to the centre) and beside
it a summary with opponents and proponents; ``strongest_influences`` ranks training examples by their influence on any
set of examples; ``write_embedding_map`` makes the UMAP map. Sources: Wang, Adebayo et al. 2023; McInnes et al. 2018.

Cost: reads (n, r) embeddings; K-Means in seconds for 60,000 × 100. ``write_embedding_map`` imports umap and is for
commands only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from scoring.audit import Audit, Run
from scoring.audit.errors import HardlookError
from scoring.audit.storage import read_metadata, read_table, read_vectors, write_json, write_table
from scoring.slices.infembed import (
    distances_to_centres,
    find_slices,
    find_slices_by_rule,
    slice_ids,
    slice_opponents,
    slice_proponents,
    summed_influence,
)
from scoring.slices.summaries import overrepresented, summarize_slices

METHODS = ("kmeans", "rule", "dbscan", "spectral")
OPPONENTS_KEPT = 20
MAP_MOST = 20_000
BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]"


@dataclass(frozen=True, kw_only=True)
class SliceSettings:
    """How slices are found. ``max_accuracy``, ``min_size`` and ``branching`` are the rule's, ``n_slices`` the
    others'."""

    method: str = "kmeans"
    n_slices: int = 25
    max_accuracy: float = 0.4
    min_size: int = 25
    branching: int = 3
    split: str = "test"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise HardlookError(f"method = {self.method!r}; needed one of {', '.join(METHODS)}")


@dataclass(frozen=True)
class Embedded:
    """Examples with an influence embedding: ``frame`` (example_id, split, label, prediction, correct, meta.*) and
    ``vectors`` (n, r), row by row."""

    frame: pd.DataFrame
    vectors: np.ndarray

    def of(self, split: str) -> Embedded:
        """The examples of one split."""
        rows = (self.frame["split"] == split).to_numpy()
        return Embedded(self.frame[rows].reset_index(drop=True), self.vectors[rows])

    def positions(self, ids: Sequence[str]) -> np.ndarray:
        """Rows of some example ids; an id without an embedding is an error that names it."""
        at = pd.Index(self.frame["example_id"]).get_indexer(list(ids))
        if (at < 0).any():
            missing = [name for name, found in zip(ids, at, strict=True) if found < 0]
            raise HardlookError(
                f"example {missing[0]!r} has no influence embedding (no label, unreadable, or not scored)"
            )
        return at


def embedded(audit: Audit, run: Run) -> Embedded:
    """The run's embeddings with what is known of their examples; one clear error where there are none."""
    if not run.influence_path.is_file():
        raise HardlookError(
            f"run {run.name!r} has no influence embeddings; run `hardlook score {audit.root} --only influence`"
        )
    ids, vectors = read_vectors(run.influence_path)
    known = np.isfinite(vectors).all(1)
    frame = pd.DataFrame({"example_id": ids[known]})
    predictions = read_table(run.predictions_path, ["example_id", "split", "label", "prediction", "correct"])
    frame = frame.merge(predictions.to_pandas(), on="example_id", how="left")
    examples = read_table(audit.examples_path)
    meta = [name for name in examples.column_names if name.startswith("meta.")]
    frame = frame.merge(examples.select(["example_id", *meta]).to_pandas(), on="example_id", how="left")
    return Embedded(frame, vectors[known])


def slice_run(audit: Audit, run: Run, settings: SliceSettings, name: str | None = None) -> dict[str, Any]:
    """Find slices, keep them under ``name`` (default: the method), and return the summary that is kept beside them."""
    everything = embedded(audit, run)
    found = find(everything, settings)
    name = checked_name(name or settings.method)
    summary = summarise(everything, found, settings)
    write_table(
        run.slices_path(name),
        pa.table(
            {
                "slice_id": pa.array(found["slice_id"], pa.int32()),
                "example_id": pa.array(found["example_id"], pa.string()),
                "distance": pa.array(found["distance"], pa.float32(), from_pandas=True),
            }
        ),
        {"settings": asdict(settings), "summary": summary},
    )
    write_json(run.slices_summary_path(name), summary)
    return summary


def checked_name(name: str) -> str:
    """A slicing's name is a file's name: letters, digits, space, dot, dash and underscore."""
    if not name or name.startswith(".") or not all(c.isalnum() or c in " ._-" for c in name) or len(name) > 80:
        raise HardlookError(
            f"{name!r} cannot be the name of a slicing; use up to 80 letters, digits, spaces, dots, dashes"
        )
    return name


def find(everything: Embedded, settings: SliceSettings) -> pd.DataFrame:
    """Slices of one split → data frame example_id, slice_id (−1 = in none), distance to the centre."""
    part = everything.of(settings.split)
    if not len(part.frame):
        raise HardlookError(f"no {settings.split} example has an influence embedding; slices need labelled examples")
    if settings.method == "rule":
        correct = part.frame["correct"].to_numpy(dtype=bool)
        members = find_slices_by_rule(
            part.vectors,
            correct,
            max_accuracy=settings.max_accuracy,
            min_size=settings.min_size,
            branching=settings.branching,
            seed=settings.seed,
        )
        ids = slice_ids(members, len(part.frame))
    else:
        n_slices = None if settings.method == "dbscan" else settings.n_slices
        ids = find_slices(part.vectors, n_slices, method=settings.method, seed=settings.seed)
    return pd.DataFrame(
        {"example_id": part.frame["example_id"], "slice_id": ids, "distance": distances_to_centres(part.vectors, ids)}
    )


def summarise(everything: Embedded, found: pd.DataFrame, settings: SliceSettings) -> dict[str, Any]:
    """Settings, how many examples are in no slice, and per slice its numbers, middle, opponents and proponents."""
    part, train = everything.of(settings.split), everything.of("train")
    ids = found["slice_id"].to_numpy()
    names = part.frame["example_id"].to_numpy()
    summaries = summarize_slices(part.vectors, ids, part.frame["label"], part.frame["prediction"], seed=settings.seed)
    meta = part.frame[[column for column in part.frame if column.startswith("meta.")]]
    common = overrepresented(meta.rename(columns=lambda c: c.removeprefix("meta.")), ids)
    slices = []
    for summary in summaries:
        row = asdict(summary)
        row["nearest"] = [names[i] for i in summary.nearest]
        members = part.vectors[ids == summary.slice_id]
        row["opponents"], row["proponents"] = strongest_influences(members, train, OPPONENTS_KEPT)
        row["overrepresented"] = common[common["slice_id"] == summary.slice_id].to_dict("records")
        slices.append(row)
    return {
        "settings": asdict(settings),
        "examples": len(found),
        "in_none": int((ids < 0).sum()),
        "accuracy": float(part.frame["correct"].astype(bool).mean()),
        "slices": slices,
    }


def strongest_influences(
    members: np.ndarray, train: Embedded, k: int = OPPONENTS_KEPT
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The k strongest opponents and proponents of a set (m, r) among the training examples, with their influence.

    Only those that truly harm are opponents (summed influence below 0), and only those that help proponents.
    """
    if not len(train.frame):
        return [], []
    influence = summed_influence(members, train.vectors)
    names = train.frame["example_id"].to_numpy()

    def rows(order: np.ndarray, sign: int) -> list[dict[str, Any]]:
        return [{"example_id": names[i], "influence": float(influence[i])} for i in order if sign * influence[i] > 0]

    return (rows(slice_opponents(members, train.vectors, k), -1), rows(slice_proponents(members, train.vectors, k), 1))


def write_embedding_map(audit: Audit, run: Run, seed: int = 0) -> int:
    """Write UMAP coordinates of the embeddings (cosine distance), of at most 20,000 examples per split; how many.

    The examples are drawn by a hash of their id, so that those who stay keep their place in the draw. Nothing is done
    where the map was made of these embeddings, which their file's time says.
    """
    of = run.influence_path.stat().st_mtime_ns
    if run.map_path.is_file() and read_metadata(run.map_path).get("influence") == of:
        return 0
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # umap warns about its own single thread under a fixed seed
        from umap import UMAP

        everything = embedded(audit, run)
        rows = np.concatenate(
            [
                group.sample(min(len(group), MAP_MOST), random_state=seed).index.to_numpy()
                for _, group in everything.frame.groupby("split", sort=True)
            ]
        )
        rows = np.sort(rows)
        neighbours = int(min(15, max(2, len(rows) - 1)))
        init = "spectral" if len(rows) > 50 else "random"
        points = UMAP(
            n_neighbors=neighbours,
            metric="cosine",
            random_state=seed,
            init=init,
            tqdm_kwds={"desc": "map", "disable": None, "bar_format": BAR},
        ).fit_transform(everything.vectors[rows])
    write_table(
        run.map_path,
        pa.table(
            {
                "example_id": pa.array(everything.frame["example_id"].iloc[rows], pa.string()),
                "x": pa.array(points[:, 0].astype(np.float32)),
                "y": pa.array(points[:, 1].astype(np.float32)),
            }
        ),
        {"influence": of},
    )
    return len(rows)


def read_slicing(run: Run, name: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A kept slicing: its members and its summary."""
    if name not in run.slicing_names():
        raise HardlookError(f"there is no slicing {name!r}; available: {', '.join(run.slicing_names()) or 'none'}")
    return read_table(run.slices_path(name)).to_pandas(), run.slicing_summary(name)
