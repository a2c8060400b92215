"""Every fast embedding rule against the projected gradient of one example at a time, by autograd."""

from __future__ import annotations

from itertools import accumulate

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from scoring.audit.errors import HardlookError
from scoring.curvature.chosen_parameters import choose
from scoring.influence import layer_rules
from scoring.influence.projector import Projector
from scoring.models.eval_mode import mapped, outputs


class Pooled(nn.Module):
    """Any layer, averaged over its positions, under a fixed head of three classes."""

    def __init__(self, layer: nn.Module, width: int, channels_last: bool):
        super().__init__()
        self.layer, self.channels_last = layer, channels_last
        self.register_buffer("out", torch.randn(width, 3))

    def forward(self, x):
        y = self.layer(x).tanh()
        y = y.flatten(1, -2).mean(1) if self.channels_last and y.ndim > 2 else y
        y = y.flatten(2).mean(2) if not self.channels_last and y.ndim > 2 else y
        return y @ self.out


def with_statistics(norm: nn.Module) -> nn.Module:
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    nn.init.normal_(norm.weight)
    return norm


CASES = {
    "linear": (lambda: nn.Linear(5, 4), (5,), 4, True),
    "linear without bias": (lambda: nn.Linear(5, 4, bias=False), (5,), 4, True),
    "linear over a sequence": (lambda: nn.Linear(5, 4), (7, 5), 4, True),
    "linear over a grid": (lambda: nn.Linear(5, 4), (2, 3, 5), 4, True),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, stride=2, dilation=2, padding=2), (4, 11), 6, False),
    "conv1d, circular": (lambda: nn.Conv1d(4, 6, 3, padding=2, padding_mode="circular"), (4, 9), 6, False),
    "conv2d": (
        lambda: nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)),
        (4, 8, 9),
        6,
        False,
    ),
    "conv2d, groups": (lambda: nn.Conv2d(4, 6, 3, groups=2, padding=1), (4, 6, 6), 6, False),
    "conv2d, depthwise": (lambda: nn.Conv2d(4, 8, 3, groups=4, bias=False), (4, 6, 6), 8, False),
    "conv2d, 1×1": (lambda: nn.Conv2d(4, 6, 1), (4, 6, 6), 6, False),
    "conv2d, same": (lambda: nn.Conv2d(4, 6, (4, 3), padding="same"), (4, 6, 6), 6, False),
    "conv2d, reflect": (lambda: nn.Conv2d(4, 6, 3, padding=2, padding_mode="reflect"), (4, 6, 6), 6, False),
    "conv2d, replicate": (
        lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="replicate"),
        (4, 6, 6),
        6,
        False,
    ),
    "conv3d": (lambda: nn.Conv3d(2, 4, 2, padding=1), (2, 4, 4, 4), 4, False),
    "batch norm, vectors": (lambda: with_statistics(nn.BatchNorm1d(5)), (5,), 5, False),
    "batch norm, series": (lambda: with_statistics(nn.BatchNorm1d(5)), (5, 7), 5, False),
    "batch norm, images": (lambda: with_statistics(nn.BatchNorm2d(5)), (5, 4, 4), 5, False),
    "group norm": (lambda: nn.GroupNorm(2, 6, eps=0.1), (6, 4, 4), 6, False),
    "layer norm": (lambda: nn.LayerNorm(5, eps=0.1), (7, 5), 5, True),
    "layer norm without bias": (lambda: nn.LayerNorm((7, 5), bias=False), (7, 5), 5, True),
}


def case(name: str) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    make, shape, width, channels_last = CASES[name]
    return Pooled(make(), width, channels_last).double(), torch.randn(6, *shape, dtype=torch.double)


def columns(model: nn.Module, layers: str | list[str] = "*", r: int = 4) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return {
        name: torch.randn(r, *p.shape, generator=generator, dtype=p.dtype)
        for name, p in choose(model, layers).parameters.items()
    }


