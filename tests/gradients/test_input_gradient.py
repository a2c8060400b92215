"""Input gradients against algebra and plain autograd, and the promise that the model comes back as it was."""

import copy
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from scoring.audit.errors import HardlookError
from scoring.gradients import channel_mean, input_gradients
from scoring.scorers.odin import odin


def conv_net(seed=0, dropout=0.0):
    """A small convolutional net whose batch norms have lived: they are no identity."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.BatchNorm2d(8, affine=False),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 5),
    )
    return live(net)


def live(net):
    """Give every batch norm statistics and weights of its own."""
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 2)
                nn.init.normal_(module.bias)
    return net


def plain_gradient(model, x, classes, form):
    """The definition, by autograd one example at a time."""
    rows = []
    for example, a in zip(x, classes, strict=True):
        leaf = example[None].clone().requires_grad_()
        out = model(leaf) if form == "logit" else model(leaf).softmax(1)
        rows.append(torch.autograd.grad(out[0, a], leaf)[0])
    return torch.cat(rows)


class Tagger(nn.Module):
    """Token embedding, position embedding, mean pooling and a linear head."""

    def __init__(self, calls=1):
        super().__init__()
        self.tokens, self.positions, self.head = nn.Embedding(11, 4), nn.Embedding(6, 4), nn.Linear(4, 3)
        self.calls = calls

    def forward(self, ids):
        embedded = sum(self.tokens(ids) for _ in range(self.calls))
        return self.head((embedded + self.positions(torch.arange(ids.shape[1]))).tanh().mean(1))


def test_a_linear_models_gradient_is_its_weights():
    model = nn.Linear(7, 4)
    classes = torch.tensor([3, 0, 2])
    gradient = input_gradients(model, torch.randn(3, 7), classes)
    torch.testing.assert_close(gradient, model.weight.detach()[classes], rtol=0, atol=0)


def test_the_probability_form_of_a_linear_model_is_p_times_the_weights_centred():
    model, x, classes = nn.Linear(7, 4).double(), torch.randn(5, 7).double(), torch.tensor([3, 0, 2, 1, 1])
    p = model(x).detach().softmax(1)
    w = model.weight.detach()
    expected = p.gather(1, classes[:, None]) * (w[classes] - p @ w)
    torch.testing.assert_close(input_gradients(model, x, classes, form="probability"), expected)


@pytest.mark.parametrize("form", ["logit", "probability"])
def test_both_forms_equal_autograd_of_the_definition(form):
    model, x = conv_net().double().eval(), torch.randn(4, 3, 6, 6).double()
    classes = torch.tensor([0, 4, 2, 2])
    found = input_gradients(model, x, classes, form=form)
    torch.testing.assert_close(found, plain_gradient(model, x, classes, form))


def test_the_probability_form_does_not_vanish_where_the_model_is_certain():
    model = nn.Linear(2, 2)
    with torch.no_grad():
        model.weight.copy_(torch.eye(2))
        model.bias.copy_(torch.tensor([20.0, 0.0]))
    x = torch.zeros(1, 2)
    single = input_gradients(model, x, torch.tensor([0]), form="probability")
    double = input_gradients(copy.deepcopy(model).double(), x.double(), torch.tensor([0]), form="probability")
    assert single.abs().min() > 0
    torch.testing.assert_close(single.double(), double, rtol=1e-5, atol=0)


def test_dropout_is_off():
    model, x, classes = conv_net(dropout=0.9).train(), torch.randn(4, 3, 6, 6), torch.tensor([0, 1, 2, 3])
    first, second = (input_gradients(model, x, classes) for _ in range(2))
    assert torch.equal(first, second)


def test_the_model_comes_back_as_it_was():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))
            self.register_buffer("total", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            self.total = self.total + 1
            return x

    model = nn.Sequential(Counting(), conv_net()).train()
    model[1][1].eval()
    model[1][9].weight.requires_grad_(False)
    model[1][4].weight.grad = torch.ones_like(model[1][4].weight)
    flags = [module.training for module in model.modules()]
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    state = copy.deepcopy(model.state_dict())
    x = torch.randn(4, 3, 6, 6)
    before = x.clone()
    input_gradients(model, x, torch.tensor([0, 1, 2, 3]))
    assert [module.training for module in model.modules()] == flags
    assert [parameter.requires_grad for parameter in model.parameters()] == wanted
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    grads = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert [name for name, grad in grads.items() if grad is not None] == ["1.4.weight"]
    assert bool((grads["1.4.weight"] == 1).all())
    assert torch.equal(x, before) and not x.requires_grad


def test_the_model_comes_back_as_it_was_when_its_forward_fails():
    model = conv_net().train()
    with pytest.raises(RuntimeError):
        input_gradients(model, torch.randn(2, 4, 6, 6), torch.tensor([0, 0]))
    assert model.training and all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradients_come_out_where_the_caller_turned_autograd_off(mode):
    model = nn.Linear(3, 2)
    with mode():
        gradient = input_gradients(model, torch.ones(1, 3), torch.tensor([1]))
    assert torch.equal(gradient, model.weight.detach()[1:])


def test_tokens_are_differentiated_at_the_embedding():
    model, ids, classes = Tagger(), torch.randint(0, 11, (5, 6)), torch.tensor([0, 1, 2, 0, 1])
    gradient = input_gradients(model, ids, classes)
    embedded = model.tokens(ids).detach().requires_grad_()
    logits = model.head((embedded + model.positions(torch.arange(6))).tanh().mean(1))
    (expected,) = torch.autograd.grad(logits.gather(1, classes[:, None]).sum(), embedded)
    assert gradient.shape == (5, 6, 4)
    torch.testing.assert_close(gradient, expected)
    assert not model.tokens._forward_hooks


def test_the_embedding_can_be_named():
    model, ids = Tagger(), torch.randint(0, 11, (2, 6))
    first = input_gradients(model, ids, torch.tensor([0, 1]))
    torch.testing.assert_close(input_gradients(model, ids, torch.tensor([0, 1]), embedding="tokens"), first)
    with pytest.raises(HardlookError, match="no layer 'words'"):
        input_gradients(model, ids, torch.tensor([0, 1]), embedding="words")


def test_integer_inputs_without_an_embedding_say_what_to_do():
    with pytest.raises(HardlookError, match=r"no nn\.Embedding"):
        input_gradients(nn.Linear(3, 2), torch.ones(1, 3, dtype=torch.uint8), torch.tensor([0]))


def test_an_embedding_that_runs_twice_is_refused():
    with pytest.raises(HardlookError, match="called 2 times"):
        input_gradients(Tagger(calls=2), torch.randint(0, 11, (2, 6)), torch.tensor([0, 1]))


@pytest.mark.parametrize("wrap", [lambda y: SimpleNamespace(logits=y), lambda y: {"logits": y}, lambda y: (y, None)])
def test_logits_are_found_in_what_models_return(wrap):
    class Wrapped(nn.Linear):
        def forward(self, x):
            return wrap(super().forward(x))

    model = Wrapped(3, 2)
    assert torch.equal(input_gradients(model, torch.ones(1, 3), torch.tensor([1])), model.weight.detach()[1:])


@pytest.mark.parametrize(("classes", "message"), [([0, 4], "outputs 0 to 3"), ([-1, 0], "-1 to 0"), ([0], r"\(1,\)")])
def test_classes_that_the_model_does_not_have_are_refused(classes, message):
    with pytest.raises(HardlookError, match=message):
        input_gradients(nn.Linear(3, 4), torch.ones(2, 3), torch.tensor(classes))


def test_an_unknown_form_is_refused():
    with pytest.raises(HardlookError, match="'softmax'; needed one of logit, probability"):
        input_gradients(nn.Linear(3, 4), torch.ones(2, 3), torch.tensor([0, 1]), form="softmax")


def test_a_forward_that_cuts_the_graph_is_named():
    class Cut(nn.Linear):
        @torch.no_grad()
        def forward(self, x):
            return super().forward(x)

    with pytest.raises(HardlookError, match="cuts the graph"):
        input_gradients(Cut(3, 4), torch.ones(2, 3), torch.tensor([0, 1]))


def test_a_first_layer_that_works_in_place_is_served():
    model, x = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(3, 2)), torch.ones(1, 3)
    assert torch.equal(input_gradients(model, x, torch.tensor([1])), model[1].weight.detach()[1:])


def test_channels_are_averaged_and_nothing_else():
    for shape, axis in [((2, 5), None), ((2, 3, 4), 1), ((2, 3, 4, 4), 1)]:
        gradient = torch.randn(shape)
        expected = gradient if axis is None else gradient.mean(axis)
        torch.testing.assert_close(channel_mean(gradient), expected)
    assert channel_mean(torch.ones(1, 2, 2, dtype=torch.bfloat16)).dtype == torch.float32


@pytest.mark.parametrize("of", [np.asarray, np.ndarray.tolist, pd.DataFrame, torch.as_tensor])
def test_any_array_of_numbers_has_the_gradient_of_the_tensor(of):
    model = nn.Linear(3, 4)
    found = input_gradients(model, of(np.ones((2, 3))), [0, 3])
    assert torch.equal(found, model.weight.detach()[[0, 3]])


@pytest.mark.parametrize(
    ("model", "inputs", "classes", "words"),
    [
        (nn.Linear(3, 4), torch.ones(2, 3, dtype=torch.cfloat), [0, 1], "complex.*needed one tensor"),
        (nn.Linear(3, 4), "abc", [0, 1], "inputs: found str"),
        (nn.Linear(3, 4), [["a", "b", "c"]], [0], "inputs: .*needed an array"),
        (nn.Linear(3, 4), torch.ones(2, 3), ["cat", "dog"], "classes: .*needed an array"),
        (nn.Linear(3, 4), torch.ones(2, 3), [0.5, 1.0], "not whole"),
        ("net", torch.ones(2, 3), [0, 1], "model: found str; needed a torch.nn.Module"),
    ],
)
def test_what_is_no_model_batch_or_classes_is_refused_in_one_sentence(model, inputs, classes, words):
    with pytest.raises(HardlookError, match=words):
        input_gradients(model, inputs, classes)


# -- forwards that autograd does not like ----------------------------------------------------------------------


class Probe(nn.Module):
    """A frozen backbone below a head, as linear probes have it."""

    def __init__(self, how):
        super().__init__()
        self.backbone, self.head, self.how = nn.Linear(6, 8), nn.Linear(8, 3), how

    def forward(self, x):
        if self.how == "detach":
            return self.head(self.backbone(x).detach())
        if self.how == "numpy":
            return self.head(torch.from_numpy(self.backbone(x).detach().numpy()))
        if self.how == "own leaf":
            return self.head(self.backbone(x).detach().requires_grad_())
        if self.how == "gate":  # RuntimeError of autograd: inference tensors cannot be saved for backward
            with torch.inference_mode():
                features = self.backbone(x)
            return self.head(features * x.sum())
        with getattr(torch, self.how)():
            features = self.backbone(x)
        return self.head(features)


@pytest.mark.parametrize("how", ["no_grad", "inference_mode", "detach", "numpy", "own leaf", "gate"])
def test_a_model_that_cuts_its_graph_is_refused_in_one_sentence(how):
    model = Probe(how)
    with pytest.raises(HardlookError, match="no input gradient"):
        input_gradients(model, torch.randn(2, 6), torch.tensor([0, 1]))
    with pytest.raises(HardlookError, match="no input gradient"):
        odin(model.eval().requires_grad_(False), torch.randn(2, 6))


class Checkpointed(nn.Module):
    """Activation checkpointing of the body."""

    def __init__(self, reentrant):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Tanh())
        self.head, self.reentrant = nn.Linear(4, 5), reentrant

    def forward(self, x):
        return self.head(checkpoint(self.body, x, use_reentrant=self.reentrant).mean((2, 3)))


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("form", ["logit", "probability"])
def test_activation_checkpointing_changes_no_gradient(reentrant, form):
    model, x, classes = Checkpointed(reentrant).double(), torch.randn(4, 3, 6, 6).double(), torch.tensor([0, 4, 2, 2])
    found = input_gradients(model, x, classes, form=form)
    plain = nn.Sequential(*model.body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), model.head).eval()
    torch.testing.assert_close(found, plain_gradient(plain, x, classes, form))
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


class Spectral(nn.Module):
    """A layer of complex numbers."""

    def __init__(self):
        super().__init__()
        self.weight, self.head = nn.Parameter(torch.randn(4, dtype=torch.cfloat)), nn.Linear(4, 3)

    def forward(self, x):
        return self.head((torch.fft.fft(x) * self.weight).abs())


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(5, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


class Autocast(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(5, 8), nn.Tanh()), nn.Linear(8, 3)

    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            return self.head(self.body(x)).float()


@pytest.mark.parametrize(("make", "shape"), [(Spectral, (4,)), (Recurrent, (6, 5)), (Autocast, (5,))])
def test_layers_of_other_kinds_have_the_gradient_of_the_definition(make, shape):
    torch.manual_seed(0)
    model, x, classes = make().eval(), torch.randn(3, *shape), torch.tensor([0, 1, 2])
    expected = plain_gradient(model, x, classes, "logit")
    torch.testing.assert_close(input_gradients(model, x, classes), expected, rtol=1e-4, atol=1e-6)


class Normalising(nn.Module):
    """Pixels are normalised in place, where the caller's batch lies."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(x.sub_(0.5).div_(0.25).tanh())


