"""Objectives of self-supervised training: the loss of a batch and of each example, without labels.

    barlow       Σ_i (1 − C_ii)² + λ Σ_{i≠j} C_ij²     C: correlation of two views' projections    (Zbontar et al. 2021)
    rotation     cross-entropy of which of four quarter turns was applied                          (Gidaris et al. 2018)
    autoencoder  mean squared error of the input rebuilt from the features

Each is a module with ``batch_loss(x)``, on augmented views, and ``losses(x)`` → (n,), in eval mode and without chance,
so that an example's number is its own. Barlow Twins' objective is of a batch: an example's part is taken as half the
mean squared distance of its two normalised projections, whose mean over a batch is the mean of 1 − C_ii; the redundancy
term is of the batch alone. Cost: two (barlow), four (rotation) or one forward pass. Limits: float inputs; rotation
needs square images.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scoring.audit.errors import HardlookError
from scoring.models.eval_mode import logits_of, run
from scoring.models.head import entering, head_of

REDUNDANCY = 5e-3
PROJECTED = 64
NOISE = 0.1


class Encoder(nn.Module):
    """The run's model up to what enters its head; up to its logits where no single layer gives them."""

    def __init__(self, model: nn.Module, sample: Tensor):
        super().__init__()
        self.model = model
        self.head = head_of(model, sample)  # a tuple, so its module is no second child
        with torch.no_grad():
            self.width = self(sample).shape[1]

    def forward(self, x: Tensor) -> Tensor:
        """(n, *input) → (n, d)."""
        if self.head.module is None:
            return logits_of(run(self.model, x))
        calls: list[tuple[Tensor, Tensor]] = []
        handle = self.head.module.register_forward_hook(lambda _layer, given, output: calls.append((given[0], output)))
        try:
            logits = logits_of(run(self.model, x))
        finally:
            handle.remove()
        return entering(self.head, *calls[-1], logits)


class Barlow(nn.Module):
    """Barlow Twins with a two-layer projector."""

    def __init__(self, encoder: Encoder, sample: Tensor):
        super().__init__()
        self.encoder = encoder
        self.project = nn.Sequential(
            nn.Linear(encoder.width, PROJECTED), nn.BatchNorm1d(PROJECTED), nn.ReLU(), nn.Linear(PROJECTED, PROJECTED)
        )
        self.normal = nn.BatchNorm1d(PROJECTED, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, *input) → (n, 64) normalised projections."""
        return self.normal(self.project(self.encoder(x)))

    def batch_loss(self, x: Tensor) -> Tensor:
        """Of one batch of inputs, each seen twice."""
        return barlow_loss(self(augmented(x)), self(augmented(x)))

    def losses(self, x: Tensor) -> Tensor:
        """(n,) half the mean squared distance of the projections of two fixed views."""
        first, second = fixed_views(x)
        return 0.5 * (self(first) - self(second)).square().mean(1)


def barlow_loss(first: Tensor, second: Tensor, redundancy: float = REDUNDANCY) -> Tensor:
    """(n, d) twice, normalised over the batch → the loss, over d (Zbontar et al. 2021, eq. 1).

    >>> z = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
    >>> float(barlow_loss(z, z))
    0.0
    """
    correlation = first.T @ second / len(first)
    diagonal = correlation.diagonal()
    off = correlation.square().sum() - diagonal.square().sum()
    return ((1 - diagonal).square().sum() + redundancy * off) / first.shape[1]


class Rotation(nn.Module):
    """Which of four quarter turns?"""

    def __init__(self, encoder: Encoder, sample: Tensor):
        super().__init__()
        if sample.ndim != 4 or sample.shape[-1] != sample.shape[-2]:
            raise HardlookError(
                f"the rotation objective needs square images, found inputs of shape {tuple(sample.shape[1:])}"
                "; use --objective autoencoder"
            )
        self.encoder, self.head = encoder, nn.Linear(encoder.width, 4)

    def batch_loss(self, x: Tensor) -> Tensor:
        """Of one batch, each input turned four ways."""
        return self.losses(augmented(x)).mean()

    def losses(self, x: Tensor) -> Tensor:
        """(n,) mean cross-entropy over the four turns."""
        turned = torch.cat([torch.rot90(x, turns, (-2, -1)) for turns in range(4)])
        turns = torch.arange(4, device=x.device).repeat_interleave(len(x))
        return F.cross_entropy(self.head(self.encoder(turned)), turns, reduction="none").reshape(4, -1).mean(0)


class Autoencoder(nn.Module):
    """Rebuild the input from the features, by one hidden layer."""

    def __init__(self, encoder: Encoder, sample: Tensor):
        super().__init__()
        self.encoder = encoder
        hidden = 2 * encoder.width
        self.decode = nn.Sequential(nn.Linear(encoder.width, hidden), nn.ReLU(), nn.Linear(hidden, sample[0].numel()))

    def batch_loss(self, x: Tensor) -> Tensor:
        """Of one batch as it is."""
        return self.losses(x).mean()

    def losses(self, x: Tensor) -> Tensor:
        """(n,) mean squared error over the input's elements."""
        return (self.decode(self.encoder(x)) - x.flatten(1)).square().mean(1)


Objective = Barlow | Rotation | Autoencoder
OBJECTIVES: dict[str, type[Objective]] = {"barlow": Barlow, "rotation": Rotation, "autoencoder": Autoencoder}


def augmented(x: Tensor) -> Tensor:
    """A random view of each input: images are shifted by up to an eighth of their side, all get noise."""
    if x.ndim == 4:
        most = max(1, x.shape[-1] // 8)
        x = shifted(x, int(torch.randint(-most, most + 1, ())), int(torch.randint(-most, most + 1, ())))
    return x + NOISE * torch.randn_like(x)


def fixed_views(x: Tensor) -> tuple[Tensor, Tensor]:
    """Two views without chance: images shifted both ways along the diagonal; vectors scaled both ways by the noise."""
    if x.ndim != 4:
        return x * (1 + NOISE), x * (1 - NOISE)
    step = max(1, x.shape[-1] // 16)
    return shifted(x, step, step), shifted(x, -step, -step)


def shifted(x: Tensor, down: int, right: int) -> Tensor:
    """Images moved by whole pixels; what comes in repeats the edge."""
    most = max(abs(down), abs(right), 1)
    padded = F.pad(x, (most, most, most, most), mode="replicate")
    height, width = x.shape[-2:]
    return padded[..., most - down : most - down + height, most - right : most - right + width]
