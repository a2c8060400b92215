"""The closed form of a head is used where the head is linear on every batch, and only there."""

from __future__ import annotations

import types

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from scoring.curvature.chosen_parameters import choose
from scoring.curvature.hessian import HeadProducts, hessian_products
from scoring.gradients.plain_autograd import differentiable

from .nets import exact_hessian, flat, vector_like


class Cosine(nn.Linear):
    def forward(self, x):
        return 4 * F.linear(F.normalize(x), F.normalize(self.weight), self.bias)


class Own(nn.Module):
    """A linear layer written by hand: it is no nn.Linear, and is one."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 5))

    def forward(self, input):
        return input @ self.weight.T


class Scaled(nn.Linear):
    """Logits at a temperature that some examples have."""

    def forward(self, x):
        return super().forward(x) * torch.where(x[:, :1] > 0.3, 0.5, 1.0)


class Body(nn.Sequential):
    """A body and a head; ``hook`` sees the head before it is used."""

    def __init__(self, head, hook=lambda head: None):
        super().__init__(nn.Linear(4, 5), nn.Tanh(), head)
        hook(head)


class Tied(Body):
    """The head's weight is used in the body too, as a function."""

    def forward(self, x):
        h = self[1](self[0](x))
        return self[2](torch.tanh(h @ self[2].weight.T) @ self[2].weight)


class Keyword(Body):
    def forward(self, x):
        return self[2](input=self[1](self[0](x)))


def patched(head):
    head.forward = types.MethodType(lambda self, x: F.linear(x, self.weight**2, self.bias), head)


def hooked(head):
    head.register_forward_hook(lambda module, args, output: output * 2)


def early(head):
    head.register_forward_pre_hook(lambda module, args: (args[0] * 2,))


CASES = {
    "plain": (lambda: Body(nn.Linear(5, 3)), True),
    "no bias": (lambda: Body(nn.Linear(5, 3, bias=False)), True),
    "by hand": (lambda: Body(Own()), True),
    "by keyword": (lambda: Keyword(nn.Linear(5, 3)), True),
    "pre-hook": (lambda: Body(nn.Linear(5, 3), early), None),
    "cosine": (lambda: Body(Cosine(5, 3)), False),
    "some scaled": (lambda: Body(Scaled(5, 3)), False),
    "patched": (lambda: Body(nn.Linear(5, 3), patched), False),
    "hooked": (lambda: Body(nn.Linear(5, 3), hooked), False),
    "tied": (lambda: Tied(nn.Linear(5, 3)), False),
    "squashed": (lambda: Body(nn.Linear(5, 3)).append(nn.Softsign()), False),
}


def case(name: str) -> tuple[nn.Module, list]:
    torch.manual_seed(0)
    model = CASES[name][0]().double()
    x, y = torch.randn(30, 4).double(), torch.randint(0, 3, (30,))
    order = model[1](model[0](x))[:, 0].argsort() if name == "some scaled" else torch.arange(30)
    return model, list(zip(x[order].split(10), y[order].split(10), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_a_head_has_the_hessian_of_what_it_computes_whatever_its_type(name):
    model, data = case(name)
    chosen = choose(model, "2")
    vector = vector_like(chosen.tensors)
    with differentiable(model, chosen.tensors):
        products = hessian_products(model, data, chosen, loss=F.cross_entropy)
        found = flat(products(vector))
    np.testing.assert_allclose(found, exact_hessian(model, data, list(chosen.parameters)) @ flat(vector), atol=1e-12)
    if CASES[name][1] is not None:
        assert isinstance(products, HeadProducts) == CASES[name][1]


class Louder(nn.CrossEntropyLoss):
    def forward(self, logits, labels):
        return 3 * super().forward(logits, labels)


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(ignore_index=1), Louder()])
def test_a_cross_entropy_with_ignored_classes_or_of_another_make_has_its_own_hessian(loss):
    model, data = case("plain")
    chosen = choose(model, "2")
    vector = vector_like(chosen.tensors)
    with differentiable(model, chosen.tensors):
        found = flat(hessian_products(model, data, chosen, loss=loss)(vector))
    loss.reduction = "none"
    exact = exact_hessian(model, data, list(chosen.parameters), lambda z, y: loss(z, y).mean()) @ flat(vector)
    np.testing.assert_allclose(found, exact, atol=1e-12)
