"""A low-rank inverse Hessian of any layers.

Ritz pairs (λ_i, m_i) from P Lanczos products; Ĥ⁻¹ = M Λ⁻¹ Mᵀ over the r largest positive λ_i
(Schioppa et al. 2022, section 3; Wang et al. 2023, section 3 and appendix). Products go in; factors and their
report come out.

Cost: P Hessian products and P p numbers of memory.

Known limits: a model that is not at a minimum has negative curvature, which no inverse square root has: its
directions are left out and their share is reported. The loss is that of the mean over examples, so nothing
depends on n.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scoring.audit.errors import HardlookError
from scoring.curvature.chosen_parameters import Chosen
from scoring.curvature.closed_form import HeadProducts
from scoring.curvature.hessian import HessianProducts
from scoring.curvature.lanczos import Ritz, lanczos

FLOOR = 1e-5  # of the largest eigenvalue; float32 products are noise below it
BASIS_SHARE = 0.9  # of the memory budget; the rest is for cached activations and graphs
MEMORY_BUDGET = 2**32  # bytes
WELL_CONVERGED = 0.01  # a residual below this share of its own eigenvalue


@dataclass(frozen=True, kw_only=True)
class Size:
    """What a factorisation will take: p parameters, P products, rank r, and bytes. Known before the work
    starts.
    """

    parameters: int
    products: int
    rank: int
    basis_bytes: int
    factor_bytes: int
    memory_budget: int
    notes: tuple[str, ...] = ()
    cached_bytes: int = 0
    """What cached activations and graphs take, once they are made."""
    held_bytes: int | None = None
    """What the process (or the device) holds, caches and graphs among it, once these are made; None before."""

    @property
    def bytes(self) -> int:
        """The most that basis and factors take together: the basis, and one parameter's factors beside it."""
        return self.basis_bytes + self.factor_bytes

    def __str__(self) -> str:
        start = f"{self.parameters:,} parameters, {self.products} Hessian products, rank {self.rank}: "
        own = f"{self.bytes / 1e9:.2g} GB for the basis and the factors"
        if self.held_bytes is None:
            return f"{start}{own}, and up to {self.memory_budget / 1e9:.2g} GB with cached activations and graphs"
        return (
            f"{start}about {(self.held_bytes + self.bytes) / 1e9:.2g} GB in all: {own}, "
            f"{self.cached_bytes / 1e9:.2g} GB for cached activations and graphs, and what the process holds anyway"
        )


