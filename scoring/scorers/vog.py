"""Variance of Gradients (Agarwal, D'souza, Hooker 2022): how much an input gradient moves in training.

With S_t the channel-averaged gradient of one class's logit (or probability) at checkpoint t, (eq. 1-3)

    VoG(x) = mean over pixels of √( 1/K Σ_t (S_t − μ)² ),   μ = 1/K Σ_t S_t

then z-scored within the class (eq. 4). Eq. 3 as printed is ambiguous; this reading, the population standard
deviation per pixel, reproduces the scores that the authors released to 1e-6.

Inputs: a ``scoring.gradients.Slot``, checkpoints (state dicts), a shard of inputs, indices of labels and of
predicted classes. Outputs: (n,) per {early, late, all} × {label, prediction} × {logit, probability}, raw and
z. *Early* is the first three checkpoints, *late* the last three; *prediction* is the last checkpoint's, the
same at every checkpoint.

Cost: per checkpoint one forward pass and one backward pass per form, once for each example and once more for
each whose prediction differs from its label. Memory: five maps per form and gradient, whatever the number of
checkpoints.

Known limits: VoG measures difficulty and finds no label errors; which end is hard depends on form and stage,
and is measured per run. On the paper's toy problem (two blobs; ``tests/test_toy_problems.py``) late VoG puts the points
near the boundary first with one hidden layer of sigmoids, in both forms; with ReLU the logit form does not, since that
gradient is constant within a linear region. With fewer than six checkpoints the stages overlap. A ReLU or maximum that
stands within rounding of its kink may fall on either side when kernels change (folded or not, other hardware): this
moves single examples of deep float32 nets by about 1e-4.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from scoring.evaluation import normalize_by_class
from scoring.scorer import Column, Columns, Scorer, Shard
from scoring.tables import HardlookError

if TYPE_CHECKING:
    from scoring.gradients import Slot

STAGES = ("early", "late", "all")
INDEXES = ("label", "prediction")
FORMS = ("logit", "probability")
STAGE_LENGTH = 3
LEAST = 2
BLOCK_ELEMENTS = 1 << 20
"""Input elements per block: enough to make the statistics' own calls cheap, few enough to stay in a cache."""

log = logging.getLogger(__name__)


def vog_from_maps(maps):
    """Raw VoG: the population standard deviation across checkpoints of each pixel, averaged over pixels.

    (k, n, *pixels) gradients, already averaged over channels → (n,), an array or tensor as given. High = the
    explanation of this example moved much. Fewer than two checkpoints are an error.

    >>> vog_from_maps(np.array([[[0.0, 4.0]], [[2.0, 4.0]]]))
    array([0.5])
    """
    if hasattr(maps, "detach"):  # a torch tensor, which this module need not import
        return maps.new_tensor(vog_from_maps(maps.detach().cpu().numpy()))
    maps = np.asarray(maps)
    if maps.ndim < 2 or len(maps) < LEAST:
        raise HardlookError(
            f"maps have shape {maps.shape}; needed (k, n, *pixels) with k at least {LEAST} checkpoints")
    spread = maps.std(axis=0, dtype=np.promote_types(maps.dtype, np.float64))
    return spread.reshape(len(spread), -1).mean(1).astype(np.promote_types(maps.dtype, np.float32))


# -- the streaming kernel ------------------------------------------------------------------------------------


class Spread:
    """The spread of maps that arrive one checkpoint at a time: over the first three, the last three, and all.

    All: Welford's running mean and sum of squares. Early and late: the last three maps are kept. So memory
    does not grow with the number of checkpoints. ``reduce`` is applied to each finished (n, *pixels) map.
    """

    def __init__(self, reduce: Callable[[Any], Any]):
        self.reduce = reduce
        self.count = 0
        self.recent: deque = deque(maxlen=STAGE_LENGTH)
        self.mean = self.squares = self.first = None

    def add(self, new) -> None:
        """Take in the map of the next checkpoint, (n, *pixels)."""
        self.count += 1
        self.recent.append(new)
        if self.count == 1:
            self.mean, self.squares = new.clone(), new.new_zeros(new.shape)
        else:
            change = new - self.mean
            self.mean.add_(change, alpha=1 / self.count)
            self.squares.addcmul_(change, new - self.mean)
        if self.count == STAGE_LENGTH:
            self.first = self._recent()

    def stages(self) -> dict[str, Any]:
        """Stage → reduced spread, once every checkpoint was added."""
        late = self._recent()
        whole = self.reduce(self.squares.div(self.count).sqrt_())
        return {"early": late if self.first is None else self.first, "late": late, "all": whole}

    def _recent(self):
        mean = sum(self.recent) / len(self.recent)
        return self.reduce((sum((m - mean).square_() for m in self.recent) / len(self.recent)).sqrt_())


