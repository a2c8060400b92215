"""Influence: which training examples help or harm which predictions, and how much each weighs on its own.

    μ(z) = Λ^(-1/2) Mᵀ ∇ℓ(z)              influence embedding   (Wang et al. 2023, eq. 3)
    influence of z' on z = μ(z')·μ(z) = ∇ℓ(z)ᵀ Ĥ⁻¹ ∇ℓ(z')      (Koh and Liang 2017, eq. 2, sign turned)
    self-influence = ∇ℓ(z)ᵀ (H + δI)⁻¹ ∇ℓ(z)                   Cook's distance (Picard et al. 2022, section 3)

One sign everywhere: positive helps (proponent), negative harms (opponent). Models and batches go in,
embeddings (n, r) come out; for the head alone, features (n, d), probabilities (n, c) and labels (n,) give
self-influence (n,).

Cost: P Hessian products to fit (``scoring.curvature``); to embed, one forward and one backward pass; on the
head, n (c(d+1))² flops, or as many passes over the features as conjugate gradients take.

Known limits: directions of negative and of tiny curvature are left out of Ĥ⁻¹, so influence is that on the
rest. Removing an example moves the loss by its influence over n only as far as the loss is quadratic.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from scipy import linalg
from torch import Tensor, nn
from torch.nn import functional as F

from scoring.curvature import (
    FLOOR,
    CurvatureReport,
    HeadHessian,
    checked_head,
    factorise,
    head_hessian,
    row_blocks,
    size_of,
    with_ones,
)
from scoring.embeddings import Projector
from scoring.gradients import device_of
from scoring.hessian import hessian_products
from scoring.parameters import Loss, batches, check_reiterable, choose, differentiable, few
from scoring.tables import HardlookError, atomic_path

FORMAT = "1"
MEMORY_BUDGET = 2**32  # bytes


@dataclass(frozen=True)
class InfluenceFactors:
    """A low-rank inverse Hessian of some layers, and what it takes to embed examples with it.

    ``eigenvalues``: (r,) descending; ``blocks``: eigenvectors by parameter name, (r, *shape); ``report``:
    what was found while fitting; ``lengths``: the norm of each parameter, by which other weights are
    recognised; ``loss``.
    """

    eigenvalues: np.ndarray
    blocks: Mapping[str, Tensor]
    report: CurvatureReport
    lengths: Mapping[str, float]
    loss: Loss = F.cross_entropy

    @property
    def rank(self) -> int:
        """r, the length of an embedding."""
        return len(self.eigenvalues)

    @classmethod
    def fit(
        cls,
        model: nn.Module,
        data: Iterable,
        *,
        layers: str | Sequence[str] | None,
        loss: Loss = F.cross_entropy,
        arnoldi_dim: int = 500,
        rank: int = 100,
        seed: int = 0,
        l2: float = 0.0,
        floor: float = FLOOR,
        memory_budget: int = MEMORY_BUDGET,
        announce: Callable[[str], None] = lambda _: None,
        advance: Callable[[], None] = lambda: None,
    ) -> InfluenceFactors:
        """Factor the mean Hessian of the loss over ``data``, restricted to ``layers``.

        ``data``: re-iterable of (inputs, labels) batches in a fixed order. ``layers``: names or patterns,
        ``None`` for the last block and the head. ``loss(outputs, labels)``: one value per example, or a
        PyTorch loss with a ``reduction``. ``arnoldi_dim``: P products; ``rank``: r; both lowered, with a note
        in the report, where the problem is smaller. ``l2``: the factor of ½‖W‖² the model was trained with.
        ``floor``: share of the largest eigenvalue below which eigenvalues are noise. ``memory_budget``: bytes
        for basis, caches and graphs. ``announce`` hears the planned size before the work starts; ``advance``
        is called after each product.

        The model runs in eval mode and is given back as it was. Deterministic for a seed on one machine.
        Raises ``HardlookError`` for unknown layers, empty data, non-finite losses or gradients, a model that
        is not deterministic, or no positive curvature (Wang et al. 2023; defaults of the paper).
        """
        check_reiterable(data)
        chosen = choose(model, layers, few(data, device_of(model))[0])
        size = size_of(chosen, arnoldi_dim=arnoldi_dim, rank=rank, memory_budget=memory_budget)
        announce(str(size))
        with differentiable(model, chosen.tensors):
            products = hessian_products(model, data, chosen, loss=loss, l2=l2,
                                        memory_budget=max(0, memory_budget - size.bytes))
            found = factorise(products, size, rank=rank, floor=floor, seed=seed, advance=advance)
        blocks = dict(zip(chosen.parameters, found.blocks, strict=True))
        factors = cls(found.values, blocks, found.report, _lengths(model, blocks), loss)
        return replace(factors, report=factors._with_slow_layers(model, data))

    def _with_slow_layers(self, model: nn.Module, data: Iterable) -> CurvatureReport:
        """The report with a note on the layers that will be embedded one example at a time."""
        projector = Projector(model, self.blocks, self.loss)
        projector(*few(data, device_of(model)))
        if not projector.slow:
            return self.report
        slow = ", ".join(sorted(projector.slow))
        return replace(
            self.report,
            notes=(*self.report.notes, f"no fast embedding rule fits {slow}: one example at a time, slower"),
        )

    def embed(
        self, model: nn.Module, data: Iterable, *, advance: Callable[[int], None] = lambda _: None
    ) -> np.ndarray:
        """Influence embeddings μ of every example in the data, in its order → (n, r) float32.

        ``model``: the one that was fitted; its weights are checked. ``data``: (inputs, labels) batches;
        examples are independent of each other, so shards can be embedded apart. ``advance`` is called with
        each batch's size. Raises ``HardlookError`` for other weights and for gradients that are not finite.
        """
        self._check_model(model)
        device = device_of(model)
        scale = torch.as_tensor(self.eigenvalues**-0.5)
        projector = Projector(
            model, {name: block.to(device) for name, block in self.blocks.items()}, self.loss
        )
        rows = [np.empty((0, self.rank), np.float32)]
        for inputs, labels in batches(data, device):
            rows.append((projector(inputs, labels).cpu().double() * scale).float().numpy())
            advance(len(labels))
        return np.concatenate(rows)

    def _check_model(self, model: nn.Module) -> None:
        known = dict(model.named_parameters())
        missing = [name for name in self.blocks if name not in known]
        if missing:
            raise HardlookError(f"the model has no {missing[0]!r}, which these factors were fitted on")
        for name, length in _lengths(model, self.blocks).items():
            if known[name].shape != self.blocks[name].shape[1:] or not np.isclose(
                length, self.lengths[name], rtol=1e-6
            ):
                raise HardlookError(
                    f"{name} is not what these factors were fitted on (shape {tuple(known[name].shape)}, "
                    "norm "
                    f"{length:.6g}; expected {tuple(self.blocks[name].shape[1:])}, "
                    f"{self.lengths[name]:.6g}): load the "
                    "checkpoint they belong to, or fit again"
                )

    def save(self, path: str | Path) -> None:
        """Write everything but the loss's code to a safetensors file, atomically."""
        tensors = {f"factor/{name}": block.cpu().contiguous() for name, block in self.blocks.items()}
        tensors["eigenvalues"] = torch.as_tensor(self.eigenvalues.copy())
        about = {"format": FORMAT, "report": json.dumps(asdict(self.report)), "loss": _name(self.loss),
                 "lengths": json.dumps(dict(self.lengths))}
        with atomic_path(Path(path)) as temporary:
            save_file(tensors, str(temporary), metadata=about)

    @classmethod
    def load(cls, path: str | Path, *, loss: Loss = F.cross_entropy) -> InfluenceFactors:
        """Read factors that ``save`` wrote. ``loss`` must be the one they were fitted with, by its name."""
        with _opened(path) as file:
            about = file.metadata() or {}
            if about.get("format") != FORMAT:
                raise HardlookError(
                    f"{path} holds factors of format {about.get('format')}; this version reads {FORMAT}"
                )
            if about["loss"] != _name(loss):
                raise HardlookError(
                    f"{path} was fitted with loss {about['loss']}, not {_name(loss)}; pass loss="
                )
            names = json.loads(about["lengths"])
            # Copied: a tensor inside the file is not aligned as one of its own is, and sums round differently.
            blocks = {name: file.get_tensor(f"factor/{name}").clone() for name in names}
            values = file.get_tensor("eigenvalues").numpy()
        report = {key: tuple(value) if isinstance(value, list) else value
                  for key, value in json.loads(about["report"]).items()}
        return cls(values, blocks, CurvatureReport(**report), names, loss)


