"""How much faster influence embeddings are than a loop of autograd over the examples, and what would be the
most.

Run `python tests/benchmarks/embedding.py [--n 128] [--only NAME]`. One thread, process CPU, both sides next
to each other in each repetition, in alternating order; the median of the ratios is held against its bar. Per
model, over the last block and the head (the default) and over all layers, with D = 50 columns of random
numbers for M, images of 64 × 64 pixels:

    loop    for each example alone ``autograd.grad`` of its cross-entropy by the chosen parameters, and M times it
    ours    ``Projector`` on the batch, the proof included, its ways found on eight examples before (as ``fit`` does)
    least   forward and backward of the whole batch for one gradient of the sum, and M times n gradients: no exact way
    of
            projecting gradients that are formed can be faster, so that loop / least is the most that can be reached

The embeddings of both sides are compared. Exits with 1 where a bar is missed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from scoring.curvature.chosen_parameters import choose
from scoring.influence.projector import Projector

CLASSES, COLUMNS, PIXELS = 10, 50, 64
LOOPED = 8  # examples of the loop in each repetition: each costs the same
MODELS: dict[str, tuple[Callable[[], nn.Module], float]] = {
    "vit-tiny": (
        lambda: timm.create_model("vit_tiny_patch16_224", img_size=PIXELS, patch_size=8, num_classes=CLASSES),
        5,
    ),
    "convnext-tiny": (lambda: timm.create_model("convnext_tiny", num_classes=CLASSES), 5),
    "resnet18": (lambda: torchvision.models.resnet18(num_classes=CLASSES), 8),
}


@dataclass
class Case:
    """One model, its chosen parameters and M, and a batch."""

    model: nn.Module
    parameters: dict[str, nn.Parameter]
    blocks: dict[str, Tensor]
    inputs: Tensor
    labels: Tensor
    methods: dict[str, str]

    def loop(self) -> Tensor:
        """(LOOPED, D): each example alone."""
        tensors, rows = list(self.parameters.values()), []
        for i in range(LOOPED):
            loss = F.cross_entropy(self.model(self.inputs[i : i + 1]), self.labels[i : i + 1])
            found = torch.autograd.grad(loss, tensors)
            rows.append(sum(b.flatten(1) @ g.flatten() for b, g in zip(self.blocks.values(), found, strict=True)))
        return torch.stack(rows)

    def ours(self) -> Tensor:
        """(n, D)."""
        return Projector(self.model, self.blocks, F.cross_entropy, self.methods)(self.inputs, self.labels)

    def least(self) -> None:
        """One gradient of the batch, and the multiplications of M with n gradients of numbers that are there
        already.
        """
        loss = F.cross_entropy(self.model(self.inputs), self.labels, reduction="sum")
        torch.autograd.grad(loss, list(self.parameters.values()))
        width = 2**13
        gradients = torch.ones(width, len(self.labels))
        for block in self.blocks.values():
            for part in block.flatten(1).split(width, 1):
                part @ gradients[: part.shape[1]]


def make_case(make: Callable[[], nn.Module], layers: str | None, n: int) -> Case:
    """A seeded model and batch; the ways are found on the first eight examples."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, inputs = make().eval(), torch.randn(n, 3, PIXELS, PIXELS)
        parameters = dict(choose(model, layers, inputs[:4]).parameters)
        blocks = {name: torch.randn(COLUMNS, *p.shape) for name, p in parameters.items()}
    case = Case(model, parameters, blocks, inputs, torch.arange(n) % CLASSES, {})
    projector = Projector(model, blocks, F.cross_entropy, case.methods)
    projector(inputs[:8], case.labels[:8])
    found, wanted = case.ours()[:LOOPED], case.loop()
    assert float((found - wanted).norm() / wanted.norm()) < 1e-4
    return case


def seconds(work: Callable[[], object]) -> float:
    """Process CPU seconds of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def measured(case: Case, repeat: int) -> tuple[float, float, float, float, float]:
    """Median milliseconds per example of the three, and the median ratios loop / ours and loop / least."""
    times: list[dict[str, float]] = []
    for turn in range(repeat):
        sides = {
            "loop": (case.loop, LOOPED),
            "ours": (case.ours, len(case.labels)),
            "least": (case.least, len(case.labels)),
        }
        order = list(sides) if turn % 2 else list(sides)[::-1]
        times.append({side: 1e3 * seconds(sides[side][0]) / sides[side][1] for side in order})
    medians = (statistics.median(t[side] for t in times) for side in ("loop", "ours", "least"))
    return (
        *medians,
        statistics.median(t["loop"] / t["ours"] for t in times),
        statistics.median(t["loop"] / t["least"] for t in times),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=128)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", default="", help="part of a model's name")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"n = {options.n}, D = {COLUMNS}, {PIXELS} px, threads = {torch.get_num_threads()}; process CPU, ms per example"
    )
    print(
        f"{'model':<15}{'layers':<9}{'p':>12}{'loop':>8}{'ours':>8}{'least':>8}{'loop/ours':>11}{'bar':>7}{'most':>7}"
    )
    missed = False
    for name, (make, bar) in MODELS.items():
        for layers in (None, "*") if options.only in name else ():
            case = make_case(make, layers, options.n)
            loop, ours, least, ratio, most = measured(case, options.repeat)
            missed |= ratio < bar
            size = sum(p.numel() for p in case.parameters.values())
            reached = "yes" if ratio >= bar else "no"
            print(
                f"{name:<15}{'all' if layers else 'default':<9}{size:>12,}{loop:>8.1f}{ours:>8.1f}{least:>8.1f}"
                f"{ratio:>11.2f}{f'≥ {bar}':>7}{most:>7.2f}  {reached}",
                flush=True,
            )
    raise SystemExit(int(missed))


if __name__ == "__main__":
    main()
