"""Speed and agreement of curvature, embeddings and self-influence against captum 0.9 and generic autograd.

Run from the project root, one thread, all rows or those named:

    OMP_NUM_THREADS=1 python tests/benchmarks/influence.py [product] [fit] [embed] [head] [agreement] [scale]

Every row is a ratio of process CPU time with both sides in one run, or an error. captum: leaf Conv and Linear
layers alone, eval mode set by hand, and its P products give P−1 dimensions, so it gets one more.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from captum.influence._core.arnoldi_influence_function import ArnoldiInfluenceFunction
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset
from torchvision.models import resnet18

from scoring.curvature import peak_memory
from scoring.curvature.cached_prefix import Prefix
from scoring.curvature.chosen_parameters import choose
from scoring.curvature.hessian import hessian_products
from scoring.gradients.plain_autograd import differentiable
from scoring.influence import InfluenceFactors, self_influence
from scoring.models.eval_mode import outputs


class Block(nn.Module):
    """Two 3×3 convolutions with batch norm and a shortcut (He et al. 2016)."""

    def __init__(self, inner: int, outer: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outer)
        self.conv2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outer)
        same = stride == 1 and inner == outer
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))
        )

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class ResNet20(nn.Module):
    """The CIFAR ResNet of 20 layers, 0.27 M parameters."""

    def __init__(self, c: int = 10):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        widths = ((16, 16, 1), (16, 32, 2), (32, 64, 2))
        self.layer1, self.layer2, self.layer3 = (
            nn.Sequential(Block(a, b, s), Block(b, b, 1), Block(b, b, 1)) for a, b, s in widths
        )
        self.fc = nn.Linear(64, c)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(F.relu(self.bn(self.conv(x))))))
        return self.fc(x.mean((2, 3)))


def cpu(work: Callable[[], object], times: int = 1) -> float:
    """Seconds of process CPU time per call, the best of ``times``."""
    best = float("inf")
    for _ in range(times):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


def row(name: str, value: float, bar: str, met: bool) -> None:
    """Print one line of the table."""
    print(f"{name:<64} {value:>10.4g}   bar {bar:<8} {'met' if met else 'MISSED'}", flush=True)


def resnet20(n: int, size: int = 32, batch: int = 64) -> tuple[nn.Module, list]:
    """A ResNet-20 with made-up but plausible statistics, and n random images in batches."""
    torch.manual_seed(0)
    return settled(ResNet20()), images(n, size, batch)


def settled(model: nn.Module) -> nn.Module:
    """Batch statistics from one pass over noise, eval mode."""
    model.train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(32, 3, 32, 32))
    return model.eval()


def images(n: int, size: int, batch: int) -> list:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, 3, size, size, generator=generator)
    y = torch.randint(0, 10, (n,), generator=generator)
    return list(zip(x.split(batch), y.split(batch), strict=True))


def leaves(model: nn.Module, below: str = "") -> list[str]:
    """Names of the Conv and Linear layers, the only ones captum's sample-wise trick knows."""
    return [
        name
        for name, layer in model.named_modules()
        if isinstance(layer, (nn.Conv2d, nn.Linear)) and name.startswith(tuple(below.split(",")))
    ]


