"""Small pictures of two kinds, dark and bright, in files and in memory, and a network that tells them apart."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

CLASSES = ("bright", "dark")
SIDE = 8


def picture(label: int, seed: int) -> Image.Image:
    """One random picture: class 0 is bright, class 1 is dark."""
    random = np.random.default_rng(seed)
    low = 140 if label == 0 else 0
    return Image.fromarray(random.integers(low, low + 110, (SIDE, SIDE, 3), dtype=np.uint8))


@pytest.fixture
def folder(tmp_path):
    """An image folder of 24 pictures: bright/00.png …, dark/01.png …"""
    for row in range(24):
        place = tmp_path / "images" / CLASSES[row % 2]
        place.mkdir(parents=True, exist_ok=True)
        picture(row % 2, row).save(place / f"{row:02d}.png")
    return tmp_path / "images"


@pytest.fixture
def net():
    """Logits of (n, 3, 8, 8) in [0, 1]: bright, dark."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 2))
    with torch.no_grad():
        model[1].weight[0].fill_(0.05)
        model[1].weight[1].fill_(-0.05)
        model[1].bias[0].fill_(-4.8)
        model[1].bias[1].fill_(4.8)
    return model
