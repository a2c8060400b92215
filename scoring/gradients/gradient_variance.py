"""Streaming standard deviation of input gradients over checkpoints: the kernel of VoG.

With S_t the gradient of one class's logit (or probability) at checkpoint t, its channels averaged,

    spread = √( 1/K Σ_t (S_t − μ)² ),  μ = 1/K Σ_t S_t          per pixel, column, or embedding coordinate
    VoG(x) = mean of the spread, over pixels; for tokens over coordinates and the tokens that are no padding

(Agarwal, D'souza, Hooker 2022, eq. 1-3). The coordinates of an embedding are not averaged first: layer norms
make the mean of the gradient over them vanish identically, and its spread would be rounding noise. Where
channels of a picture cancel in the same way, the example gets null:

    Σ_t mean |S_t|  <  √(ε / c) Σ_t mean |∇_t|,        c channels, ε the precision's machine epsilon

The mean of c independent channels is 1/√c of one of them, so this is a mean that has lost half of its digits
or more.

Inputs: a ``scoring.gradients.checkpoint_slot.Slot``, state dicts, inputs, indices of labels and predicted classes.
Outputs: (n,) or a map per {early, late, all} × {label, prediction} × {logit, probability}. Cost: per checkpoint one
forward pass, and one backward pass per form, for each example, once more for each whose prediction differs from its
label. Memory: five maps per form and gradient, whatever the number of checkpoints.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from scoring.audit.errors import HardlookError

if TYPE_CHECKING:
    from torch import Tensor

    from scoring.gradients.backward_passes import Batch
    from scoring.gradients.checkpoint_slot import Slot
    from scoring.gradients.execution_paths import State

Columns = dict[str, np.ndarray]

STAGES = ("early", "late", "all")
INDEXES = ("label", "prediction")
FORMS = ("logit", "probability")
STAGE_LENGTH = 3
LEAST = 2
BLOCK_ELEMENTS = 1 << 20
"""Input elements per block: enough to make the statistics' own calls cheap, few enough to stay in a cache."""
CANCELLED = (
    "the gradient averaged over channels is only rounding noise for some examples (the model ignores a constant "
    "added to all channels); their VoG is null"
)


class Spread:
    """The spread of maps that arrive one checkpoint at a time: over the first three, the last three, and all.

    All: Welford's running mean and sum of squares. Early and late: the last three maps are kept. So memory
    does not grow with the number of checkpoints. ``reduce`` is applied to each finished (n, *pixels) map.
    """

    def __init__(self, reduce: Callable[[Any], Any]) -> None:
        self.reduce = reduce
        self.count = 0
        self.recent: deque[Any] = deque(maxlen=STAGE_LENGTH)
        self.mean: Any = None
        self.squares: Any = None
        self.first: Any = None

    def add(self, new: Any) -> None:
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

    def _recent(self) -> Any:
        mean = sum(self.recent) / len(self.recent)
        return self.reduce((sum((m - mean).square_() for m in self.recent) / len(self.recent)).sqrt_())


class Cancellation:
    """Whether the mean over channels is but rounding noise, per example, over all checkpoints."""

    def __init__(self) -> None:
        self.averaged: Tensor | None = None
        self.single: Tensor | None = None

    def add(self, gradient: Tensor, mean: Tensor) -> None:
        """Take in the gradients (n, c, *pixels) of the next checkpoint and their means over channels."""
        import torch

        self.threshold = (torch.finfo(gradient.dtype).eps / gradient.shape[1]) ** 0.5
        sizes = [mean.abs().flatten(1).mean(1), gradient.abs().flatten(1).mean(1, dtype=mean.dtype)]
        if self.averaged is not None and self.single is not None:
            sizes = [self.averaged + sizes[0], self.single + sizes[1]]
        self.averaged, self.single = sizes

    def found(self, count: int) -> np.ndarray:
        """(count,) whether each example's channels cancel; none do where no channels were averaged."""
        if self.averaged is None or self.single is None:
            return np.zeros(count, dtype=bool)
        return (self.averaged < self.threshold * self.single).cpu().numpy()


def pixel_mean(spread: Tensor) -> Tensor:
    """(n, *pixels) → (n,)."""
    return spread.flatten(1).mean(1) if spread.ndim > 1 else spread


def whole_map(spread: Tensor) -> Tensor:
    """(n, *pixels) as it is."""
    return spread