def captum_fit(model: nn.Module, data: list, layers: list[str], products: int, rank: int) -> ArnoldiInfluenceFunction:
    """captum's factors at the same layers, from as many usable dimensions."""
    dataset = TensorDataset(torch.cat([x for x, _ in data]), torch.cat([y for _, y in data]))
    model.eval().requires_grad_(True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ArnoldiInfluenceFunction(
            model,
            dataset,
            "",
            lambda *_: None,
            layers=layers,
            loss_fn=nn.CrossEntropyLoss(reduction="sum"),
            batch_size=len(data[0][1]),
            sample_wise_grads_per_batch=True,
            projection_dim=rank,
            seed=0,
            arnoldi_dim=products + 1,
            arnoldi_tol=1e-12,
            hessian_reg=0.0,
            hessian_inverse_tol=1e-12,
        )


def product() -> None:
    """A Hessian-vector product against one forward and backward pass of the part above the cut."""
    model, data = resnet20(128)
    for title, layers in (("whole net", leaves(model)), ("layer3 + fc", leaves(model, "layer3,fc"))):
        chosen = choose(model, layers)
        with differentiable(model, chosen.tensors):
            products = hessian_products(model, data, chosen, loss=F.cross_entropy)
            vector = [torch.randn_like(p) for p in chosen.tensors]
            prefix = Prefix.find(model, chosen.tensors, data[0][0])
            recorded = [prefix.record(model, x) for x, _ in data]

            def plain():
                for held, (_, y) in zip(recorded, data, strict=True):
                    with prefix.replay(held) as inputs:
                        torch.autograd.grad(F.cross_entropy(outputs(model, inputs), y), chosen.tensors)

            plain(), products(vector)
            ratio = cpu(lambda: products(vector), 3) / cpu(plain, 3)
        row(f"product / (forward + backward), {title}", ratio, "<= 2.5", ratio <= 2.5)


def fit() -> None:
    """captum's fit against ours, set-up included."""
    model, data = resnet20(64)
    cases = (
        ("head", ["fc"], 100, 20.0),
        ("layer3 + fc", leaves(model, "layer3,fc"), 50, 3.0),
        ("whole net", leaves(model), 50, 3.0),
    )
    for title, layers, products, bar in cases:
        ours = cpu(lambda: InfluenceFactors.fit(model, data, layers=layers, arnoldi_dim=products, rank=10))
        theirs = cpu(lambda: captum_fit(model, data, layers, products, 10))
        row(
            f"captum fit / fit, ResNet-20 {title}, P = {products}",
            theirs / ours,
            f">= {bar:g}",
            theirs / ours >= bar,
        )


def embed() -> None:
    """captum's sample-wise trick against ours at D = 50."""
    model, data = resnet20(128, batch=32)
    compare_embed("ResNet-20, whole net", model, data, leaves(model), 2.2)
    model = settled(resnet18(num_classes=10))
    compare_embed("ResNet-18, layer4 + fc (8.4 M), 64×64", model, images(32, 64, 32), leaves(model, "layer4,fc"), 25)


def compare_embed(title: str, model: nn.Module, data: list, layers: list[str], bar: float) -> None:
    """One row. Both sides project onto the same random columns: what they are changes no time."""
    report = InfluenceFactors.fit(model, data, layers="fc", arnoldi_dim=2, rank=1).report
    parameters = choose(model, layers).parameters
    blocks = {name: torch.randn(50, *parameter.shape) for name, parameter in parameters.items()}
    lengths = {name: float(parameter.detach().double().norm()) for name, parameter in parameters.items()}
    ours = InfluenceFactors(np.ones(50), blocks, report, lengths)
    theirs = captum_fit(model, [(x[:2], y[:2]) for x, y in data[:1]], layers, 2, 1)
    theirs.R = [tuple(block[i] for block in blocks.values()) for i in range(50)]
    mine, other = ours.embed(model, data), []
    seconds = cpu(lambda: other.extend(theirs.compute_intermediate_quantities(tuple(batch)) for batch in data))
    ratio = seconds / cpu(lambda: ours.embed(model, data))
    row(f"captum embed / embed, {title}, D = 50", ratio, f">= {bar:g}", ratio >= bar)
    error = apart(mine, torch.cat(other).numpy())
    row("their relative difference", error, "<= 1e-4", error <= 1e-4)


def head() -> None:
    """Self-influence on the head against autograd's Hessian and per-example gradients, float64."""
    rng = np.random.default_rng(0)
    n, d, c = 2000, 64, 10
    x, y = rng.normal(size=(n, d)), rng.integers(0, c, n)
    layer = nn.Linear(d, c).double()
    inputs, labels = torch.as_tensor(x), torch.as_tensor(y)
    with torch.no_grad():
        p = layer(inputs).softmax(1).numpy()

    def generic():
        parameters = torch.cat([layer.weight, layer.bias[:, None]], 1).detach()
        ones = torch.cat([inputs, torch.ones(n, 1, dtype=torch.double)], 1)
        loss = lambda w: F.cross_entropy(ones @ w.view(c, d + 1).T, labels)
        hessian = torch.autograd.functional.hessian(loss, parameters.flatten())
        inverse = torch.linalg.inv(hessian + 1e-3 * torch.eye(len(hessian), dtype=torch.double))
        w = parameters.flatten().requires_grad_()
        each = F.cross_entropy(ones @ w.view(c, d + 1).T, labels, reduction="none")
        rows = torch.stack([torch.autograd.grad(value, w, retain_graph=True)[0] for value in each])
        return ((rows @ inverse) * rows).sum(1).numpy()

    ours, theirs = cpu(lambda: self_influence(x, p, y), 3), cpu(generic)
    error = np.abs(self_influence(x, p, y) / generic() - 1).max()
    row("autograd / self_influence, n = 2000, d = 64, c = 10", theirs / ours, ">= 20", theirs / ours >= 20)
    row("largest relative difference of the two", error, "<= 1e-8", error <= 1e-8)


def agreement() -> None:
    """Gram matrices against captum at the same leaf layers, and against the exact float64 Hessian."""
    model, data = resnet20(64, size=16)
    train(model, data)
    layers = leaves(model, "layer3.2,fc")
    ours = InfluenceFactors.fit(model, data, layers=layers, arnoldi_dim=60, rank=10)
    theirs = captum_fit(model, data, layers, 60, 10)
    mine = ours.embed(model, data)
    other = np.concatenate([theirs.compute_intermediate_quantities(tuple(b)).numpy() for b in data])
    error = apart(mine @ mine.T, 64 * other @ other.T)  # captum's Hessian is a sum over 64 examples
    row("Gram matrix against captum, ResNet-20 last block + fc", error, "<= 1e-4", error <= 1e-4)
    error = exact_error()
    row("Gram matrix against the exact float64 Hessian, P = 100, D = 20", error, "<= 1e-3", error <= 1e-3)


def train(model: nn.Module, data: list, steps: int = 60) -> None:
    """A few steps, so that the curvature is that of a trained model."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    for _ in range(steps):
        for x, y in data:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()


def exact_error() -> float:
    """A CNN of 1,786 parameters: float32 Lanczos against eigenvectors of the whole float64 Hessian."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16, 32),
        nn.ReLU(),
        nn.Linear(32, 4),
    )
    x = torch.randn(400, 1, 8, 8)
    y = (x.mean((1, 2, 3)) * 12 + 2).clamp(0, 3).long()
    data = list(zip(x.split(100), y.split(100), strict=True))
    train(model, data)
    mine = InfluenceFactors.fit(model, data, layers="*", arnoldi_dim=100, rank=20).embed(model, data)
    wide = model.double()
    names, parameters = zip(*wide.named_parameters(), strict=True)

    def losses(flat: torch.Tensor, each: bool) -> torch.Tensor:
        parts = torch.split(flat, [p.numel() for p in parameters])
        state = {n: part.view_as(p) for n, part, p in zip(names, parts, parameters, strict=True)}
        predicted = torch.func.functional_call(wide, state, (x.double(),))
        return F.cross_entropy(predicted, y, reduction="none" if each else "mean")

    flat = torch.cat([p.detach().flatten() for p in parameters])
    gradient = torch.func.grad(lambda w: losses(w, False))
    hessian = torch.func.vmap(lambda v: torch.func.jvp(gradient, (flat,), (v,))[1], chunk_size=100)(
        torch.eye(len(flat), dtype=torch.double)
    )
    values, vectors = torch.linalg.eigh((hessian + hessian.T) / 2)
    each = torch.func.jacrev(lambda w: losses(w, True))(flat)
    exact = (each @ vectors[:, -20:] * values[-20:] ** -0.5).numpy()
    return apart(mine @ mine.T, exact @ exact.T)