def _opened(path: str | Path):
    """A safetensors file that is open; a damaged one is one clear error."""
    try:
        return safe_open(str(path), framework="pt")
    except SafetensorError as error:
        raise HardlookError(f"{path} is damaged ({error}); delete it and run the command that writes it again, "
                            "`hardlook score --only influence`") from error


def _lengths(model: nn.Module, names: Iterable[str]) -> dict[str, float]:
    known = dict(model.named_parameters())
    return {name: float(known[name].detach().double().norm()) for name in names}


def _name(loss: Loss) -> str:
    return getattr(loss, "__qualname__", type(loss).__qualname__)


def embedding_self_influence(embeddings: np.ndarray) -> np.ndarray:
    """‖μ‖², the influence of each example on itself over any layers: (n, r) → (n,) float64. High is
    suspicious.

    >>> embedding_self_influence(np.array([[3.0, 4.0]]))
    array([25.])
    """
    return np.square(np.asarray(embeddings, dtype=np.float64)).sum(axis=1)


# -- Cook's distance on the head -----------------------------------------------------------------------------


def self_influence(
    features: np.ndarray,
    probabilities: np.ndarray,
    labels: np.ndarray,
    *,
    damping: float = 1e-3,
    hessian: HeadHessian | np.ndarray | None = None,
    memory_budget: int = MEMORY_BUDGET,
) -> np.ndarray:
    """Cook's distance gᵀ(H + δI)⁻¹g of each example on the softmax head, in float64. High is suspicious.

    ``features``: (n, d), what the head reads; ``probabilities``: (n, c); ``labels``: (n,) class indices;
    ``damping``: δ > 0, in units of curvature; ``hessian``: from ``head_hessian`` (over the training examples,
    with the head's l2), a (c(d+1), c(d+1)) matrix, or None to take it from these rows. → (n,), never
    negative.

    Raises ``HardlookError`` for damping of 0 or below, for labels outside the classes, and where the exact
    Hessian does not fit the memory budget; ``self_influence_by_gradients`` and ``embedding_self_influence``
    then remain (Picard et al. 2022).

    >>> self_influence(np.array([[0.0]]), np.array([[0.5, 0.5]]), np.array([0]), damping=0.5)
    array([0.5])
    """
    features, probabilities, labels = _checked(features, probabilities, labels, damping)
    width = probabilities.shape[1] * (features.shape[1] + 1)
    if 8 * width**2 > memory_budget:
        raise HardlookError(
            f"the exact head Hessian takes {8 * width**2 / 1e9:.3g} GB ({probabilities.shape[1]} classes × "
            f"{features.shape[1] + 1} features, squared); the budget is {memory_budget / 1e9:.3g} GB: use "
            "self_influence_by_gradients, or the squared length of influence embeddings"
        )
    hessian = head_hessian(features, probabilities) if hessian is None else hessian
    return cook_distances(head_factor(hessian, damping), features, probabilities, labels)


