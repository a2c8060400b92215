"""Detects what a model returns (logits, probabilities, …), and converts it to logits.

With z the logits of an example, a model may return

    logits              z                   (n, c)
    log_probabilities   log softmax(z)      (n, c), each row's exponentials sum to 1
    probabilities       softmax(z)          (n, c) in 0…1, each row sums to 1
    sigmoid             1 / (1 + e^(−z))    (n, c) in 0…1, each class by itself
    logit               z                   (n, 1): of the second of two classes, the first has 0
    probability         1 / (1 + e^(−z))    (n, 1) in 0…1: of the second of two classes

``detect`` tells them apart by ranges and row sums; ``as_logits`` inverts what can be inverted. Log-probabilities are
logits up to a number per example: probabilities, losses and margins are the same, energy and the gradient of a logit
are lost (``KEEPS_LOGITS``). Of sigmoid outputs softmax(z) is the probability of each class given that exactly one is
true.

Outputs (n, c) go in; a kind, or (n, c) logits, come out. Cost: none beyond the forward pass. Known limits: logits that
all lie between 0 and 1 (cosines of what a ReLU gives, say) look like sigmoid outputs, which ``check`` warns of;
``output = "logits"`` in audit.toml settles it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass
from typing import Any

import torch
from torch import Tensor

from scoring.audit.errors import HardlookError

KEEPS_LOGITS = ("logits", "sigmoid", "logit", "probability")
"""Kinds from which the logits come back, and not only their differences."""
SINGLE = ("logit", "probability")
"""Kinds of one number per example."""
BY_RANGE = ("sigmoid", "probability")
"""Kinds that only the range of the values shows."""
SUMS = 1e-3  # how far a row's sum of probabilities may be from 1, in float32; eight steps of coarser types

LOW, HIGH = 0.1, 0.9
"""What sigmoids of a trained net fall below and rise above for some examples; logits that happen to lie in 0…1, of a
net that has hardly been trained or behind a ReLU (which is often exactly 0, as no sigmoid is), seldom do both."""

SENTENCES = {
    "logits": "the model's outputs are logits",
    "log_probabilities": "the model's outputs are log-probabilities (the exponentials of each row sum to 1): scores "
    "that need logits (energy, VoG in logit form) are null",
    "probabilities": "the model's outputs are probabilities (each row sums to 1): their logarithms are used as "
    "logits; scores that need logits (energy, VoG in logit form) are null",
    "sigmoid": "the model's outputs are one sigmoid per class (in 0…1, rows do not sum to 1): they are inverted to "
    "logits, whose softmax is the probability of each class given that exactly one class is true",
    "logit": "the model returns one logit per example: it is used as the logit of the second class, and the first "
    "class has logit 0",
    "probability": "the model returns one number in 0…1 per example: it is used as the probability of the second class",
}


def detect(outputs: Tensor) -> str:
    """Returns which kind (n, c) outputs of many examples are.

    >>> detect(torch.tensor([[0.5, -2.0]])), detect(torch.tensor([[0.25, 0.75]])), detect(torch.tensor([[0.95, 0.02]]))
    ('logits', 'probabilities', 'sigmoid')
    >>> detect(torch.tensor([[0.25, 0.75]]).log())
    'log_probabilities'
    >>> detect(torch.tensor([[3.0]])), detect(torch.tensor([[0.05], [0.95]]))
    ('logit', 'probability')
    """
    allowed = max(SUMS, 8 * torch.finfo(outputs.dtype).eps)
    values = outputs.detach().cpu().double()
    values = values[values.isfinite().all(1)]
    if not len(values) or bool((values == values[0, 0]).all()):
        return "logit" if outputs.shape[1] == 1 else "logits"  # nothing to tell by
    within = bool(((values >= 0) & (values <= 1)).all())
    squashed = within and 0 < float(values.min()) < LOW and float(values.max()) > HIGH
    if values.shape[1] == 1:
        return "probability" if squashed else "logit"
    if within and bool(((values.sum(1) - 1).abs() <= allowed).all()):
        return "probabilities"
    if squashed:
        return "sigmoid"
    below = bool((values <= allowed).all())
    return "log_probabilities" if below and bool((values.logsumexp(1).abs() <= allowed).all()) else "logits"


def as_logits(outputs: Tensor, kind: str) -> Tensor:
    """(n, c) outputs of a kind → (n, c) logits, differentiable; outputs that are not of the kind become NaN.

    >>> as_logits(torch.tensor([[0.25, 0.75]]), "probabilities").softmax(1)
    tensor([[0.2500, 0.7500]])
    >>> as_logits(torch.tensor([[0.5]]), "probability")
    tensor([[0., 0.]])
    """
    if kind in ("logits", "log_probabilities"):
        return outputs
    if kind == "probabilities":
        return torch.where(outputs == 0, torch.finfo(outputs.dtype).tiny, outputs).log()
    z = outputs if kind == "logit" else _inverted(outputs)
    return z if kind == "sigmoid" else torch.cat([torch.zeros_like(z), z], 1)


def _inverted(p: Tensor) -> Tensor:
    """log(p / (1 − p)), at 0 and 1 that of the nearest other number."""
    step = torch.finfo(p.dtype).eps
    p = torch.where(p == 0, step, torch.where(p == 1, 1 - step, p))
    return p.log() - (-p).log1p()


@dataclass(frozen=True)
class OutputAsLogits:
    """A forward hook of a model: its output as (n, c) logits. ``item``: which item of a tuple, or key of a mapping."""

    kind: str = "logits"
    item: int | str | None = None

    def __call__(self, _module: Any, _arguments: Any, output: Any) -> Tensor:
        """The logits in what the model returned."""
        return as_logits(rows_of(output, self.item, single=self.kind in SINGLE), self.kind)

    @property
    def plain(self) -> bool:
        """Returns whether the model's output is what ``logits_of`` reads as it is."""
        return self.kind == "logits" and self.item is None


