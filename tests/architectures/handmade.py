"""Nets that a library does not have: every way in which people build, wrap and freeze theirs, a few lines each.

``NETS``: name → (build, shape of an example, whether it is of tokens, {score: part of the reason for which it is left
out}).
"""

from __future__ import annotations

import types
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

CLASSES = 5
NO_INPUT_GRADIENT = {"vog": "gradient", "odin": "gradient"}


class Net(nn.Module):
    """A body, a head, and how a batch goes through them."""

    def __init__(self, way: Callable, body: nn.Module, head: nn.Module, **more: nn.Module):
        super().__init__()
        self.way, self.body, self.head = way, body, head
        for name, module in more.items():
            self.add_module(name, module)

    def forward(self, *args, **kwargs):
        return self.way(self, *args, **kwargs)


def mlp() -> nn.Module:
    """6 numbers → 8 features."""
    return nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 8), nn.Tanh())


def convolutions() -> nn.Module:
    """3 channels → 8 channels, with batch norms."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.GELU(),
    )


def head(width: int = 8, **more) -> nn.Module:
    """Of five classes."""
    return nn.Linear(width, CLASSES, **more)


def of_vectors(way: Callable, body: Callable = mlp, last: Callable = head, **more) -> Callable:
    """Builds a net of 6 numbers."""
    return lambda: Net(way, body(), last(), **{name: make() for name, make in more.items()})


def of_pictures(way: Callable, last: Callable = head, body: Callable = convolutions) -> Callable:
    """Builds a net of pictures of 12×12."""
    return lambda: Net(way, body(), last())


def plain(net, x):
    """Body, then head."""
    return net.head(net.body(x))


def pooled(net, x):
    """Body, mean over positions, then head."""
    return net.head(net.body(x).mean((2, 3)))


def frozen(guard: Callable) -> Callable:
    """A linear probe: the body under ``guard``."""

    def way(net, x):
        with guard():
            features = net.body(x)
        return net.head(features.clone() if features.is_inference() else features)

    return way


def pooled_tower(net, x):
    """A linear probe on what a transformer's tower gives for the whole picture."""
    with torch.no_grad():
        features = net.body(pixel_values=x).pooler_output
    return net.head(features)


class Cosine(nn.Linear):
    """A Linear by its type alone."""

    def forward(self, x):
        return 10 * F.linear(F.normalize(x), F.normalize(self.weight))


class Lora(nn.Module):
    """A Linear with a low-rank part beside it."""

    def __init__(self, d: int, c: int):
        super().__init__()
        self.base, self.a, self.b = nn.Linear(d, c), nn.Linear(d, 2, bias=False), nn.Linear(2, c, bias=False)

    def forward(self, x):
        return self.base(x) + self.b(self.a(x))


class Recurrent(nn.Module):
    """The last state of an LSTM or a GRU over 5 steps of 6 numbers."""

    def __init__(self, kind):
        super().__init__()
        self.cells = kind(6, 8, batch_first=True)

    def forward(self, x):
        return self.cells(x)[0][:, -1]


class Attention(nn.Module):
    """PyTorch's own attention over 5 steps of 6 numbers, averaged."""

    def __init__(self):
        super().__init__()
        self.start, self.attention, self.norm = (
            nn.Linear(6, 8),
            nn.MultiheadAttention(8, 2, batch_first=True),
            nn.LayerNorm(8),
        )

    def forward(self, x):
        h = self.start(x)
        return self.norm(h + self.attention(h, h, h, need_weights=False)[0]).mean(1)


class Words(nn.Module):
    """The mean of the embeddings of the tokens that are no padding."""

    def __init__(self):
        super().__init__()
        self.words, self.deep = nn.Embedding(100, 8, padding_idx=0), nn.Linear(8, 8)

    def forward(self, ids):
        keep = (ids != 0).float()[..., None]
        return torch.tanh(self.deep(torch.tanh(self.words(ids)) * keep)).mul(keep).sum(1) / keep.sum(1)


def patched() -> nn.Module:
    """A forward of its own on an instance inside."""
    net = Net(plain, mlp(), head())
    net.body[1].forward = types.MethodType(lambda self, x: 3 * torch.tanh(x), net.body[1])
    return net


def closed_over() -> nn.Module:
    """The whole forward replaced by a closure over the net."""
    net = Net(plain, mlp(), head())
    before = net.forward
    net.forward = lambda x: before(x) * 2
    return net


def shared() -> nn.Module:
    """One batch norm behind two convolutions."""
    norm = nn.BatchNorm2d(6)
    body = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), norm, nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1), norm, nn.ReLU())
    return Net(pooled, body, head(6))