def head_factor(hessian: HeadHessian | np.ndarray, damping: float) -> np.ndarray:
    """The lower Cholesky factor of H + δI, float64, which ``cook_distances`` solves with. Made once per
    model.
    """
    matrix = hessian.mean if isinstance(hessian, HeadHessian) else np.array(hessian, np.float64)
    return _cholesky(matrix, len(matrix), damping)


def cook_distances(
    factor: np.ndarray, features: np.ndarray, probabilities: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    """‖L⁻¹g‖² of each example, (n,) float64: Cook's distance for the factor L of ``head_factor``."""
    features, probabilities = checked_head(features, probabilities)
    width = probabilities.shape[1] * (features.shape[1] + 1)
    if factor.shape != (width, width):
        raise HardlookError(f"hessian has shape {factor.shape}; this head needed ({width}, {width})")
    out = np.empty(len(features))
    for rows in row_blocks(len(features), 8 * width, 2**26):
        gradients = _gradients(features[rows], probabilities[rows], labels[rows]).reshape(-1, width)
        out[rows] = np.square(linalg.solve_triangular(factor, gradients.T, lower=True, overwrite_b=True)).sum(
            axis=0
        )
    return out


def _cholesky(hessian: np.ndarray, width: int, damping: float) -> np.ndarray:
    if hessian.shape != (width, width):
        raise HardlookError(f"hessian has shape {hessian.shape}; needed ({width}, {width})")
    hessian[np.diag_indices(width)] += damping
    try:
        return linalg.cholesky(hessian, lower=True, overwrite_a=True)
    except linalg.LinAlgError as error:
        raise HardlookError(
            f"the damped Hessian is not positive definite at damping {damping}; raise it"
        ) from error


def _checked(features: np.ndarray, probabilities: np.ndarray, labels: np.ndarray,
             damping: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    features, probabilities = checked_head(features, probabilities)
    labels = np.asarray(labels)
    if not damping > 0:
        raise HardlookError(f"damping is {damping}; needed above 0, because the head's Hessian is singular")
    if labels.shape != (len(features),) or not np.issubdtype(labels.dtype, np.integer):
        raise HardlookError(
            f"labels are {labels.dtype} of shape {labels.shape}; needed {len(features)} class indices"
        )
    if labels.min() < 0 or labels.max() >= probabilities.shape[1]:
        raise HardlookError(f"labels run from {labels.min()} to {labels.max()}; the head has classes 0 to "
                            f"{probabilities.shape[1] - 1}")
    return features, probabilities, labels


def _gradients(features: np.ndarray, probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """∇ℓ = (p − y) ⊗ x̃ of each example, (n, c, d+1)."""
    errors = probabilities.copy()
    errors[np.arange(len(labels)), labels] -= 1
    return errors[:, :, None] * with_ones(features)[:, None, :]


def self_influence_by_gradients(features: np.ndarray, probabilities: np.ndarray, labels: np.ndarray, *,
                                damping: float = 1e-3, l2: float = 0.0,
                                over: tuple[np.ndarray, np.ndarray] | None = None,
                                tolerance: float = 1e-6, max_steps: int = 1000) -> np.ndarray:
    """Cook's distance by conjugate gradients, where the exact head Hessian is too large. (n,) float64.

    The Hessian is the mean one ``over`` rows of (features, probabilities), or over the given rows themselves,
    plus ``l2`` on the weights. It is met only in products, forward over backward: the logits' change along a
    direction, then its effect on the gradient. ``tolerance``: residual over gradient length at which an
    example is solved; ``max_steps``: products per block of examples.

    Raises ``HardlookError`` where that is not enough; more damping needs fewer steps.
    """
    features, probabilities, labels = _checked(features, probabilities, labels, damping)
    base, weights = (features, probabilities) if over is None else checked_head(*over)
    c, d = probabilities.shape[1], features.shape[1]
    if (weights.shape[1], base.shape[1]) != (c, d):
        raise HardlookError(f"the Hessian's rows have {base.shape[1]} features and {weights.shape[1]} classes; the "
                            f"examples have {d} and {c}")
    x, shift = with_ones(base), np.full(d + 1, damping + l2)
    shift[-1] = damping
    out = np.empty(len(features))
    for rows in row_blocks(len(features), 8 * c * (4 * (d + 1) + len(x)), 2**28):
        right = _gradients(features[rows], probabilities[rows], labels[rows])
        solved = conjugate_gradients(
            lambda v: _head_product(v, x, weights) + shift * v, right, tolerance, max_steps
        )
        out[rows] = (solved * right).sum(axis=(1, 2))
    return out


def _head_product(directions: np.ndarray, x: np.ndarray, p: np.ndarray) -> np.ndarray:
    """H V for directions (b, c, d+1), with the mean softmax Hessian over rows x (n, d+1), p (n, c)."""
    change = directions @ x.T  # (b, c, n)
    change -= (p.T * change).sum(axis=1, keepdims=True)
    change *= p.T / len(x)
    return change @ x


def conjugate_gradients(
    product: Callable[[np.ndarray], np.ndarray],
    right: np.ndarray,
    tolerance: float = 1e-6,
    max_steps: int = 1000,
) -> np.ndarray:
    """Solve A z = b for each b along the first axis at once, A positive definite and given by its products.

    ``right``: (m, …) → (m, …), each with ‖A z − b‖ ≤ tolerance ‖b‖; a solved one rests while others go on, so
    that what it comes to does not depend on them. Raises ``HardlookError`` after
    ``max_steps``.
    """
    axes = tuple(range(1, right.ndim))
    solution, residual, direction = np.zeros_like(right), right.copy(), right.copy()
    length = goal = (right**2).sum(axis=axes, keepdims=True)
    for _ in range(max_steps):
        left = length > tolerance**2 * goal
        if not left.any():
            return solution
        along = product(direction)
        bend = (direction * along).sum(axis=axes, keepdims=True)
        step = np.divide(length, bend, out=np.zeros_like(length), where=left & (bend > 0))
        solution += step * direction
        residual -= step * along
        new = np.where(left, (residual**2).sum(axis=axes, keepdims=True), length)
        direction = residual + np.divide(new, length, out=np.zeros_like(new), where=length > 0) * direction
        length = new
    worst = float(np.sqrt((length / np.where(goal > 0, goal, 1)).max()))
    raise HardlookError(
        f"conjugate gradients left a residual of {worst:.2g} after {max_steps} steps; needed {tolerance}: "
        "raise damping or max_steps"
    )
