"""Hessian products against the exact Hessian by autograd in float64; what has none is refused."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from scoring.audit.errors import HardlookError
from scoring.curvature.chosen_parameters import choose
from scoring.curvature.hessian import HeadProducts, hessian_products
from scoring.gradients.plain_autograd import differentiable

from .nets import exact_hessian, expected_product, flat, products_of, small_data, small_net, vector_like


@pytest.mark.parametrize(
    "budget, method", [(10**9, "retained"), (40_000, "recomputed"), (3_000, "reread"), (0, "reread")]
)
@pytest.mark.parametrize("layers", ["*", ["norm", "second", "head"], "second"])
def test_a_product_is_the_hessian_times_the_vector_whatever_the_memory_budget(layers, budget, method):
    model, data = small_net(), small_data()
    chosen = choose(model, layers)
    vector = vector_like(chosen.tensors)
    with differentiable(model, chosen.tensors):
        products = hessian_products(model, data, chosen, loss=F.cross_entropy, memory_budget=budget)
        first, second = flat(products(vector)), flat(products(vector))
    np.testing.assert_allclose(first, expected_product(model, chosen, vector), atol=1e-12)
    np.testing.assert_array_equal(first, second)
    assert method in products.method
    assert products.bytes <= budget


def test_a_linear_head_is_multiplied_in_closed_form():
    model, data = small_net(), small_data()
    chosen = choose(model, "head")
    vector = vector_like(chosen.tensors)
    with differentiable(model, chosen.tensors):
        products = hessian_products(model, data, chosen, loss=F.cross_entropy)
        found = flat(products(vector))
    assert isinstance(products, HeadProducts)
    np.testing.assert_allclose(found, expected_product(model, chosen, vector), atol=1e-13)


def weighted(predicted: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The mean over examples of class weight times cross-entropy."""
    return (F.cross_entropy(predicted, labels, reduction="none") * torch.tensor([0.1, 1.0, 7.0])[labels]).mean()


@pytest.mark.parametrize(
    "loss, plain",
    [
        (nn.CrossEntropyLoss(weight=torch.tensor([0.1, 1.0, 7.0]).double()), weighted),
        (nn.CrossEntropyLoss(label_smoothing=0.3), functools.partial(F.cross_entropy, label_smoothing=0.3)),
        (nn.MSELoss(), F.mse_loss),
    ],
)
def test_a_weighted_a_smoothed_and_a_squared_loss_of_a_head_have_their_own_hessian(loss, plain):
    model, data = small_net(), small_data()
    if isinstance(loss, nn.MSELoss):
        data = [(x, F.one_hot(y, 3).double()) for x, y in data]
    chosen = choose(model, "head")
    vector = vector_like(chosen.tensors)
    with differentiable(model, chosen.tensors):
        found = flat(hessian_products(model, data, chosen, loss=loss)(vector))
    exact = exact_hessian(model, data, list(chosen.parameters), plain)
    np.testing.assert_allclose(found, exact @ flat(vector), atol=1e-12)


def test_a_confident_head_keeps_its_curvature_in_float32():
    model = nn.Linear(3, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[9.0, 0, 0], [-9.0, 0, 0]]))
    x = torch.tensor([[1.0, 0.5, -1.0], [1.1, 0.0, 2.0]])  # logits 18 apart: 1 - p is below float32's grain beside 1
    chosen = choose(model, "*")
    vector = vector_like(chosen.tensors)
    with differentiable(model, chosen.tensors):
        found = flat(hessian_products(model, [(x, torch.tensor([0, 0]))], chosen, loss=F.cross_entropy)(vector))
    wide = nn.Linear(3, 2).double()
    wide.load_state_dict(model.state_dict())
    exact = exact_hessian(wide, [(x.double(), torch.tensor([0, 0]))], ["weight", "bias"])
    np.testing.assert_allclose(found, exact @ flat(vector).astype(float), rtol=1e-3)


