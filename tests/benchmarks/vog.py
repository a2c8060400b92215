"""How much faster VoG is than a notebook's loop, and how close it comes to the least that has to be done.

Run `python tests/benchmarks/vog.py [--quick]`. It prints one table per model: the median over repetitions of
the ratio of process CPU times, one thread, both sides measured next to each other in each repetition. The
least that has to be done (*bare*) is, per checkpoint, one forward and one backward pass to the input of a
frozen model in eval mode; the notebook's loop (*naive*) builds the model anew, keeps parameter gradients,
stacks all maps and calls ``np.std``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import timm
import torch
from torch import nn

from scoring.evaluation import normalize_by_class
from scoring.gradients import Slot
from scoring.models import AuditedModel
from scoring.scorers.vog import VoG, vog

CLASSES = 10


def conv(inside: int, outside: int, *, stride: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(outside), nn.ReLU()
    )


class Residual(nn.Module):
    """x + two convolutions, with a strided 1×1 shortcut where the shape changes."""

    def __init__(self, inside: int, outside: int, stride: int = 1):
        super().__init__()
        self.body = nn.Sequential(conv(inside, outside, stride=stride), conv(outside, outside))
        same = stride == 1 and inside == outside
        self.short = nn.Identity() if same else nn.Conv2d(inside, outside, 1, stride=stride)

    def forward(self, x):
        return self.short(x) + self.body(x)


def head(width: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, CLASSES)]


def resnet9() -> nn.Module:
    return nn.Sequential(
        conv(3, 32),
        conv(32, 64),
        nn.MaxPool2d(2),
        Residual(64, 64),
        conv(64, 128),
        nn.MaxPool2d(2),
        conv(128, 128),
        nn.MaxPool2d(2),
        Residual(128, 128),
        *head(128),
    )


def resnet20() -> nn.Module:
    widths = [(16, 16, 1)] * 3 + [(16, 32, 2), *[(32, 32, 1)] * 2, (32, 64, 2), *[(64, 64, 1)] * 2]
    return nn.Sequential(conv(3, 16), *[Residual(*w) for w in widths], *head(64))


def digits_cnn() -> nn.Module:
    return nn.Sequential(conv(1, 32), conv(32, 64), nn.MaxPool2d(2), conv(64, 64), *head(64))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, CLASSES))


def vit_tiny() -> nn.Module:
    return timm.create_model("vit_tiny_patch16_224", img_size=64, patch_size=8, num_classes=CLASSES)


def convnext_tiny() -> nn.Module:
    return timm.create_model("convnext_tiny", num_classes=CLASSES)


LARGE = {
    "vit-tiny 3×64×64": (vit_tiny, (3, 64, 64), 64, "≤ 0.5"),
    "convnext-tiny 3×64×64": (convnext_tiny, (3, 64, 64), 64, "≤ 0.6"),
}
"""Measured as a whole only: both forms against the notebook's loop over both."""
MODELS = {
    "resnet9 3×32×32": (resnet9, (3, 32, 32), 256),
    "resnet20 3×32×32": (resnet20, (3, 32, 32), 256),
    "digits cnn 1×8×8": (digits_cnn, (1, 8, 8), 1024),
    "mlp 64": (mlp, (64,), 4096),
}


