"""The first pass: model inputs, logits and features of each example while the data is read, from the same decoding.

Before one example is read, a few are taken straight from their sources, spread over all of them, through transform and
model: what is wrong with either is an error within seconds. Then ``FirstPass`` rides along with the reading
(``scoring.data.companion``): batches of ``BATCH`` examples in the table's order, those that the two-step way would have
made, so that the numbers are the same bits; of a batch that is not whole (an earlier reading decoded a part of it)
nothing is computed here, and ``predict`` reads it again.

Inputs → outputs: an opened run and its listed sources → ``Passed``. Cost: one transform and one forward pass per
example; memory holds one batch and what waits (``WAITING``). Limits: a model whose outputs are no float32 logits by the
look of the first few (``scoring.models.outputs``) is left to the two-step way, unless audit.toml says what they are.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch

from scoring.audit.errors import HardlookError
from scoring.audit.storage import read_metadata, read_table
from scoring.data.companion import Meet
from scoring.data.example_reader import sample_original
from scoring.data.listed_sources import ListedSource
from scoring.models.audited_model import AuditedModel, explained
from scoring.models.eval_mode import run as run_model
from scoring.models.eval_mode import to_device
from scoring.models.inputs import Unreadable, stacked, transformed
from scoring.models.outputs import rows_of
from scoring.pipeline.early_check import refuse_mistakes
from scoring.pipeline.forward import predict_batch
from scoring.pipeline.passed import Passed
from scoring.pipeline.predictions import FIRST_PASS, predictions_key
from scoring.pipeline.shards import BATCH, Context, vector_column

FEW, MOST_TRIED = 16, 64
"""Examples that are put through the model first, and rows that are tried to find them."""


def first_pass(context: Context, transform: Callable[[Any], Any], *, anyway: bool = False) -> Meet:
    """Returns how a reading meets its companion; ``context.passed`` is then what the companion computes. ``anyway``:
    go on where a sample of much data shows a mistake."""

    def meet(listed: Sequence[ListedSource], anew: bool) -> FirstPass | None:
        sources = [each.source for each in listed]
        context.turned = [each.number for each in sources if context.audit.media == "image" and each.turns]
        key = predictions_key(context)
        kept = _kept(context, key)
        inputs = few_inputs(listed, transform, 1 if kept else FEW)
        if inputs is None:
            return None
        if not kept and not _gives_logits(context, inputs):
            return None
        model = context.model if context.known_output else context.built
        if not kept and not anyway:
            refuse_mistakes(context, model, listed, transform)
        context.passed = Passed(context.run.parts_folder(FIRST_PASS), key)
        return FirstPass(context, model, transform, kept, inputs[0].numel() * inputs.element_size())

    return meet


def _kept(context: Context, key: str) -> set[tuple[str, str]]:
    """The examples whose predictions hold, by id and fingerprint."""
    path = context.run.predictions_path
    if not path.is_file() or not context.run.logits_path.is_file() or read_metadata(path).get("key") != key:
        return set()
    old = read_table(path, ["example_id", "fingerprint", "entropy"]).to_pandas()
    old = old[old["entropy"].notna()]
    return set(zip(old["example_id"], old["fingerprint"], strict=True))


def few_inputs(listed: Sequence[ListedSource], transform: Callable[[Any], Any], few: int) -> torch.Tensor | None:
    """Returns the inputs of a few readable examples, spread over all sources, (m, *input); None where none of the rows
    that were tried holds one. Raises ``HardlookError`` where the transform fails on every one of them."""
    rows = [(each, row) for each in listed for row in _spread(len(each), MOST_TRIED)]
    made: list[torch.Tensor | Unreadable] = []
    names: list[str] = []
    for at in _spread(len(rows), MOST_TRIED):
        each, row = rows[at]
        if row in each.listing.problems:
            continue
        try:
            original = sample_original(each.source, row, each.listing.path(row))
        except (Exception, SystemExit):  # noqa: BLE001  a broken file or code of others: the reading lists it
            continue
        try:
            made.append(transformed(transform, original, _place(each, row)))
        except Unreadable as error:
            made.append(error)
        names.append(_place(each, row))
        if sum(isinstance(one, torch.Tensor) for one in made) == few:
            break
    if not made:
        return None
    inputs, good, reasons = stacked(made, names)
    if not good:
        raise HardlookError(
            f"{len(made)} of {len(made)} examples cannot be turned into inputs, the first: "
            f"{next(iter(reasons.values()))}; correct the data or the transform in audit.toml"
        )
    return inputs


def _place(each: ListedSource, row: int) -> str:
    """Returns what a row is called before it has its id: the user's own, else its path inside the audit."""
    if each.listing.ids:
        return each.listing.ids[row]
    path = each.listing.path(row)
    if path is None:
        return f"data[{each.source.number}]/row {row}"
    return os.path.relpath(path, each.source.root) if path.startswith(f"{each.source.root}{os.sep}") else path