def test_a_linear_layer_that_is_not_the_output_is_no_head():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh()).double()
    data = [(torch.randn(5, 4).double(), torch.randint(0, 3, (5,)))]
    chosen = choose(model, "0")
    with differentiable(model, chosen.tensors):
        products = hessian_products(model, data, chosen, loss=F.cross_entropy)
        vector = vector_like(chosen.tensors)
        found = flat(products(vector))
    assert not isinstance(products, HeadProducts)
    np.testing.assert_allclose(found, exact_hessian(model, data, list(chosen.parameters)) @ flat(vector), atol=1e-13)


def test_the_l2_part_reaches_weights_and_spares_biases():
    model, data = small_net(), small_data()
    for layers in ("head", ["second", "head"]):
        chosen = choose(model, layers)
        vector = vector_like(chosen.tensors)
        with differentiable(model, chosen.tensors):
            plain = hessian_products(model, data, chosen, loss=F.cross_entropy)(vector)
            penalised = hessian_products(model, data, chosen, loss=F.cross_entropy, l2=0.5)(vector)
        for before, after, v in zip(plain, penalised, vector, strict=True):
            torch.testing.assert_close(after - before, 0.5 * v if v.ndim > 1 else torch.zeros_like(v))


def test_dropout_is_off_in_eval_mode_and_a_random_model_is_refused():
    class Random(nn.Linear):
        def forward(self, x):
            return F.dropout(super().forward(x))

    products_of(small_net(), small_data(), "second")
    with pytest.raises(HardlookError, match="different outputs for the same inputs"):
        products_of(Random(4, 3), [(torch.randn(6, 4), torch.zeros(6, dtype=torch.long))])


@pytest.mark.parametrize(
    "data, message",
    [
        ([], "no batch"),
        ([(torch.randn(2, 4), torch.tensor([0, 7]))], "labels run from 0 to 7; the model has outputs 0 to 2"),
        ([(torch.full((2, 4), np.nan), torch.tensor([0, 1]))], "loss of example 0 of a batch is nan"),
        ([torch.randn(2, 4)], "needed batches of two"),
        ([(torch.randn(0, 4), torch.zeros(0, dtype=torch.long))], "without examples"),
    ],
)
def test_bad_data_are_refused_in_one_sentence(data, message):
    with pytest.raises(HardlookError, match=message):
        products_of(nn.Sequential(nn.Linear(4, 3), nn.Tanh()), data)


def test_a_loss_that_is_one_number_for_the_batch_is_refused():
    data = [(torch.randn(6, 4), torch.zeros(6, dtype=torch.long))]
    with pytest.raises(HardlookError, match="reduction='none'"):
        products_of(nn.Linear(4, 3), data, loss=lambda outputs, labels: outputs.sum())


def test_a_gradient_that_is_not_finite_when_differentiated_again_is_named():
    class Root(nn.Linear):
        def forward(self, x):
            return super().forward(x).abs().pow(0.5)  # infinite slope at 0

    model = Root(2, 2, bias=False)
    nn.init.zeros_(model.weight)
    chosen = choose(model, "*")
    with differentiable(model, chosen.tensors):
        products = hessian_products(model, [(torch.ones(2, 2), torch.tensor([0, 1]))], chosen, loss=F.cross_entropy)
        with pytest.raises(HardlookError, match="gradient of weight has a second derivative that is not finite"):
            products(vector_like(chosen.tensors))


def test_data_in_another_order_the_second_time_are_refused():
    class Shuffled:
        def __init__(self):
            self.order = 1

        def __iter__(self):
            self.order = -self.order
            return iter(small_data()[:: self.order])

    model = small_net()
    chosen = choose(model, "*")
    with differentiable(model, chosen.tensors):
        products = hessian_products(model, Shuffled(), chosen, loss=F.cross_entropy, memory_budget=0)
        with pytest.raises(HardlookError, match="shuffle=False"):
            for _ in range(2):
                products(vector_like(chosen.tensors))


def test_data_that_change_under_the_same_labels_are_refused():
    class Augmented:
        noise = 0.0

        def __iter__(self):
            self.noise += 1.0
            return iter([(x + self.noise, y) for x, y in small_data()])

    model = small_net()
    chosen = choose(model, "*")
    with differentiable(model, chosen.tensors), pytest.raises(HardlookError, match="no random transform"):
        hessian_products(model, Augmented(), chosen, loss=F.cross_entropy, memory_budget=0)(vector_like(chosen.tensors))
