"""Layers of other libraries and of one's own, embedded in whatever way proves itself, against naive autograd
in float64.
"""

from __future__ import annotations

import copy
import operator

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from scoring.influence import InfluenceFactors, layer_replay, layer_rules
from scoring.influence.projector import Projector
from scoring.models.eval_mode import mapped, outputs

from .test_layer_rules import LABELS, Pooled, columns, with_statistics


def naive(model, blocks, inputs, labels=LABELS):
    """M applied to each example's gradient by ordinary autograd, the example sent twice."""
    model.eval()
    parameters = [dict(model.named_parameters())[name] for name in blocks]
    rows = []
    for i in range(len(labels)):
        loss = F.cross_entropy(outputs(model, mapped(inputs, lambda t: t[[i, i]])), labels[[i, i]])
        found = torch.autograd.grad(loss, parameters, materialize_grads=True, allow_unused=True)
        rows.append(sum(b.flatten(1) @ g.flatten() for b, g in zip(blocks.values(), found, strict=True)))
    return torch.stack(rows)


class Halved(nn.Linear):
    """A layer whose maths is not its parent's."""

    def forward(self, x):
        return F.linear(x, self.weight / 2, self.bias)


class Same(nn.Linear):
    """A layer that writes its parent's maths in its own words."""

    def forward(self, x):
        return x @ self.weight.T + self.bias


class Detached(nn.Linear):
    """The outputs of its parent, and another gradient."""

    def forward(self, x):
        return F.linear(x, (self.weight + self.weight.detach()) / 2, self.bias)


class Adapted(nn.Linear):
    """Low-rank factors beside a weight, in one layer."""

    def __init__(self, *size):
        super().__init__(*size)
        self.down, self.up = nn.Parameter(torch.randn(2, size[0])), nn.Parameter(torch.zeros(size[1], 2))

    def forward(self, x):
        return super().forward(x) + x @ self.down.T @ self.up.T


class Named(nn.Linear):
    """Takes its input by name, and returns a tuple."""

    def forward(self, *, hidden):
        return super().forward(hidden), None


class Calls(nn.Module):
    """Calls such a layer."""

    def __init__(self):
        super().__init__()
        self.inner = Named(5, 4)

    def forward(self, x):
        return self.inner(hidden=x)[0]


class Scale(nn.Module):
    """A gain per channel."""

    def __init__(self, *shape):
        super().__init__()
        self.gain = nn.Parameter(torch.randn(*shape))

    def forward(self, x):
        return x * self.gain


class Windows(nn.Module):
    """Linear and a norm over windows of each example, folded into the first axis."""

    def __init__(self):
        super().__init__()
        self.linear, self.norm, self.conv = nn.Linear(5, 4), nn.LayerNorm(4), nn.Conv1d(4, 4, 1)
        self.scale = Scale(1, 1, 4)

    def forward(self, x):  # (n, 6, 5) in three windows of two
        y = self.norm(self.linear(x.reshape(-1, 2, 5)))
        y = self.scale(self.conv(y.transpose(1, 2)).transpose(1, 2).tanh())
        return y.reshape(len(x), 6, 4)


class Tuples(nn.Module):
    """A list of parameters and a dictionary of them."""

    def __init__(self):
        super().__init__()
        self.gains = nn.ParameterList([torch.randn(5), torch.randn(5)])
        self.named = nn.ParameterDict({"shift": torch.randn(5)})

    def forward(self, x):
        return x * self.gains[0] * self.gains[1] + self.named["shift"]


class TwoOutputs(nn.Module):
    """Its second output is used too, so that a replay of the first is not all of its gradient."""

    def __init__(self):
        super().__init__()
        self.inner = Pair()

    def forward(self, x):
        one, other = self.inner(x)
        return one + other


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.randn(5))

    def forward(self, x):
        return x * self.gain, (x * self.gain).sin()