def token_mean(spread: Tensor, real: Tensor) -> Tensor:
    """Spreads (n, t, dim) and which tokens are real (n, t) → (n,), NaN where none is; (n, dim) of a bag →
    (n,)."""
    return (spread.mean(2) * real).sum(1) / real.sum(1) if spread.ndim == 3 else spread.mean(1)


def token_map(spread: Tensor, real: Tensor) -> Tensor:
    """Spreads (n, t, dim) → (n, t) means over coordinates, 0 for padding; a bag has none: NaN."""
    if spread.ndim == 3:
        return spread.mean(2).where(real, 0)
    return spread.new_full(real.shape, float("nan"))


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
                f"found {len(labels)} labels and {len(predictions)} predictions; needed as many of each"
            )
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
    """Targets whose statistics are kept together: batches as the slot prepared them, and statistics per form.

    ``count`` targets are real: the last batch is padded to full size, so that every shard runs the same
    kernels.
    """

    start: int
    count: int
    batches: list[Any]
    spreads: dict[str, Spread]
    cancellations: dict[str, Cancellation]


def vog(
    slot: Slot,
    checkpoints: Iterable[Any],
    inputs: Tensor,
    labels: np.ndarray,
    predictions: np.ndarray,
    *,
    names: Sequence[str] | None = None,
    forms: Sequence[str] = FORMS,
    batch_size: int = 64,
    padding: int | None = None,
) -> Columns:
    """Raw VoG of each example → {"<stage>_<index>_<form>": (n,) float32}, NaN where an example has no such
    class, its input is not finite, its channels cancel (the slot's notes say so), or it has no real token.

    ``checkpoints``: k ≥ 2 state dicts in order of training, drawn one at a time. ``inputs``: (n, *input)
    tensor; ``labels`` and ``predictions``: (n,) class indices, −1 = none; ``names``: of the checkpoints, for
    errors; ``padding``: the token number that is padding, None = as the model says. The same example gets the
    same bits at equal ``batch_size`` whatever else is in the shard. Raises ``HardlookError`` for too few
    checkpoints, and for a gradient that is not finite, naming the checkpoint.
    """
    return _collect(
        slot, checkpoints, inputs, labels, predictions, names, forms, batch_size, padding, (pixel_mean, token_mean)
    )


def vog_maps(
    slot: Slot,
    checkpoints: Iterable[Any],
    inputs: Tensor,
    labels: np.ndarray,
    predictions: np.ndarray,
    *,
    names: Sequence[str] | None = None,
    forms: Sequence[str] = FORMS,
    batch_size: int = 64,
    padding: int | None = None,
) -> Columns:
    """Like ``vog``, before the mean over pixels → {"<stage>_<index>_<form>": (n, *pixels) float32}.

    For the few examples whose maps are kept: the mean of each map is the example's raw VoG; of texts (n, t)
    the mean over real tokens, since padding has 0.
    """
    return _collect(
        slot, checkpoints, inputs, labels, predictions, names, forms, batch_size, padding, (whole_map, token_map)
    )


