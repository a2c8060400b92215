"""Which parameters are chosen, and which cannot be."""

from __future__ import annotations

import pytest
from torch import nn

from scoring.audit.errors import HardlookError
from scoring.curvature.chosen_parameters import choose

from .nets import small_net


def test_an_unknown_layer_is_refused_with_close_names():
    with pytest.raises(HardlookError, match="'secnod'.*second"):
        choose(small_net(), ["head", "secnod"])


def test_layers_without_parameters_are_refused():
    with pytest.raises(HardlookError, match="no trainable parameter"):
        choose(nn.Sequential(nn.ReLU()), "0")
    with pytest.raises(HardlookError, match="drop"):
        choose(small_net(), "drop")
    with pytest.raises(HardlookError, match="name at least one"):
        choose(small_net(), [])


def test_half_precision_and_batch_norm_without_statistics_are_refused():
    with pytest.raises(HardlookError, match="needed float32 or float64"):
        choose(nn.Linear(2, 2).half(), "*")
    with pytest.raises(HardlookError, match="mixes the examples of a batch"):
        choose(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, track_running_stats=False)), "0")