def patched(layer):
    """A forward of the instance's own."""
    layer.forward = lambda x: F.linear(2 * x, layer.weight, layer.bias)
    return layer


def hooked(layer):
    """A hook that changes what comes out."""
    layer.register_forward_hook(lambda module, given, output: 3 * output)
    return layer


def timm_layer(name, *args, **kwargs):
    def make():
        from timm import layers

        return operator.attrgetter(name)(layers)(*args, **kwargs)

    return make


def lora():
    from peft import LoraConfig, get_peft_model

    net = get_peft_model(nn.Sequential(nn.Linear(5, 4)), LoraConfig(target_modules=["0"], r=2))
    for parameter in net.parameters():
        parameter.requires_grad_()
    return net


CASES = {  # layer, shape of an example, width, channels last, way of the layers that own something
    "own words": (lambda: Same(5, 4), (7, 5), 4, True, {"rule"}),
    "other maths": (lambda: Halved(5, 4), (7, 5), 4, True, {"replay"}),
    "other gradient": (lambda: Detached(5, 4), (7, 5), 4, True, {"replay"}),
    "low-rank factors inside": (lambda: Adapted(5, 4), (7, 5), 4, True, {"replay"}),
    "input by name, output in a tuple": (Calls, (7, 5), 4, True, {"replay"}),
    "patched": (lambda: patched(nn.Linear(5, 4)), (5,), 4, True, {"replay"}),
    "hooked": (lambda: hooked(nn.Linear(5, 4)), (5,), 4, True, {"replay"}),
    "weight norm": (
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(5, 4)),
        (5,),
        4,
        True,
        {"replay"},
    ),
    "spectral norm": (
        lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(5, 4)),
        (5,),
        4,
        True,
        {"replay"},
    ),
    "weight norm of old": (lambda: torch.nn.utils.weight_norm(nn.Linear(5, 4)), (5,), 4, True, {"replay"}),
    "scale": (lambda: Scale(5), (7, 5), 5, True, {"replay"}),
    "scale of a grid": (lambda: Scale(5, 1, 1), (5, 4, 4), 5, False, {"replay"}),
    "windows": (Windows, (6, 5), 4, True, {"rule", "replay"}),
    "lists of parameters": (Tuples, (5,), 5, True, {"replay"}),
    "two outputs": (TwoOutputs, (5,), 5, True, {"vectorised"}),
    "transposed convolution": (
        lambda: nn.ConvTranspose2d(4, 6, 3, stride=2),
        (4, 5, 5),
        6,
        False,
        {"replay"},
    ),
    "instance norm": (lambda: nn.InstanceNorm2d(4, affine=True), (4, 5, 5), 4, False, {"replay"}),
    "synchronised batch norm": (lambda: with_statistics(nn.SyncBatchNorm(4)), (4, 5, 5), 4, False, {"rule"}),
    "bilinear": (lambda: Twice(nn.Bilinear(5, 5, 4)), (5,), 4, True, {"replay"}),
    "LSTM": (lambda: First(nn.LSTM(5, 4, batch_first=True)), (7, 5), 4, True, {"one at a time"}),
    "RMS norm": (lambda: nn.RMSNorm(5), (7, 5), 5, True, {"replay"}),
    "PReLU": (lambda: nn.PReLU(4), (4, 5, 5), 4, False, {"replay"}),
    "timm LayerNorm": (timm_layer("LayerNorm", 5), (7, 5), 5, True, {"rule"}),
    "timm LayerNorm2d": (timm_layer("LayerNorm2d", 4), (4, 5, 5), 4, False, {"replay"}),
    "timm LayerScale": (timm_layer("LayerScale", 5, init_values=0.3), (7, 5), 5, True, {"replay"}),
    "timm StdConv2d": (timm_layer("StdConv2d", 4, 6, 3), (4, 6, 6), 6, False, {"replay"}),
    "timm ScaledStdConv2dSame": (
        timm_layer("ScaledStdConv2dSame", 4, 6, 3, stride=2),
        (4, 7, 7),
        6,
        False,
        {"replay"},
    ),
    "timm Conv2dSame": (timm_layer("Conv2dSame", 4, 6, 3, stride=2), (4, 7, 7), 6, False, {"replay"}),
    "timm GroupNormAct": (timm_layer("GroupNormAct", 4, num_groups=2), (4, 5, 5), 4, False, {"replay"}),
    "timm BatchNormAct2d": (
        lambda: with_statistics(timm_layer("BatchNormAct2d", 4)()),
        (4, 5, 5),
        4,
        False,
        {"replay"},
    ),
    "timm GroupNorm1": (timm_layer("GroupNorm1", 4), (4, 5, 5), 4, False, {"rule"}),
    "timm GlobalResponseNorm": (timm_layer("grn.GlobalResponseNorm", 4), (5, 5, 4), 4, True, {"replay"}),
    "peft LoRA": (lora, (5,), 4, True, {"rule"}),
}


