"""The cheap second derivatives against PyTorch's own."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from scoring.curvature.double_backward import SecondOrder


@pytest.mark.parametrize(
    "kind, stride", [("1d", 2), ("2d", 2), ("2d", (2, 1)), ("2d", (1,)), ("3d", 2), ("3d", (1, 2, 3))]
)
def test_the_cheap_second_derivative_of_a_convolution_is_pytorchs(kind, stride):
    torch.manual_seed(0)
    convolve = {"1d": F.conv1d, "2d": F.conv2d, "3d": F.conv3d}[kind]
    n = int(kind[0])
    x = torch.randn(2, 4, *[7] * n, dtype=torch.double, requires_grad=True)
    w = torch.randn(6, 2, *[3] * n, dtype=torch.double, requires_grad=True)
    b = torch.randn(6, dtype=torch.double, requires_grad=True)

    def function(x, w, b):
        with SecondOrder():
            return convolve(x, w, b, stride=stride, padding=1, dilation=2, groups=2).tanh()

    plain = convolve(x, w, b, stride=stride, padding=1, dilation=2, groups=2).tanh()
    torch.testing.assert_close(function(x, w, b), plain)
    assert torch.autograd.gradcheck(function, (x, w, b), fast_mode=True)
    assert torch.autograd.gradgradcheck(function, (x, w, b), fast_mode=True)


def test_the_cheap_second_derivative_of_a_frozen_batch_norm_is_pytorchs():
    torch.manual_seed(0)
    x, w, b = (torch.randn(*shape, dtype=torch.double, requires_grad=True) for shape in ((3, 4, 5), (4,), (4,)))
    mean, var = torch.randn(4).double(), torch.rand(4).double() + 0.5
    with SecondOrder():
        torch.testing.assert_close(
            F.batch_norm(x, mean, var, w, b), torch.batch_norm(x, w, b, mean, var, False, 0.1, 1e-5, False)
        )
        torch.testing.assert_close(
            F.batch_norm(x, mean, var), torch.batch_norm(x, None, None, mean, var, False, 0.1, 1e-5, False)
        )

    def function(x, w, b):
        with SecondOrder():
            return F.batch_norm(x, mean, var, w, b).tanh()

    assert torch.autograd.gradgradcheck(function, (x, w, b), fast_mode=True)
