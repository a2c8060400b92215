"""Influence embeddings (Wang, Adebayo et al. 2023, eq. 3) of every labelled example, and their squared norm.

    μ(z) = Λ^(-1/2) Mᵀ ∇ℓ(z)        self-influence = ‖μ(z)‖²

with the loss's mean Hessian over (a part of) the training examples factored as M Λ Mᵀ on the chosen layers. The
vectors go to ``runs/<run>/influence.arrow``, from which slices, opponents and proponents are found without torch.

Cost: P Hessian products over the subset, then one forward and one backward pass per example. Limits: see
``scoring.influence``; examples without a label have no embedding.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scoring.audit.errors import HardlookError
from scoring.audit.storage import digest, read_json, write_json
from scoring.scorers import Column, Columns, RunContext, Scorer, Shard, needed
from scoring.scorers._influence_size import Choice, choose_size

if TYPE_CHECKING:
    from torch import Tensor

    from scoring.curvature.low_rank import Size
    from scoring.influence import InfluenceFactors

PRESETS = ("auto", "paper")


def _work(choice: Choice) -> int:
    """How much a choice computes."""
    return choice.products * choice.examples


@dataclass(frozen=True, kw_only=True)
class Influence(Scorer):
    """Influence embeddings over the last block and the head, and self-influence from them.

    ``arnoldi_dim``: number P of Hessian products, 500 in the paper. ``rank``: length r of an embedding. ``layers``:
    names or patterns separated by commas; empty = the run's ``layers`` in audit.toml, else the last block and the head.
    ``subset``: number of random training examples over which the Hessian is computed. ``memory_budget``: GB for the
    basis, cached activations and graphs. ``batch_size``: examples per pass. ``preset``: auto lowers products and
    subset, where these are not set to other numbers, until the products fit in ``seconds``; paper takes them as they
    are. ``seconds``: how long the products may take in preset auto.
    """

    name = "influence"
    stage = "influence"
    needs = ("checkpoints", "labels")
    vectors = ("influence",)
    columns = (
        Column(
            name="self_influence",
            family="influence",
            title="Self-influence, embedding",
            suspicious="high",
            detects="label error",
            help="Squared norm of the influence embedding: how much the example's own loss would change if it were "
            "left out of training. High for isolated examples: rare, hard or mislabelled.",
        ),
    )

    arnoldi_dim: int = 500
    rank: int = 100
    layers: str = ""
    subset: int = 5000
    memory_budget: float = 4.0
    batch_size: int = 128
    preset: str = "auto"
    seconds: float = 900.0

    def key_settings(self) -> dict[str, Any]:
        """All but how the others were chosen."""
        return {name: value for name, value in asdict(self).items() if name not in ("preset", "seconds")}

    def sized(self, context: RunContext) -> Influence:
        """Products and subset for this model on this machine (``scoring.scorers._influence_size``), as they were chosen
        before unless there is more time now; those of a file that took the whole already."""
        if self.preset not in PRESETS:
            raise HardlookError(f"influence: preset = {self.preset!r}; needed {' or '.join(PRESETS)}")
        record = read_json(context.run.factors_path.with_suffix(".json"), {})
        if not self.is_chosen or (record.get("key") == self._key(context) and context.run.factors_path.is_file()):
            return self
        choice = self.chosen(context)
        return replace(self, arnoldi_dim=choice.products, subset=choice.examples)

    @property
    def is_chosen(self) -> bool:
        """Returns whether products and subset are chosen by the model's size, because they are not set."""
        return self.preset == "auto" and (self.arnoldi_dim, self.subset) == (Influence.arnoldi_dim, Influence.subset)

    def chosen(self, context: RunContext, most: int | None = None) -> Choice:
        """Products and subset, as they were chosen before, or measured where there is more time now. ``most``: over how
        many examples at most, None: two batches."""
        of = digest([context.key, self.key_settings(), context.run.config.get("layers")])
        before = context.run.record().get("influence_size") or {}
        known = Choice(before["products"], before["examples"], before["seconds"]) if before.get("of") == of else None
        if known and (not before["lowered"] or before["allowed"] >= self.seconds):
            return known
        choice = self._measured(context, most or 2 * self.batch_size)
        lowered = (choice.products, choice.examples) != (self.arnoldi_dim, self.subset)
        choice = max(choice, known, key=_work) if known else choice  # never fewer than before
        facts = {"of": of, "allowed": self.seconds, "lowered": lowered, **asdict(choice)}
        context.run.add_to_record(influence_size=facts)
        return choice

    def _measured(self, context: RunContext, most: int) -> Choice:
        """The choice by the time of two products over two batches; what fails here is told by the fit itself."""
        from scoring.influence import InfluenceFactors

        times: list[float] = []
        batches = TrainBatches(context, most, -(-most // 2))
        whole = len(TrainBatches(context, self.subset, self.batch_size).positions)
        wanted = Choice(self.arnoldi_dim, self.subset, 0.0)
        with context.model.at(context.checkpoints[-1]) as module, contextlib.suppress(HardlookError):
            InfluenceFactors.fit(
                module,
                batches,
                layers=self._layers(context),
                arnoldi_dim=3,
                rank=1,
                seed=context.audit.seed,
                l2=context.run.config.get("l2", 0.0),
                memory_budget=int(self.memory_budget * 2**30),
                advance=lambda: times.append(time.perf_counter()),
            )
        if len(times) < 2:
            return wanted
        per_product = (times[-1] - times[0]) / (len(times) - 1) * whole / len(batches.positions)
        return choose_size(per_product, min(whole, self.subset), replace(wanted, examples=self.subset), self.seconds)

    def _key(self, context: RunContext) -> dict[str, Any]:
        """Returns what the factors depend on."""
        return {
            "run": context.key,
            "parameters": self.key_settings(),
            "layers": context.run.config.get("layers"),
            "l2": context.run.config.get("l2", 0.0),
        }

    def _note_size(self, context: RunContext) -> None:
        """Keep with the score what was lowered, and how to have the whole."""
        whole = Influence()
        if self.preset == "auto" and (context.run.record().get("influence_size") or {}).get("lowered"):
            context.note(
                f"{self.arnoldi_dim} Hessian products over up to {self.subset:,} examples, chosen so that they take "
                f"about {self.seconds / 60:.2g} minutes; --influence-preset paper takes {whole.arnoldi_dim} over up to "
                f"{whole.subset:,}"
            )

    def fit(self, context: RunContext, workdir: Path) -> InfluenceFactors:
        """Factor the Hessian at the last checkpoint, or read the factors if they are of these weights and settings."""
        from scoring.influence import InfluenceFactors

        record = context.run.factors_path.with_suffix(".json")
        key = self._key(context)
        self._note_size(context)
        if context.run.factors_path.is_file() and read_json(record, {}).get("key") == key:
            return _noted(context, InfluenceFactors.load(context.run.factors_path))
        with context.model.at(context.checkpoints[-1]) as module, contextlib.ExitStack() as bars:

            def planned(size: Size) -> None:
                context.say(str(size))
                bar.append(bars.enter_context(context.progress("factoring the Hessian", size.products, "products")))

            bar: list[Callable[[int], object]] = []
            factors = InfluenceFactors.fit(
                module,
                TrainBatches(context, self.subset, self.batch_size),
                layers=self._layers(context),
                arnoldi_dim=self.arnoldi_dim,
                rank=self.rank,
                seed=context.audit.seed,
                l2=context.run.config.get("l2", 0.0),
                memory_budget=int(self.memory_budget * 2**30),
                announce=planned,
                advance=lambda: bar[0](1),
            )
        factors.save(context.run.factors_path)
        write_json(record, {"key": key, "report": asdict(factors.report)})
        context.say(str(replace(factors.report, notes=())))  # its notes are kept below
        return _noted(context, factors)

    def score(self, shard: Shard, state: InfluenceFactors) -> Columns:
        """Embeddings of the shard's labelled examples at the last checkpoint."""
        import torch

        known = np.flatnonzero(shard.labels >= 0)
        vectors = np.full((len(shard), state.rank), np.nan, dtype=np.float32)
        inputs = needed(shard.inputs, "checkpoints")
        with needed(shard.model, "checkpoints").at(shard.checkpoints[-1]) as module:
            for at, padded in padded_batches(known, self.batch_size):
                batch = inputs[padded], torch.from_numpy(shard.labels[padded])
                vectors[at] = state.embed(module, [batch], note=shard.note)[: len(at)]
        return {"influence": vectors, "self_influence": np.square(vectors.astype(np.float64)).sum(1)}

    def _layers(self, context: RunContext) -> list[str] | None:
        if self.layers:
            return [name.strip() for name in self.layers.split(",")]
        return context.run.config.get("layers")


def _noted(context: RunContext, factors: InfluenceFactors) -> InfluenceFactors:
    """The factors, and what fitting them had to say of this model kept with the score."""
    for note in factors.report.notes:
        context.note(note)
    return factors


def padded_batches(rows: np.ndarray, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows in batches → (rows, the same filled up to ``size`` with repetitions of the last).

    Every batch then has the same shape, and an example gets the same bits whatever else is in its shard.
    """
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        yield part, np.concatenate([part, np.full(size - len(part), part[-1])])


class TrainBatches:
    """Batches of (inputs, labels) of up to ``most`` labelled training examples, in one fixed order, re-iterable."""

    def __init__(self, context: RunContext, most: int, batch_size: int) -> None:
        known = np.flatnonzero((context.examples["split"] == "train") & (context.labels >= 0))
        if not len(known):
            raise HardlookError(
                'influence needs labelled training examples, found none; add a [[data]] table with split = "train"'
            )
        drawn = np.random.default_rng(context.audit.seed).permutation(len(known))[:most]
        self.context, self.positions, self.batch_size = context, known[np.sort(drawn)], batch_size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        import torch

        for numbers in self._parts():
            inputs, good, _ = self.context.inputs.batch(numbers, self.context.pool)
            if good:
                yield inputs, torch.from_numpy(self.context.labels[numbers[good]])

    def _parts(self) -> list[np.ndarray]:
        """Positions in batches; an example that would be alone in the last one goes with the one before, since
        PyTorch's batch norm gives a wrong gradient for a batch of one."""
        starts = list(range(0, len(self.positions), self.batch_size))
        if len(starts) > 1 and len(self.positions) - starts[-1] == 1:
            starts.pop()
        return np.split(self.positions, starts[1:])

    def __len__(self) -> int:
        return len(self._parts())