class Twice(nn.Module):
    """A layer of two inputs."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x, x.cos())


class First(nn.Module):
    """The first output of a layer."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)[0]


@pytest.mark.filterwarnings("ignore")  # what PyTorch says of its old weight norm
@pytest.mark.parametrize("name", CASES)
def test_a_layer_of_any_kind_gives_each_examples_projected_gradient(name, monkeypatch):
    torch.manual_seed(0)
    make, shape, width, channels_last, methods = CASES[name]
    model, x = Pooled(make(), width, channels_last).double(), torch.randn(6, *shape, dtype=torch.double)
    for parameter in model.parameters():
        nn.init.normal_(parameter, 0.2, 0.7)
    blocks = columns(model)
    for memory in (layer_replay.MEMORY, 1):
        monkeypatch.setattr(layer_replay, "MEMORY", memory)
        projector = Projector(model, blocks, F.cross_entropy)
        torch.testing.assert_close(projector(x, LABELS), naive(model, blocks, x))
        assert set(projector.methods.values()) == methods


class Positions(nn.Module):
    """A class token and positions, once for all examples, and weights of a shape that only looks so."""

    def __init__(self, kind: str):
        super().__init__()
        self.kind, self.linear, self.head = kind, nn.Linear(5, 5), nn.Linear(5, 3)
        self.token, self.places = nn.Parameter(torch.randn(1, 1, 5)), nn.Parameter(torch.randn(1, 8, 5))

    def forward(self, x):
        if self.kind == "squeezed":
            return self.head(
                (torch.cat([self.token.expand(len(x), -1, -1), self.linear(x)], 1) + self.places[0]).tanh().mean(1)
            )
        if self.kind == "repeated":
            token = self.token.repeat(len(x), 1, 1)
        else:
            token = self.token.expand(len(x), -1, -1)
        return self.head((torch.cat([token, self.linear(x)], 1) + self.places).tanh().mean(1))


@pytest.mark.parametrize(
    "kind, method", [("expanded", "copied"), ("repeated", "vectorised"), ("squeezed", "vectorised")]
)
def test_parameters_that_stand_once_for_all_examples_are_copied_where_that_is_the_same(kind, method):
    torch.manual_seed(0)
    model, x = Positions(kind).double(), torch.randn(6, 7, 5, dtype=torch.double)
    blocks = columns(model)
    projector = Projector(model, blocks, F.cross_entropy)
    torch.testing.assert_close(projector(x, LABELS), naive(model, blocks, x))
    assert projector.methods[""] == method


class Looking(nn.Module):
    """Another function of inputs of another size: a layer is called from then on in a way of its own."""

    def __init__(self):
        super().__init__()
        self.linear, self.head = nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, x):
        if x.shape[1] > 4:
            return self.head((self.linear(x) + F.linear(x.sin(), self.linear.weight)).tanh().mean(1))
        return self.head(self.linear(x).tanh().mean(1))


