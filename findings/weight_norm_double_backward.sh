#!/usr/bin/env bash
# PyTorch's second derivative of weight normalisation is wrong for the direction parameter.
#
# A weight-normed layer has w = g · v / ‖v‖. Its first gradient is right. Differentiated once more (Hessian-vector products:
# influence functions, Newton and curvature methods, gradient penalties), the row of v is off by tens of per cent, both with
# the old hook and with the parametrisation, in float64 too: the product is not symmetric, and differs from a difference of
# gradients. The same formula written with plain tensor operations is right. Nothing is raised.
# Exits with 1 if the library no longer behaves so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.14.1 numpy
cd "$folder"
CUDA_VISIBLE_DEVICES= "$folder/venv/bin/python" -W ignore - <<'PY'
import torch
from torch import nn
from torch.nn import functional as F


class Written(nn.Module):
    """g · v / ‖v‖ per output, by plain operations."""

    def __init__(self, layer):
        super().__init__()
        self.bias = nn.Parameter(layer.bias.detach().clone())
        self.g = nn.Parameter(layer.weight.detach().norm(dim=1, keepdim=True))
        self.v = nn.Parameter(layer.weight.detach().clone())

    def forward(self, x):
        return F.linear(x, self.g * self.v / self.v.norm(dim=1, keepdim=True), self.bias)


def error(wrap):
    """How far the Hessian-vector product of each parameter is from a central difference of gradients."""
    torch.manual_seed(0)
    layer = wrap(nn.Linear(6, 4).double())
    x, y = torch.randn(30, 6, dtype=torch.double), torch.arange(30) % 4
    parameters = dict(layer.named_parameters())
    along = [torch.randn_like(p) for p in parameters.values()]

    def gradient(graph=False):
        return torch.autograd.grad(F.cross_entropy(layer(x), y), list(parameters.values()), create_graph=graph)

    def moved(step):
        with torch.no_grad():
            for p, v in zip(parameters.values(), along):
                p.add_(v, alpha=step)
        found = gradient()
        with torch.no_grad():
            for p, v in zip(parameters.values(), along):
                p.add_(v, alpha=-step)
        return found

    product = torch.autograd.grad(sum((g * v).sum() for g, v in zip(gradient(True), along)), list(parameters.values()))
    wanted = [(a - b) / 2e-5 for a, b in zip(moved(1e-5), moved(-1e-5))]
    return {name: float((p - w).norm() / w.norm()) for name, p, w in zip(parameters, product, wanted)}


print(f"torch {torch.__version__}")
told = {"torch.nn.utils.weight_norm": error(nn.utils.weight_norm),
        "torch.nn.utils.parametrizations.weight_norm": error(nn.utils.parametrizations.weight_norm),
        "g * v / v.norm(), written out": error(Written)}
for name, errors in told.items():
    print(f"{name}: " + ", ".join(f"{parameter} off by {off:.1e}" for parameter, off in errors.items()))
largest = [max(errors.values()) for errors in told.values()]
raise SystemExit(0 if largest[0] > 0.1 and largest[1] > 0.1 and largest[2] < 1e-6 else 1)
PY
