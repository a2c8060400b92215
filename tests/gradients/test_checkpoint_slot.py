"""The slot: every checkpoint of a model gets the model's own gradients, by whichever way proves itself."""

import copy
import threading
from types import MethodType

import numpy as np
import pytest
import timm
import torch
from torch import nn

from scoring.audit.errors import HardlookError
from scoring.gradients import Slot, input_gradients
from scoring.gradients.execution_paths import InPlace
from scoring.gradients.gradient_variance import vog

from .test_input_gradient import Autocast, Checkpointed, Recurrent, Spectral, Tagger, conv_net, live


def slot_gradients(model, x, classes, **options):
    slot = Slot(model, **options)
    slot.load(model.state_dict())
    return slot, slot.gradients(slot.prepare(x, classes))


def test_the_slots_gradients_are_input_gradients():
    model, x, classes = conv_net().double(), torch.randn(4, 3, 6, 6).double(), torch.tensor([0, 4, 2, 2])
    _, gradients = slot_gradients(model, x, classes)
    for form, found in zip(("logit", "probability"), gradients, strict=True):
        torch.testing.assert_close(found, input_gradients(model, x, classes, form=form))


def test_the_slot_takes_each_checkpoints_weights():
    first, second = conv_net(1), conv_net(2)
    slot = Slot(first)
    x, classes = torch.randn(4, 3, 6, 6), torch.tensor([0, 4, 2, 2])
    for model in (second, first, second):
        slot.load(model.state_dict())
        found = slot.gradients(slot.prepare(x, classes), ["logit"])[0]
        torch.testing.assert_close(found, input_gradients(model, x, classes), rtol=1e-5, atol=1e-6)


def test_the_slot_leaves_the_model_alone():
    model = conv_net().train()
    before = copy.deepcopy(model.state_dict())
    slot = Slot(model)
    slot.load(conv_net(3).state_dict())
    assert model.training and all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_forward_that_views_is_served_without_channels_last():
    class Viewing(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 8, 11, padding=5), nn.Linear(8 * 36, 5)

        def forward(self, x):
            return self.head(self.conv(x).view(len(x), -1))

    model, x, classes = Viewing(), torch.randn(4, 3, 6, 6), torch.tensor([0, 4, 2, 2])
    slot, (found, _) = slot_gradients(model, x, classes)
    assert isinstance(slot.method, InPlace) and "channels_last" in slot.notes[0] and "RuntimeError" in slot.notes[0]
    torch.testing.assert_close(found, input_gradients(model, x, classes))


