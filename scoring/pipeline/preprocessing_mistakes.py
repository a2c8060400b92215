"""Finds the preprocessing mistake that explains a low accuracy: undoes each one and measures the accuracy again.

On inputs: BGR for RGB, a missing or doubled division by 255, a missing or doubled normalisation. On classes: another
order of the outputs, either one that a library uses (sorted as text, sorted as numbers, counted from one) or the best
renaming, which is fitted on nine tenths of the examples and measured on the other tenth, ten times (assignment problem
on the confusion matrix, Kuhn 1955), so that it cannot win by fitting noise.

Both answers of an example are a pair, so an advantage is tested by McNemar's exact test: with b examples that the
remedy alone gets right and c that it alone gets wrong, p = P(X ≥ b), X ~ Binomial(b + c, 1/2), times the number of
remedies tried (Bonferroni). Below ``SURE`` the remedy is the explanation; above, it is a guess and is said with its
numbers.

Cost: one forward pass over the examples per remedy. Known limits: a mistake outside this list has no remedy here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.stats import binom

SURE = 0.01
FOLDS = 10
TESTABLE = 8  # examples; McNemar's p of eight that all agree, times a dozen remedies, is just above ``SURE``
NAMED = 50  # classes; the line of more of them would fill the screen
EVEN = 0.5
"""A p-value from which chance is the likelier reason."""
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALVES = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@dataclass(frozen=True)
class Remedy:
    """One mistake undone: ``text`` says what is wrong and what to do, ``right`` is (n,) bool, ``p`` the adjusted
    p-value of its advantage over the answers as they stand; ``classes`` in the order of the outputs, where that is the
    remedy."""

    text: str
    right: np.ndarray
    p: float = 1.0
    classes: tuple[str, ...] = ()

    @property
    def sure(self) -> bool:
        """Returns whether its advantage is no accident of these examples."""
        return self.p < SURE

    def sentence(self) -> str:
        """The remedy with its numbers."""
        sentence = f"{'' if self.sure else 'perhaps '}{self.text} ({self.right.mean():.1%} with this corrected"
        return sentence + (
            ")" if self.sure else f"; with only {len(self.right)} examples this may be chance, p = {self.p:.2g})"
        )


def best_remedy(candidates: list[Remedy], right: np.ndarray) -> Remedy | None:
    """The candidate with the highest accuracy, its p-value adjusted for their number; None where none beats ``right``,
    (n,) bool, the answers as they stand, or chance explains it as well as not (p ≥ 0.5)."""
    if not candidates:
        return None
    best = max(candidates, key=lambda one: int(one.right.sum()))
    p = min(1.0, advantage(best.right, right) * len(candidates))
    return replace(best, p=p) if best.right.sum() > right.sum() and p < EVEN else None


def advantage(remedied: np.ndarray, right: np.ndarray) -> float:
    """McNemar's exact one-sided p-value that ``remedied`` is no better than ``right``, both (n,) bool.

    >>> advantage(np.ones(10, bool), np.zeros(10, bool)) == 2.0**-10
    True
    """
    better, worse = int((remedied & ~right).sum()), int((~remedied & right).sum())
    return float(binom.sf(better - 1, better + worse, 0.5))


# -- on the inputs -------------------------------------------------------------------------------------------


def input_remedies(batch: torch.Tensor) -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
    """Returns what to try on images (n, channels, h, w): sentence → the change that would undo the mistake."""
    if not batch.is_floating_point() or batch.ndim != 4:
        return {}
    found: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "the model was trained on values in 0…255: do not divide by 255": lambda x: x * 255,
        "the division by 255 is missing": lambda x: x / 255,
    }
    if batch.shape[1] == 3:
        found["the channels are in the wrong order (BGR instead of RGB)"] = lambda x: x.flip(1)
    for name, (mean, std) in {"ImageNet's": IMAGENET, "mean 0.5, deviation 0.5": HALVES}.items():
        m, s = (_per_channel(values, batch.shape[1]) for values in (mean, std))
        found |= _normalisations(name, m, s)
    return found


def _normalisations(name: str, m: torch.Tensor, s: torch.Tensor) -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
    """Returns what to try about a normalisation by mean ``m`` and deviation ``s``, (channels, 1, 1) each."""
    return {
        f"normalisation is missing ({name})": lambda x: (x - m) / s,
        f"/255 and normalisation are missing ({name})": lambda x: (x / 255 - m) / s,
        f"the division by 255 is missing before the normalisation ({name})": lambda x: ((x * s + m) / 255 - m) / s,
        f"normalisation is applied but was not used in training ({name})": lambda x: x * s + m,
    }


def _per_channel(values: tuple[float, ...], channels: int) -> torch.Tensor:
    """Mean or deviation shaped (channels, 1, 1); the average where the image is not RGB."""
    each = list(values) if channels == 3 else [float(np.mean(values))] * channels
    return torch.tensor(each).reshape(-1, 1, 1)


# -- on the classes ------------------------------------------------------------------------------------------


def class_remedies(predictions: np.ndarray, labels: np.ndarray, classes: list[str]) -> tuple[list[Remedy], str | None]:
    """Other meanings of the outputs: remedies, and why the best renaming was not tested, where it was not.

    ``predictions``, ``labels``: (n,) indices into ``classes``.
    """
    found = [
        Remedy(
            f"the classes are permuted: {how}; write {classes_line(order)}",
            renamed(classes, order)[predictions] == labels,
            classes=tuple(order),
        )
        for how, order in known_orders(classes)
    ]
    found += [
        Remedy(text, np.isin(predictions + shift, range(len(classes))) & (predictions + shift == labels))
        for text, shift in _counted(classes)
    ]
    right, tested = out_of_fold_renaming(predictions, labels, len(classes))
    if tested < TESTABLE:
        return found, (
            f"only the usual class orders were tested, not arbitrary permutations: {tested} of {len(labels)} examples "
            "share their class with another example"
        )
    order = [classes[at] for at in best_renaming(predictions, labels, len(classes))]
    if order != classes:
        found.append(
            Remedy(
                f"the classes are permuted: put `classes` in the order of the model's outputs, {classes_line(order)}",
                right,
                classes=tuple(order),
            )
        )
    return found, None


def known_orders(classes: list[str]) -> Iterator[tuple[str, list[str]]]:
    """The orders in which libraries put classes, where they differ from this one: how, and the classes so ordered."""
    orders = {"as torchvision's ImageFolder sorts them": sorted(classes)}
    if all(name.lstrip("-").isdecimal() for name in classes):
        orders["as numbers"] = sorted(classes, key=int)
    orders["reversed"] = classes[::-1]
    yield from ((how, order) for how, order in orders.items() if order != classes)


def _counted(classes: list[str]) -> Iterator[tuple[str, int]]:
    """Labels that are counted from one where the model counts from nought, or the other way: what to do, and the shift
    of an output's index that undoes it."""
    first, last = f'"1" = "{classes[0]}"', f'"{len(classes)}" = "{classes[-1]}"'
    yield (f"labels start at one: write `label_map = {{ {first}, …, {last} }}` in the source's table", 1)
    yield ("labels are one lower than the model's output indices: check whether the model has a background class", -1)


