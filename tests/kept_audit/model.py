"""The toy problem's model. With ReLU in place of the sigmoid the order of the points by VoG is another one: its input
gradient is constant within a region, so it does not shrink with the distance to the boundary."""

from torch import nn


def network(columns=2, classes=2, hidden=10):
    """One hidden layer of sigmoids."""
    return nn.Sequential(nn.Linear(columns, hidden), nn.Sigmoid(), nn.Linear(hidden, classes))
