"""The context of a run's computations, and resumable work over shards of its examples.

``Context`` holds what a pass needs (model, checkpoints, inputs), each made when first used. ``resumable`` walks over
shards: the result of each is a file under ``runs/<run>/parts``, so that a killed command continues at the missing
shard with the same numbers. A *key* names what the numbers depend on (weights, code, transform, classes).

Cost: nothing by itself; memory follows the shard (256 MB of inputs at most). Loads torch.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from scoring.audit import Audit, Run
from scoring.audit.code_fingerprint import code_digest
from scoring.audit.config import OUTPUTS
from scoring.audit.errors import HardlookError
from scoring.audit.progress import Progress, silent
from scoring.audit.storage import digest, read_table, read_vectors, write_table
from scoring.evaluation.probabilities import softmax
from scoring.models import AuditedModel, Checkpoint, choose_device, find_checkpoints
from scoring.models.inputs import Inputs, reading_facts, reading_pool, usable
from scoring.models.outputs import OutputAsLogits, detect
from scoring.pipeline.passed import Passed, vector_column
from scoring.scorers import RunContext, Scorer, Shard, State
from scoring.training.dynamics import read_dynamics

SHARD_BYTES = 256 << 20
SHARD_MOST = 4096
BATCH = 256

__all__ = [
    "BATCH",
    "SHARD_BYTES",
    "Context",
    "Each",
    "Workers",
    "column_vectors",
    "cut",
    "make_shard",
    "resumable",
    "vector_column",
]

Each = Callable[[Callable[[np.ndarray], pa.Table], Sequence[np.ndarray]], Iterable[pa.Table]]
"""``each(compute, shards)``: the tables of the shards, in their order."""


class Workers(Protocol):
    """Where shards that need the model are scored; ``scoring.pipeline.ray_workers.RayWorkers`` is one."""

    def scoring(self, context: Context, scorer: Scorer, state: State) -> Each:
        """Returns how ``resumable`` gets the tables of its shards from these workers."""


@dataclass
class Context:
    """One run opened for computing: its model, checkpoints, usable examples and inputs, each made when first used."""

    audit: Audit
    run: Run
    device: str = "auto"
    progress: Progress = silent
    say: Callable[[str], object] = lambda text: None
    """Hears what a pass plans or found out, one sentence at a time."""
    notes: list[str] = field(default_factory=list)
    """What a score that is being made has to say of this run, a sentence each (``note``)."""
    workers: Workers | None = None
    """Where shards that need the model are scored (``scoring.pipeline.ray_workers.RayWorkers``); None: in this
    process."""
    turned: list[int] | None = None
    """The sources whose pictures are turned, where the example table is not written yet."""
    step: Callable[[str, int, int], object] = lambda name, number, of: None
    """Hears which score begins, the how manieth of how many."""
    passed: Passed | None = None
    """What a first pass computed while the data was read (``scoring.pipeline.first_pass``)."""

    started: float = field(default_factory=time.perf_counter)
    planned: dict[str, str] = field(default_factory=dict)
    """What a plan lowered, a sentence per score, which stays with the score."""
    given: str | None = None
    """The key for which the model was seen to give the logits that are kept."""

    def note(self, text: str) -> None:
        """Keep a sentence with the score that is being made, once: it goes into its file, the summary and /overview."""
        if text not in self.notes:
            self.notes.append(text)

    def shard(self, scorer: Scorer, positions: np.ndarray) -> Shard:
        """A shard of some of the run's examples, for what a scorer measures on a sample before it begins."""
        return make_shard(self, scorer, positions)[0]

    @cached_property
    def checkpoints(self) -> list[Checkpoint]:
        """The run's checkpoints in order of training."""
        pattern = self.run.config.get("checkpoints")
        if not pattern:
            pattern = f"checkpoints/{self.run.name}/*.pt"  # where `hardlook train` and the Recorder keep them
            if not any(self.audit.root.glob(pattern)):
                raise HardlookError(
                    f"run {self.run.name!r} names no checkpoints and none are at {pattern}; name those of your "
                    f'training with `checkpoints = "…/*.pt"` in [run.{self.run.name}] of audit.toml (final weights '
                    f'alone: `checkpoints = "{self.run.config.get("weights", "final.pt")}"`), or train some: hardlook '
                    f"train {self.audit.root}"
                )
        return find_checkpoints(pattern, self.audit.root, weights=self.weights)

    @cached_property
    def built(self) -> AuditedModel:
        """The audited model as its factory made it, before it is known what it returns."""
        config = self.run.config
        if "model" not in config:
            raise HardlookError(
                f'run {self.run.name!r} names no model; add `model = "model.py:callable"` or a torchvision model\'s '
                f"name to [run.{self.run.name}] in audit.toml"
            )
        return AuditedModel.build(
            config["model"],
            config.get("arguments", {}),
            self.audit.root,
            n_classes=len(self.audit.classes),
            device=choose_device(self.device),
            weights=self.weights,
        )

    @cached_property
    def model(self) -> AuditedModel:
        """The audited model, whose call gives logits."""
        kind = self.known_output or self._found_output()
        return self.built.returns(OutputAsLogits(kind, self.run.config.get("output_item")))

    @property
    def known_output(self) -> str | None:
        """Returns what the model returns, where that needs no look at the data: as set in audit.toml, else as it was
        found for these weights."""
        config, record = self.run.config, self.run.record().get("output") or {}
        if "output" in config:
            return config["output"]
        if record.get("key") == self.key and record.get("kind") in OUTPUTS:
            self.built.choose(record.get("choice", ""))
            return record["kind"]
        return None

    def _found_output(self) -> str:
        """Returns what the model returns for examples that are drawn: by the numbers of a first pass, which took them
        for logits, or by a forward pass."""
        drawn = np.random.default_rng(self.audit.seed).permutation(len(self.inputs))[:BATCH]
        part = self.examples.iloc[drawn]
        rows = self.passed.rows(part["example_id"].tolist(), part["fingerprint"].tolist()) if self.passed else None
        kind = detect(torch.from_numpy(rows.logits)) if rows is not None else None
        if kind != "logits":
            self.passed = None
            batch, good, _ = self.inputs.batch(drawn, self.pool)
            if not good:
                return "logits"  # nothing can be read, which is said elsewhere
            kind = self.built.kind_of(batch, self.checkpoints[-1], self.run.config.get("output_item"))
        self.run.add_to_record(output={"kind": kind, "key": self.key, "choice": self.built.choice})
        return kind

    @property
    def weights(self) -> str:
        """Returns which weights of a checkpoint are audited: "plain", or "ema" where the run says ``averaged =
        true``."""
        return "ema" if self.run.config.get("averaged", False) else "plain"

    @cached_property
    def examples(self) -> pd.DataFrame:
        """The examples that can be read, in the table's order."""
        return usable(self.audit)

    @cached_property
    def inputs(self) -> Inputs:
        """The examples as the model sees them."""
        return Inputs(self.audit, self.run, self.examples)

    @cached_property
    def pool(self) -> ThreadPoolExecutor:
        """Threads that read inputs."""
        return reading_pool()

    @cached_property
    def labels(self) -> np.ndarray:
        """(n,) index of each example's label, −1 = none."""
        position = {name: number for number, name in enumerate(self.audit.classes)}
        return self.examples["label"].map(position).fillna(-1).astype(int).to_numpy()

    @cached_property
    def predicted(self) -> tuple[np.ndarray, np.ndarray]:
        """The last checkpoint's (n,) predicted class index (−1 = none) and (n, c) probabilities."""
        logits = self.aligned(self.run.logits_path)
        known = np.isfinite(logits).all(1)
        p = np.full_like(logits, np.nan)
        p[known] = softmax(logits[known].astype(np.float64))
        return np.where(known, np.nan_to_num(p).argmax(1), -1), p

    @cached_property
    def features(self) -> np.ndarray:
        """(n, d) input of the head at the last checkpoint."""
        return self.aligned(self.run.features_path)

    def aligned(self, path: Path) -> np.ndarray:
        """Vectors of a file, in the examples' order; NaN where an example has none."""
        ids, values = read_vectors(path)
        at = pd.Series(np.arange(len(ids)), index=ids).reindex(self.examples["example_id"]).to_numpy()
        found = ~np.isnan(at)
        result = np.full((len(at), values.shape[1]), np.nan, dtype=np.float32)
        result[found] = values[at[found].astype(int)]
        return result

    @property
    def head(self) -> dict[str, Any]:
        """Returns what the predictions' pass measured of the model's head: name, linear, bias, scale, reason
        (``Head.facts``)."""
        return self.run.record().get("head") or {}

    @cached_property
    def dynamics(self) -> dict[str, np.ndarray]:
        """Recorded columns (p_label, margin, …) → (epochs, n), NaN where an example was not recorded."""
        return read_dynamics(self.run.dynamics_files(), self.examples["example_id"].tolist(), labels=self.labels)

    @cached_property
    def key(self) -> str:
        """Returns what every number of the run depends on: weights, the code of factory, transform and loaders,
        classes; and how often logits were found to be others although all of that was the same
        (``scoring.pipeline.predictions``)."""
        config = self.run.config
        facts = {name: config.get(name) for name in ("model", "arguments", "transform", "embedding", "averaged")}
        named = [facts["model"], facts["transform"], *(source.get("loader") for source in self.audit.sources)]
        facts["code"] = [code_digest(value, self.audit.root) for value in named]
        facts["renewed"] = self.run.record().get("renewed", 0)
        facts["checkpoints"] = [checkpoint.sha256 for checkpoint in self.checkpoints]
        facts["classes"] = self.audit.classes
        facts |= {name: config[name] for name in ("output", "output_item") if name in config}
        facts |= reading_facts(self.audit, self.turned)
        return digest(facts)

    def renew(self) -> None:
        """Let every number of the run be computed anew: its model is another one than the key knows."""
        self.run.add_to_record(renewed=self.run.record().get("renewed", 0) + 1)
        del self.key

    @cached_property
    def shard_size(self) -> int:
        """Examples per shard: as many as fit in 256 MB of inputs, in whole batches."""
        for number in range(min(len(self.inputs), 16)):
            with contextlib.suppress(HardlookError):
                size = self.inputs.read(number).numel() * 4
                return int(np.clip(SHARD_BYTES // max(size, 1) // BATCH * BATCH, BATCH, SHARD_MOST))
        return BATCH


def cut(positions: np.ndarray, size: int) -> list[np.ndarray]:
    """Positions in consecutive shards of at most ``size``."""
    return [positions[start : start + size] for start in range(0, len(positions), size)]


def resumable(
    folder: Path,
    key: str,
    shards: Sequence[np.ndarray],
    compute: Callable[[np.ndarray], pa.Table],
    progress: Progress,
    what: str,
    each: Each = map,
) -> list[pa.Table]:
    """The tables of all shards; each is a file as soon as it is done, and files of the same key are not redone.

    ``each(compute, shards)`` gives the tables in the shards' order: ``map`` here and now, or somewhere else
    (``scoring.pipeline.ray_workers``).
    """
    marker = folder / "key"
    if not marker.is_file() or marker.read_bytes() != key.encode():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        marker.write_text(key)
    paths = [folder / f"shard-{number:05d}.parquet" for number in range(len(shards))]
    missing = [(path, positions) for path, positions in zip(paths, shards, strict=True) if not path.is_file()]
    total, left = sum(map(len, shards)), sum(len(positions) for _, positions in missing)
    with progress(what, total) as advance:
        advance(total - left)
        tables = each(compute, [positions for _, positions in missing])
        for (path, positions), table in zip(missing, tables, strict=True):
            write_table(path, table)
            advance(len(positions))
    return [read_table(path) for path in paths]


def column_vectors(tables: Sequence[pa.Table], name: str) -> np.ndarray:
    """The inverse of ``vector_column`` over several tables; NaN for the rows of a table without that column."""
    widths = sorted({table.schema.field(name).type.list_size for table in tables if name in table.column_names})
    if len(widths) > 1:
        raise HardlookError(
            f"the vectors {name!r} have {widths[0]} entries in one shard and {widths[-1]} in another; needed the same "
            "number for all examples"
        )
    width = widths[0]
    parts = []
    for table in tables:
        if name in table.column_names:
            column = pa.concat_arrays(table[name].chunks) if table.num_rows else table[name].combine_chunks()
            parts.append(column.flatten().to_numpy().reshape(-1, width))
        else:
            parts.append(np.full((table.num_rows, width), np.nan, dtype=np.float32))
    return np.concatenate(parts)


def make_shard(context: RunContext, scorer: Scorer, positions: np.ndarray) -> tuple[Shard, np.ndarray]:
    """The shard with what the scorer needs, and where its examples stand among ``positions``."""
    run, at = context.run, np.arange(len(positions))
    inputs = None
    if "checkpoints" in scorer.needs:
        inputs, good, _ = context.inputs.batch(positions, context.pool)
        at = np.asarray(good, dtype=int)
    rows = positions[at]
    part = context.examples.iloc[rows]
    shard = Shard(
        example_id=part["example_id"].to_numpy(dtype=object),
        split=part["split"].to_numpy(dtype=object),
        labels=context.labels[rows],
        classes=context.audit.classes,
        seed=context.audit.seed,
        inputs=inputs,
    )
    if run.logits_path.is_file():
        predictions, probabilities = context.predicted
        shard = replace(shard, predictions=predictions[rows], probabilities=probabilities[rows])
    if "checkpoints" in scorer.needs:
        shard = replace(shard, model=context.model, checkpoints=context.checkpoints)
    if "dynamics" in scorer.needs:
        shard = replace(shard, dynamics={name: values[:, rows] for name, values in context.dynamics.items()})
    if "features" in scorer.needs:
        shard = replace(shard, features=context.features[rows])
    if "influence" in scorer.needs:
        shard = replace(shard, influence=context.aligned(run.influence_path)[rows])
    return shard, at