class OutputReader:
    """Reads (n, c) logits from what a model returns while it is being trained.

    ``kind``: one of ``OUTPUTS``; None: as ``settle`` finds it, and logits before. ``item``: which item of a tuple, or
    key of a mapping, holds the outputs. ``suspected``: a kind that the range alone speaks for, which is not enough in
    training: logits of a net that has just begun may lie in 0…1 too.
    """

    def __init__(self, kind: str | None = None, item: int | str | None = None):
        self.given, self.kind, self.item = kind is not None, kind or "logits", item
        self.suspected: str | None = None

    def __call__(self, output: Any) -> Tensor:
        """The logits in an output. Raises ``HardlookError`` where there are none."""
        found = as_logits(rows_of(output, self.item, single=self.kind in SINGLE), self.kind)
        if found.shape[1] == 1:
            raise HardlookError(
                'the model returns one number per example; needed one logit per class: write `output = "logit"` '
                '("probability" where it ends in a sigmoid) in the run\'s table of audit.toml'
            )
        return found

    def settle(self, output: Any) -> bool:
        """Look at the outputs of many examples; whether that changed what is read from now on."""
        before, found = self.kind, detect(rows_of(output, self.item, single=True))
        self.suspected = found if found in BY_RANGE else None
        if not self.given and found not in BY_RANGE:
            self.kind = found
        return self.kind != before


def rows_of(
    output: Any, item: int | str | None = None, n_classes: int | None = None, *, single: bool = False
) -> Tensor:
    """The (n, c) outputs in whatever a model returns: a tensor, ``.logits``, ``["logits"]``, or the first of a tuple;
    ``item`` names another one. ``single``: (n,) numbers may be one per example, as binary nets squeeze them; of a net
    that squeezes its batch of one they would be one per class. Raises ``HardlookError`` where there are none, with the
    line that would name them.

    >>> rows_of((torch.zeros(2, 8), torch.zeros(2, 3)), 1).shape
    torch.Size([2, 3])
    """
    found = _item(output, item) if item is not None else _outputs_in(output)
    if not isinstance(found, Tensor):
        raise HardlookError(
            f"the model returned {_described(output)}; needed (n, classes) logits: a tensor, an output with .logits or "
            f"['logits'], or a tuple that begins with them{_advice(output, n_classes)}"
        )
    if not found.is_floating_point():
        raise HardlookError(
            f"the model returned numbers of type {str(found.dtype).removeprefix('torch.')} (classes instead of "
            "scores?); needed (n, classes) logits as floats"
        )
    if found.ndim > 2 and all(side == 1 for side in found.shape[2:]):
        found = found.flatten(1)
    if single and found.ndim < 2:
        found = found.reshape(-1, 1)
    if found.ndim != 2:
        advice = _advice(output, n_classes)
        raise HardlookError(
            f"the model returned a tensor of shape {tuple(found.shape)}; needed (n, classes) logits{advice}"
        )
    return found


def fitting_items(output: Any, n_classes: int | None) -> list[int | str]:
    """Returns where a tuple, mapping or dataclass holds (n, n_classes) tensors: indices, keys or names."""
    items = (
        output.items()
        if isinstance(output, Mapping)
        else enumerate(output)
        if isinstance(output, (tuple, list))
        else vars(output).items()
        if is_dataclass(output)
        else ()
    )
    return [
        at
        for at, value in items
        if isinstance(value, Tensor) and value.ndim == 2 and value.shape[1] > 1 and n_classes in (None, value.shape[1])
    ]


def _advice(output: Any, n_classes: int | None) -> str:
    """Returns the line of audit.toml that selects the logits, if one item fits."""
    found = fitting_items(output, n_classes)
    return f"; write `output_item = {found[0]!r}` in the run's table of audit.toml".replace("'", '"') if found else ""


def _item(output: Any, item: int | str) -> Any:
    try:
        return output[item] if not isinstance(item, str) or isinstance(output, Mapping) else getattr(output, item)
    except (KeyError, IndexError, AttributeError, TypeError) as error:
        raise HardlookError(f"output_item = {item!r}: the model returned {_described(output)}") from error


def _described(output: Any) -> str:
    if isinstance(output, Mapping):
        return f"{type(output).__name__} with {', '.join(map(str, output)) or 'nothing'}"
    if isinstance(output, (tuple, list)):
        return f"{type(output).__name__} of {', '.join(map(_shape, output)) or 'nothing'}"
    return _shape(output)


def _shape(value: Any) -> str:
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


def _outputs_in(output: Any) -> Any:
    if isinstance(output, Mapping):
        return output.get("logits")
    if isinstance(output, Tensor):
        return output
    if isinstance(getattr(output, "logits", None), Tensor):
        return output.logits
    return _outputs_in(output[0]) if isinstance(output, (tuple, list)) and output else None


def alternatives(output: Any, n_classes: int | None) -> int:
    """Returns how many tensors of one number per class the innermost tuple holds from which the first is taken.

    >>> alternatives(((torch.zeros(2, 3), torch.zeros(2, 3)), torch.zeros(2, 8)), 3)
    2
    """
    while isinstance(output, (tuple, list)) and output and isinstance(output[0], (tuple, list)):
        output = output[0]
    return len(fitting_items(output, n_classes)) if isinstance(output, (tuple, list)) else 0
