"""Folding batch norms must change nothing but the time, and must not happen where it would."""

import copy

import pytest
import torch
from torch import nn

from scoring.gradients import Slot, input_gradients
from scoring.models.batchnorm_folding import foldable_pairs


def live(net):
    """Give every batch norm statistics and weights of its own."""
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 2)
                nn.init.normal_(module.bias)
    return net


class Block(nn.Module):
    """A residual block with everything that can be folded, and branches that depend on the training flag."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(4, 4, 3, padding=1, groups=2), nn.BatchNorm2d(4)
        self.second, self.bare = nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4, affine=False, eps=0.1)

    def forward(self, x):
        if self.training:
            raise AssertionError("traced in training mode")
        return x + self.bare(self.second(self.norm(self.first(x)).relu()))


class Head(nn.Module):
    """Pool and classify what a body gives."""

    def __init__(self, body):
        super().__init__()
        self.body, self.head = body, nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))


def both(model, x):
    """Gradients of the folded and of the unfolded slot, in float64."""
    live(model).double()
    out = []
    for fold in (True, False):
        slot = Slot(model, fold=fold)
        slot.load(model.state_dict())
        out.append(slot.gradients(slot.prepare(x.double(), torch.zeros(len(x)))))
    return out


def test_folding_changes_no_gradient():
    torch.manual_seed(0)
    model = Head(nn.Sequential(Block(), Block()))
    assert len(foldable_pairs(model)) == 4
    for folded, plain in zip(*both(model, torch.randn(3, 4, 5, 5)), strict=True):
        torch.testing.assert_close(folded, plain, rtol=1e-5, atol=1e-12)


def test_folding_in_float32_stays_within_a_hundred_thousandth():
    torch.manual_seed(0)
    model, x = live(Head(nn.Sequential(Block(), Block()))), torch.randn(3, 4, 5, 5)
    slot = Slot(model)
    slot.load(model.state_dict())
    folded = slot.gradients(slot.prepare(x, torch.zeros(3)), ["logit"])[0]
    plain = input_gradients(model.eval(), x, torch.zeros(3, dtype=torch.long))
    assert (folded - plain).norm() <= 1e-5 * plain.norm()


def test_series_are_folded_too():
    model = nn.Sequential(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3))
    assert len(foldable_pairs(model)) == 1
    for folded, plain in zip(*both(model, torch.randn(3, 2, 8)), strict=True):
        torch.testing.assert_close(folded, plain, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("act", ["relu", "gelu", "prelu"])
def test_a_norm_with_an_activation_leaves_its_activation(act):
    from timm.layers import BatchNormAct2d

    torch.manual_seed(0)
    model = Head(nn.Sequential(nn.Conv2d(4, 4, 3), BatchNormAct2d(4, act_layer=act), nn.Conv2d(4, 4, 1)))
    models = [live(copy.deepcopy(model)).double() for _ in range(2)]
    if act == "prelu":
        nn.init.constant_(models[1].body[1].act.weight, 0.7)
    x, slot = torch.randn(3, 4, 5, 5).double(), Slot(models[0])
    assert len(slot.method.pairs) == 1
    for one in models:  # the activation's own weight follows the checkpoint
        slot.load(one.state_dict())
        found = slot.gradients(slot.prepare(x, torch.zeros(3)), ["logit"])[0]
        torch.testing.assert_close(found, input_gradients(one, x, torch.zeros(3, dtype=torch.long)))
    assert slot.notes == []


class Untraceable(Block):
    """Control flow that depends on values, which a symbolic trace cannot follow."""

    def forward(self, x):
        return super().forward(x) if x.sum() < 1e9 else x


class ReadTwice(Block):
    """The convolution's output is read beside the norm."""

    def forward(self, x):
        y = self.first(x)
        return self.norm(y) + y


class CalledTwice(Block):
    """The same convolution and norm run twice."""

    def forward(self, x):
        return self.norm(self.first(self.norm(self.first(x))))


class WeightRead(Block):
    """The convolution's weight is used outside it."""

    def forward(self, x):
        return self.norm(self.first(x)) * self.first.weight.mean()


class NormFirst(Block):
    """A norm before its convolution."""

    def forward(self, x):
        return self.first(self.norm(x))


def shared_weights():
    block = Block()
    block.second = nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False)
    block.second.weight = block.first.weight
    return block


def hooked():
    block = Block()
    block.first.register_forward_hook(lambda module, inputs, output: output * 2)
    block.second.register_forward_pre_hook(lambda module, inputs: None)
    return block


def parametrised():
    block = Block()
    nn.utils.parametrizations.weight_norm(block.first)
    nn.utils.parametrizations.weight_norm(block.second)
    return block


def without_statistics():
    block = Block()
    block.norm, block.bare = (nn.BatchNorm2d(4, track_running_stats=False) for _ in range(2))
    return block


def patched():
    """A layer whose forward was replaced on the instance: a trace follows the class's."""
    block = Block()
    plain = [layer.forward for layer in (block.norm, block.bare)]
    block.norm.forward, block.bare.forward = (lambda x, old=old: 2 * old(x) + 1 for old in plain)
    return block


def with_two_names():
    """The norms are reached by a second name, which a caller may use too."""
    block = Block()
    block.norm = nn.BatchNorm2d(4, affine=False)
    block.other, block.another = block.norm, block.bare
    return block


class CentredNorm(nn.BatchNorm2d):
    """A subclass that computes something else."""

    def forward(self, x):
        return super().forward(x - x.mean((2, 3), keepdim=True))


class GatedConvolution(nn.Conv2d):
    def forward(self, x):
        return super().forward(x).sigmoid()


def kept_in_training():
    """Norms that take each batch's statistics even in eval mode."""
    block = Block()
    block.norm.train = block.bare.train = lambda mode=True: None
    return block


def with_norms(kind):
    def make():
        block = Block()
        block.norm, block.bare = kind(4), kind(4)
        return block

    return make


def subclassed_convolutions():
    block = Block()
    block.first, block.second = GatedConvolution(4, 4, 1), GatedConvolution(4, 4, 1)
    return block


@pytest.mark.parametrize(
    "make",
    [
        patched,
        with_two_names,
        with_norms(CentredNorm),
        kept_in_training,
        subclassed_convolutions,
        Untraceable,
        ReadTwice,
        CalledTwice,
        WeightRead,
        NormFirst,
        shared_weights,
        hooked,
        parametrised,
        without_statistics,
    ],
)
def test_what_folding_would_change_is_left_alone(make):
    torch.manual_seed(0)
    model = Head(make())
    assert foldable_pairs(model) == []
    for folded, plain in zip(*both(model, torch.randn(3, 4, 5, 5)), strict=True):
        torch.testing.assert_close(folded, plain, rtol=1e-5, atol=1e-12)