def pixel_mean(spread):
    """(n, *pixels) → (n,)."""
    return spread.flatten(1).mean(1) if spread.ndim > 1 else spread


def whole_map(spread):
    """(n, *pixels) as it is."""
    return spread


@dataclass(frozen=True)
class Targets:
    """Which gradients a shard needs: each (row, class) pair once, however many indexes ask for it."""

    rows: np.ndarray
    classes: np.ndarray
    place: Mapping[str, np.ndarray] = field(repr=False)
    """Index → (n,) positions in ``rows``, −1 where the example has no such class."""

    @classmethod
    def of(cls, labels: np.ndarray, predictions: np.ndarray) -> Targets:
        """From (n,) label and predicted indices, −1 = none. Predictions that differ come after all rows."""
        labels, predictions = np.asarray(labels, dtype=np.int64), np.asarray(predictions, dtype=np.int64)
        if labels.shape != predictions.shape:
            raise HardlookError(
                f"found {len(labels)} labels and {len(predictions)} predictions; needed as many of each")
        main = np.where(labels >= 0, labels, predictions)
        rows = np.flatnonzero(main >= 0)
        differ = np.flatnonzero((labels >= 0) & (predictions >= 0) & (predictions != labels))
        first = np.full(len(labels), -1)
        first[rows] = np.arange(len(rows))
        second = np.where(predictions >= 0, first, -1)
        second[differ] = len(rows) + np.arange(len(differ))
        place = {"label": np.where(labels >= 0, first, -1), "prediction": second}
        return cls(np.r_[rows, differ], np.r_[main[rows], predictions[differ]], place)


@dataclass
class Block:
    """Targets whose statistics are kept together: batches as the slot prepared them, and a spread per form.

    ``count`` targets are real: the last batch is padded to full size, so that every shard runs the same
    kernels.
    """

    start: int
    count: int
    batches: list[Any]
    spreads: dict[str, Spread]


def vog(slot: Slot, checkpoints: Iterable, inputs, labels, predictions, *, names: Sequence[str] | None = None,
        forms: Sequence[str] = FORMS, batch_size: int = 64) -> Columns:
    """Raw VoG of each example → {"<stage>_<index>_<form>": (n,) float32}, NaN where an example has no such
    class or its input is not finite.

    ``checkpoints``: k ≥ 2 state dicts in order of training, drawn one at a time. ``inputs``: (n, *input)
    tensor; ``labels`` and ``predictions``: (n,) class indices, −1 = none; ``names``: of the checkpoints, for
    errors. The same example gets the same bits at equal ``batch_size`` whatever else is in the shard. Raises
    ``HardlookError`` for too few checkpoints, and for a gradient that is not finite, naming the checkpoint.
    """
    return _collect(slot, checkpoints, inputs, labels, predictions, names, forms, batch_size, pixel_mean)


def vog_maps(slot: Slot, checkpoints: Iterable, inputs, labels, predictions, *,
             names: Sequence[str] | None = None, forms: Sequence[str] = FORMS,
             batch_size: int = 64) -> Columns:
    """Like ``vog``, before the mean over pixels → {"<stage>_<index>_<form>": (n, *pixels) float32}.

    For the few examples whose maps are kept: the mean of each map is the example's raw VoG.
    """
    return _collect(slot, checkpoints, inputs, labels, predictions, names, forms, batch_size, whole_map)