def apart(one: np.ndarray, two: np.ndarray) -> float:
    """Frobenius distance over Frobenius norm."""
    return float(np.linalg.norm(one - two) / np.linalg.norm(two))


def scale() -> None:
    """ResNet-18, layer4 + fc, P = 100, D = 50, 1,000 training and 1,000 test images at 64×64: time and
    memory.
    """
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = settled(resnet18(num_classes=10))
    data = images(1000, 64, 250)
    start, wall, done = time.process_time(), time.perf_counter(), []

    def advance() -> None:
        done.append(1)
        print(f"{len(done)} products, {time.process_time() - start:.0f} s CPU", flush=True)

    factors = InfluenceFactors.fit(
        model,
        data,
        layers=["layer4", "fc"],
        arnoldi_dim=100,
        rank=50,
        memory_budget=5 * 10**9,
        announce=print,
        advance=advance,
    )
    print(factors.report)
    fitted = time.process_time() - start
    factors.embed(model, data), factors.embed(model, data)
    print(
        f"fit {fitted:.0f} s CPU; with embedding 2,000 images {time.process_time() - start:.0f} s CPU, "
        f"{time.perf_counter() - wall:.0f} s wall, peak {peak_memory() / 1e9:.2f} GB"
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in sys.argv[1:] or ["product", "fit", "embed", "head", "agreement"]:
        {
            "product": product,
            "fit": fit,
            "embed": embed,
            "head": head,
            "agreement": agreement,
            "scale": scale,
        }[name]()