def test_odin_serves_a_model_that_writes_into_its_input():
    model, x = Normalising().eval(), torch.randn(4, 6)
    before = x.clone()
    found = odin(model, x, temperature=10.0, epsilon=0.1)
    leaf = x.double().requires_grad_()
    model = copy.deepcopy(model).double()
    (towards,) = torch.autograd.grad((model(leaf.clone()) / 10).log_softmax(1).max(1).values.sum(), leaf)
    expected = (model(leaf.detach() + 0.1 * towards.sign()) / 10).softmax(1).max(1).values
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-5)
    assert torch.equal(x, before)


@pytest.mark.parametrize("norm", [nn.BatchNorm2d(4), nn.InstanceNorm2d(4, affine=True)])
def test_the_gradient_of_an_example_alone_is_that_beside_others(norm):
    """PyTorch's batch norm has a wrong one for a batch of one whose output gradient has its channels innermost."""

    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.norm, self.head = nn.Conv2d(3, 4, 3), norm, nn.Linear(4, 3)

        def forward(self, x):
            return self.head(self.norm(self.stem(x)).flatten(2).transpose(1, 2).tanh()).mean(1)

    torch.manual_seed(0)
    model, inputs, classes = Tokens().double().eval(), torch.randn(3, 3, 6, 6, dtype=torch.double), torch.arange(3)
    beside = input_gradients(model, inputs, classes)
    alone = torch.cat([input_gradients(model, inputs[at : at + 1], classes[at : at + 1]) for at in range(3)])
    torch.testing.assert_close(alone, beside)