def size_of(chosen: Chosen, *, arnoldi_dim: int = 500, rank: int = 100, memory_budget: int = MEMORY_BUDGET) -> Size:
    """Returns P and r as requested, reduced with a note where the problem is smaller or the basis would not fit the
    budget.

    Raises ``HardlookError`` where fewer than two products fit, or where P or r is below one.
    """
    if not all(isinstance(value, (int, np.integer)) for value in (arnoldi_dim, rank)):
        raise HardlookError(f"arnoldi_dim is {arnoldi_dim!r} and rank is {rank!r}; needed whole numbers")
    if arnoldi_dim < 1 or rank < 1:
        raise HardlookError(f"arnoldi_dim is {arnoldi_dim} and rank is {rank}; needed at least 1 of each")
    p, item = chosen.dimension, chosen.tensors[0].element_size()
    fits = int(memory_budget * BASIS_SHARE) // (p * item)
    if fits < 2:
        raise HardlookError(
            f"layers {', '.join(chosen.layers)} hold {p:,} parameters, {p * item / 1e9:.2g} GB for each Hessian "
            f"product; the memory budget is {memory_budget / 1e9:.2g} GB: choose fewer layers or raise the budget"
        )
    products = min(arnoldi_dim, p, fits)
    kept = min(rank, products if products == min(arnoldi_dim, p) else max(1, products // 2))
    largest = max(parameter.numel() for parameter in chosen.tensors)
    notes = _lowered("arnoldi_dim", arnoldi_dim, products, p, fits) + _lowered("rank", rank, kept, p, fits)
    return Size(
        parameters=p,
        products=products,
        rank=kept,
        basis_bytes=products * p * item,
        factor_bytes=kept * largest * item,
        memory_budget=memory_budget,
        notes=tuple(notes),
    )


def _lowered(name: str, requested: int, got: int, p: int, fits: int) -> list[str]:
    if got == requested:
        return []
    why = f"the memory budget holds {fits} products" if fits < min(p, requested) else f"the layers hold {p} parameters"
    return [f"{name} reduced from {requested} to {got}: {why}"]


# -- the low-rank inverse ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class CurvatureReport:
    """What the factorisation found, and how far to trust it.

    ``eigenvalues``: the r kept Ritz values, largest first. ``residuals``: ‖H m − λ m‖ / λ of each; small
    means converged. ``negative_share``: Ritz values below −floor · λ_max, as a share of all P;
    ``negative_mass``: their absolute sum, as a share of all. ``seconds``: wall time. ``planned_bytes``:
    basis, factors, caches and graphs. ``peak_bytes``: the most the process has ever held, None where the
    system does not say.
    """

    layers: tuple[str, ...]
    parameters: int
    examples: int
    way: str
    products: int
    rank_requested: int
    rank: int
    eigenvalues: tuple[float, ...]
    residuals: tuple[float, ...]
    negative_share: float
    negative_mass: float
    seconds: float
    planned_bytes: int
    peak_bytes: int | None
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        peak = "" if self.peak_bytes is None else f", peak memory of the process {self.peak_bytes / 1e9:.2g} GB"
        lines = [
            f"layers {', '.join(self.layers) or 'all'}: {self.parameters:,} parameters, {self.examples:,} examples",
            f"rank {self.rank} of {self.rank_requested} from {self.products} Hessian products ({self.way})",
            f"eigenvalues {self.eigenvalues[0]:.3g} to {self.eigenvalues[-1]:.3g}, largest relative residual "
            f"{max(self.residuals):.2g}",
            f"negative curvature: {self.negative_share:.1%} of the estimated eigenvalues, {self.negative_mass:.2g} of "
            "their mass",
            f"{self.seconds:.1f} s{peak}",
        ]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


@dataclass(frozen=True)
class Factors:
    """Ĥ⁻¹ = M Λ⁻¹ Mᵀ: eigenvalues (r,) in descending order and M in blocks (r, *shape), one per parameter."""

    values: np.ndarray
    blocks: list[Tensor]
    report: CurvatureReport


def factorise(
    products: HeadProducts | HessianProducts,
    size: Size,
    *,
    rank: int,
    floor: float = FLOOR,
    seed: int = 0,
    advance: Callable[[], object] = lambda: None,
) -> Factors:
    """Run Lanczos and keep the largest positive Ritz pairs above ``floor`` · λ_max.

    ``rank``: the requested r, for the report. ``advance`` is called after each product. Deterministic for a seed.
    Raises ``HardlookError`` where no positive curvature is found.
    """
    start = time.perf_counter()
    krylov = lanczos(products, products.chosen.tensors, size.products, seed=seed, advance=advance)
    ritz = krylov.ritz()
    kept = _positive(ritz, floor)[: size.rank]
    report = _report(products, size, ritz, kept, floor, rank)
    blocks = krylov.combined(ritz.vectors[:, kept])
    report = replace(report, seconds=time.perf_counter() - start, peak_bytes=peak_memory())
    return Factors(ritz.values[kept], blocks, report)


def _positive(ritz: Ritz, floor: float) -> np.ndarray:
    """Indices of the Ritz values above the floor, largest first."""
    kept = np.flatnonzero(ritz.values > max(floor * np.abs(ritz.values).max(), 0.0))
    if not len(kept):
        raise HardlookError(
            f"no positive curvature in {len(ritz.values)} dimensions (largest eigenvalue {ritz.values.max():.3g}): the "
            "model is saturated, or far from a minimum; choose other layers, or pass the l2 penalty of its training"
        )
    return kept


def _report(
    products: HeadProducts | HessianProducts, size: Size, ritz: Ritz, kept: np.ndarray, floor: float, rank: int
) -> CurvatureReport:
    negative = ritz.values < -floor * np.abs(ritz.values).max()
    values, residuals = ritz.values[kept], ritz.residuals[kept] / ritz.values[kept]
    found = CurvatureReport(
        layers=products.chosen.layers,
        parameters=size.parameters,
        examples=products.n,
        way=products.method,
        products=size.products,
        rank_requested=rank,
        rank=len(kept),
        eigenvalues=tuple(map(float, values)),
        residuals=tuple(map(float, residuals)),
        negative_share=float(negative.mean()),
        negative_mass=float(np.abs(ritz.values[negative]).sum() / np.abs(ritz.values).sum()),
        seconds=0.0,
        planned_bytes=size.bytes + products.bytes,
        peak_bytes=None,
    )
    return replace(found, notes=size.notes + tuple(_notes(found, size)))


def _notes(report: CurvatureReport, size: Size) -> list[str]:
    """Returns what a reader of the numbers should know."""
    notes = []
    if report.rank < size.rank:
        notes.append(
            f"rank {report.rank} instead of {size.rank}: only that many eigenvalues are positive and above the noise "
            "floor"
        )
    loose = sum(residual > WELL_CONVERGED for residual in report.residuals)
    if loose:
        notes.append(
            f"{loose} of {report.rank} eigenvalues have relative residuals above {WELL_CONVERGED:.0%} (not "
            "converged): raise arnoldi_dim or lower rank"
        )
    if report.negative_share:
        notes.append(
            f"{report.negative_share:.1%} of the estimated Hessian eigenvalues are negative: the model is not at a "
            "minimum of this loss, and these directions are left out"
        )
    return notes


def peak_memory() -> int | None:
    """The most bytes this process has held so far; None on systems that do not say."""
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def held_memory(device: torch.device) -> int | None:
    """The bytes that torch holds on a CUDA device, else those of this process now; None on systems that do not say."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return peak_memory()
    return pages * os.sysconf("SC_PAGE_SIZE")
