"""The scores of one architecture that rest on its gradients and outputs, beside their references: equal, or left out
and why.

``rows(case)`` → one ``Row`` per score in ``COMPARISONS``. Two kinds of row are not compared, and marked so: ODIN of
token nets, and self-influence of heads above ``MOST`` parameters (``open_comparisons``). An error above its tolerance
is an assertion that names score and size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from scoring.audit.storage import read_vectors
from scoring.scorers.energy import energy

from . import reference
from .case import Case

TIGHT = 2e-4  # of the largest value: float32 through a deep net
MOST = 130  # parameters of a head whose Hessian is taken column by column


@dataclass(frozen=True)
class Row:
    """One score: its largest error relative to its largest value, or why it is left out, or null, or (``compared`` is
    False) has no reference here."""

    score: str
    error: float | None
    reason: str | None = None
    compared: bool = True


def rows(case: Case) -> Iterator[Row]:
    """Compare each score in turn."""
    expected = reference.loaded(case.architecture, case.states[-1])
    logits = reference.predictions(expected, case.inputs)
    yield compared(
        "predictions",
        read_vectors(case.context.run.logits_path)[1],
        logits,
        shifted=not case.context.model.keeps_logits,
    )
    for score, compare in COMPARISONS.items():
        reason = case.summary.skipped.get(score)
        if reason is None:
            yield compare(case, expected, logits)
        else:
            yield Row(score, None, reason)


def open_comparisons(case: Case) -> set[str]:
    """The scores that have no reference for this architecture: all others must be compared, left out or null."""
    module, head = case.context.model.module, case.context.head.get("name")
    size = 0 if head is None else sum(p.numel() for p in module.get_submodule(head).parameters(recurse=False))
    found = {"odin"} if case.architecture.tokens else set()
    return (found | ({"self_influence"} if size > MOST else set())) - case.summary.skipped.keys()


def compared(score: str, found: np.ndarray, wanted: np.ndarray, *, shifted: bool = False, within: float = TIGHT) -> Row:
    """Both relative to the largest wanted value; ``shifted``: up to a number per row."""
    found, wanted = np.asarray(found, dtype=np.float64), np.asarray(wanted, dtype=np.float64)
    if shifted:
        found, wanted = (values - values.mean(1, keepdims=True) for values in (found, wanted))
    assert found.shape == wanted.shape, f"{score}: shapes {found.shape} and {wanted.shape}"
    assert np.isfinite(found).all(), f"{score}: {np.isnan(found).sum()} of {found.size} are null"
    error = float(np.abs(found - wanted).max() / max(np.abs(wanted).max(), 1e-12))
    assert error <= within, f"{score}: off by {error:.1e} of the largest value {np.abs(wanted).max():.2g}"
    return Row(score, error)


def _vog(case: Case, _net, _logits) -> Row:
    nets = [reference.loaded(case.architecture, state) for state in case.states]
    frame, labels = case.read("vog"), case.context.labels
    worst = 0.0
    for form in ("logit", "probability"):
        column = frame[f"all_label_{form}"].to_numpy()
        if form == "logit" and not case.context.model.keeps_logits:
            assert np.isnan(column).all(), "vog: the gradient of a logit that the model does not give"
            continue
        row = compared(f"vog, {form}", column, reference.vog(nets, case.inputs, labels, form), within=2e-3)
        worst = max(worst, row.error)
    return Row("vog", worst)


def _energy(case: Case, _net, logits) -> Row:
    found = case.read("energy")["energy"].to_numpy()
    if case.context.model.keeps_logits:
        return compared("energy", found, energy(logits))
    assert np.isnan(found).all(), "energy: of probabilities"
    return Row("energy", None, "the model returns probabilities")


def _uncertainty(case: Case, _net, logits) -> Row:
    p = F.softmax(torch.from_numpy(logits), 1)
    return compared("uncertainty", case.read("uncertainty")["entropy"], torch.special.entr(p).sum(1).numpy())


def _grand(case: Case, _net, _logits) -> Row:
    head, wanted = case.context.head, 0.0
    for state in case.states:
        net = reference.loaded(case.architecture, state)
        names = [name for name, _ in net.named_parameters()]
        if head.get("linear"):
            names = [name for name in names if name.rpartition(".")[0] == head["name"]]
        grads = reference.example_gradients(net, case.inputs, case.context.labels, names)
        wanted = wanted + np.sqrt(sum((g.reshape(len(g), -1) ** 2).sum(1) for g in grads)) / len(case.states)
    return compared("grand", case.read("grand")["early"], wanted, within=1e-3)


def _gradnorm(case: Case, net, _logits) -> Row:
    wanted = reference.gradnorm(net, case.inputs, f"{case.context.head['name']}.weight".lstrip("."))
    return compared("gradnorm", case.read("gradnorm")["gradnorm"], wanted)


def _odin(case: Case, net, _logits) -> Row:
    if case.architecture.tokens:
        return Row("odin", None, "not compared: the step is one of the embedding", compared=False)
    return compared("odin", case.read("odin")["odin"], reference.odin(net, case.inputs, 1000.0, 0.0014))


def _cook(case: Case, net, logits) -> Row:
    """Cook's distance from the gradients and the Hessian of the head's own parameters, by autograd."""
    head = case.context.head
    own = dict(net.named_parameters())
    names = [name for name in own if name.rpartition(".")[0] == head["name"]]
    size = sum(own[name].numel() for name in names)
    if size > MOST:
        return Row("self_influence", None, f"not compared: a Hessian of {size} parameters", compared=False)
    train = np.flatnonzero((case.context.examples["split"] == "train").to_numpy())
    columns = []
    for at in range(size):
        direction, start = [], 0
        for name in names:
            flat = torch.zeros(own[name].numel(), dtype=torch.float64)
            if start <= at < start + len(flat):
                flat[at - start] = 1
            start += len(flat)
            direction.append(flat.view_as(own[name]))
        columns.append(_directional(case, net, names, direction, train))
    hessian = np.stack(columns, 1)
    grads = reference.example_gradients(net, case.inputs, case.context.labels, names)
    g = np.concatenate([part.reshape(len(part), -1) for part in grads], 1)
    wanted = (g * np.linalg.solve(hessian + 1e-3 * np.eye(size), g.T).T).sum(1)
    return compared("self_influence", case.read("self_influence")["cook"], wanted, within=2e-3)


def _directional(case: Case, net, names, direction, rows, step: float = 1e-7) -> np.ndarray:
    """H v over some rows, by a central difference of the mean gradient; a larger step would cross the kinks of
    ReLUs."""
    own, found = dict(net.named_parameters()), []
    for sign in (1, -1):
        with torch.no_grad():
            for name, v in zip(names, direction, strict=True):
                own[name].add_(v, alpha=sign * step)
        parts = reference.loss_gradient(net, case.inputs[rows], case.context.labels[rows], names)  # in one batch
        found.append(np.concatenate([part.ravel() for part in parts]))
        with torch.no_grad():
            for name, v in zip(names, direction, strict=True):
                own[name].add_(v, alpha=-sign * step)
    return (found[0] - found[1]) / (2 * step)


def _influence(case: Case, net, _logits) -> Row:
    """Embeddings are the projections of the examples' own gradients, and the first factor is an eigenvector."""
    from scoring.influence import InfluenceFactors

    factors = InfluenceFactors.load(case.context.run.factors_path)
    names = list(factors.blocks)
    grads = reference.example_gradients(net, case.inputs, case.context.labels, names)
    blocks = [factors.blocks[name].double().numpy() for name in names]
    wanted = sum(g.reshape(len(g), -1) @ m.reshape(len(m), -1).T for g, m in zip(grads, blocks, strict=True))
    wanted = wanted / np.sqrt(factors.eigenvalues)
    row = compared("influence", read_vectors(case.context.run.influence_path)[1], wanted, within=2e-3)
    train = np.flatnonzero((case.context.examples["split"] == "train").to_numpy())
    first = [torch.from_numpy(m[0]) for m in blocks]
    product = _directional(case, net, names, first, train)
    along = float(np.concatenate([m[0].ravel() for m in blocks]) @ product)
    off = abs(along - factors.eigenvalues[0]) / factors.eigenvalues[0]
    assert off < 0.02, (
        f"influence: the first eigenvalue is {factors.eigenvalues[0]:.4g}, its Rayleigh quotient {along:.4g}"
    )
    return row


COMPARISONS: dict[str, Callable[[Case, torch.nn.Module, np.ndarray], Row]] = {
    "vog": _vog,
    "energy": _energy,
    "uncertainty": _uncertainty,
    "grand": _grand,
    "gradnorm": _gradnorm,
    "odin": _odin,
    "self_influence": _cook,
    "influence": _influence,
}