def test_tokens_go_through_the_slot():
    model, ids, classes = Tagger(), torch.randint(0, 11, (5, 6)), torch.tensor([0, 1, 2, 0, 1])
    _, (found, _) = slot_gradients(model, ids, classes)
    torch.testing.assert_close(found, input_gradients(model, ids, classes))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("0.weight"), r"epoch 7 has no '0\.weight'.*\(8, 3, 3, 3\)"),
        (
            lambda s: s.update({"0.weight": torch.ones(8, 1, 3, 3)}),
            r"'0\.weight' has shape \(8, 1, 3, 3\).*\(8, 3, 3, 3\)",
        ),
        (lambda s: s.update({"more": torch.ones(1)}), "holds 'more'"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_named(change, message):
    model = conv_net()
    state = dict(model.state_dict())
    change(state)
    with pytest.raises(HardlookError, match=message):
        Slot(model).load(state, "epoch 7")


def test_one_of_two_tied_weights_is_enough():
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    model[1].weight = model[0].weight
    slot, weight = Slot(model), torch.randn(4, 4)
    slot.load({"0.weight": weight})
    found = slot.gradients(slot.prepare(torch.randn(2, 4), torch.tensor([0, 3])), ["logit"])[0]
    torch.testing.assert_close(found, (weight @ weight)[[0, 3]])
    with pytest.raises(HardlookError, match=r"has no '0\.weight'"):
        slot.load({})


# -- copies that are not to be believed ------------------------------------------------------------------------


def wrapped(net):
    """A forward replaced by a closure over the original, e.g. to pick logits, add a mask, or cast."""
    old = net.forward
    net.forward = lambda x: old(x)
    return net


def wrapped_below(net):
    """The same one layer down: only a part of the copy still computes with the original's weights."""
    wrapped(net[2])
    return net


def hooked_by_a_closure(net):
    """A hook that adds what another layer of the original makes."""
    layer = net[2]
    net[0].register_forward_hook(lambda _module, inputs, output: output + layer.weight.mean())
    return net


def locked(net):
    """Something that deepcopy cannot copy."""
    net.lock = threading.Lock()
    return net


def with_a_history(net):
    """A tensor computed from the weights when the model was built: deepcopy refuses it."""
    net.cached = net[0].weight * 1
    return net


def bound(net):
    """A bound method on the instance: deepcopy binds it to the copy."""
    net.forward = MethodType(lambda self, x: nn.Sequential.forward(self, x), net)
    return net


def shared_copy(net):
    """A layer that comes back from deepcopy as itself."""
    net[2].__class__ = type("Single", (nn.Conv2d,), {"__deepcopy__": lambda self, memo: self})
    return net


def small(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(2, 8, 1), nn.Tanh(), nn.Conv2d(8, 3, 3), nn.Flatten()).double()


def naive_vog(model, states, x, classes):
    """The definition, through the model itself, in float64."""
    maps = []
    for state in states:
        model.load_state_dict(state)
        leaf = x.clone().requires_grad_()
        out = model(leaf).gather(1, torch.as_tensor(classes)[:, None]).sum()
        maps.append(torch.autograd.grad(out, leaf)[0].mean(1).numpy())
    return np.std(maps, axis=0).reshape(len(x), -1).mean(1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (wrapped, "original's weights"),
        (wrapped_below, "original's weights"),
        (hooked_by_a_closure, "original's weights"),
        (shared_copy, "cannot be copied"),
        (locked, "cannot be copied"),
        (with_a_history, "cannot be copied"),
        (bound, None),
    ],
)
def test_a_copy_that_is_no_copy_leaves_the_model_itself_to_run(change, reason):
    states = [small(seed).state_dict() for seed in range(4)]
    model, x, classes = change(small(9)), torch.randn(5, 2, 3, 3).double(), np.array([0, 1, 2, 0, 1])
    model[0].weight.requires_grad_(False)
    model[2].bias.grad = torch.ones(3).double()
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    attributes = [dict(vars(module)) for module in model.modules()]
    slot = Slot(model)
    found = vog(slot, states, x, classes, classes, batch_size=2)["all_label_logit"]
    assert model.training and [dict(vars(module)) for module in model.modules()] == attributes
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    assert [p.requires_grad for p in model.parameters()] == [False, True, True, True]
    assert torch.equal(model[2].bias.grad, torch.ones(3).double())
    assert isinstance(slot.method, InPlace) == (reason is not None)
    assert reason in slot.notes[0] if reason else slot.notes == []
    np.testing.assert_allclose(found, naive_vog(model, states, x, classes), rtol=1e-5)


def test_a_copy_that_writes_into_the_original_is_left():
    """A closure that normalises by the original's layer, which stands in training mode, would move its
    statistics."""
    model = nn.Sequential(nn.Conv2d(2, 8, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 3, 3), nn.Flatten()).double()
    norm = model[1].forward
    model[1].forward = lambda x: norm(x)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    x, classes = torch.randn(4, 2, 3, 3).double(), torch.tensor([0, 1, 2, 2])
    slot, (found, _) = slot_gradients(model, x, classes)
    assert isinstance(slot.method, InPlace) and model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    torch.testing.assert_close(found, input_gradients(model, x, classes))


def test_a_copy_that_counts_in_the_original_is_left():
    """What it writes there moves no logit, but the model must come back as it was."""
    model = small(0)
    model.register_buffer("calls", torch.zeros(()), persistent=False)
    model[0].register_forward_hook(lambda _module, _inputs, _output: model.calls.add_(1) and None)
    x, classes = torch.randn(4, 2, 3, 3).double(), torch.tensor([0, 1, 2, 2])
    slot, (found, _) = slot_gradients(model, x, classes)
    slot.gradients(slot.prepare(x, classes))
    assert model.calls == 0 and isinstance(slot.method, InPlace) and "writes into the original" in slot.notes[0]
    torch.testing.assert_close(found, input_gradients(model, x, classes))


