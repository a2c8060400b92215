"""Lanczos against matrices whose eigenvalues are known."""

from __future__ import annotations

import numpy as np
import torch

from scoring.curvature.lanczos import lanczos

from .nets import symmetric


def test_lanczos_with_as_many_products_as_dimensions_finds_every_eigenvalue():
    values = np.concatenate([[-3.0, -3.0, 0.0, 0.0, 0.0], np.linspace(0.5, 9, 25)])  # repeated ones too
    matrix = symmetric(values)
    ritz = lanczos(lambda v: [matrix @ v[0]], [torch.zeros(30, dtype=torch.double)], 30).ritz()
    np.testing.assert_allclose(ritz.values, np.sort(values)[::-1], atol=1e-10)
    assert ritz.residuals.max() < 1e-8


def test_ritz_residuals_are_what_the_pairs_leave_over():
    matrix = symmetric(np.linspace(0.1, 5, 80))
    krylov = lanczos(lambda v: [matrix @ v[0]], [torch.zeros(80, dtype=torch.double)], 12)
    ritz = krylov.ritz()
    vectors = krylov.combined(ritz.vectors)[0]
    left = torch.linalg.norm(vectors @ matrix - torch.as_tensor(ritz.values.copy())[:, None] * vectors, dim=1)
    np.testing.assert_allclose(ritz.residuals, left.numpy(), atol=1e-10)
    torch.testing.assert_close(vectors @ vectors.T, torch.eye(12, dtype=torch.double))  # twelve usable dimensions
    assert ritz.residuals.max() > 0.01


def test_a_float32_basis_stays_orthogonal_over_hundreds_of_steps():
    matrix = symmetric(np.logspace(0, -6, 400)).float()
    krylov = lanczos(lambda v: [matrix @ v[0]], [torch.zeros(400)], 300)
    gram = krylov.basis[0] @ krylov.basis[0].T
    assert (gram - torch.eye(300)).abs().max() < 1e-5


def test_a_basis_stays_orthogonal_beside_an_eigenvalue_that_outshines_the_others():
    matrix = symmetric(np.concatenate([[1e6], np.linspace(1, 2, 99)])).float()
    krylov = lanczos(lambda v: [matrix @ v[0]], [torch.zeros(100)], 80)
    gram = krylov.basis[0] @ krylov.basis[0].T
    assert (gram - torch.eye(80)).abs().max() < 1e-5
