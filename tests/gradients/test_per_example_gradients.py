"""Per-example gradients, vectorised and one at a time, against ordinary autograd in float64 with every
example in company.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from scoring.audit.errors import HardlookError
from scoring.gradients import per_example_gradients
from scoring.gradients.parameter_gradient_norms import gradient_norm
from scoring.gradients.per_example_gradients import agree, draw_sample
from scoring.influence.projector import Projector

from ..nets import picture, unchanged

CLASSES = 3
LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0])


class Tokens(nn.Module):
    """A convolution and a norm, whose pixels become tokens: the norm's output gradient has its channels
    innermost.
    """

    def __init__(self, norm: nn.Module):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(2, 6, 3, padding=1), norm
        self.mix, self.head = nn.Linear(6, 6), nn.Linear(6, CLASSES)

    def forward(self, x):
        tokens = self.norm(self.stem(x)).flatten(2).transpose(1, 2)
        return self.head(self.mix(tokens).tanh().mean(1))


class Used(nn.Module):
    """A weight that is used without a call of its layer, so that only a pass of the whole model gives its
    gradient.
    """

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net, self.shift = net, nn.Parameter(torch.randn(CLASSES))

    def forward(self, x):
        return self.net(x) + self.shift


class Stubborn(Tokens):
    """Looks at a number, which vmap refuses."""

    def forward(self, x):
        return super().forward(x) * (1.0 if x.sum().item() < 1e9 else 2.0)


class Squeezing(Tokens):
    """Squeezes a batch of one."""

    def forward(self, x):
        return super().forward(x).squeeze()


class Company(Tokens):
    """Refuses a batch of one, and does not say why."""

    def forward(self, x):
        if len(x) < 2:
            raise AssertionError  # as a plain `assert` raises it outside pytest, which adds a text
        return super().forward(x)


class Tied(nn.Module):
    """One weight under two names, used twice."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, CLASSES)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.head(self.second(self.first(x).tanh()).tanh())


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(5, 4), nn.Linear(4, CLASSES)

    def forward(self, x):
        return self.head(self.body(x).tanh())


def wrapped():
    """The forward belongs to another object, which holds the same weights."""
    torch.manual_seed(0)
    inner, outer = Small(), Small()
    outer.body, outer.head = nn.Linear(5, 4), nn.Linear(4, CLASSES)
    for mine, theirs in ((outer.body, inner.body), (outer.head, inner.head)):
        mine.weight, mine.bias = theirs.weight, theirs.bias
    outer.forward = inner.forward
    return outer


def norm(kind):
    found = kind(6) if kind is nn.BatchNorm2d else kind(6, affine=True)
    if found.running_var is not None:
        found.running_var.uniform_(0.5, 1.5)
    return found


CASES = {
    "batch norm": (lambda: Tokens(norm(nn.BatchNorm2d)), (2, 4, 4), False),
    "instance norm": (lambda: Tokens(norm(nn.InstanceNorm2d)), (2, 4, 4), False),
    "a shift of the model's own": (lambda: Used(Tokens(norm(nn.BatchNorm2d))), (2, 4, 4), False),
    "a number is looked at, batch norm": (lambda: Stubborn(norm(nn.BatchNorm2d)), (2, 4, 4), True),
    "a number is looked at, instance norm": (lambda: Stubborn(norm(nn.InstanceNorm2d)), (2, 4, 4), True),
    "a batch of one refused without a word": (lambda: Company(norm(nn.BatchNorm2d)), (2, 4, 4), True),
    "a squeezed batch": (lambda: Squeezing(norm(nn.BatchNorm2d)), (2, 4, 4), True),
    "tied": (Tied, (5,), False),
    "another object's forward": (wrapped, (5,), True),
}


def made(name):
    torch.manual_seed(0)
    make, shape, alone = CASES[name]
    model, x = make().double().eval(), torch.randn(7, *shape, dtype=torch.double)
    return model, x, alone


