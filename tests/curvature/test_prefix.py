"""What runs below the first chosen layer runs once, and changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from scoring.curvature.hessian import hessian_products
from scoring.curvature.parameters import choose, differentiable
from scoring.curvature.prefix import Prefix

from .nets import exact_hessian, flat, small_data, small_net, vector_like


def test_the_part_below_the_first_chosen_layer_runs_once():
    model, data = small_net(), small_data()
    runs = []
    model.first.register_forward_hook(lambda *_: runs.append(1))
    chosen = choose(model, "second")
    with differentiable(model, chosen.tensors):
        products = hessian_products(model, data, chosen, loss=F.cross_entropy, memory_budget=40_000)
        before = len(runs)
        products(vector_like(chosen.tensors))
    assert "recomputed" in products.way
    assert len(runs) == before + len(data)  # hooks still fire on the replayed outputs
    assert products.prefix.needed == (
        False,
        True,
    )  # of the two layers below, only the upper one's output matters


def test_a_prefix_gives_the_same_outputs_and_leaves_the_model_as_it_was():
    model, data = small_net(), small_data()
    x, _ = data[0]
    with differentiable(model), torch.no_grad():
        expected = model(x)
        prefix = Prefix.find(model, list(model.head.parameters()), x)
        recorded = prefix.record(model, x)
        with prefix.replay(recorded) as inputs:
            torch.testing.assert_close(model(inputs), expected)
    assert not prefix.inputs_needed
    assert recorded.bytes < x.nbytes + expected.nbytes + 16 * len(x) * 8
    assert all("forward" not in vars(module) for module in model.modules())


class Twins(nn.Module):
    """Two layers of the same weights, of which either stands in for the other: alone, neither matters."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.head = nn.Linear(4, 5), nn.Linear(4, 5), nn.Linear(5, 3)
        self.two.load_state_dict(self.one.state_dict())

    def forward(self, x):
        one, two = self.one(x), self.two(x)
        return self.head(torch.where(one.isnan(), two, one)).tanh()


class Shortcut(nn.Module):
    """The inputs reach the chosen layer beside what lies below it."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.body(x).tanh() + x).tanh()


@pytest.mark.parametrize("make, needed, inputs_needed", [(Twins, (True, True), True), (Shortcut, (True,), True)])
def test_what_matters_only_together_or_beside_the_modules_is_kept(make, needed, inputs_needed):
    torch.manual_seed(0)
    model, data = make().double(), [(torch.randn(6, 4).double(), torch.randint(0, 3, (6,)))]
    chosen = choose(model, "head")
    vector = vector_like(chosen.tensors)
    with differentiable(model, chosen.tensors):
        products = hessian_products(model, data, chosen, loss=F.cross_entropy, memory_budget=0)
        found = flat(products(vector))
    assert (products.prefix.needed, products.prefix.inputs_needed) == (needed, inputs_needed)
    np.testing.assert_allclose(found, exact_hessian(model, data, ["head.weight", "head.bias"]) @ flat(vector), atol=1e-12)