def _collect(
    slot: Slot,
    checkpoints: Iterable[State],
    inputs: Tensor,
    labels: np.ndarray,
    predictions: np.ndarray,
    names: Sequence[str] | None,
    forms: Sequence[str],
    batch_size: int,
    padding: int | None,
    reducers: tuple[Callable[..., Tensor], Callable[..., Tensor]],
) -> Columns:
    fit = _finite(inputs)
    targets = Targets.of(np.where(fit, labels, -1), np.where(fit, predictions, -1))
    batch_size = max(batch_size, 2)  # one image alone has no memory layout, so other kernels would run
    size = batch_size * max(1, BLOCK_ELEMENTS // max(1, batch_size * inputs[:1].numel()))
    blocks = []
    for start in range(0, len(targets.rows), size):
        batches = _batches(slot, inputs, targets, start, size, batch_size)
        reduce = _reducer(slot, batches[0], inputs[targets.rows[start : start + size]], padding, reducers)
        blocks.append(
            Block(
                start,
                min(size, len(targets.rows) - start),
                batches,
                {form: Spread(reduce) for form in forms},
                {form: Cancellation() for form in forms},
            )
        )
    k = 0
    for k, state in enumerate(checkpoints, start=1):
        name = names[k - 1] if names is not None else f"checkpoint {k}"
        with slot.at(state, name):
            _add_checkpoint(slot, blocks, forms, targets, name)
    if k < LEAST:
        raise HardlookError(f"vog needs at least {LEAST} checkpoints, found {k}; keep more with Recorder(every=1)")
    return _columns(slot, targets, blocks, forms)


def _finite(inputs: Tensor) -> np.ndarray:
    """(n,) whether each input is finite: one that is not has no gradient, and must not stop the others."""
    if not inputs.is_floating_point():
        return np.ones(len(inputs), dtype=bool)
    return inputs.isfinite().flatten(1).all(1).cpu().numpy()


def _batches(slot: Slot, inputs: Tensor, targets: Targets, start: int, count: int, size: int) -> list[Any]:
    """``count`` targets from ``start`` on, ``size`` at a time; the last one is repeated to fill a batch."""
    last, stop = len(targets.rows) - 1, min(start + count, len(targets.rows))
    positions = [np.minimum(np.arange(at, at + size), last) for at in range(start, stop, size)]
    return [slot.prepare(inputs[targets.rows[at]], targets.classes[at]) for at in positions]


def _reducer(
    slot: Slot,
    batch: Batch,
    inputs: Tensor,
    padding: int | None,
    reducers: tuple[Callable[..., Tensor], Callable[..., Tensor]],
) -> Callable[[Any], Any]:
    """Returns what is done with a finished spread: the first reducer for floats, the second for tokens, given the
    real ones."""
    if not batch.tokens:
        return reducers[0]
    from scoring.gradients.token_embedding import real_tokens

    padding = slot.padding_id(batch) if padding is None else padding
    return partial(reducers[1], real=real_tokens(inputs, padding).to(slot.device))


def _add_checkpoint(slot: Slot, blocks: list[Block], forms: Sequence[str], targets: Targets, name: str) -> None:
    """Run every block through the loaded checkpoint; one look at the end tells whether all was finite."""
    import torch

    sums = []
    for block in blocks:
        parts = [slot.gradients(batch, forms) for batch in block.batches]
        for form, gradients in zip(forms, zip(*parts, strict=True), strict=True):
            gradient = torch.cat(gradients)[: block.count]
            new = _averaged(gradient, block, form)
            block.spreads[form].add(new)
            sums.append(new.sum())
    finite = [bool(value) for value in torch.stack(sums).isfinite().cpu()] if sums else []
    if not all(finite):
        block = blocks[finite.index(False) // len(forms)]
        rows = targets.rows[block.start : block.start + block.count]
        raise HardlookError(
            f"{name} produces gradients that are not finite (among examples {rows.min()} to {rows.max()} of the "
            "shard); its weights have probably diverged: leave out such checkpoints"
        )


def _averaged(gradient: Tensor, block: Block, form: str) -> Tensor:
    """The map whose spread is taken: channels averaged, for tokens and vectors the gradient itself; float32
    at least."""
    import torch

    from scoring.gradients.input_gradient import channel_mean

    if block.batches[0].tokens or gradient.ndim <= 2:
        return gradient.to(torch.promote_types(gradient.dtype, torch.float32))
    mean = channel_mean(gradient)
    block.cancellations[form].add(gradient, mean)
    return mean


def _columns(slot: Slot, targets: Targets, blocks: list[Block], forms: Sequence[str]) -> Columns:
    """Put each target's result where each index looks for it: stages, then indexes, then forms."""
    found: dict[tuple[str, str], list[Any]] = {(form, stage): [] for form, stage in product(forms, STAGES)}
    for block in blocks:
        for form in forms:
            cancelled = block.cancellations[form].found(block.count)
            if cancelled.any():
                slot.note(CANCELLED)
            for stage, value in block.spreads[form].stages().items():
                found[form, stage].append(value.cpu().numpy())
                found[form, stage][-1][cancelled] = np.nan
    return {
        f"{stage}_{index}_{form}": _placed(found[form, stage], targets.place[index])
        for stage, index, form in product(STAGES, INDEXES, forms)
    }


def _placed(parts: list[np.ndarray], place: np.ndarray) -> np.ndarray:
    """Rows of the concatenated parts at ``place``, float32; NaN where it is −1."""
    if not parts:
        return np.full(len(place), np.nan, dtype=np.float32)
    values = np.concatenate(parts).astype(np.float32, copy=False)
    out = np.full((len(place), *values.shape[1:]), np.nan, dtype=np.float32)
    out[place >= 0] = values[place[place >= 0]]
    return out