def renamed(classes: list[str], order: list[str]) -> np.ndarray:
    """(c,) index into ``classes`` of each output, where outputs are in this ``order``."""
    position = {name: at for at, name in enumerate(classes)}
    return np.asarray([position[name] for name in order])


def classes_line(order: list[str]) -> str:
    """The line of audit.toml; of very many classes the first ones.

    >>> classes_line(["1", "10", "2"])
    '`classes = ["1", "10", "2"]`'
    """
    names = ", ".join('"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"' for name in order[:NAMED])
    return (
        f"`classes = [{names}]`" if len(order) <= NAMED else f"`classes = [{names}, …]` (all of them are in check.json)"
    )


def best_renaming(predictions: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """(c,) the class that each output means, under which most predictions are right; as it stands among equals.

    >>> best_renaming(np.array([0, 0, 1]), np.array([2, 2, 1]), 3).tolist()
    [2, 1, 0]
    """
    confusion = np.zeros((classes, classes))
    np.add.at(confusion, (predictions, labels), 1)
    given, meant = linear_sum_assignment(-(confusion + 1e-6 * np.eye(classes)))
    order = np.arange(classes)
    order[given] = meant
    return order


def out_of_fold_renaming(predictions: np.ndarray, labels: np.ndarray, classes: int) -> tuple[np.ndarray, int]:
    """(n,) whether each example is right under the best renaming of the other nine tenths, and for how many of them
    that part shows their label at all.

    >>> labels = np.arange(40) % 4
    >>> right, tested = out_of_fold_renaming((labels + 1) % 4, labels, 4)
    >>> bool(right.all()), tested
    (True, 40)
    """
    fold = np.random.default_rng(0).permutation(len(labels)) % FOLDS
    right, tested = np.zeros(len(labels), bool), 0
    for number in range(min(FOLDS, len(labels))):
        out = fold == number
        meant = best_renaming(predictions[~out], labels[~out], classes)
        right[out] = meant[predictions[out]] == labels[out]
        tested += int(np.isin(labels[out], labels[~out]).sum())
    return right, tested