def _spread(n: int, most: int) -> list[int]:
    """Up to ``most`` of n numbers, evenly spaced, the first among them.

    >>> _spread(3, 8), _spread(100, 4)
    ([0, 1, 2], [0, 25, 50, 75])
    """
    return list(range(n)) if n <= most else [n * at // most for at in range(most)]


def _gives_logits(context: Context, inputs: torch.Tensor) -> bool:
    """Returns whether a forward pass over a few examples can be read, now or as float32 logits by the look of them.

    Raises ``HardlookError`` where the model fails, or has another number of classes than audit.toml."""
    last = context.checkpoints[-1]
    if context.known_output:
        with context.model.at(last), explained(inputs):
            context.model.predict(inputs)
        return True
    model, item = context.built, context.run.config.get("output_item")
    kind = model.kind_of(inputs, last, item)
    if kind != "logits" or item is not None:
        return False
    with model.at(last) as module, torch.no_grad():
        outputs = run_model(module, to_device(inputs, model.device))
        model.logits(outputs)  # refuses a wrong number of classes
        return rows_of(outputs).dtype == torch.float32


class _Waiting(NamedTuple):
    """One example of the batch that is being filled; ``made``: its input, why there is none, or None where it was not
    decoded this time."""

    example_id: str
    fingerprint: str
    made: torch.Tensor | Unreadable | None


class FirstPass:
    """The companion of a reading that puts every example through the model at the last checkpoint."""

    def __init__(
        self,
        context: Context,
        model: AuditedModel,
        transform: Callable[[Any], Any],
        kept: set[tuple[str, str]],
        bytes_each: int,
    ) -> None:
        if context.passed is None:
            raise HardlookError("a first pass needs a place for what it computes; set context.passed")
        self.context, self.model, self.transform, self.kept = context, model, transform, kept
        self.passed = context.passed.open()
        self.bytes_each = bytes_each
        self.waiting: list[_Waiting] = []
        self._at = contextlib.ExitStack()
        self._loaded = False

    def look(self, original: Any, example: str) -> Any:
        """The input of one example; an error is returned, not raised."""
        try:
            return transformed(self.transform, original, example)
        except HardlookError as error:
            return error

    def take(self, example_id: str, fingerprint: str, made: Any) -> None:
        """Put the example into the batch, and a full one through the model."""
        if isinstance(made, HardlookError) and not isinstance(made, Unreadable):
            raise made
        if (example_id, fingerprint) in self.kept:
            return
        self.waiting.append(_Waiting(example_id, fingerprint, made))
        if len(self.waiting) == BATCH:
            self._compute()

    def end(self) -> None:
        """The last batch, and the model as it was."""
        self._compute()
        self._at.close()

    def _compute(self) -> None:
        """Compute and keep the batch, where all of it was decoded and it is not there yet."""
        batch, self.waiting = self.waiting, []
        made = [one.made for one in batch if one.made is not None]
        ids, fingerprints = [one.example_id for one in batch], [one.fingerprint for one in batch]
        if not batch or len(made) < len(batch) or self.passed.has(ids, fingerprints):
            return
        inputs, good, reasons = stacked(made, ids)
        problems = [reasons.get(at) for at in range(len(batch))]
        columns: dict[str, Any] = {
            "example_id": pa.array(ids, pa.string()),
            "fingerprint": pa.array(fingerprints, pa.string()),
            "problem": pa.array(problems, pa.string()),
            "finite": pa.array(_finite(inputs, good, len(batch))),
        }
        for name, values in zip(("logits", "features"), self._predicted(inputs) if good else (None, None), strict=True):
            if values is not None:
                full = np.full((len(batch), values.shape[1]), np.nan, dtype=np.float32)
                full[good] = values
                columns[name] = vector_column(full)
        head = self.model.head
        self.passed.write(pa.table(columns), head.facts() if head else {})

    def _predicted(self, inputs: torch.Tensor) -> tuple[np.ndarray, np.ndarray | None]:
        if not self._loaded:
            self._at.enter_context(self.model.at(self.context.checkpoints[-1]))
            self._loaded = True
        with explained(inputs):
            return predict_batch(self.model, inputs)


def _finite(inputs: torch.Tensor, good: list[int], n: int) -> np.ndarray:
    """(n,) whether all of an example's input is finite; true where there is none."""
    finite = np.ones(n, dtype=bool)
    if good and inputs.is_floating_point():
        finite[good] = torch.isfinite(inputs).flatten(1).all(1).numpy()
    return finite
