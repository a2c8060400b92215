"""A model comes back from every influence and curvature function to the bit, also where one raises in the middle."""

from __future__ import annotations

import types

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from scoring.curvature.chosen_parameters import choose
from scoring.curvature.hessian import hessian_products
from scoring.gradients.plain_autograd import differentiable
from scoring.influence import InfluenceFactors
from scoring.models.snapshot import given_back

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")


class Stateful(nn.Module):
    """Writes on itself in each forward pass: a counter, a list, a plain tensor, a nested table and a buffer."""

    def __init__(self):
        super().__init__()
        self.calls, self.seen, self.mean, self.stats = 0, [], torch.zeros(8), {"shapes": []}
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        self.seen.append(x.shape)
        self.mean.add_(x.detach().mean())
        self.stats["shapes"].append(tuple(x.shape))
        self.steps += 1
        self.last = x
        return x


def patched() -> nn.Sequential:
    """Lower and upper layers with forwards of their own, hooks, an old weight norm, frozen and trained parts."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), Stateful(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))
    model[1].forward = types.MethodType(lambda self, x: 3 * torch.tanh(x), model[1])
    old = model[0].forward  # as accelerate's hooks do
    model[0]._old_forward, model[0].forward = old, lambda x: old(x) + 1
    model[4].forward = lambda x: torch.tanh(x) / 2
    model[3].register_forward_hook(lambda module, args, output: output * 1.5)
    model[0].register_forward_pre_hook(lambda module, args: (args[0] * 2,))
    model[5] = nn.utils.weight_norm(model[5])
    model[0].weight.requires_grad_(False)
    F.cross_entropy(model(torch.randn(4, 6)), torch.arange(4) % 3).backward()
    return model.train()


def state(model: nn.Module) -> list:
    """Everything that can be seen of a model: objects by identity, tensors by identity and value, in order."""
    found = []
    for module in model.modules():
        for name, value in vars(module).items():
            found.append((name, id(value), _inside(value)))
    for parameter in model.parameters():
        gradient = parameter.grad
        found.append(
            (parameter.requires_grad, id(gradient), None if gradient is None else gradient.tolist(), parameter.tolist())
        )
    return found


def _inside(value):
    if isinstance(value, dict):
        return [(key, id(held), _inside(held)) for key, held in value.items()]
    if isinstance(value, list):
        return [_inside(held) for held in value]
    return value.tolist() if isinstance(value, torch.Tensor) else repr(value)


def data() -> list:
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(10, 6, generator=generator), torch.arange(10) % 3) for _ in range(2)]


def products(model):
    chosen = choose(model, ["3", "5"])
    with differentiable(model, chosen.tensors):
        found = hessian_products(model, data(), chosen, loss=F.cross_entropy)
        return found([torch.ones_like(p) for p in chosen.tensors])


USES = {
    "fit": lambda model: InfluenceFactors.fit(model, data(), layers=["3"], arnoldi_dim=6, rank=3),
    "fit of the default layers": lambda model: InfluenceFactors.fit(model, data(), layers=None, arnoldi_dim=6, rank=3),
    "fit and embed": lambda model: InfluenceFactors.fit(model, data(), layers=["3"], arnoldi_dim=6, rank=3).embed(
        model, data()
    ),
    "choose": lambda model: choose(model, None, data()[0][0]),
    "products": products,
}


@pytest.mark.parametrize("use", USES)
def test_the_model_is_given_back_to_the_bit(use):
    model = patched()
    before = state(model)
    USES[use](model)
    assert state(model) == before


@pytest.mark.parametrize("at", [1, 2, 3, 5, 8, 13, 21])
def test_the_model_is_given_back_to_the_bit_where_a_pass_raises_in_the_middle(at):
    model, calls = patched(), []

    def forward(x):
        calls.append(1)
        if len(calls) == at:
            raise MemoryError("in the middle")
        return torch.tanh(x) / 2

    model[4].forward = forward
    before = state(model)
    with pytest.raises(MemoryError):
        InfluenceFactors.fit(model, data(), layers=["3"], arnoldi_dim=60, rank=3, memory_budget=50_000).embed(
            model, data()
        )
    assert state(model) == before


def test_what_was_taken_away_comes_back_in_its_order():
    model = patched()
    before = state(model)
    with given_back(model):
        del model[1].forward
        del model[0]._old_forward
        model[3]._forward_hooks.clear()
        model[2].add_module("more", nn.Linear(1, 1))
        model[2].stats["more"] = 1
    assert state(model) == before