@dataclass
class Case:
    """One model with k checkpoints and n examples of which 8 % are predicted wrong."""

    make: Callable[[], nn.Module]
    inputs: torch.Tensor
    labels: np.ndarray
    predictions: np.ndarray
    states: list[dict]
    batch: int

    def __post_init__(self):
        self.model = self.make().eval().requires_grad_(False)
        self.slot, self.half = Slot(self.model), VoG(precision="bfloat16")._slot(AuditedModel(self.model))
        self.none = np.full(len(self.labels), -1)

    def bare(self, model: nn.Module | None = None, layout=torch.contiguous_format, forms: int = 1) -> None:
        """Nothing but loading, forward passes and backward passes to the input."""
        model = self.model if model is None else model
        for state in self.states:
            if model is self.model:
                model.load_state_dict(state)
            for start in range(0, len(self.inputs), self.batch):
                leaf = self.inputs[start : start + self.batch].contiguous(memory_format=layout).requires_grad_()
                chosen = torch.as_tensor(self.labels[start : start + self.batch])[:, None]
                for _ in range(forms):
                    torch.autograd.grad(model(leaf).gather(1, chosen).sum(), leaf)

    def bare_tuned(self) -> None:
        """The same on the folded, channels_last module: what is left above it is the streaming's own cost."""
        images = self.inputs.ndim == 4
        self.bare(self.slot.module, torch.channels_last if images else torch.contiguous_format)

    def naive_both(self) -> tuple[np.ndarray, np.ndarray]:
        """What a notebook does for both forms: a loop of forward and backward passes for each."""
        return self.naive(), self.naive(lambda logits: logits.softmax(1))

    def naive(self, form: Callable = lambda logits: logits) -> np.ndarray:
        """What a notebook does."""
        stacked = []
        for state in self.states:
            model = self.make()
            model.load_state_dict(state)
            model.eval()
            maps = []
            for start in range(0, len(self.inputs), self.batch):
                leaf = self.inputs[start : start + self.batch].clone().requires_grad_()
                chosen = torch.as_tensor(self.labels[start : start + self.batch])[:, None]
                form(model(leaf)).gather(1, chosen).sum().backward()
                maps.append((leaf.grad.mean(1) if leaf.ndim > 2 else leaf.grad).numpy())
            stacked.append(np.concatenate(maps))
        return np.std(stacked, axis=0).reshape(len(self.labels), -1).mean(1)

    def kernel(self, forms=("logit",), predictions=None, slot=None) -> dict:
        predictions = self.none if predictions is None else predictions
        return vog(
            slot or self.slot, self.states, self.inputs, self.labels, predictions, forms=forms, batch_size=self.batch
        )


def make_case(make, shape, n: int, k: int, batch: int) -> Case:
    """Random inputs and k random checkpoints: the time does not depend on the values."""
    generator = torch.Generator().manual_seed(0)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, n)
    wrong = rng.random(n) < 0.08
    predictions = np.where(wrong, (labels + 1) % CLASSES, labels)
    states = [make().state_dict() for _ in range(k)]
    return Case(make, torch.randn(n, *shape, generator=generator), labels, predictions, states, batch)


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def ratio(numerator, denominator, repeat: int) -> float:
    """Median of CPU time ratios of runs next to each other, in alternating order."""
    found = []
    for turn in range(repeat):
        pair = (numerator, denominator) if turn % 2 else (denominator, numerator)
        times = {work: seconds(work) for work in pair}
        found.append(times[numerator] / times[denominator])
    return statistics.median(found)


