"""The vector sample's model: one hidden layer over standardised columns."""

from pathlib import Path

import pandas as pd
import torch
from torch import nn


def perceptron(columns=30, classes=2, hidden=32):
    """Two hidden layers; the last one and the head are where influence is measured."""
    return nn.Sequential(
        nn.Linear(columns, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, classes)
    )


class Standardise:
    """The evaluation transform: (30,) numbers → as many with mean 0 and deviation 1 over train."""

    def __init__(self):
        scaling = pd.read_csv(Path(__file__).parent / "data" / "scaling.csv")
        self.mean = torch.tensor(scaling["mean"].to_numpy(), dtype=torch.float32)
        self.std = torch.tensor(scaling["std"].to_numpy(), dtype=torch.float32)

    def __call__(self, row):
        return (torch.as_tensor(row, dtype=torch.float32) - self.mean) / self.std
