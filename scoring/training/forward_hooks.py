"""Forward hooks that match the rows of training batches to examples and read their logits.

A ``RecordedOrder`` stands in for a data loader's batch sampler and keeps the indices that it draws, in order;
a ``ForwardTap`` is a forward hook that takes the margins of the training forward's own logits as they pass
(AUM, Pleiss et al. 2020, is defined on those). Both only look: the batches, the random numbers and the
gradients are those of a training without them.

A margin that cannot be attributed for certain is left out, and a note says why. Row i of the first training
forward of a batch's size is taken to be row i of the batch; where several forwards of that size follow (SAM,
two views), it is the one whose input is the batch itself, or none. What happens to the inputs in between
(augmentation on the device, mixup) is the training's business: its logits are what the training saw.

Cost: one gather and one maximum per batch, no synchronisation with the device. Limits: map-style datasets in
a ``torch.utils.data.DataLoader``, or rows given by the user; one process.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from torch.utils.hooks import RemovableHandle

from scoring.audit.errors import HardlookError
from scoring.models.eval_mode import logits_of

LABEL_KEYS = ("labels", "label", "targets", "target")

# -- the order in which a loader draws examples --------------------------------------------------------------


class RecordedOrder:
    """A (batch) sampler that passes on what another one draws and remembers it until it is asked for.

    Data loaders give out batches in the order in which they draw them, whatever the number of workers, so the
    oldest remembered draw belongs to the next batch.
    """

    def __init__(self, sampler: Any) -> None:
        self.sampler_ = sampler
        self.pending: deque[np.ndarray] = deque()

    def __iter__(self) -> Iterator[Any]:
        self.pending = deque()
        return self._remember(iter(self.sampler_), self.pending)

    @staticmethod
    def _remember(drawn: Iterator[Any], pending: deque[Any]) -> Iterator[Any]:
        for indices in drawn:
            pending.append(np.atleast_1d(np.asarray(indices)))
            yield indices

    def __len__(self) -> int:
        return len(self.sampler_)

    def __getattr__(self, name: str) -> Any:
        if name in ("sampler_", "pending"):  # unpickled, not yet set
            raise AttributeError(name)
        return getattr(self.sampler_, name)

    def take(self) -> np.ndarray | None:
        """The indices of the next batch, or None where none is remembered."""
        return self.pending.popleft() if self.pending else None


def follow(loader: Any) -> RecordedOrder | None:
    """Remember from now on what ``loader`` draws; its batches stay the same. None where that is impossible.

    Impossible are loaders that are no ``DataLoader``, iterable datasets, and ``in_order=False``.
    """
    loader = getattr(loader, "base_dataloader", loader)  # accelerate's adapter only looks like a DataLoader
    if not isinstance(loader, DataLoader) or not getattr(loader, "in_order", True):
        return None
    if isinstance(loader.dataset, torch.utils.data.IterableDataset):
        return None
    name = "sampler" if loader.batch_sampler is None else "batch_sampler"
    order = getattr(loader, name)
    if not isinstance(order, RecordedOrder):
        order = _kept_order(loader) or RecordedOrder(order)
        vars(loader)[name] = order  # the public attribute cannot be set once the loader is made
    return order


def unfollow(loader: Any) -> None:
    """Give a followed loader its own sampler back; persistent workers keep the remembering one."""
    loader = getattr(loader, "base_dataloader", loader)
    for name in ("sampler", "batch_sampler"):
        order = vars(loader).get(name) if isinstance(loader, DataLoader) else None
        if isinstance(order, RecordedOrder):
            vars(loader)[name] = order.sampler_


def _kept_order(loader: DataLoader[Any]) -> RecordedOrder | None:
    """The sampler inside the loader's persistent workers, made to remember; None where there are none."""
    workers = getattr(loader, "_iterator", None)
    if workers is None or not hasattr(workers, "_index_sampler"):
        return None
    if not isinstance(workers._index_sampler, RecordedOrder):
        workers._index_sampler = RecordedOrder(workers._index_sampler)
    return workers._index_sampler


