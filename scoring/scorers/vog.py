"""Variance of Gradients (Agarwal, D'souza, Hooker 2022): how much an input gradient varies over training.

With S_t the channel-averaged gradient of one class's logit (or probability) at checkpoint t, (eq. 1-3)

    VoG(x) = mean over pixels of √( 1/K Σ_t (S_t − μ)² ),   μ = 1/K Σ_t S_t

(of texts: no average first; the mean over the coordinates and real tokens of their embedding,
``scoring.gradients.gradient_variance``) then z-scored within the class (eq. 4). Eq. 3 as printed is ambiguous; this
reading, the population standard deviation per pixel, reproduces the scores that the authors released to 1e-6.

Inputs: a ``scoring.gradients.Slot``, checkpoints (state dicts), a shard of inputs, indices of labels and of
predicted classes. Outputs: (n,) per {early, late, all} × {label, prediction} × {logit, probability}, raw and
z. *Early* is the first three checkpoints, *late* the last three; *prediction* is the last checkpoint's, the
same at every checkpoint.

Cost: per checkpoint one forward pass and one backward pass per form, once for each example and once more for
each whose prediction differs from its label. Memory: five maps per form and gradient, whatever the number of
checkpoints.

Known limits: VoG measures difficulty and finds no label errors; which end is hard depends on form and stage,
and is measured per run. On the paper's toy problem (two blobs; ``tests/scorers/test_toy_problems.py``) late VoG puts
the points near the boundary first with one hidden layer of sigmoids, in both forms; with ReLU the logit form does not,
since that gradient is constant within a linear region. With fewer than six checkpoints the stages overlap. A ReLU or
maximum that stands within rounding of its kink may fall on either side when kernels change (folded or not, other
hardware): this moves single examples of deep float32 nets by about 1e-4.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from scoring.audit.arrays import as_numbers
from scoring.audit.errors import HardlookError
from scoring.evaluation import normalize_by_class
from scoring.gradients.gradient_variance import (
    FORMS,
    INDEXES,
    LEAST,
    STAGES,
    Spread,
    Targets,
    pixel_mean,
    vog,
    vog_maps,
)
from scoring.scorers import Column, Columns, RunContext, Scorer, Shard, needed

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from scoring.gradients import Slot
    from scoring.models import AuditedModel

__all__ = [
    "FORMS",
    "INDEXES",
    "STAGES",
    "Spread",
    "Targets",
    "VoG",
    "pixel_mean",
    "vog",
    "vog_from_maps",
    "vog_maps",
    "z_within_split",
]

STATISTICS_BYTES = 1 << 30
"""Bytes for the statistics of one part of a shard; texts need dim numbers per token."""

log = logging.getLogger(__name__)


def vog_from_maps(maps: Any) -> Any:
    """Raw VoG: the population standard deviation across checkpoints of each pixel, averaged over pixels.

    (k, n, *pixels) gradients, already averaged over channels → (n,), an array or tensor as given. High = the
    explanation of this example moved much. Fewer than two checkpoints are an error.

    >>> vog_from_maps(np.array([[[0.0, 4.0]], [[2.0, 4.0]]]))
    array([0.5])
    """
    if hasattr(maps, "detach"):  # a torch tensor, which this module need not import
        return maps.new_tensor(vog_from_maps(maps.detach().cpu().numpy()))
    maps = as_numbers(maps, "maps")
    if maps.ndim < 2 or len(maps) < LEAST:
        raise HardlookError(f"maps have shape {maps.shape}; needed (k, n, *pixels) with k at least {LEAST} checkpoints")
    spread = maps.std(axis=0, dtype=np.promote_types(maps.dtype, np.float64))
    return spread.reshape(len(spread), -1).mean(1).astype(np.promote_types(maps.dtype, np.float32))


# -- the score -----------------------------------------------------------------------------------------------

PRECISIONS = ("float32", "bfloat16")

STAGE_HELP = {
    "early": "over the first three checkpoints",
    "late": "over the last three checkpoints",
    "all": "over all checkpoints",
}
INDEX_HELP = {"label": "the label's", "prediction": "the predicted class's"}


def _column(stage: str, index: str, form: str, *, z: bool) -> Column:
    """One of the 24 columns, raw or z, with its explanation."""
    text = (
        f"How much the gradient of {INDEX_HELP[index]} {form} with respect to the input varies {STAGE_HELP[stage]}: "
        "standard deviation per pixel, averaged. "
    )
    within = (
        "Its z-score within the split and that class; 0 in a class too small to rank. "
        if z
        else "Not comparable between classes, but it shows whether a whole class is high or low. "
    )
    end = (
        "Whether high or low is hard depends on the form and the stage, and is measured per run. With fewer than six "
        "checkpoints the stages overlap."
    )
    return Column(
        name=f"{stage}_{index}_{form}{'_z' if z else ''}",
        title=f"VoG {stage}, {index}, {form}{', z' if z else ''}",
        help=text + within + end,
        family="vog",
        unit="class standard deviations" if z else f"{form} per unit of input",
        suspicious="measured",
        detects="difficulty",
        stage=stage,
        index=index,
        form=form,
        normalised="class" if z else None,
    )


def z_within_split(values: np.ndarray, splits: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """(n,) class z-scores, taken within each split on its own, float32; NaN stays NaN.

    >>> splits = np.array(["train", "train", "test", "test"])
    >>> z_within_split(np.array([1.0, 3.0, 7.0, 9.0]), splits, np.zeros(4))
    array([-1.,  1., -1.,  1.], dtype=float32)
    """
    z = np.full(len(values), np.nan, dtype=np.float32)
    for split in sorted(set(splits)):
        rows = splits == split
        z[rows] = normalize_by_class(values[rows], classes[rows])
    return z


@dataclass(frozen=True, kw_only=True)
class VoG(Scorer):
    """Variance of Gradients (Agarwal et al. 2022, eq. 1-4).

    ``batch_size``: examples per pass; results are bit-identical for the same batch size. ``precision``: float32, or
    bfloat16, which is approximate, needs hardware support and is refused unless a sample of the run is ranked as in
    float32 (class-normalised Spearman of at least 0.995 in every column). ``embedding``: name of the layer that embeds
    tokens; empty = the ``nn.Embedding`` that receives them. ``padding``: index of the padding token, which is left out;
    −1 = taken from the model's config, its embedding or the transform.
    """

    name = "vog"
    stage = "vog"
    needs = ("checkpoints",)
    least: ClassVar = {"checkpoints": LEAST}
    columns = tuple(_column(*which, z=z) for which in product(STAGES, INDEXES, FORMS) for z in (False, True))

    batch_size: int = 64
    precision: str = "float32"
    embedding: str = ""
    padding: int = -1

    def fit(self, context: RunContext, workdir: Path) -> dict[str, int] | None:
        """Returns what the transform says is padding. In bfloat16, a sample must rank as in float32, else
        ``HardlookError``."""
        state = self.padding_state(context)
        if self._reduced(context.model):
            self._compare_precisions(context, state)
        return state

    def padding_state(self, context: RunContext) -> dict[str, int] | None:
        """``{"padding": token number}`` where the run's transform, or its tokenizer, names one."""
        from scoring.gradients.token_embedding import padding_of_transform

        found = padding_of_transform(context.inputs.transform)
        return None if found is None else {"padding": found}

    def _compare_precisions(self, context: RunContext, state: dict[str, int] | None) -> None:
        """Refuse bfloat16 where a sample of the run's examples is not ranked as in float32."""
        from scoring.evaluation.reduced_precision import ENOUGH, balanced_sample, lowest_agreement

        predictions, _ = context.predicted
        shard = context.shard(
            self, balanced_sample(np.where(context.labels >= 0, context.labels, predictions), context.audit.seed)
        )
        if not len(shard):
            return
        full, half = (one._run(vog, shard, state) for one in (replace(self, precision="float32"), self))
        agreement, column = lowest_agreement(full, half, np.where(shard.labels >= 0, shard.labels, _predicted(shard)))
        comparison = f"{column} has a Spearman correlation of {agreement} with float32 over {len(shard)} examples"
        if agreement < ENOUGH:
            raise HardlookError(
                f"vog in bfloat16 ranks this run's examples differently from float32: {comparison}; needed {ENOUGH}; "
                "leave out --vog-precision"
            )
        context.say(f"vog in bfloat16: {comparison}, the lowest of all columns")

    def score(self, shard: Shard, state: dict[str, int] | None) -> Columns:
        """Raw VoG of the shard's examples, every stage, index and form."""
        return self._run(vog, shard, state)

    def maps(self, shard: Shard, forms: Sequence[str] = FORMS, state: dict[str, int] | None = None) -> Columns:
        """Per-pixel VoG maps of the shard's examples: {"late_label_logit": (n, *pixels) float32, …}.

        For the few whose maps are kept; they cost what scoring those examples costs.
        """
        return self._run(vog_maps, shard, state, forms)

    def finish(self, columns: Columns, examples: pd.DataFrame) -> Columns:
        """Add the z-scores within (split, class indexed)."""
        splits = examples["split"].to_numpy(dtype=object)
        done = dict(columns)
        for stage, index, form in product(STAGES, INDEXES, FORMS):
            name = f"{stage}_{index}_{form}"
            done[f"{name}_z"] = z_within_split(columns[name], splits, examples[index].to_numpy(dtype=object))
        return done

    def _run(
        self, kernel: Callable[..., Columns], shard: Shard, state: dict[str, int] | None, forms: Sequence[str] = FORMS
    ) -> Columns:
        """The kernel over the shard, in parts whose statistics fit into memory."""
        predictions, inputs = _predicted(shard), needed(shard.inputs, "checkpoints")
        model = needed(shard.model, "checkpoints")
        names = [str(checkpoint.path) for checkpoint in shard.checkpoints]
        slot = self._slot(model)
        size = max(self.batch_size, STATISTICS_BYTES // max(1, 40 * slot.statistics_size(inputs)))
        parts = []
        for rows in np.split(np.arange(len(shard)), range(size, len(shard), size)):
            states = (model.state(checkpoint) for checkpoint in shard.checkpoints)
            parts.append(
                kernel(
                    slot,
                    states,
                    inputs[rows],
                    shard.labels[rows],
                    predictions[rows],
                    names=names,
                    forms=forms,
                    batch_size=self.batch_size,
                    padding=self._padding(slot, inputs, state),
                )
            )
        for note in slot.notes:
            shard.note(note)
        found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return found if model.keeps_logits else self._without_logits(found, shard)

    @staticmethod
    def _without_logits(columns: Columns, shard: Shard) -> Columns:
        """The logit form is null where the model returns probabilities: the logits they came from are lost."""
        shard.note(
            "the logit form of VoG is null: the model returns probabilities or their logarithms, from which the "
            "gradient of a logit cannot be computed"
        )
        return {
            name: np.full_like(values, np.nan) if name.endswith("_logit") else values
            for name, values in columns.items()
        }

    def _padding(self, slot: Slot, inputs: Tensor, state: dict[str, int] | None) -> int | None:
        """The token number that is padding: as set, as the model says, else as the transform says."""
        if inputs.is_floating_point() or self.padding >= 0:
            return self.padding
        found = slot.padding_id(slot.prepare(inputs[:2], np.zeros(len(inputs[:2]))))
        return (state or {}).get("padding") if found is None else found

    def _slot(self, model: AuditedModel) -> Slot:
        from scoring.gradients import Slot

        reduced = self._reduced(model)
        return Slot(model.module, dtype=reduced, embedding=self.embedding or None)

    def _reduced(self, model: AuditedModel) -> torch.dtype | None:
        """Returns ``torch.bfloat16`` if it is set and the hardware supports it, else None for the model's own
        precision."""
        if self.precision not in PRECISIONS:
            raise HardlookError(f"vog: precision = {self.precision!r}; needed one of {', '.join(PRECISIONS)}")
        if self.precision == "float32":
            return None
        import torch

        from scoring.gradients import device_of, has_bfloat16

        if has_bfloat16(device_of(model.module)):
            return torch.bfloat16
        log.warning("vog runs in float32: this %s has no bfloat16", device_of(model.module).type)
        return None


def _predicted(shard: Shard) -> np.ndarray:
    """(n,) predicted class indices, −1 for all where there are none."""
    return np.full(len(shard), -1) if shard.predictions is None else shard.predictions
