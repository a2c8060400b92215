"""Self-influence of the head against float64 autograd, exactly and by conjugate gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from scoring.audit.errors import HardlookError
from scoring.curvature import head_hessian
from scoring.influence import (
    conjugate_gradients,
    cook_distances,
    head_factor,
    self_influence,
    self_influence_by_gradients,
)


def head_case(n: int = 50, d: int = 6, c: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x, logits = rng.normal(size=(n, d)), rng.normal(size=(n, c))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return x, p, rng.integers(0, c, n)


def gradients_of(x: np.ndarray, p: np.ndarray, y: np.ndarray) -> np.ndarray:
    errors = p - np.eye(p.shape[1])[y]
    return (errors[:, :, None] * np.hstack([x, np.ones((len(x), 1))])[:, None, :]).reshape(len(x), -1)


def test_self_influence_is_the_damped_quadratic_form_of_float64_autograd():
    torch.manual_seed(0)
    layer, x = nn.Linear(6, 4).double(), torch.randn(50, 6).double()
    y = torch.arange(50) % 4
    ones = torch.cat([x, torch.ones(50, 1).double()], 1)
    start = torch.cat([layer.weight, layer.bias[:, None]], 1).detach().flatten()
    hessian = torch.autograd.functional.hessian(lambda w: F.cross_entropy(ones @ w.view(4, 7).T, y), start)
    each = torch.autograd.functional.jacobian(
        lambda w: F.cross_entropy(ones @ w.view(4, 7).T, y, reduction="none"), start
    )
    expected = (each @ torch.linalg.inv(hessian + 0.01 * torch.eye(28).double()) * each).sum(1)
    p = layer(x).softmax(1).detach().numpy()
    np.testing.assert_allclose(self_influence(x.numpy(), p, y.numpy(), damping=0.01), expected, rtol=1e-10)


def test_self_influence_takes_the_hessian_of_other_rows_and_its_l2_part():
    x, p, y = head_case()
    hessian = head_hessian(x[:30], p[:30], l2=0.2)
    found = self_influence(x, p, y, hessian=hessian, damping=0.05)
    inverse = np.linalg.inv(hessian.mean + 0.05 * np.eye(28))
    g = gradients_of(x, p, y)
    np.testing.assert_allclose(found, np.einsum("np,pq,nq->n", g, inverse, g), rtol=1e-10)
    np.testing.assert_allclose(self_influence(x, p, y, hessian=hessian.mean, damping=0.05), found)
    before = hessian.mean
    self_influence(x, p, y, hessian=before)
    np.testing.assert_array_equal(before, hessian.mean)


def test_conjugate_gradients_give_the_same_self_influence():
    x, p, y = head_case()
    expected = self_influence(x, p, y, hessian=head_hessian(x, p, l2=0.1), damping=1e-2)
    found = self_influence_by_gradients(x, p, y, damping=1e-2, l2=0.1, tolerance=1e-10)
    np.testing.assert_allclose(found, expected, rtol=1e-8)
    with pytest.raises(HardlookError, match="raise damping or max_steps"):
        self_influence_by_gradients(x, p, y, damping=1e-9, max_steps=2)


def test_conjugate_gradients_take_the_hessian_over_other_rows():
    x, p, y = head_case()
    expected = self_influence(x, p, y, hessian=head_hessian(x[:30], p[:30]), damping=1e-2)
    found = self_influence_by_gradients(x, p, y, damping=1e-2, over=(x[:30], p[:30]), tolerance=1e-10)
    np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_conjugate_gradients_need_no_more_products_than_there_are_eigenvalues():
    matrix, products = np.diag(np.repeat([1.0, 30.0, 1000.0, 1e4], 10)), []

    def product(v):
        products.append(1)
        return v @ matrix

    conjugate_gradients(product, np.random.default_rng(0).normal(size=(3, 40)), 1e-8)
    assert len(products) <= 5  # four in exact arithmetic; steepest descent takes thousands


def test_conjugate_gradients_solve_many_right_sides_at_once_and_leave_zeros_alone():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(6, 6))
    matrix, right = root @ root.T + np.eye(6), rng.normal(size=(4, 6))
    right[2] = 0
    np.testing.assert_allclose(
        conjugate_gradients(lambda v: v @ matrix, right, 1e-12), right @ np.linalg.inv(matrix), atol=1e-9
    )


def test_a_hessian_over_the_budget_is_refused_with_its_size_and_the_ways_out():
    x, p, y = head_case()
    with pytest.raises(HardlookError, match=r"takes 6.27e-06 GB \(4 classes × 7 features.*self_influence_by_gradients"):
        self_influence(x, p, y, memory_budget=1000)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"damping": 0.0}, "damping is 0.0; needed above 0"),
        ({"labels": np.full(50, 9)}, "labels run from 9 to 9"),
        ({"labels": np.arange(50) % 5}, "labels run from 0 to 4; the head has classes 0 to 3"),
        ({"labels": np.zeros(3, int)}, "needed 50 class indices"),
        ({"labels": np.zeros(50)}, "needed 50 class indices"),
        ({"hessian": np.eye(3)}, r"needed \(28, 28\)"),
        ({"hessian": -np.eye(28)}, "not positive definite"),
        ({"features": np.full((50, 6), np.nan)}, "features of row 0 are not finite"),
    ],
)
def test_bad_input_to_self_influence_is_refused_in_one_sentence(change, message):
    x, p, y = head_case()
    with pytest.raises(HardlookError, match=message):
        self_influence(**{"features": x, "probabilities": p, "labels": y, **change})


# -- a head without bias -------------------------------------------------------------------------------------


def by_autograd(x: np.ndarray, weight: torch.Tensor, y: np.ndarray, l2: float, damping: float) -> np.ndarray:
    """gᵀ(H + δI)⁻¹g of a head W x, each from autograd in float64."""
    inputs, labels = torch.as_tensor(x), torch.as_tensor(y)
    start = weight.flatten()
    hessian = torch.autograd.functional.hessian(
        lambda w: F.cross_entropy(inputs @ w.view_as(weight).T, labels) + l2 / 2 * (w**2).sum(), start
    )
    g = torch.autograd.functional.jacobian(
        lambda w: F.cross_entropy(inputs @ w.view_as(weight).T, labels, reduction="none"), start
    )
    return (g @ torch.linalg.inv(hessian + damping * torch.eye(len(start)).double()) * g).sum(1).numpy()


@pytest.mark.parametrize("l2", [0.0, 0.3])
@pytest.mark.parametrize("norm", [0.3, 3.0])
def test_a_head_without_bias_has_the_self_influence_of_autograd(norm, l2):
    torch.manual_seed(0)
    x = F.normalize(torch.randn(50, 6, dtype=torch.double)) * norm
    weight, y = torch.randn(4, 6, dtype=torch.double), np.arange(50) % 4
    x, p = x.numpy(), (x @ weight.T).softmax(1).numpy()
    expected = by_autograd(x, weight, y, l2, 0.01)
    hessian = head_hessian(x, p, l2=l2, bias=False)
    assert hessian.mean.shape == (24, 24)
    factor = head_factor(hessian, 0.01)
    for found in (
        self_influence(x, p, y, damping=0.01, hessian=hessian, bias=False),
        cook_distances(factor, x, p, y, bias=False),
        self_influence_by_gradients(x, p, y, damping=0.01, l2=l2, tolerance=1e-11, bias=False),
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-8)
    if not l2:
        np.testing.assert_allclose(self_influence(x, p, y, damping=0.01, bias=False), expected, rtol=1e-8)


def test_hessians_of_heads_with_and_without_bias_are_not_mixed():
    x, p, y = head_case()
    with pytest.raises(HardlookError, match=r"this head needed \(28, 28\)"):
        self_influence(x, p, y, hessian=head_hessian(x, p, bias=False))
    with pytest.raises(HardlookError, match="needed the same head"):
        head_hessian(x, p) + head_hessian(x, p, bias=False)
