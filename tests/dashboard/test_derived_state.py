"""Models that keep something derived from their weights: no checkpoint is read through the weights of another one.

Every number is held against a model that is built anew for each checkpoint, in float64.
"""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from scoring.gradients import Slot, input_gradients
from scoring.models import AuditedModel, evaluating


class Table(nn.Module):
    """A table derived from a parameter and kept in eval mode, as LeViT's attention biases in timm; ``train`` drops
    it."""

    def __init__(self):
        super().__init__()
        self.table, self.kept = nn.Parameter(torch.randn(8)), {}

    def train(self, mode=True):
        if mode:
            self.kept = {}
        return super().train(mode)

    def forward(self, x):
        if self.training:
            return x * self.table.exp()
        if "table" not in self.kept:
            self.kept["table"] = self.table.exp()
        return x * self.kept["table"].reshape(-1, *[1] * (x.ndim - 2))


class Once(nn.Linear):
    """A weight that is normalised at the first call in eval mode, and never dropped."""

    kept = None

    def forward(self, x):
        if self.kept is None:
            self.kept = (self.weight / self.weight.norm()).detach()
        return F.linear(x, self.kept, self.bias)


class Merging(nn.Linear):
    """LoRA as in loralib: the low-rank product is added to the weight in eval mode, and taken off in training mode."""

    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        self.down, self.up = nn.Parameter(torch.randn(2, inputs)), nn.Parameter(torch.randn(outputs, 2))
        self.merged = False

    def train(self, mode=True):
        super().train(mode)
        if self.merged == mode:
            self.weight.data += (-1 if mode else 1) * self.up @ self.down
            self.merged = not mode
        return self

    def forward(self, x):
        assert self.merged is not self.training
        return super().forward(x) if self.merged else F.linear(x, self.weight + self.up @ self.down, self.bias)


def vectors(*middle):
    """6 numbers → 8 features → 3 classes, the given layers between."""
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), *middle, nn.Tanh(), nn.Linear(8, 3))


def pictures():
    """3 channels of 8×8, batch norm and a kept table: folded, and copied in channels_last memory."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.Tanh(),
        Table(),
        nn.Conv2d(8, 8, 3),
        nn.Tanh(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    )


NETS = {
    "table": (lambda: vectors(Table()), (6,)),
    "once": (lambda: vectors(Once(8, 8)), (6,)),
    "merging": (lambda: vectors(Merging(8, 8)), (6,)),
    "pictures": (pictures, (3, 8, 8)),
}


def made(name):
    """A factory, two state dicts and a batch of five, all drawn with fixed seeds."""
    build, shape = NETS[name]
    with torch.random.fork_rng():
        torch.manual_seed(7)
        states = [{key: value.clone() for key, value in build().state_dict().items()} for _ in range(2)]
        return build, states, torch.randn(5, *shape), torch.tensor([0, 1, 2, 0, 1])


def anew(build, state, x, y):
    """(n, c) logits and the gradient of the labels' logits by the input, of a model built for these weights, in
    float64."""
    model = build()
    model.load_state_dict(state)
    model = model.double().eval()
    x = x.double().requires_grad_()
    logits = model(x)
    return logits.detach(), torch.autograd.grad(logits.gather(1, y[:, None]).sum(), x)[0]


@pytest.mark.parametrize("name", NETS)
def test_each_checkpoint_gives_its_own_logits(name, tmp_path):
    build, states, x, y = made(name)
    for number, state in enumerate(states):
        torch.save(state, tmp_path / f"{number}.pt")
    audited = AuditedModel(build(), n_classes=3)
    for number in (1, 0, 1):
        with audited.at(tmp_path / f"{number}.pt"):
            logits, _ = audited.predict(x)
        torch.testing.assert_close(
            torch.from_numpy(logits).double(), anew(build, states[number], x, y)[0], rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("name", NETS)
def test_each_checkpoint_gives_its_own_input_gradients(name):
    build, states, x, y = made(name)
    slot = Slot(build())
    batch = slot.prepare(x, y)
    for number in (1, 0, 1):
        with slot.at(states[number]):
            found = slot.gradients(batch, ["logit"])[0]
        torch.testing.assert_close(found.double(), anew(build, states[number], x, y)[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["table", "merging", "pictures"])
def test_a_model_that_was_called_before_gives_each_checkpoint_its_own_gradients(name):
    build, states, x, y = made(name)
    model = build().eval()
    model(x)
    slot = Slot(model)
    for state in states:
        slot.load(state)
        found = slot.gradients(slot.prepare(x, y), ["logit"])[0]
        torch.testing.assert_close(found.double(), anew(build, state, x, y)[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETS)
def test_what_a_model_derives_in_eval_mode_is_gone_afterwards(name):
    build, states, x, y = made(name)
    model = build()
    model.load_state_dict(states[0])
    before = [
        {key: copy.deepcopy(value) for key, value in vars(module).items() if not key.startswith("_")}
        for module in model.modules()
    ]
    input_gradients(model, x, y)
    with evaluating(model):
        model(x)
    assert [
        {key: value for key, value in vars(module).items() if not key.startswith("_")} for module in model.modules()
    ] == before
    for key, value in model.state_dict().items():
        assert torch.equal(value, states[0][key]), key


def test_the_weights_of_an_embedding_that_renormalises_itself_come_back():
    model = nn.Sequential(nn.Embedding(10, 4, max_norm=0.1), nn.Flatten(), nn.Linear(12, 2))
    before = model[0].weight.detach().clone()
    with evaluating(model):
        model(torch.tensor([[1, 2, 3]]))
    assert torch.equal(model[0].weight, before)