def trained_digits() -> tuple[nn.Module, list[dict], torch.Tensor, np.ndarray]:
    """A small CNN trained for five epochs on scikit-learn's digits, with a checkpoint of each."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    inputs = torch.tensor(pixels / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    generator = torch.Generator().manual_seed(0)
    model, states = digits_cnn().train(), []
    optimiser = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    for _ in range(5):
        for rows in torch.randperm(1200, generator=generator).split(64):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(inputs[rows]), torch.as_tensor(labels)[rows]).backward()
            optimiser.step()
        states.append({key: value.clone() for key, value in model.state_dict().items()})
    return model, states, inputs[:600], labels[:600]


def agreement() -> dict[str, float]:
    """Spearman of class-normalised VoG in bfloat16 and float32, by column, on trained checkpoints."""
    from scipy.stats import spearmanr

    model, states, inputs, labels = trained_digits()
    none = np.full(len(labels), -1)
    full, half = (
        vog(Slot(model, dtype=dtype), states, inputs, labels, none) for dtype in (torch.float32, torch.bfloat16)
    )
    z = {name: [normalize_by_class(found[name], labels) for found in (full, half)] for name in full if "label" in name}
    return {name: float(spearmanr(*pair).statistic) for name, pair in z.items()}


def rows(case: Case, repeat: int) -> Iterator[tuple[str, float, str]]:
    """(what, measured, bar) of one model."""
    both = ("logit", "probability")

    def one():
        return case.kernel()

    def pair():
        return case.kernel(both)

    def predicted():
        return case.kernel(predictions=case.predictions)

    def everything():
        return case.kernel(both, case.predictions)

    def half():
        return case.kernel(slot=case.half)

    case.bare()
    assert np.median(np.abs(one()["all_label_logit"] / case.naive() - 1)) < 1e-5
    for what, top, bottom, bar in [
        ("logit form / bare", one, case.bare, "≤ 1.10"),
        ("logit form / bare, folded and channels_last too", one, case.bare_tuned, "≤ 1.10"),
        ("both forms / bare", pair, case.bare, "≤ 1.7"),
        ("both forms / bare, folded and channels_last too", pair, case.bare_tuned, "≤ 1.7"),
        ("naive / logit form", case.naive, one, "≥ 1.8"),
        ("logit form, label and prediction, 8 % differ / bare", predicted, case.bare, ""),
        ("both forms, label and prediction, 8 % differ / bare", everything, case.bare, ""),
        ("bfloat16 logit form / bare in float32", half, case.bare, "≤ 1.25"),
    ]:
        yield what, ratio(top, bottom, repeat), bar
    if case.half.dtype == torch.float32:
        print("  (no bfloat16 in this hardware: that setting ran in float32)")


def rows_of_large(case: Case, repeat: int, bar: str) -> Iterator[tuple[str, float, str]]:
    """(what, measured, bar) of a model that takes seconds per batch."""
    for name, found in zip(("logit", "probability"), case.naive_both(), strict=True):
        ours = case.kernel(("logit", "probability"))[f"all_label_{name}"]
        assert np.median(np.abs(ours / found - 1)) < 1e-4, name
    yield (
        "both forms / naive, both forms",
        ratio(lambda: case.kernel(("logit", "probability")), case.naive_both, repeat),
        bar,
    )


def meets(value: float, bar: str) -> str:
    """ "yes", "no", or nothing where there is no bar."""
    if not bar:
        return ""
    sign, limit = bar.split()
    return "yes" if (value <= float(limit) if sign == "≤" else value >= float(limit)) else "no"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three repetitions and fewer examples")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--checkpoints", type=int, default=4)
    parser.add_argument("--only", default="", help="part of a model's name, or bfloat16")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name, (make, shape, n) in MODELS.items():
        if options.only in name:
            case = make_case(make, shape, n, options.checkpoints, options.batch)
            print(f"\n{name}: n = {n}, k = {options.checkpoints}, batch = {options.batch}")
            for what, value, bar in rows(case, 3 if options.quick else 7):
                print(f"  {what:<58}{value:7.3f}  {bar:<8}{meets(value, bar)}", flush=True)
    for name, (make, shape, n, bar) in LARGE.items():
        if options.only in name:
            case = make_case(make, shape, n, 3, options.batch)
            print(f"\n{name}: n = {n}, k = 3, batch = {options.batch}")
            for what, value, own_bar in rows_of_large(case, 1 if options.quick else 3, bar):
                print(f"  {what:<58}{value:7.3f}  {own_bar:<8}{meets(value, own_bar)}", flush=True)
    if options.only in "bfloat16":
        print("\nbfloat16 against float32, class-normalised Spearman, digits CNN over five epochs")
        for name, value in agreement().items():
            print(f"  {name:<58}{value:7.4f}  ≥ 0.995 {meets(value, '≥ 0.995')}", flush=True)


if __name__ == "__main__":
    main()
