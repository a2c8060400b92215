"""The exact Hessian of a softmax head against autograd in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from scoring.audit.errors import HardlookError
from scoring.curvature import head_hessian


def head_case(n: int = 40, d: int = 5, c: int = 4) -> tuple[np.ndarray, np.ndarray, nn.Linear]:
    torch.manual_seed(0)
    layer = nn.Linear(d, c).double()
    x = torch.randn(n, d, dtype=torch.double)
    with torch.no_grad():
        return x.numpy(), layer(x).softmax(1).numpy(), layer


def test_the_head_hessian_is_that_of_autograd():
    x, p, layer = head_case()
    inputs, labels = torch.as_tensor(x), torch.zeros(len(x), dtype=torch.long)
    ones = torch.cat([inputs, torch.ones(len(x), 1, dtype=torch.double)], 1)
    start = torch.cat([layer.weight, layer.bias[:, None]], 1).detach().flatten()
    exact = torch.autograd.functional.hessian(lambda w: F.cross_entropy(ones @ w.view(4, 6).T, labels), start)
    np.testing.assert_allclose(head_hessian(x, p).mean, exact.numpy(), atol=1e-12)
    np.testing.assert_allclose(head_hessian(x, p, block=1000).mean, exact.numpy(), atol=1e-12)


def test_head_hessians_of_shards_add_up():
    x, p, _ = head_case()
    whole, parts = (
        head_hessian(x, p, l2=0.1),
        head_hessian(x[:13], p[:13], l2=0.1) + head_hessian(x[13:], p[13:], l2=0.1),
    )
    assert whole.n == parts.n == 40
    np.testing.assert_allclose(parts.mean, whole.mean, atol=1e-13)
    with pytest.raises(HardlookError, match="needed the same head"):
        whole + head_hessian(x, p)


def test_the_head_hessian_has_a_zero_eigenvalue_for_each_shift_common_to_all_classes():
    x, p, _ = head_case()
    values = np.linalg.eigvalsh(head_hessian(x, p).mean)
    assert (np.abs(values) < 1e-12).sum() == 6  # d + 1
    l2 = head_hessian(x, p, l2=0.3).mean - head_hessian(x, p).mean
    np.testing.assert_allclose(np.diag(l2).reshape(4, 6), np.tile([0.3] * 5 + [0.0], (4, 1)))


def test_a_head_that_is_not_finite_or_not_a_matrix_is_refused():
    x, p, _ = head_case()
    with pytest.raises(HardlookError, match=r"needed \(n, d\) and \(n, c\)"):
        head_hessian(x[0], p[0])
    x[7, 0] = np.nan
    with pytest.raises(HardlookError, match="features of row 7 are not finite"):
        head_hessian(x, p)


# -- bad input -----------------------------------------------------------------------------------------------