def _collect(slot, checkpoints, inputs, labels, predictions, names, forms, batch_size, reduce) -> Columns:
    fit = _finite(inputs)
    targets = Targets.of(np.where(fit, labels, -1), np.where(fit, predictions, -1))
    batch_size = max(batch_size, 2)  # one image alone has no memory layout, so other kernels would run
    size = batch_size * max(1, BLOCK_ELEMENTS // max(1, batch_size * inputs[:1].numel()))
    blocks = [Block(start, min(size, len(targets.rows) - start),
                    _batches(slot, inputs, targets, start, size, batch_size),
                    {form: Spread(reduce) for form in forms})
              for start in range(0, len(targets.rows), size)]
    k = 0
    for k, state in enumerate(checkpoints, start=1):
        name = names[k - 1] if names is not None else f"checkpoint {k}"
        slot.load(state, name)
        _add_checkpoint(slot, blocks, forms, targets, name)
    if k < LEAST:
        raise HardlookError(
            f"vog needs at least {LEAST} checkpoints, found {k}; keep more with Recorder(every=1)")
    return _columns(targets, blocks, forms)


def _finite(inputs) -> np.ndarray:
    """(n,) whether each input is finite: one that is not has no gradient, and must not stop the others."""
    if not inputs.is_floating_point():
        return np.ones(len(inputs), dtype=bool)
    return inputs.isfinite().flatten(1).all(1).cpu().numpy()


def _batches(slot, inputs, targets: Targets, start: int, count: int, size: int) -> list[Any]:
    """``count`` targets from ``start`` on, ``size`` at a time; the last one is repeated to fill a batch."""
    last, stop = len(targets.rows) - 1, min(start + count, len(targets.rows))
    positions = [np.minimum(np.arange(at, at + size), last) for at in range(start, stop, size)]
    return [slot.prepare(inputs[targets.rows[at]], targets.classes[at]) for at in positions]


def _add_checkpoint(slot, blocks: list[Block], forms, targets: Targets, name: str) -> None:
    """Run every block through the loaded checkpoint; one look at the end tells whether all was finite."""
    import torch

    sums = []
    for block in blocks:
        parts = [slot.maps(batch, forms) for batch in block.batches]
        for form, maps in zip(forms, zip(*parts, strict=True), strict=True):
            new = torch.cat(maps)[:block.count]
            block.spreads[form].add(new)
            sums.append(new.sum())
    finite = [bool(value) for value in torch.stack(sums).isfinite().cpu()] if sums else []
    if not all(finite):
        block = blocks[finite.index(False) // len(forms)]
        rows = targets.rows[block.start:block.start + block.count]
        raise HardlookError(
            f"{name} gives gradients that are not finite "
            f"(among examples {rows.min()} to {rows.max()} of the shard); "
            "its weights have probably exploded: leave such checkpoints out"
        )


def _columns(targets: Targets, blocks: list[Block], forms) -> Columns:
    """Put each target's result where each index looks for it: stages, then indexes, then forms."""
    found = {(form, stage): [] for form, stage in product(forms, STAGES)}
    for block in blocks:
        for form in forms:
            for stage, value in block.spreads[form].stages().items():
                found[form, stage].append(value.cpu().numpy())
    return {f"{stage}_{index}_{form}": _placed(found[form, stage], targets.place[index])
            for stage, index, form in product(STAGES, INDEXES, forms)}


def _placed(parts: list[np.ndarray], place: np.ndarray) -> np.ndarray:
    """Rows of the concatenated parts at ``place``, float32; NaN where it is −1."""
    if not parts:
        return np.full(len(place), np.nan, dtype=np.float32)
    values = np.concatenate(parts).astype(np.float32, copy=False)
    out = np.full((len(place), *values.shape[1:]), np.nan, dtype=np.float32)
    out[place >= 0] = values[place[place >= 0]]
    return out


# -- the score -----------------------------------------------------------------------------------------------

PRECISIONS = ("float32", "bfloat16")

STAGE_HELP = {"early": "over the first three checkpoints", "late": "over the last three checkpoints",
              "all": "over all checkpoints"}
INDEX_HELP = {"label": "the label's", "prediction": "the last checkpoint's predicted class's"}


def _column(stage: str, index: str, form: str, *, z: bool) -> Column:
    """One of the 24 columns, raw or z, with its explanation."""
    text = (f"How much the gradient of {INDEX_HELP[index]} {form} with respect to the input moves "
            f"{STAGE_HELP[stage]}: standard deviation per pixel, averaged. ")
    within = ("Its z-score within the split and that class; 0 in a class too small to rank. " if z else
              "Not comparable between classes; it shows a class that is high or low throughout. ")
    end = ("Which end is hard differs by form and stage, and is measured. "
           "With fewer than six checkpoints stages overlap.")
    return Column(
        name=f"{stage}_{index}_{form}{'_z' if z else ''}",
        title=f"VoG {stage}, {index}, {form}{', z' if z else ''}",
        help=text + within + end, family="vog",
        unit="class standard deviations" if z else f"{form} per unit of input",
        suspicious="measured", detects="difficulty", stage=stage, index=index, form=form,
        normalised="class" if z else None)


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

    ``batch_size``: examples per pass; results are bit-equal at an equal one. ``precision``: float32, or
    bfloat16, which is approximate and is taken only where the hardware has it and where a sample of this run's examples
    is ranked as in float32 (class-normalised Spearman of at least 0.995 in every column; else an error). ``embedding``: name of the layer that embeds tokens; empty = the model's first ``nn.Embedding``.
    """

    name = "vog"
    needs = ("checkpoints",)
    least = {"checkpoints": LEAST}
    columns = tuple(_column(*which, z=z) for which in product(STAGES, INDEXES, FORMS) for z in (False, True))

    batch_size: int = 64
    precision: str = "float32"
    embedding: str = ""

    def fit(self, run, workdir) -> None:
        """Nothing in float32. In bfloat16, whether a sample ranks as in float32: ``HardlookError`` where it does not."""
        if not self._reduced(run.model):
            return
        from scoring.reduced_precision import ENOUGH, balanced_sample, lowest_agreement
        from scoring.shards import make_shard

        predictions, _ = run.predicted
        shard, _ = make_shard(run, self, balanced_sample(np.where(run.labels >= 0, run.labels, predictions), run.audit.seed))
        if not len(shard):
            return
        full, half = (one._run(vog, shard) for one in (replace(self, precision="float32"), self))
        agreement, column = lowest_agreement(full, half, np.where(shard.labels >= 0, shard.labels, shard.predictions))
        told = f"{column} has a Spearman correlation of {agreement} with float32 over {len(shard)} examples"
        if agreement < ENOUGH:
            raise HardlookError(f"vog in bfloat16 does not rank this run's examples as float32 does: {told}; needed {ENOUGH}. "
                                "Leave --vog-precision out")
        run.say(f"vog in bfloat16: {told}, the least of all columns")

    def score(self, shard: Shard, state) -> Columns:
        """Raw VoG of the shard's examples, every stage, index and form."""
        return self._run(vog, shard)

    def maps(self, shard: Shard, forms: Sequence[str] = FORMS) -> Columns:
        """Per-pixel VoG maps of the shard's examples: {"late_label_logit": (n, *pixels) float32, …}.

        For the few whose maps are kept; they cost what scoring those examples costs.
        """
        return self._run(vog_maps, shard, forms)

    def finish(self, columns: Columns, examples) -> Columns:
        """Add the z-scores within (split, class indexed)."""
        splits = examples["split"].to_numpy(dtype=object)
        done = dict(columns)
        for stage, index, form in product(STAGES, INDEXES, FORMS):
            name = f"{stage}_{index}_{form}"
            done[f"{name}_z"] = z_within_split(columns[name], splits, examples[index].to_numpy(dtype=object))
        return done

    def _run(self, kernel, shard: Shard, forms: Sequence[str] = FORMS) -> Columns:
        predictions = shard.predictions if shard.predictions is not None else np.full(len(shard), -1)
        states = (shard.model.state(checkpoint) for checkpoint in shard.checkpoints)
        names = [str(checkpoint.path) for checkpoint in shard.checkpoints]
        return kernel(self._slot(shard.model), states, shard.inputs, shard.labels, predictions, names=names,
                      forms=forms, batch_size=self.batch_size)

    def _slot(self, model) -> Slot:
        from scoring.gradients import Slot

        reduced = self._reduced(model)
        return Slot(model.module, dtype=reduced, embedding=self.embedding or None)

    def _reduced(self, model):
        """``torch.bfloat16`` where it is asked for and the hardware has it, else None: the model's own precision."""
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
