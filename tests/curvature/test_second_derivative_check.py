"""Second derivatives are tried against differences of the gradient: wrong ones are named, right ones pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from scoring.audit.errors import HardlookError
from scoring.curvature.chosen_parameters import choose
from scoring.curvature.hessian import hessian_products, products_on_few
from scoring.curvature.second_derivative_check import check_second_derivatives
from scoring.gradients.plain_autograd import differentiable
from scoring.influence import InfluenceFactors

from .nets import flat, small_net, vector_like

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")


def data(n: int = 12, d: int = 6) -> list:
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(n, d, generator=generator), torch.arange(n) % 3)]


def changed_gradient(model: nn.Module, batches: list, chosen, vector: list, step: float = 1e-6) -> np.ndarray:
    """H v as the change of the plain float64 gradient along v."""
    x, y = batches[0]

    def gradient(h):
        with torch.no_grad():
            for p, v in zip(chosen.tensors, vector, strict=True):
                p.add_(v, alpha=h)
        found = torch.autograd.grad(F.cross_entropy(model(x), y), chosen.tensors)
        with torch.no_grad():
            for p, v in zip(chosen.tensors, vector, strict=True):
                p.add_(v, alpha=-h)
        return flat(found)

    for p in chosen.tensors:
        p.requires_grad_(True)
    return (gradient(step) - gradient(-step)) / (2 * step)


# -- weight norm ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [0, 1, None])
@pytest.mark.parametrize("wrap", [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm])
@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_weight_norm_has_the_second_derivative_of_its_gradient(wrap, kind, dim):
    torch.manual_seed(0)
    if kind == "linear":
        model, batches = (
            nn.Sequential(wrap(nn.Linear(6, 5), dim=dim), nn.Tanh(), wrap(nn.Linear(5, 3), dim=dim)),
            data(),
        )
    else:
        model = nn.Sequential(
            wrap(nn.Conv2d(2, 4, 3), dim=dim), nn.Tanh(), nn.Flatten(), wrap(nn.Linear(16, 3), dim=dim)
        )
        batches = [(torch.randn(12, 2, 4, 4), torch.arange(12) % 3)]
    model, batches = model.double(), [(x.double(), y) for x, y in batches]
    chosen = choose(model, "*")
    vector = vector_like(chosen.tensors)
    with differentiable(model, chosen.tensors):
        found = flat(hessian_products(model, batches, chosen, loss=F.cross_entropy)(vector))
    np.testing.assert_allclose(found, changed_gradient(model, batches, chosen, vector), atol=1e-7)


# -- functions that cannot be differentiated twice -------------------------------------------------------------


class Dropping(Function):
    """tanh whose backward pass is made in numpy: right gradients, no second-order terms, no error."""

    @staticmethod
    def forward(ctx, x):
        ctx.slope = 1 - x.detach().tanh() ** 2
        return x.tanh()

    @staticmethod
    def backward(ctx, g):
        return g * ctx.slope


class Once(Function):
    """tanh whose backward pass may be run once."""

    @staticmethod
    def forward(ctx, x):
        out = x.tanh()
        ctx.save_for_backward(out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        (out,) = ctx.saved_tensors
        return g * (1 - out**2)


class Refusing(Once):
    """tanh whose backward pass raises when it is differentiated."""

    @staticmethod
    def backward(ctx, g):
        (out,) = ctx.saved_tensors
        return Raising.apply(g * (1 - out**2))


class Raising(Function):
    @staticmethod
    def forward(ctx, g):
        return g.clone()

    @staticmethod
    def backward(ctx, g):
        raise NotImplementedError("derivative is not implemented")


class Net(nn.Module):
    """Two layers, the custom function, a layer, a plain tanh and a head."""

    def __init__(self, function, last=False):
        super().__init__()
        torch.manual_seed(0)
        self.below, self.layer, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.function, self.last = function, last

    def forward(self, x):
        h = torch.tanh(self.layer(self.function(self.below(x))))
        return self.function(self.head(h)) if self.last else self.head(h)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "function, why",
    [
        (Dropping, "differ from a finite difference by up to"),
        (Once, "differ from a finite difference by up to"),
        (Refusing, "cannot be differentiated again"),
    ],
)
def test_layers_below_a_function_without_second_derivatives_are_left_out_by_name(function, why, dtype):
    model, batches = Net(function.apply).to(dtype), [(x.to(dtype), y) for x, y in data()]
    factors = InfluenceFactors.fit(model, batches, layers="*", rank=5)
    assert {name.split(".")[0] for name in factors.blocks} == {"layer", "head"}
    assert any(why in note and " below" in note and "left out" in note for note in factors.report.notes)
    plain = Net(torch.tanh).to(dtype)
    expected = InfluenceFactors.fit(plain, batches, layers=["layer", "head"], rank=5).embed(plain, batches)
    found = factors.embed(model, batches)
    np.testing.assert_allclose(
        found @ found.T, expected @ expected.T, rtol=1e-3, atol=1e-4 * np.abs(expected).max() ** 2
    )


@pytest.mark.parametrize("function", [Dropping, Once])
def test_a_function_above_all_chosen_layers_is_refused(function):
    model = Net(function.apply, last=True)
    with pytest.raises(HardlookError, match="head.*twice differentiable"):
        InfluenceFactors.fit(model, data(), layers=["layer", "head"])
    chosen = choose(model, ["below", "head"])
    with differentiable(model, chosen.tensors), pytest.raises(HardlookError, match="below.*twice differentiable"):
        hessian_products(model, data(), chosen, loss=F.cross_entropy)


def test_a_loss_without_second_derivatives_is_refused():
    def loss(logits, labels):
        return Dropping.apply(F.cross_entropy(logits, labels, reduction="none"))

    with pytest.raises(HardlookError, match="differ from a finite difference by up to"):
        InfluenceFactors.fit(Net(torch.tanh), data(), layers=["layer", "head"], loss=loss)


# -- no false alarms -------------------------------------------------------------------------------------------


class Casting(nn.Module):
    """A norm and an attention that compute in float32 on their way, as language models do."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x):
        x = x[:, None] * torch.arange(1, 4, dtype=torch.float32)[:, None]
        weights = F.softmax(self.q(x) @ self.k(x).transpose(1, 2), dim=-1, dtype=torch.float32).to(x.dtype)
        h = (weights @ x).mean(1)
        return self.head(h * torch.rsqrt(h.float().square().mean(1, keepdim=True) + 1e-3).to(x.dtype))


