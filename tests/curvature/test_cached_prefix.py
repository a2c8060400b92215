"""What runs below the first chosen layer runs once, and changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from scoring.curvature.cached_prefix import Prefix
from scoring.curvature.chosen_parameters import choose
from scoring.curvature.hessian import hessian_products
from scoring.gradients.plain_autograd import differentiable
from scoring.influence import InfluenceFactors

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
    assert "recomputed" in products.method
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


def test_a_batch_is_recorded_without_parameters_where_gradients_are_on():
    model, data = small_net(), small_data()
    x, _ = data[0]
    with differentiable(model, list(model.head.parameters())):
        prefix = Prefix.find(model, list(model.head.parameters()), x)
        with prefix.replay(prefix.record(model, x)) as inputs:
            torch.testing.assert_close(model(inputs), model(x))


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
    np.testing.assert_allclose(
        found, exact_hessian(model, data, ["head.weight", "head.bias"]) @ flat(vector), atol=1e-12
    )


# -- what the first examples do not use ----------------------------------------------------------------------


class Gated(nn.Module):
    """A gate on the inputs above a stem: it is closed for every example whose first input is not negative."""

    def __init__(self):
        super().__init__()
        self.stem, self.other, self.last, self.head = (nn.Linear(*size) for size in ((6, 9), (6, 9), (9, 9), (9, 3)))

    def forward(self, x):
        return self.head(torch.tanh(self.last(self.lower(x))))

    def lower(self, x):
        h = torch.tanh(self.stem(x))
        return torch.where(x[:, :1] < 0, -h, h)


class Routed(Gated):
    """Two experts, of which an argmax over a third module takes one for each example."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(1, 2, bias=False)
        nn.init.constant_(self.gate.weight[:1], 1.0)
        nn.init.constant_(self.gate.weight[1:], -1.0)

    def lower(self, x):
        first = self.gate(x[:, :1]).argmax(1, keepdim=True) == 0
        return torch.where(first, torch.tanh(self.stem(x)), torch.tanh(self.other(x)))


class Skipping(Gated):
    """An expert that runs only where some example of the batch goes there."""

    def lower(self, x):
        h, there = torch.tanh(self.stem(x)), x[:, 0] < 0
        return h if not there.any() else torch.where(there[:, None], self.other(x), h)


class Twice(Gated):
    """A module that runs once more where some example asks for it, on its own output."""

    def __init__(self):
        super().__init__()
        self.again = nn.Linear(9, 9)

    def lower(self, x):
        h = self.again(torch.tanh(self.stem(x)))
        return torch.where(x[:, :1] < 0, self.again(h), h) if (x[:, 0] < 0).any() else h


class Shared(Gated):
    """One output below is used in two places, and written into in one of them; hooks change what modules give."""

    def __init__(self):
        super().__init__()
        self.act = nn.ReLU(inplace=True)
        self.stem.register_forward_hook(lambda module, args, output: output * 1.5)
        self.other.register_forward_pre_hook(lambda module, args: (args[0] + 1,))

    def lower(self, x):
        h = self.stem(x)
        return self.act(h) * h + self.other(x)


class Stateful(Gated):
    """A module below whose output depends on how often it ran since the model started on its batch."""

    def __init__(self):
        super().__init__()
        self.count = Count()

    def lower(self, x):
        self.count.calls = 0
        h = self.count(torch.tanh(self.stem(x)))
        return torch.where(x[:, :1] < 0, h * self.count.calls * 2, h)


class Count(nn.Module):
    calls = 0

    def forward(self, x):
        self.calls += 1
        return x + self.calls


class HeadBelow(Gated):
    """The head's weight is also used, as a function, by a module that finishes before the head."""

    def __init__(self):
        super().__init__()
        self.echo = Echo([self.head])

    def lower(self, x):
        return self.echo(torch.tanh(self.stem(x)))


class Echo(nn.Module):
    def __init__(self, heads):
        super().__init__()
        self.heads = heads  # in a list: no submodule

    def forward(self, h):
        return torch.tanh(h @ self.heads[0].weight.T) @ self.heads[0].weight


class Offset(Gated):
    """A gate on the inputs adds to the logits: they change, their gradient by the head does not."""

    def forward(self, x):
        plain = self.head(torch.tanh(self.last(torch.tanh(self.stem(x)))))
        return torch.where(x[:, :1] < 0, plain + 3 * x[:, 1:4], plain)


class Patched(Gated):
    """Modules below with forwards of their own on the instance, which the upper part must not lose."""

    def __init__(self):
        super().__init__()
        old = self.stem.forward
        self.stem.forward = lambda x: 2 * old(x)
        self.last.forward = lambda x: F.linear(x, self.last.weight * 3, self.last.bias)


class ZeroHead(Gated):
    """A head of zeros: the logits do not show what the features are, their gradient does."""

    def __init__(self):
        super().__init__()
        nn.init.zeros_(self.head.weight)


class Padded(nn.Module):
    """Tokens with padding id 1: the mask is taken from the inputs, above the embedding."""

    def __init__(self):
        super().__init__()
        self.embed, self.last, self.head = nn.Embedding(30, 9), nn.Linear(9, 9), nn.Linear(9, 3)

    def forward(self, ids):
        h, keep = self.embed(ids), (ids != 1).to(self.last.weight.dtype)[..., None]
        return self.head(torch.tanh(self.last((h * keep).sum(1) / keep.sum(1))))


def sorted_batches(make) -> list:
    """Batches whose first eight examples use less of the model than later ones do."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 6, generator=generator).double()
    x[:, 0] = x[:, 0].abs()
    x[12:, 0] *= -1
    if make is Padded:
        x = torch.randint(2, 30, (40, 10), generator=generator)
        x[12:, 4:] = 1
    y = torch.randint(0, 3, (40,), generator=generator)
    return list(zip(x.split(10), y.split(10), strict=True))


@pytest.mark.parametrize("budget", [2**31, 50_000])
@pytest.mark.parametrize("layers", [["last", "head"], ["head"]])
@pytest.mark.parametrize(
    "make", [Gated, Routed, Skipping, Twice, Shared, Stateful, HeadBelow, Offset, Patched, ZeroHead, Padded]
)
def test_a_prefix_holds_for_every_example_or_is_given_up(make, layers, budget):
    torch.manual_seed(0)
    model, data = make().double(), sorted_batches(make)
    chosen = choose(model, layers)
    vector = vector_like(chosen.tensors)
    with differentiable(model, chosen.tensors):
        found = flat(hessian_products(model, data, chosen, loss=F.cross_entropy, memory_budget=budget)(vector))
    exact = exact_hessian(model, data, list(chosen.parameters)) @ flat(vector)
    np.testing.assert_allclose(found, exact, atol=1e-12)


@pytest.mark.parametrize("make, says", [(Gated, "all of their outputs are kept in memory"), (Twice, "run again")])
def test_a_prefix_that_is_given_up_is_said(make, says):
    torch.manual_seed(0)
    model, data = make().double(), sorted_batches(make)
    report = InfluenceFactors.fit(model, data, layers=["last", "head"], arnoldi_dim=5, rank=3).report
    assert any(says in note for note in report.notes)