@contextlib.contextmanager
def followed(loader: Any) -> Iterator[RecordedOrder | None]:
    """``follow`` inside the block, ``unfollow`` after it."""
    own = follow(loader)
    try:
        yield own
    finally:
        unfollow(loader)


# -- from a loader's indices to the recorded rows ------------------------------------------------------------


def root_rows(dataset: Any) -> tuple[Any, np.ndarray]:
    """Follow ``Subset`` down to the dataset below it → that dataset, and its row for each of ours."""
    rows = np.arange(len(dataset))
    while isinstance(dataset, Subset):
        rows = np.asarray(dataset.indices, dtype=np.int64)[rows]
        dataset = dataset.dataset
    return dataset, rows


def size_of(dataset: Dataset[Any]) -> int:
    """Returns the number of examples of a map-style dataset. Raises ``HardlookError`` if it has no length."""
    if not isinstance(dataset, Sized):
        raise HardlookError(
            f"the dataset, a {type(dataset).__name__}, has no length; needed len(dataset) and dataset[i]"
        )
    return len(dataset)


def row_map(dataset: Dataset[Any], examples: Dataset[Any]) -> np.ndarray | None:
    """(len(dataset),) rows of ``examples`` that the rows of a training dataset are, −1 for none; None: not
    known.

    Two datasets over equally many originals (one augmented, one not) are taken to hold them in the same
    order, below whatever ``Subset`` selects from them; else two of equal length are taken to be aligned as
    they are.
    """
    if dataset is examples or not hasattr(dataset, "__len__"):
        return np.arange(size_of(examples)) if dataset is examples else None
    (below, rows), (below_examples, example_rows) = root_rows(dataset), root_rows(examples)
    if len(below) == len(below_examples):
        back = np.full(len(below), -1)
        back[example_rows] = np.arange(len(example_rows))
        return back[rows]
    n = size_of(examples)
    return np.arange(n) if size_of(dataset) == n else None


def labels_in(batch: Any) -> Tensor | None:
    """The (n,) integer labels in a batch, (inputs, labels) or a mapping; None where there are none to see."""
    if isinstance(batch, Mapping):
        found = next((batch[key] for key in LABEL_KEYS if key in batch), None)
    else:
        found = batch[1] if isinstance(batch, (tuple, list)) and len(batch) > 1 else None
    if not isinstance(found, Tensor) or found.ndim != 1:
        return None
    return None if found.is_floating_point() or found.is_complex() or found.dtype == torch.bool else found


def input_in(batch: Any) -> Any:
    """The inputs in a batch: the first of (inputs, labels), or of a mapping's values that are no label."""
    if isinstance(batch, Mapping):
        return next((value for key, value in batch.items() if key not in LABEL_KEYS), None)
    return batch[0] if isinstance(batch, (tuple, list)) and len(batch) else batch


def _same_input(seen: Any, given: Any) -> bool:
    """Returns whether a forward's input is the batch's own, on whatever device and in whatever precision."""
    if not isinstance(seen, Tensor) or not isinstance(given, Tensor) or seen.shape != given.shape:
        return False
    return seen is given or torch.equal(seen.detach().to(given.device, given.dtype), given)


def margins_of(logits: Tensor, labels: Tensor) -> Tensor:
    """(n, c) logits, (n,) labels → (n,) float32 logit of the label minus the largest other one.

    >>> margins_of(torch.tensor([[3.0, 1.0, 2.5]]), torch.tensor([0]))
    tensor([0.5000])
    """
    logits, labels = logits.detach().float(), labels.unsqueeze(1)
    own = logits.gather(1, labels)
    return (own - logits.scatter(1, labels, -torch.inf).amax(1, keepdim=True)).squeeze(1)


# -- what passes through the model ---------------------------------------------------------------------------


