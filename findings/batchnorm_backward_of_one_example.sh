#!/usr/bin/env bash
# PyTorch's batch normalisation gives a wrong input gradient on the CPU for a batch of one example.
#
# In eval mode the layer is a fixed factor per channel, so the gradient of its input is the gradient of its output times
# that factor. With one example in the batch, an input in the usual layout and an output gradient whose channels lie
# innermost (what arrives where image tokens (n, h·w, c) follow the norm, as in vision transformers with a convolutional
# stem), the kernel reads the one layout as the other: the gradient of position (channel, row, column) is that of another
# one. With two examples it is right. Nothing is raised. Instance normalisation is built on the same kernel and is wrong
# alike. Who takes gradients one example at a time (saliency, influence, a last batch of one) gets them wrong in silence.
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

torch.manual_seed(0)
channels, side = 6, 4
norm = nn.BatchNorm2d(channels).double().eval()
norm.running_var.uniform_(0.5, 1.5)
factor = (norm.running_var + norm.eps).rsqrt().view(1, -1, 1, 1)


def error(n, innermost, layer=norm):
    """Largest difference to the gradient that the same batch has in other company: n examples and then n more."""
    x = torch.randn(n, channels, side, side, dtype=torch.double)
    tokens = torch.randn(n, side * side, channels, dtype=torch.double)
    given = tokens.transpose(1, 2).reshape(n, channels, side, side)
    given = given if innermost else given.contiguous()
    leaf = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(layer(leaf), leaf, given)
    if layer is norm:
        wanted = given * factor
    else:
        twice = torch.cat([x, x]).requires_grad_()
        wanted = torch.autograd.grad(layer(twice), twice, torch.cat([given, given]).contiguous())[0][:n]
    return float((found - wanted).abs().max() / wanted.abs().max())


print(f"torch {torch.__version__}")
told = {}
for name, layer in (("BatchNorm2d, eval mode", norm), ("InstanceNorm2d", nn.InstanceNorm2d(channels).double())):
    for n in (1, 2):
        for innermost in (False, True):
            told[name, n, innermost] = error(n, innermost, layer)
            print(f"{name}, {n} example(s), channels {'innermost' if innermost else 'as usual'}: "
                  f"input gradient off by {told[name, n, innermost]:.0e} of its largest value")
wrong = {key for key, off in told.items() if off > 1e-9}
expected = {(name, 1, True) for name, _, _ in told}
raise SystemExit(0 if wrong == expected else 1)
PY