def naive(model, x, labels):
    """Each example's gradients, by name, with the example twice in its batch."""
    model.eval()
    parameters = dict(model.named_parameters())
    rows = []
    for i in range(len(labels)):
        loss = F.cross_entropy(model(x[[i, i]]), labels[[i, i]])
        rows.append(dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True)))
    return rows


def lengths(rows):
    return np.array([float(torch.cat([g.flatten() for g in row.values()]).norm()) for row in rows])


@pytest.mark.parametrize("memory", [per_example_gradients.MEMORY, 1])
@pytest.mark.parametrize("n", [7, 3, 1])
@pytest.mark.parametrize("name", CASES)
def test_the_length_over_all_layers_is_autograds_for_any_number_of_examples(name, n, memory, monkeypatch):
    monkeypatch.setattr(per_example_gradients, "MEMORY", memory)
    model, x, alone = made(name)
    wanted, told, before = lengths(naive(model, x[:n], LABELS[:n])), [], picture(model)
    np.testing.assert_allclose(gradient_norm(model, x[:n], LABELS[:n], note=told.append), wanted, rtol=1e-9)
    assert len(told) == alone and unchanged(before, picture(model))


@pytest.mark.parametrize("n", [7, 3, 1])
@pytest.mark.parametrize("name", CASES)
def test_an_embedding_is_autograds_for_any_number_of_examples(name, n):
    model, x, _ = made(name)
    drawn = torch.Generator().manual_seed(5)
    blocks = {key: torch.randn(9, *p.shape, generator=drawn, dtype=p.dtype) for key, p in model.named_parameters()}
    wanted = torch.stack(
        [sum(blocks[key].flatten(1) @ g.flatten() for key, g in row.items()) for row in naive(model, x[:n], LABELS[:n])]
    )
    before = picture(model)
    torch.testing.assert_close(Projector(model, blocks, F.cross_entropy)(x[:n], LABELS[:n]), wanted)
    assert unchanged(before, picture(model))


def test_a_model_without_gradients_is_refused():
    with pytest.raises(HardlookError, match="no parameter that requires a gradient"):
        gradient_norm(nn.Linear(2, 3).requires_grad_(False), torch.randn(4, 2), torch.zeros(4, dtype=torch.long))


def test_a_length_that_is_not_finite_is_refused_with_the_example():
    model, x = nn.Linear(5, 3), torch.zeros(6, 5)
    nn.init.zeros_(model.weight)
    x[4] = float("inf")
    with pytest.raises(HardlookError, match="example 4"):
        gradient_norm(model, x, torch.tensor([0, 1, 2, 0, 1, 2]))


def test_a_sample_weighs_a_sure_example_as_much_as_one_that_is_wrong():
    torch.manual_seed(0)
    model = nn.Linear(3, CLASSES, bias=False).double()
    x, labels = torch.eye(3, dtype=torch.double).repeat(3, 1)[:8], torch.zeros(8, dtype=torch.long)
    x = x * torch.tensor([20.0, 1, 1, 20, 1, 1, 20, 1], dtype=torch.double)[:, None]  # three of them are sure
    with torch.no_grad():
        model.weight[0, 0] += 3
    parameters = dict(model.named_parameters())
    sample = draw_sample(model, F.cross_entropy, x, labels, parameters, torch.Generator().manual_seed(1))
    for row, weight in zip(sample.rows.tolist(), sample.weights, strict=True):
        p = model(x[row]).softmax(0).detach()
        error = torch.cat([-p[1:].sum()[None], p[1:]])  # p(label) − 1 would be 0
        assert float(weight.abs() * error.norm()) == pytest.approx(1, rel=1e-6)
    assert len(sample.rows) == 4


def test_gradients_agree_by_name_and_noise_beside_the_largest_does_not_count():
    one = {"large": torch.ones(4), "noise": torch.full((2,), 1e-9)}
    assert agree({**one, "noise": torch.zeros(2)}, one) and agree(one, one)
    assert not agree({**one, "large": torch.ones(4) * 1.01}, one)
    assert not agree({"large": torch.full((4,), float("nan"))}, one)