class Backward(torch.autograd.Function):
    """The identity, with a backward that is right for gradients in contiguous memory alone."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient if gradient.is_contiguous() else gradient * 2


def test_gradients_that_differ_where_logits_do_not_are_left():
    class Doubling(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.last = nn.Conv2d(2, 8, 3), nn.Conv2d(8, 3, 3)

        def forward(self, x):
            return self.last(Backward.apply(self.conv(x)).tanh()).mean((2, 3))

    model, x, classes = Doubling().double(), torch.randn(4, 2, 9, 9).double(), torch.tensor([0, 1, 2, 2])
    slot, (found, _) = slot_gradients(model, x, classes)
    assert isinstance(slot.method, InPlace) and "gradients differ" in slot.notes[0]
    torch.testing.assert_close(found, input_gradients(model, x, classes))


def test_a_model_that_gains_nothing_by_a_copy_runs_in_place():
    torch.manual_seed(0)
    models = [wrapped(nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()) for _ in range(3)]
    states, x, classes = (
        [copy.deepcopy(m.state_dict()) for m in models],
        torch.randn(5, 6).double(),
        np.array([0, 1, 2, 0, 1]),
    )
    weights, slot = copy.deepcopy(models[0].state_dict()), Slot(models[0])
    found = vog(slot, states, x, classes, classes, batch_size=2)["all_label_logit"]
    assert isinstance(slot.method, InPlace) and slot.notes == []
    assert all(torch.equal(value, weights[key]) for key, value in models[0].state_dict().items())
    maps = [input_gradients(m, x, torch.as_tensor(classes)).numpy() for m in models]
    np.testing.assert_allclose(found, np.std(maps, axis=0).mean(1), rtol=1e-5)


def test_the_model_comes_back_when_a_checkpoint_fails_half_way():
    model = small(1)
    weights = copy.deepcopy(model.state_dict())
    slot = Slot(locked(model))
    with pytest.raises(ZeroDivisionError), slot.at(small(2).state_dict()):
        slot.gradients(slot.prepare(torch.randn(2, 2, 3, 3), torch.tensor([0, 1])))
        assert not torch.equal(model[0].weight, weights["0.weight"])
        1 / 0  # noqa: B018  raises inside the context
    assert model.training and all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())


def test_a_checkpoint_that_is_the_models_own_state_dict_may_be_loaded_after_others():
    """State dicts refer to the weights themselves: these must be themselves again when their turn comes."""
    states = [small(seed).state_dict() for seed in range(3)]
    model = locked(small(9))
    x, classes = torch.randn(5, 2, 3, 3).double(), np.array([0, 1, 2, 0, 1])
    found = vog(Slot(model), [*states, model.state_dict()], x, classes, classes, batch_size=2)["all_label_logit"]
    wanted = naive_vog(small(0), [*states, small(9).state_dict()], x, classes)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_reentrant_checkpointing_goes_through_the_slot():
    model, x, classes = Checkpointed(True).double(), torch.randn(4, 3, 6, 6).double(), torch.tensor([0, 4, 2, 2])
    _, (found, _) = slot_gradients(model, x, classes)
    torch.testing.assert_close(found, input_gradients(model, x, classes))


def test_a_model_of_two_precisions_keeps_them():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Linear(5, 4), nn.Linear(4, 3).double()

        def forward(self, x):
            return self.head(self.body(x).double().tanh())

    model, x, classes = Mixed(), torch.randn(3, 5), torch.tensor([0, 1, 2])
    slot, (found, _) = slot_gradients(model, x, classes)
    assert not slot.notes
    torch.testing.assert_close(found, input_gradients(model, x, classes))


# -- folding that is not to be believed ------------------------------------------------------------------------


class SeesItsNorm(nn.Module):
    """A forward that depends on the kind of a layer, which no trace sees."""

    def __init__(self, at=0.0):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 3)
        self.at = nn.Parameter(torch.tensor(at))

    def forward(self, x):
        y = self.norm(self.conv(x)).tanh().mean((2, 3))
        return self.head(y if isinstance(self.norm, nn.BatchNorm2d) else y + self.at)


def test_folding_that_changes_logits_is_left_and_said():
    torch.manual_seed(0)
    models = [live(SeesItsNorm(1.0)).double().eval() for _ in range(3)]
    x, classes = torch.randn(4, 3, 6, 6).double(), np.array([0, 1, 2, 0])
    slot = Slot(models[0])
    assert slot.method.pairs
    found = vog(slot, [m.state_dict() for m in models], x, classes, classes, batch_size=2)["all_label_logit"]
    assert not slot.method.pairs and "folded batch norms" in slot.notes[0] and "logits differ" in slot.notes[0]
    maps = [input_gradients(m, x, torch.as_tensor(classes)).mean(1).numpy() for m in models]
    np.testing.assert_allclose(found, np.std(maps, axis=0).mean((1, 2)), rtol=1e-5)


def test_folding_is_compared_at_every_checkpoint():
    """At the first two checkpoints folded and unfolded agree; at the third they do not."""
    torch.manual_seed(0)
    models = [live(SeesItsNorm(at)).double().eval() for at in (0.0, 0.0, 1.0, 1.0)]
    x, classes = torch.randn(4, 3, 6, 6).double(), np.array([0, 1, 2, 0])
    slot = Slot(models[0])
    found = vog(slot, [m.state_dict() for m in models], x, classes, classes, batch_size=4)["all_label_logit"]
    assert not slot.method.pairs and len(slot.notes) == 2  # folded in either memory layout
    maps = [input_gradients(m, x, torch.as_tensor(classes)).mean(1).numpy() for m in models]
    np.testing.assert_allclose(found, np.std(maps, axis=0).mean((1, 2)), rtol=1e-5)


class WrongInChannelsLast(nn.Module):
    """Reads memory in the order in which it lies: right in contiguous memory alone."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 11, padding=5), nn.Linear(4 * 36, 3)

    def forward(self, x):
        y = self.conv(x).tanh()
        return self.head(torch.as_strided(y, (len(y), 4 * 36), (4 * 36, 1)))