def checkpointed(reentrant: bool) -> Callable:
    """Activation checkpointing around the body."""

    def build():
        net = Net(
            lambda net, x: net.head(checkpoint(net.body, x, use_reentrant=net.reentrant).mean((2, 3))),
            convolutions(),
            head(),
        )
        net.reentrant = reentrant
        return net

    return build


def gated(net, x):
    """A hard gate on the input."""
    h = net.body(x)
    return net.head(torch.where(x[:, :1] < 0, -h, h))


def weight_norm(kind: Callable) -> Callable:
    """Both linear layers of the body weight-normed."""
    return lambda: nn.Sequential(kind(nn.Linear(6, 12)), nn.Tanh(), kind(nn.Linear(12, 8)), nn.Tanh())


V, P, S, T = (6,), (3, 12, 12), (5, 6), (7,)
NETS = {
    "mlp": (of_vectors(plain), V, False, None),
    "head without bias": (of_vectors(plain, last=lambda: head(bias=False)), V, False, None),
    "cosine head": (
        of_vectors(plain, last=lambda: Cosine(8, CLASSES, bias=False)),
        V,
        False,
        {"self_influence": "not linear", "gradnorm": "not linear"},
    ),
    "temperature": (of_vectors(lambda net, x: plain(net, x) / 0.5), V, False, None),
    "two heads": (
        of_vectors(lambda net, x: (plain(net, x) + net.other(net.body(x).tanh())) / 2, other=head),
        V,
        False,
        {"self_influence": "no single layer", "gradnorm": "no single layer"},
    ),
    "log-softmax": (of_vectors(lambda net, x: plain(net, x).log_softmax(1)), V, False, None),
    "softmax": (of_vectors(lambda net, x: plain(net, x).softmax(1)), V, False, None),
    "1×1 convolution as head": (
        of_pictures(lambda net, x: net.head(net.body(x)).mean((2, 3)), lambda: nn.Conv2d(8, CLASSES, 1)),
        P,
        False,
        None,
    ),
    "cnn": (of_pictures(pooled), P, False, None),
    "shared batch norm": (shared, P, False, None),
    "probe under no_grad": (of_vectors(frozen(torch.no_grad)), V, False, NO_INPUT_GRADIENT),
    "probe under inference_mode": (of_vectors(frozen(torch.inference_mode)), V, False, NO_INPUT_GRADIENT),
    "probe by detach": (of_vectors(lambda net, x: net.head(net.body(x).detach())), V, False, NO_INPUT_GRADIENT),
    "patched layer": (patched, V, False, None),
    "closure as forward": (closed_over, V, False, None),
    "gate on the input": (of_vectors(gated), V, False, None),
    "old weight norm": (of_vectors(plain, weight_norm(nn.utils.weight_norm)), V, False, None),
    "weight norm": (of_vectors(plain, weight_norm(nn.utils.parametrizations.weight_norm)), V, False, None),
    "spectral norm": (of_vectors(plain, weight_norm(nn.utils.parametrizations.spectral_norm)), V, False, None),
    "LoRA": (of_vectors(plain, lambda: nn.Sequential(Lora(6, 12), nn.Tanh(), Lora(12, 8), nn.Tanh())), V, False, None),
    "in-place input": (of_vectors(lambda net, x: plain(net, x.sub_(0.1).div_(0.7))), V, False, None),
    "in-place layers": (
        of_pictures(
            pooled,
            body=lambda: nn.Sequential(
                nn.ReLU(inplace=True), nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True)
            ),
        ),
        P,
        False,
        None,
    ),
    "checkpointing": (checkpointed(False), P, False, None),
    "reentrant checkpointing": (checkpointed(True), P, False, None),
    "LSTM": (of_vectors(plain, lambda: Recurrent(nn.LSTM)), S, False, None),
    "GRU": (of_vectors(plain, lambda: Recurrent(nn.GRU)), S, False, None),
    "MultiheadAttention": (of_vectors(plain, Attention), S, False, None),
    "embeddings with padding": (of_vectors(plain, Words), T, True, None),
    "instance norm": (
        of_pictures(
            pooled, body=lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.InstanceNorm2d(8, affine=True), nn.SiLU())
        ),
        P,
        False,
        None,
    ),
    "group norm": (
        of_pictures(pooled, body=lambda: nn.Sequential(nn.Conv2d(3, 8, 3, groups=1), nn.GroupNorm(2, 8), nn.PReLU())),
        P,
        False,
        None,
    ),
}
