"""The low-rank inverse Hessian: which eigenvalues are kept, and what the report says of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from scoring.audit.errors import HardlookError
from scoring.curvature import factorise, size_of
from scoring.curvature.chosen_parameters import Chosen, choose
from scoring.curvature.hessian import hessian_products
from scoring.gradients.plain_autograd import differentiable

from .nets import small_data, small_hessian, small_net, symmetric


class Spectrum:
    """Products with a symmetric matrix whose eigenvalues are known, as ``factorise`` wants them."""

    n, method, bytes = 1, "by hand", 0

    def __init__(self, values: np.ndarray):
        self.matrix = symmetric(np.asarray(values, float))
        self.chosen = Chosen(("layer",), {"w": nn.Parameter(torch.zeros(len(values), dtype=torch.double))})

    def __call__(self, vector: list[torch.Tensor]) -> list[torch.Tensor]:
        return [self.matrix @ vector[0].detach()]


@pytest.mark.parametrize("scale", [1.0, 1e-9, 1e9])
def test_the_floor_and_the_mass_are_measured_by_the_largest_eigenvalue_whatever_its_sign(scale):
    products = Spectrum(scale * np.array([-100.0, -3.0, 0.5e-3, 2e-3, 1.0, 40.0]))  # the floor is 1e-3
    factors = factorise(products, size_of(products.chosen, arnoldi_dim=6, rank=6), rank=6)
    np.testing.assert_allclose(factors.values, scale * np.array([40.0, 1.0, 2e-3]), rtol=1e-6)
    assert factors.report.negative_share == pytest.approx(2 / 6)
    assert factors.report.negative_mass == pytest.approx(103 / 144.0025)


def test_residuals_are_relative_to_their_own_eigenvalue_and_only_the_rank_asked_for_is_kept():
    products = Spectrum(np.linspace(0.1, 50, 60))
    factors = factorise(products, size_of(products.chosen, arnoldi_dim=15, rank=7), rank=7)
    left = factors.blocks[0] @ products.matrix - torch.as_tensor(factors.values.copy())[:, None] * factors.blocks[0]
    np.testing.assert_allclose(factors.report.residuals, left.norm(dim=1).numpy() / factors.values, rtol=1e-6)
    assert max(factors.report.residuals) > 0.01 and "have relative residuals above 1%" in str(factors.report)
    assert len(factors.values) == len(factors.blocks[0]) == factors.report.rank == 7


def test_factors_do_not_depend_on_how_often_the_data_are_repeated():
    model, data = small_net(), small_data()
    found = []
    for batches in (data, data * 3):
        chosen = choose(model, "head")
        with differentiable(model, chosen.tensors):
            products = hessian_products(model, batches, chosen, loss=F.cross_entropy)
            found.append(factorise(products, size_of(chosen, arnoldi_dim=40, rank=20), rank=20).values)
    np.testing.assert_allclose(*found, rtol=1e-9)


def test_the_report_tells_rank_residuals_negative_curvature_time_and_memory():
    model, data = small_net(), small_data()
    chosen = choose(model, ["second", "head"])
    with differentiable(model, chosen.tensors):
        products = hessian_products(model, data, chosen, loss=F.cross_entropy)
        steps = []
        factors = factorise(
            products, size_of(chosen, arnoldi_dim=1000, rank=1000), rank=1000, advance=lambda: steps.append(1)
        )
    report, p = factors.report, chosen.dimension
    inside = np.concatenate([np.full(w.numel(), name in chosen.parameters) for name, w in model.named_parameters()])
    exact = np.linalg.eigvalsh(small_hessian()[np.ix_(inside, inside)])
    kept = exact[exact > 1e-5 * np.abs(exact).max()][::-1]
    assert len(steps) == report.products == p
    np.testing.assert_allclose(factors.values, kept, rtol=1e-6)
    assert report.rank == len(kept) < p and report.rank_requested == 1000
    assert report.negative_share == pytest.approx((exact < -1e-5 * np.abs(exact).max()).mean())
    assert max(report.residuals) < 1e-6
    assert report.seconds > 0 and report.planned_bytes > 0 and report.peak_bytes > 10**7
    notes = " ".join(report.notes)
    assert f"arnoldi_dim reduced from 1000 to {p}" in notes and "Hessian eigenvalues are negative" in notes
    assert "rank" in str(report) and "largest relative residual" in str(report)


def test_fewer_products_are_planned_with_a_note_where_memory_is_short_and_none_is_an_error():
    chosen = choose(small_net(), "*")
    one = chosen.dimension * 8
    size = size_of(chosen, arnoldi_dim=100, rank=50, memory_budget=30 * one)
    assert size.products == 27 and size.rank == 13 and size.basis_bytes <= 30 * one
    assert "arnoldi_dim reduced from 100 to 27: the memory budget holds 27 products" in size.notes
    assert "27 Hessian products" in str(size)
    assert size.bytes == 27 * one + 13 * max(p.numel() for p in chosen.tensors) * 8
    with pytest.raises(HardlookError, match="choose fewer layers or raise the budget"):
        size_of(chosen, memory_budget=one)
    with pytest.raises(HardlookError, match="needed at least 1"):
        size_of(chosen, rank=0)


def test_no_positive_curvature_is_an_error_that_says_so():
    model = nn.Linear(3, 2)
    with torch.no_grad():
        model.weight.mul_(1e6)
    data = [(torch.ones(4, 3), model(torch.ones(4, 3)).argmax(1))]
    chosen = choose(model, "*")
    with differentiable(model, chosen.tensors):
        products = hessian_products(model, data, chosen, loss=F.cross_entropy)
        with pytest.raises(HardlookError, match="no positive curvature"):
            factorise(products, size_of(chosen), rank=5)


# -- the exact head ------------------------------------------------------------------------------------------