def one_at_a_time(model: nn.Module, blocks: dict[str, torch.Tensor], inputs, labels: torch.Tensor) -> torch.Tensor:
    """M applied to each example's gradient, from a batch of that example alone."""
    model.eval()
    parameters = [dict(model.named_parameters())[name] for name in blocks]
    rows = []
    for i in range(len(labels)):
        loss = F.cross_entropy(outputs(model, mapped(inputs, lambda t: t[i : i + 1])), labels[i : i + 1])
        found = torch.autograd.grad(loss, parameters, materialize_grads=True, allow_unused=True)
        rows.append(sum(b.flatten(1) @ g.flatten() for b, g in zip(blocks.values(), found, strict=True)))
    return torch.stack(rows)


LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")  # PyTorch's, about a copy
@pytest.mark.parametrize("scratch", [2**22, 700])
@pytest.mark.parametrize("name", CASES)
def test_a_rule_gives_each_examples_projected_gradient_at_any_scratch_size(name, scratch, monkeypatch):
    monkeypatch.setattr(layer_rules, "SCRATCH", scratch)
    monkeypatch.setattr(layer_rules, "WINDOWS", scratch)
    model, x = case(name)
    blocks = columns(model)
    projector = Projector(model, blocks, F.cross_entropy)
    torch.testing.assert_close(projector(x, LABELS), one_at_a_time(model, blocks, x, LABELS))
    assert projector.slow == set()


def peak_bytes(work) -> int:
    """Most bytes of tensors alive at once that were made during ``work``."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as found:
        work()
    events = [event for event in found.profiler.kineto_results.events() if event.name() == "[memory]"]
    return max(accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())))


@pytest.mark.parametrize(
    "make, shape",
    [
        (lambda: nn.Conv2d(512, 512, 3, padding=1), (64, 512, 4, 4)),
        (lambda: nn.Conv2d(256, 512, 3, padding=1, stride=2), (128, 256, 8, 8)),
        (lambda: nn.Linear(768, 3072), (32, 128, 768)),
        (lambda: nn.BatchNorm2d(64), (64, 64, 56, 56)),
        (lambda: nn.LayerNorm(768), (32, 128, 768)),
    ],
)
def test_a_rule_holds_at_most_sixteen_megabytes_beside_its_inputs(make, shape):
    torch.manual_seed(0)
    layer, x = make().eval(), torch.randn(*shape)
    with torch.no_grad():
        g = torch.randn_like(layer(x))
        blocks = {name: torch.randn(50, *p.shape) for name, p in layer.named_parameters()}
        assert peak_bytes(lambda: layer_rules.rule_for(layer)(layer, x, g, blocks)) <= 16_000_000


def test_what_follows_a_layer_may_work_in_place():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(inplace=True), nn.Linear(4, 3)).double()
    x, blocks = torch.randn(6, 5, dtype=torch.double), columns(model)
    projector = Projector(model, blocks, F.cross_entropy)
    torch.testing.assert_close(projector(x, LABELS), one_at_a_time(model, blocks, x, LABELS))
    assert projector.slow == set()


def test_a_projection_that_overflows_in_one_direction_is_refused_with_the_example():
    model, x = nn.Linear(5, 3), torch.zeros(6, 5)
    nn.init.zeros_(model.weight)
    x[4] = 1e20
    blocks = {"weight": torch.stack([torch.ones(3, 5), torch.eye(3, 5) * 3e38]), "bias": torch.zeros(2, 3)}
    with pytest.raises(HardlookError, match=r"example 4 of a batch is not finite \(1 such examples\)"):
        Projector(model, blocks, F.cross_entropy)(x, LABELS)


def test_an_embedding_layer_is_fast_and_padding_gets_no_gradient():
    torch.manual_seed(0)
    model = Pooled(nn.Embedding(9, 5, padding_idx=0), 5, True).double()
    tokens = torch.tensor([[1, 2, 0], [3, 3, 3], [0, 0, 0], [4, 5, 1], [8, 0, 8], [7, 6, 5]])
    blocks = columns(model)
    projector = Projector(model, blocks, F.cross_entropy)
    found = projector(tokens, LABELS)
    torch.testing.assert_close(found, one_at_a_time(model, blocks, tokens, LABELS))
    assert projector.slow == set() and (found[2] == 0).all()


class Sequence(nn.Module):
    """A transformer layer with the example on the first axis or the second."""

    def __init__(self, batch_first: bool):
        super().__init__()
        self.embed = nn.Embedding(9, 4)
        self.block = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.1, batch_first=batch_first)
        self.batch_first, self.head = batch_first, nn.Linear(4, 3)

    def forward(self, tokens):
        x = self.embed(tokens)
        x = self.block(x) if self.batch_first else self.block(x.transpose(0, 1)).transpose(0, 1)
        return self.head(x.mean(1))


class Tied(nn.Module):
    """The embedding is the output layer's weight too, and one layer runs twice."""

    def __init__(self):
        super().__init__()
        self.embed, self.hidden, self.head = nn.Embedding(9, 4), nn.Linear(4, 4), nn.Linear(4, 9)
        self.head.weight = self.embed.weight

    def forward(self, tokens):
        return self.head(self.hidden(self.hidden(self.embed(tokens).mean(1)).tanh()).tanh())


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.cell, self.head = nn.Embedding(9, 4), nn.GRU(4, 3, batch_first=True), nn.Linear(3, 3)

    def forward(self, tokens):
        return self.head(self.cell(self.embed(tokens))[0][:, -1])