def test_a_memory_layout_that_gives_other_numbers_is_left():
    model, x, classes = WrongInChannelsLast().double(), torch.randn(4, 3, 6, 6).double(), torch.tensor([0, 1, 2, 2])
    slot, (found, _) = slot_gradients(model, x, classes)
    assert isinstance(slot.method, InPlace) and "channels_last" in slot.notes[0]
    torch.testing.assert_close(found, input_gradients(model, x, classes))


@pytest.mark.parametrize(
    "name", ["resnet18", "regnetx_002", "mobilenetv3_small_050", "convnext_atto", "vit_tiny_patch16_224"]
)
def test_timm_models_have_the_same_gradients_folded(name):
    torch.manual_seed(0)
    more = {"img_size": 32, "patch_size": 8} if "vit" in name else {}
    model = live(timm.create_model(name, num_classes=5, **more)).double().eval()
    x, classes = torch.randn(2, 3, 32, 32).double(), torch.tensor([0, 4])
    slot, gradients = slot_gradients(model, x, classes)
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert len(slot.method.pairs) == norms and slot.notes == []
    for form, found in zip(("logit", "probability"), gradients, strict=True):
        wanted = input_gradients(model, x, classes, form=form)
        assert float((found - wanted).norm() / wanted.norm()) < 1e-9


class HalfFrozen(nn.Module):
    """One branch of two is under no_grad, as where a frozen backbone is joined with a trained one."""

    def __init__(self, cut):
        super().__init__()
        self.frozen, self.trained, self.head, self.cut = nn.Linear(6, 32), nn.Linear(6, 32), nn.Linear(32, 3), cut

    def forward(self, x):
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.cut):
            features = self.frozen(x).relu()
        return self.head(features + self.trained(x).relu())


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
@pytest.mark.parametrize("cut", [True, False])
def test_a_gradient_of_which_a_part_is_cut_off_is_said(cut, precision):
    torch.manual_seed(0)
    model, x = HalfFrozen(cut).to(precision), torch.randn(16, 6).to(precision)
    slot, (found, _) = slot_gradients(model, x, torch.arange(16) % 3)
    assert [note for note in slot.notes if "measured slope" in note] == slot.notes
    assert bool(slot.notes) == cut
    torch.testing.assert_close(found, input_gradients(model, x, torch.arange(16) % 3))


class HalfFrozenTokens(HalfFrozen):
    """The same behind an embedding."""

    def __init__(self, cut):
        super().__init__(cut)
        self.embed = nn.Embedding(11, 6)

    def forward(self, ids):
        return super().forward(self.embed(ids)).mean(1)


@pytest.mark.parametrize("cut", [True, False])
def test_a_gradient_of_tokens_of_which_a_part_is_cut_off_is_said(cut):
    torch.manual_seed(0)
    model, x, other = HalfFrozenTokens(cut), torch.randint(0, 11, (16, 5)), HalfFrozenTokens(cut)
    before, slot = copy.deepcopy(model.state_dict()), Slot(model)
    slot.load(other.state_dict())  # the slope is that of the checkpoint, not of the model's own weights
    found, _ = slot.gradients(slot.prepare(x, torch.arange(16) % 3))
    assert [note for note in slot.notes if "measured slope" in note] == slot.notes
    assert bool(slot.notes) == cut
    torch.testing.assert_close(found, input_gradients(other, x, torch.arange(16) % 3))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(("make", "shape"), [(Spectral, (4,)), (Recurrent, (6, 5)), (Autocast, (5,))])
def test_layers_of_other_kinds_raise_no_alarm(make, shape):
    torch.manual_seed(0)
    model, x, classes = make(), torch.randn(32, *shape), torch.arange(32) % 3
    slot, (found, _) = slot_gradients(model, x, classes)
    assert slot.notes == []
    torch.testing.assert_close(found, input_gradients(model, x, classes))
