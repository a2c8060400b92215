"""Influence over models whose forward cuts the graph below the head, or runs it in inference mode."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from scoring.audit.errors import HardlookError
from scoring.curvature import head_hessian
from scoring.influence import InfluenceFactors


class Probe(nn.Module):
    """A linear head on a backbone that gets no gradient."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 5))
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        return self.head(self.features(x))

    def features(self, x):
        with torch.no_grad():
            return self.backbone(x)


class Inferred(Probe):
    def features(self, x):
        with torch.inference_mode():
            return self.backbone(x)


class Decorated(Probe):
    @torch.inference_mode()
    def features(self, x):
        return self.backbone(x)


class Detached(Probe):
    def features(self, x):
        return self.backbone(x).detach()


class Teacher(Probe):
    """The head runs a second time without gradients, as a teacher does."""

    def forward(self, x):
        with torch.inference_mode():
            self.head(self.backbone(x))
        return super().forward(x)


KINDS = [Probe, Inferred, Decorated, Detached, Teacher]


def case(kind) -> tuple[nn.Module, list]:
    torch.manual_seed(0)
    x, y = torch.randn(40, 6).double(), torch.randint(0, 3, (40,))
    return kind().double(), list(zip(x.split(10), y.split(10), strict=True))


def closed_form(model: nn.Module, data: list) -> np.ndarray:
    """Gᵀ H⁻¹ G of the head, by algebra."""
    x, y = (torch.cat(parts) for parts in zip(*data, strict=True))
    with torch.no_grad():
        features = model.backbone(x).numpy()
        p = model.head(model.backbone(x)).softmax(1).numpy()
    hessian, errors = head_hessian(features, p, l2=0.1).mean, p - np.eye(3)[y.numpy()]
    g = (errors[:, :, None] * np.hstack([features, np.ones((40, 1))])[:, None, :]).reshape(40, -1)
    return g @ np.linalg.pinv(hessian, rcond=1e-9) @ g.T


@pytest.mark.parametrize("layers", [["head"], None, "*"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_head_of_a_frozen_backbone_has_the_influence_of_the_closed_form(kind, layers):
    model, data = case(kind)
    factors = InfluenceFactors.fit(model, data, layers=layers, l2=0.1, floor=1e-9)
    found, expected = factors.embed(model, data), closed_form(model, data)
    np.testing.assert_allclose(found @ found.T, expected, atol=1e-5 * np.abs(expected).max())
    assert set(factors.blocks) == {"head.weight", "head.bias"}
    left_out = [note for note in factors.report.notes if "no gradient with respect to backbone" in note]
    assert bool(left_out) == (layers != ["head"])
    assert "head" in factors.report.layers or layers == "*"


@pytest.mark.parametrize("kind", KINDS)
def test_only_layers_without_any_gradient_are_refused(kind):
    model, data = case(kind)
    with pytest.raises(HardlookError, match="no gradient with respect to any weight of backbone.0, backbone.2"):
        InfluenceFactors.fit(model, data, layers="backbone")


def test_a_layer_that_only_later_examples_use_is_kept_and_one_that_none_uses_is_left_out():
    class Routed(Probe):
        def __init__(self):
            super().__init__()
            self.late, self.never = nn.Linear(5, 5), nn.Linear(5, 5)

        def forward(self, x):
            h, late = self.backbone(x), x[:, :1] > 0
            return self.head(torch.where(late, self.late(h), h) if late.any() else h)

    model, data = case(Routed)
    data = [(-data[0][0].abs(), data[0][1]), *data[1:]]
    factors = InfluenceFactors.fit(model, data, layers=["late", "never", "head"], arnoldi_dim=8, rank=4)
    assert set(factors.blocks) == {"late.weight", "late.bias", "head.weight", "head.bias"}
    assert factors.report.layers == ("late", "head")
    assert any("no gradient with respect to never" in note for note in factors.report.notes)


def test_inputs_made_in_inference_mode_are_copied():
    model, data = case(Probe)
    with torch.inference_mode():
        copies = [(x.clone(), y) for x, y in data]
    plain, other = (
        InfluenceFactors.fit(model, batches, layers=["head"], rank=5).embed(model, batches)
        for batches in (data, copies)
    )
    np.testing.assert_array_equal(plain, other)