class Functional(nn.Module):
    """Uses a layer's weight without calling the layer, and squeezes a batch of one."""

    def __init__(self):
        super().__init__()
        self.embed, self.hidden, self.head = nn.Embedding(9, 4), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, tokens):
        x = self.embed(tokens).mean(1)
        x = x + F.linear(x, self.hidden.weight, self.hidden.bias).tanh() + self.hidden(x)
        x.relu_()
        return self.head(x)


SEQUENCE = ("block.self_attn", "block.linear1", "block.linear2", "block.norm1", "block.norm2")


@pytest.mark.parametrize(
    "make, methods",
    [
        (lambda: Sequence(True), {"block.self_attn": "replay"}),
        (lambda: Sequence(False), dict.fromkeys(SEQUENCE, "vectorised")),
        (Tied, {}),
        (Recurrent, {"cell": "one at a time"}),
        (Functional, {"hidden": "vectorised"}),
    ],
)
def test_what_no_rule_fits_goes_another_way_and_is_right_and_named(make, methods):
    torch.manual_seed(0)
    model = make().double()
    tokens = torch.randint(0, 9, (6, 6))  # as many tokens as examples: shapes alone cannot tell the axes apart
    blocks = columns(model)
    projector = Projector(model, blocks, F.cross_entropy)
    found = projector(tokens, LABELS)
    torch.testing.assert_close(found, one_at_a_time(model, blocks, tokens, LABELS))
    assert {name: method for name, method in projector.methods.items() if method != "rule"} == methods
    assert len(projector.notes()) == len(set(methods.values()))


def test_inputs_may_be_tuples_or_mappings():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(4, 3)

        def forward(self, left, right):
            return self.head(left * right)

    torch.manual_seed(0)
    model, left, right = Two(), torch.randn(6, 4), torch.randn(6, 4)
    found = [
        Projector(model, columns(model), F.cross_entropy)(inputs, LABELS)
        for inputs in ((left, right), {"right": right, "left": left})
    ]
    torch.testing.assert_close(*found)


def test_projecting_leaves_the_model_untouched():
    model, x = case("batch norm, images")
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    Projector(model, columns(model), F.cross_entropy)(x, LABELS)
    assert model.training and model.layer.training and model.layer.weight.requires_grad
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not model.layer._forward_hooks
