"""Self-supervised training on all examples, and the difficulty of each.

A fresh model from the run's factory is trained without any label by one of ``OBJECTIVES``; after each epoch e, every
example x has its loss ℓ_e(x), the length of the loss's input gradient ‖∂ℓ_e/∂x‖₂, and how far its features moved since
the epoch before, ‖f_e(x) − f_{e−1}(x)‖² / d. The means over the epochs are the difficulty that Khoroshavtsev et al.
2024 compare with supervised scores.

Output: ``runs/<run>/self_supervised.parquet`` (example_id, fingerprint, loss, gradient, displacement). Training
examples are those of train and pool; test is measured too. Cost: the training, and per epoch one forward and backward
pass over all examples. A killed command goes on after its last whole epoch with the same bits. Limits: tokens are
refused: the objectives make views by shifts and noise, or rebuild the input, and integers have neither noise nor a
gradient.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from scoring.audit.errors import HardlookError
from scoring.audit.storage import (
    atomic_path,
    digest,
    read_metadata,
    read_table,
    read_vectors,
    write_table,
    write_vectors,
)
from scoring.models import build_model
from scoring.models.eval_mode import evaluating
from scoring.models.inputs import Inputs
from scoring.models.randomness import own_randomness
from scoring.pipeline.retraining.ssl_objectives import OBJECTIVES, Encoder, Objective
from scoring.pipeline.retraining.subset_training import code_digests
from scoring.pipeline.shards import Context
from scoring.scorers.data_map import mean_over_epochs
from scoring.training.in_memory import InMemory
from scoring.training.trainer import epoch_seed

MEASURED = ("loss", "gradient", "displacement")


def train_without_labels(
    context: Context, *, objective: str = "", epochs: int = 10, lr: float = 1e-3, batch_size: int = 256
) -> str:
    """Train and write the three numbers of every usable example; returns a sentence about what was done.

    ``objective``: barlow, rotation or autoencoder; empty: barlow for images, autoencoder for the rest.
    """
    objective = objective or ("barlow" if context.audit.media == "image" else "autoencoder")
    if objective not in OBJECTIVES or epochs < 1:
        raise HardlookError(
            f"objective = {objective!r}, epochs = {epochs}; needed one of {', '.join(OBJECTIVES)} and at least one "
            "epoch"
        )
    run, examples, path = context.run, context.examples, context.run.self_supervised_path
    ids = examples["example_id"].tolist()
    config = [run.config.get(name) for name in ("model", "arguments", "transform")]
    key = digest(
        [
            config,
            code_digests(context.audit.root, run.config, {}),
            examples[["example_id", "fingerprint", "split"]].to_numpy().tolist(),
            context.audit.seed,
            objective,
            epochs,
            lr,
            batch_size,
        ]
    )
    if path.is_file() and read_metadata(path).get("key") == key:
        shutil.rmtree(run.parts_folder("self-supervised"), ignore_errors=True)
        return f"self-supervised scores of {len(ids):,} examples exist already"
    training = _Training(context, objective, lr, batch_size, run.parts_folder("self-supervised"), key)
    with context.progress(f"self-supervised, {objective}", epochs * len(training.rows)) as advance:
        tables = training.run(epochs, advance)
    columns = {name: np.stack([table[name].to_numpy() for table in tables]) for name in MEASURED}
    means = {name: mean_over_epochs(values) for name, values in columns.items()}
    table = pa.table(
        {
            "example_id": pa.array(ids, pa.string()),
            "fingerprint": pa.array(examples["fingerprint"], pa.string()),
            **{name: pa.array(v.astype(np.float32), mask=~np.isfinite(v)) for name, v in means.items()},
        }
    )
    write_table(path, table, {"key": key, "objective": objective, "epochs": epochs})
    shutil.rmtree(training.folder, ignore_errors=True)
    first, last = np.nanmean(columns["loss"][0]), np.nanmean(columns["loss"][-1])
    n = len(training.rows)
    return f"{objective} over {n:,} examples without labels, {epochs} epochs: loss {first:.3g} to {last:.3g}"


class _Training:
    """One self-supervised training with what it keeps on the disk after each epoch."""

    def __init__(self, context: Context, objective: str, lr: float, batch_size: int, folder: Path, key: str):
        self.context, self.folder, self.batch_size = context, folder, batch_size
        self.data = InMemory(Inputs(context.audit, context.run, context.examples))
        self.rows = np.flatnonzero(context.examples["split"].isin(["train", "pool"]))
        if len(self.rows) < 2:
            raise HardlookError(f"found {len(self.rows)} examples in train and pool; needed at least two")
        self.device, seed = context.model.device, context.audit.seed
        sample = torch.stack([self.data[int(row)][0] for row in self.rows[:2]]).to(self.device)
        if not sample.is_floating_point():
            raise HardlookError("self-supervised training needs inputs of floats; found integers, which are tokens")
        config = context.run.config
        with own_randomness(seed):
            model = build_model(config["model"], config.get("arguments"), context.audit.root).to(self.device)
            self.module: Objective = OBJECTIVES[objective](Encoder(model, sample), sample).to(self.device)
        self.descent = torch.optim.AdamW(self.module.parameters(), lr=lr, weight_decay=1e-4)
        marker = folder / "key"
        if not marker.is_file() or marker.read_text() != key:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            marker.write_text(key)

    def run(self, epochs: int, advance: Callable[[int], object]) -> list[pa.Table]:
        """Train what is missing → one table per epoch."""
        done = self._restore()
        advance(done * len(self.rows))
        alone = len(self.rows) > self.batch_size and len(self.rows) % self.batch_size == 1  # batch norm fails on one
        loader = DataLoader(
            Subset(self.data, self.rows.tolist()),
            min(self.batch_size, len(self.rows)),
            shuffle=True,
            generator=torch.Generator(),
            drop_last=alone,
        )
        for epoch in range(done + 1, epochs + 1):
            with own_randomness(epoch_seed(self.context.audit.seed, epoch)):
                loader.generator.manual_seed(epoch_seed(self.context.audit.seed, epoch))
                self._epoch(loader, advance)
            self._keep(epoch)
        return [read_table(self._table(epoch)) for epoch in range(1, epochs + 1)]

    def _epoch(self, loader: DataLoader[Any], advance: Callable[[int], object]) -> None:
        self.module.train()
        for inputs, _labels in loader:
            loss = self.module.batch_loss(inputs.to(self.device))
            self.descent.zero_grad(set_to_none=True)
            loss.backward()
            self.descent.step()
            advance(len(inputs))

    def _keep(self, epoch: int) -> None:
        """Measure, then write the table, the features and, last, the state that counts the epoch."""
        losses, gradients, features = self._measure()
        moved = np.full(len(losses), np.nan, np.float32)
        if epoch > 1:
            moved = np.square(features - read_vectors(self._features(epoch - 1))[1]).mean(1)
        write_table(self._table(epoch), pa.table({"loss": losses, "gradient": gradients, "displacement": moved}))
        write_vectors(self._features(epoch), self.context.examples["example_id"].tolist(), features)
        with atomic_path(self.folder / "state.pt") as temporary:
            torch.save(
                {"epoch": epoch, "module": self.module.state_dict(), "optimizer": self.descent.state_dict()}, temporary
            )
        self._features(epoch - 1).unlink(missing_ok=True)

    def _restore(self) -> int:
        path = self.folder / "state.pt"
        if not path.is_file():
            return 0
        held = torch.load(path, map_location="cpu", weights_only=True)
        self.module.load_state_dict(held["module"])
        self.descent.load_state_dict(held["optimizer"])
        return int(held["epoch"])

    def _measure(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(n,) losses, (n,) lengths of their input gradients, (n, d) features, of all examples, in eval mode."""
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        with evaluating(self.module), own_randomness():
            for inputs, _labels in DataLoader(self.data, 256):
                x = inputs.to(self.device).requires_grad_()
                with torch.enable_grad():
                    loss = self.module.losses(x)
                    (gradient,) = torch.autograd.grad(loss.sum(), x)
                with torch.no_grad():
                    encoded = self.module.encoder(x)
                found.append((loss.detach(), gradient.flatten(1).norm(dim=1), encoded))
        losses, norms, features = (torch.cat(parts).float().cpu().numpy() for parts in zip(*found, strict=True))
        return losses, norms, features

    def _table(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch:05d}.parquet"

    def _features(self, epoch: int) -> Path:
        return self.folder / f"features-{epoch:05d}.arrow"
