"""A small net and its exact Hessian by plain autograd, and matrices whose eigenvalues are known."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from scoring.curvature.chosen_parameters import choose
from scoring.curvature.hessian import hessian_products
from scoring.gradients.plain_autograd import differentiable


class SmallNet(nn.Module):
    """Convolutions with groups and stride, a batch norm with real statistics, a shortcut and a head."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(16, 3)
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x):
        x = F.silu(self.norm(self.first(x)))
        x = F.silu(x + self.second(x), inplace=True)
        return self.head(self.drop(F.avg_pool2d(x, 3).flatten(1)))


def small_net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return SmallNet().double()


def small_data(sizes: tuple[int, ...] = (5, 4, 1)) -> list:
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(n, 2, 6, 6, generator=generator, dtype=torch.double),
            torch.randint(0, 3, (n,), generator=generator),
        )
        for n in sizes
    ]


def exact_hessian(model: nn.Module, data: list, names: list[str], loss=F.cross_entropy) -> np.ndarray:
    """The mean Hessian of the loss, one backward pass per row, by plain autograd."""
    parameters = [dict(model.named_parameters())[name].requires_grad_() for name in names]
    model.eval()
    x, y = (torch.cat(parts) for parts in zip(*data, strict=True))
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss(model(x), y), parameters, create_graph=True)])
    rows = [
        torch.autograd.grad(value, parameters, retain_graph=True, materialize_grads=True, allow_unused=True)
        for value in gradient
    ]
    return torch.stack([torch.cat([part.flatten() for part in row]) for row in rows]).numpy()


@functools.cache
def small_hessian() -> np.ndarray:
    """That of the small net over all its parameters, on the small data."""
    model = small_net()
    return exact_hessian(model, small_data(), [name for name, _ in model.named_parameters()])


def expected_product(model: nn.Module, chosen, vector: list[torch.Tensor]) -> np.ndarray:
    """The chosen rows and columns of the small net's Hessian, times the vector."""
    inside = np.concatenate([np.full(p.numel(), name in chosen.parameters) for name, p in model.named_parameters()])
    return small_hessian()[np.ix_(inside, inside)] @ flat(vector)


def vector_like(parameters: list, seed: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]


def flat(parts: list[torch.Tensor]) -> np.ndarray:
    return torch.cat([part.detach().flatten() for part in parts]).numpy()


def symmetric(values: np.ndarray, seed: int = 0) -> torch.Tensor:
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(values), len(values))))
    return torch.as_tensor(q * values @ q.T)


def products_of(model: nn.Module, data, layers="*", loss=F.cross_entropy):
    chosen = choose(model, layers)
    with differentiable(model, chosen.tensors):
        return hessian_products(model, data, chosen, loss=loss)