class ForwardTap:
    """Collects the margins of one epoch's training forwards, by row of the recorded examples.

    Either ``expect`` announces each batch (rows first, then its forward) and ``settle`` ends it, or
    ``source`` gives the rows of the next forward, for loops that say nothing between batches.
    """

    def __init__(self, labels: Sequence[int] | np.ndarray, read: Callable[[Any], Tensor] = logits_of) -> None:
        """``labels`` of the recorded examples; ``read`` takes the (n, c) logits from what the model returns."""
        self.read = read
        self.labels = torch.as_tensor(np.asarray(labels), dtype=torch.long)
        self._highest = int(self.labels.max())
        self.source: Callable[[], np.ndarray | None] | None = None
        self.clear()

    def clear(self) -> None:
        """Forget the epoch so far."""
        self._taken: list[tuple[Tensor, Tensor]] = []
        self._wrong: list[Tensor] = []
        self._rows: Tensor | None = None
        self._candidate: tuple[Tensor, Any] | None = None
        self.batches = self.missed = self.unknown = 0

    @contextlib.contextmanager
    def on(self, model: nn.Module) -> Iterator[ForwardTap]:
        """Listen to the model's training forwards inside the block."""
        handle = self.listen(model)
        try:
            yield self
        finally:
            handle.remove()

    def listen(self, model: nn.Module) -> RemovableHandle:
        """Listen until the handle that this returns is removed."""
        return model.register_forward_hook(self._passing, with_kwargs=True)

    def expect(self, rows: np.ndarray | None, batch: Any) -> None:
        """Announce a batch: the recorded row of each of its examples (−1 = none), or None = not known."""
        self.settle()
        self.batches += 1
        self._rows = None if rows is None else torch.as_tensor(rows, dtype=torch.long)
        self._batch = batch
        if self._rows is None:
            self.unknown += 1
        else:
            self._compare(labels_in(batch), self._rows)

    def settle(self) -> None:
        """The batch is over: keep its margins, or count it as missed."""
        if self._rows is not None:
            if self._candidate is None:
                self.missed += 1
            else:
                self._taken.append((self._rows, self._candidate[0]))
        self._rows = self._candidate = self._batch = None

    def _compare(self, labels: Tensor | None, rows: Tensor) -> None:
        """Remember, without waiting for the device, whether the batch's labels are those of its rows."""
        if labels is None or len(labels) != len(rows):
            return
        known = rows >= 0
        expected = self.labels[rows.clamp(min=0)].to(labels.device, non_blocking=True)
        self._wrong.append(((labels.detach() != expected) & known.to(labels.device, non_blocking=True)).any())

    def _passing(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if not model.training or not torch.is_grad_enabled():
            return
        if self.source is not None:
            self.expect(self.source(), kwargs or args)
        rows = self._rows
        if rows is None:
            return
        try:
            logits = self.read(output)
        except HardlookError:  # another head of the model, or features: no logits to take
            return
        if len(logits) == len(rows) and self._highest < logits.shape[1] > 1:
            self._consider(logits, args[0] if args else input_in(kwargs), rows)

    def _consider(self, logits: Tensor, seen: Any, rows: Tensor) -> None:
        """Take the first forward of the batch's size; of several, the one that saw the batch itself."""
        labels = self.labels[rows.clamp(min=0)].to(logits.device, non_blocking=True)
        if self._candidate is None:
            self._candidate = margins_of(logits, labels), seen
        elif self._candidate[1] is not None:
            given = input_in(self._batch)
            if _same_input(self._candidate[1], given):
                self._candidate = self._candidate[0], None
            elif _same_input(seen, given):
                self._candidate = margins_of(logits, labels), None
            else:
                self._rows, self._candidate, self.missed = None, None, self.missed + 1

    def mismatched(self) -> bool:
        """Returns whether a batch's labels differed from the recorded ones: its rows are not what they seemed."""
        return any(bool(wrong) for wrong in self._wrong)

    def margins(self) -> np.ndarray:
        """(n,) float32 mean training margin of each recorded example in this epoch; NaN = not seen."""
        self.settle()
        total, count = np.zeros(len(self.labels)), np.zeros(len(self.labels))
        for taken, found in self._taken:
            rows, margins = taken.numpy(), found.cpu().numpy().astype(np.float64)
            good = (rows >= 0) & np.isfinite(margins)
            np.add.at(total, rows[good], margins[good])
            np.add.at(count, rows[good], 1)
        return np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0).astype(np.float32)
