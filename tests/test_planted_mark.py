"""A spurious mark on one training class, as in the bone-age study: InfEmbed-Rule finds whom it misleads, and
its source.

Gratings of three directions in noise; in training every image of class 1 carries a mark, in the test set some
images of the other classes do too. A small network learns the mark, and takes them for class 1.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from scoring.influence import InfluenceFactors
from scoring.slices import find_slices_by_rule, slice_opponents, summed_influence

MARKED_CLASS = 1


def stripe(x: np.ndarray) -> None:
    x[:, 0, :2] = 3.0


def tag(x: np.ndarray) -> None:
    x[:, 0, 8:, 8:] = 3.0


def blur(x: np.ndarray) -> None:
    x[:] = F.avg_pool2d(torch.as_tensor(x), 3, 1, 1).numpy()


def gratings(n: int, mark, elsewhere: float, seed: int) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Images (n, 1, 12, 12), classes (n,), and which carry the mark: class 1 all, the others a share."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    rows, columns = np.mgrid[-5.5:6, -5.5:6]
    along = np.cos(y * np.pi / 3)[:, None, None] * rows + np.sin(y * np.pi / 3)[:, None, None] * columns
    x = rng.normal(size=(n, 1, 12, 12)) + 1.3 * np.sin(1.3 * along + rng.uniform(0, 6.3, (n, 1, 1)))[:, None]
    x, marked = x.astype(np.float32), (y == MARKED_CLASS) | (rng.random(n) < elsewhere)
    some = x[marked]
    mark(some)
    x[marked] = some
    return torch.as_tensor(x), torch.as_tensor(y), marked


def trained(x: torch.Tensor, y: torch.Tensor) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 3),
    )
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for epoch in range(8):
        for rows in torch.randperm(len(y), generator=torch.Generator().manual_seed(epoch)).split(50):
            optimizer.zero_grad()
            F.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
    return model.eval()


@pytest.mark.parametrize("mark, seed", [(stripe, 1), (tag, 2), (blur, 3), (stripe, 2), (blur, 1)])
def test_the_rule_returns_the_misled_and_their_opponents_carry_the_mark(mark, seed):
    x, y, marked = gratings(600, mark, 0.0, seed=seed)
    test_x, test_y, test_marked = gratings(600, mark, 0.4, seed=100 + seed)
    model = trained(x, y)
    train, test = ([*zip(a.split(100), b.split(100), strict=True)] for a, b in ((x, y), (test_x, test_y)))
    factors = InfluenceFactors.fit(model, train, layers=None, arnoldi_dim=60, rank=30)
    of, on = factors.embed(model, train), factors.embed(model, test)
    with torch.no_grad():
        predicted = model(test_x).argmax(1).numpy()
    slices = find_slices_by_rule(on, predicted == test_y.numpy(), max_accuracy=0.4, min_size=25)
    assert slices
    for members in slices:  # each holds what was taken for the marked class because of the mark
        assert (predicted[members] == MARKED_CLASS).mean() >= 0.6 and test_marked[members].mean() >= 0.6
    opponents = slice_opponents(on[slices[0]], of, 50)
    assert marked[opponents].mean() >= 0.8
    assert (summed_influence(on[slices[0]], of)[opponents] < 0).all()
