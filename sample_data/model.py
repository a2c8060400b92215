"""The sample's model: a small convolutional network with batch normalisation for 8×8 digits."""

import numpy as np
import torch
from torch import nn


def small_cnn(classes=10, width=24):
    """About 50,000 parameters; the last block and the head are where influence is measured."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(2 * width, 2 * width, 3, padding=1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * width, classes),
    )


def transform(image):
    """The evaluation transform: a greyscale picture → (1, 8, 8) with about zero mean and unit deviation."""
    pixels = np.asarray(image.convert("L"), dtype=np.float32) / 255
    return torch.from_numpy((pixels - 0.305) / 0.376).unsqueeze(0)