def test_every_batch_is_proved_again():
    torch.manual_seed(0)
    model = Looking().double()
    blocks = columns(model)
    projector = Projector(model, blocks, F.cross_entropy)
    for length, method in ((4, "rule"), (6, "vectorised"), (4, "vectorised")):
        x = torch.randn(6, length, 5, dtype=torch.double)
        torch.testing.assert_close(projector(x, LABELS), naive(model, blocks, x))
        assert projector.methods["linear"] == method


def test_one_wrong_example_among_many_is_seen_when_it_is_drawn(monkeypatch):
    """The proof is of a sum over random examples: of 8 it draws 4, so that one wrong share is found within a
    few batches.
    """
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(5, 3)).double(), torch.randn(8, 5, dtype=torch.double)
    labels, blocks = torch.arange(8) % 3, columns(model)
    right = layer_rules.project_linear

    def wrong(layer, x, g, factors):
        found = right(layer, x, g, factors)
        found[3] *= 1.01
        return found

    monkeypatch.setitem(layer_rules.RULES, nn.Linear, wrong)
    projector = Projector(model, blocks, F.cross_entropy)
    for _ in range(6):
        found = projector(x, labels)
    assert projector.methods["0"] == "replay"
    torch.testing.assert_close(found, naive(model, blocks, x, labels))


def test_a_layer_that_loses_its_rule_after_the_fit_is_told_of():
    torch.manual_seed(0)
    model, told = Looking(), []
    y = torch.arange(12) % 3
    factors = InfluenceFactors.fit(model, [(torch.randn(12, 4, 5), y)], layers="*", arnoldi_dim=4, rank=2)
    factors.embed(model, [(torch.randn(12, 4, 5), y)], note=told.append)
    assert told == []
    factors.embed(model, [(torch.randn(12, 6, 5), y)], note=told.append)
    assert told == [
        "no fast embedding rule fits linear: the whole model runs again, vectorised over the examples, which is slower"
    ]


@pytest.mark.parametrize("layers", [None, "*", ["experts.1"]])
def test_experts_that_some_examples_never_reach_and_a_learned_temperature(layers):
    """Against one-at-a-time autograd in float64: an example that reaches no chosen layer has an embedding of zeros."""

    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate, self.head, self.t = nn.Linear(6, 4), nn.Linear(8, 3), nn.Parameter(torch.tensor(1.3))
            self.experts = nn.ModuleList(nn.Linear(6, 8) for _ in range(4))

        def forward(self, x):
            weights, out = self.gate(x).softmax(1), 0
            for at, expert in enumerate(self.experts):
                rows = weights.argmax(1) == at
                if rows.any():
                    one = torch.zeros(len(x), 8, dtype=x.dtype)
                    one[rows] = torch.tanh(expert(x[rows])) * weights[rows, at : at + 1]
                    out = out + one
            return self.head(out) * self.t

    torch.manual_seed(0)
    model, x, y = Experts().eval(), torch.randn(24, 6), torch.arange(24) % 3
    factors = InfluenceFactors.fit(model, [(x, y)], layers=layers, arnoldi_dim=6, rank=3)
    found = factors.embed(model, [(x, y)])
    wide = copy.deepcopy(model).double()
    chosen = {name: parameter for name, parameter in wide.named_parameters() if name in factors.blocks}
    rows = []
    for one, label in zip(x.double(), y, strict=True):
        loss = F.cross_entropy(wide(one[None]), label[None])
        grads = torch.autograd.grad(loss, list(chosen.values()), allow_unused=True, materialize_grads=True)
        rows.append(
            sum(
                factors.blocks[name].double().reshape(factors.rank, -1) @ g.reshape(-1)
                for name, g in zip(chosen, grads, strict=True)
            ).numpy()
        )
    wanted = np.stack(rows) / np.sqrt(factors.eigenvalues)
    np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())
