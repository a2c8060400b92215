"""The papers' toy problem as a test of direction: two Gaussian blobs, one hidden layer of sigmoids, 15 epochs.

Agarwal et al. (2022, section 3) and Picard et al. (2022) show on such data that points near the boundary have the
highest VoG late in training, and the highest self-influence. |x| is a point's distance to the best boundary.
"""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from sample_data.blobs.data import points
from sample_data.blobs.model import network
from scoring.gradients import Slot
from scoring.influence import InfluenceFactors, self_influence
from scoring.scorers.vog import vog
from scoring.training.trainer import fit

EPOCHS = 15


def trained(model, values, labels, seed):
    """The model after 15 epochs, and its weights after each."""
    states = []

    def keep(_epoch, _loss):
        states.append({name: value.clone() for name, value in model.state_dict().items()})

    data = list(zip(torch.tensor(values, dtype=torch.float32), labels.tolist(), strict=True))
    fit(model, data, epochs=EPOCHS, lr=0.05, batch_size=32, seed=seed, weight_decay=0.0, on_epoch=keep)
    return states


def late_vog(model, states, values, labels, form):
    inputs = torch.tensor(values, dtype=torch.float32)
    return vog(Slot(model), states, inputs, labels, labels)[f"late_label_{form}"]


def influences(model, values, labels):
    """Self-influence of every point: Cook's distance on the head, and the length of its influence embedding."""
    inputs, classes = torch.tensor(values, dtype=torch.float32), torch.as_tensor(labels)
    with torch.no_grad():
        features, p = model[:2](inputs), model(inputs).softmax(1)
    batches = [(inputs, classes)]
    factors = InfluenceFactors.fit(model, batches, layers=["0", "2"], arnoldi_dim=40, rank=15)
    embedded = factors.embed(model, batches)
    return self_influence(features.numpy(), p.numpy(), labels), (embedded**2).sum(1)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_late_vog_and_self_influence_rank_points_near_the_boundary_first(seed):
    values, labels = points(seed=seed)
    torch.manual_seed(seed)
    model = network()
    states = trained(model, values, labels, seed)
    distance = np.abs(values[:, 0])
    assert spearmanr(late_vog(model, states, values, labels, "logit"), distance)[0] <= -0.6
    assert spearmanr(late_vog(model, states, values, labels, "probability"), distance)[0] <= -0.6
    for scores in influences(model, values, labels):
        assert spearmanr(scores, distance)[0] <= -0.6


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_with_relu_the_logit_form_does_not_hold(seed):
    """The logit's input gradient is constant within a linear region, so it does not shrink with the distance."""
    values, labels = points(seed=seed)
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(2, 10), nn.ReLU(), nn.Linear(10, 2))
    states = trained(model, values, labels, seed)
    assert spearmanr(late_vog(model, states, values, labels, "logit"), np.abs(values[:, 0]))[0] > -0.6


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_single_flipped_point_ends_with_the_highest_self_influence(seed):
    """In blobs that hardly overlap: where they do, points on the other side are as influential, and rightly so."""
    values, labels = points(apart=4.0, seed=seed)
    flipped = int(np.argmin(np.abs(values - [4.0, 0.0]).sum(1)))  # the point in the middle of its blob
    labels = labels.copy()
    labels[flipped] = 1 - labels[flipped]
    torch.manual_seed(seed)
    model = network()
    trained(model, values, labels, seed)
    for scores in influences(model, values, labels):
        assert int(np.argmax(scores)) == flipped