def kinks(factor: float = 1.0, head: float = 1.0) -> nn.Sequential:
    """ReLUs and max-pooling with zero biases over images with empty patches."""
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 6, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(24, 3),
    )
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.mul_(0.0 if "bias" in name else factor)
        model[-1].weight.mul_(head)
    return model


def patches() -> torch.Tensor:
    x = torch.randn(8, 1, 8, 8).relu()
    x[:, :, :4] = 0
    return x


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cells, self.head = nn.LSTM(6, 5, 2, batch_first=True), nn.Linear(5, 3)

    def forward(self, x):
        return self.head(self.cells(x)[0][:, -1])


NETS = {
    "relu and max-pool at their kinks": lambda: (kinks(), patches()),
    "weights of 1e-4": lambda: (kinks(1e-4), patches()),
    "saturated": lambda: (kinks(head=1e4), patches()),
    "attention and gelu": lambda: (
        nn.Sequential(
            nn.TransformerEncoderLayer(6, 2, 9, activation="gelu", batch_first=True), nn.Flatten(), nn.Linear(30, 3)
        ),
        torch.randn(8, 5, 6),
    ),
    "recurrent": lambda: (Recurrent(), torch.randn(8, 5, 6)),
    "float32 on the way": lambda: (Casting(), torch.randn(8, 6)),
    "hard activations": lambda: (
        nn.Sequential(nn.Linear(6, 9), nn.Hardswish(), nn.Linear(9, 9), nn.Hardsigmoid(), nn.Linear(9, 3)),
        torch.randn(8, 6) * 3,
    ),
    "spectral norm": lambda: (
        nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(6, 9)), nn.ReLU(), nn.Linear(9, 3)),
        torch.randn(8, 6),
    ),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NETS)
def test_right_second_derivatives_pass_and_leave_the_weights_to_the_bit(name, dtype):
    for seed in range(3):
        torch.manual_seed(seed)
        model, x = NETS[name]()
        model, x = model.to(dtype), x.to(dtype)
        if name == "float32 on the way" and dtype == torch.float64:
            x = x.double()
        before = {
            key: (id(value), value.data_ptr(), value.clone()) for key, value in model.state_dict(keep_vars=True).items()
        }
        chosen = choose(model, "*")
        with differentiable(model, chosen.tensors):
            verdict = check_second_derivatives(
                model, (x, torch.arange(len(x)) % 3), chosen, F.cross_entropy, products_on_few
            )
        assert not verdict.wrong and not verdict.notes
        for key, value in model.state_dict(keep_vars=True).items():
            assert (id(value), value.data_ptr()) == before[key][:2] and torch.equal(value, before[key][2])
    assert torch.get_default_dtype() == torch.float32


class Foreign(Net):
    """Leaves PyTorch for float32 on its way, so that float64 cannot be had."""

    def __init__(self, act):
        super().__init__(Rounded.apply)
        self.act = act

    def forward(self, x):
        return self.head(self.act(self.layer(self.act(self.function(self.below(x))))))


class Rounded(Function):
    """The identity, through numbers of float32."""

    @staticmethod
    def forward(ctx, x):
        return torch.from_numpy(x.detach().numpy().astype(np.float32)).to(x.dtype)

    @staticmethod
    def backward(ctx, g):
        return g


def test_a_model_that_loses_float64_is_tried_with_coarser_steps():
    torch.manual_seed(0)
    model = Foreign(torch.tanh)
    chosen = choose(model, "*")
    with differentiable(model, chosen.tensors):
        assert check_second_derivatives(model, data()[0], chosen, F.cross_entropy, products_on_few).wrong == {}
    model = Foreign(Dropping.apply)
    with differentiable(model, (chosen := choose(model, "*")).tensors):
        assert (
            "below.weight" in check_second_derivatives(model, data()[0], chosen, F.cross_entropy, products_on_few).wrong
        )


def test_a_small_net_with_a_frozen_norm_passes():
    model = small_net()
    chosen = choose(model, "*")
    with differentiable(model, chosen.tensors):
        batch = torch.randn(5, 2, 6, 6).double(), torch.arange(5) % 3
        assert not check_second_derivatives(model, batch, chosen, F.cross_entropy, products_on_few).wrong


def test_products_made_after_the_trial_run_in_the_precision_of_the_model():
    class Plain(nn.Sequential):
        """Holds a plain tensor, which is float64 only during the trial."""

        def forward(self, x):
            return super().forward(x * self.scale)

    model = Plain(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    model.scale, seen = torch.full((6,), 2.0), []
    chosen = choose(model, "*")
    with differentiable(model, chosen.tensors):
        products = hessian_products(model, data(), chosen, loss=F.cross_entropy, memory_budget=0)
        model[0].register_forward_hook(lambda module, args, output: seen.append(output.dtype))
        products(vector_like(chosen.tensors))
    assert set(seen) == {torch.float32}
