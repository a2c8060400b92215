"""Symmetric Lanczos with full reorthogonalisation: extreme eigenvalues from matrix-vector products.

After P products with a symmetric H, an orthonormal basis Q (P vectors) and a tridiagonal T satisfy

    H Q = Q T + β_P q_{P+1} e_Pᵀ      (Golub and Van Loan, Matrix Computations, section 10.1)

and the eigenpairs (θ, s) of T give Ritz pairs (θ, Q s) of H with residual ‖H Q s − θ Q s‖ = β_P |s_P|. All P
dimensions are used; public Arnoldi code throws one away. Vectors are lists of tensors shaped like parameters.

Cost: P products, and 4 P² p flops for orthogonality; memory P p numbers.

Known limits: eigenvalues inside the spectrum converge late; the residuals say how far each one is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Vector = list[Tensor]
Product = Callable[[Vector], Vector]

KEPT_SHARE = 0.7  # orthogonalise again when less than this share of a vector's length is left (Kahan: twice is enough)


@dataclass(frozen=True)
class Ritz:
    """Ritz values (P,) in descending order, T's eigenvectors as columns (P, P), residual norms (P,)."""

    values: np.ndarray
    vectors: np.ndarray
    residuals: np.ndarray


class Krylov:
    """An orthonormal basis of P vectors in blocks (P, *shape), one per tensor, and the tridiagonal T in
    float64.
    """

    def __init__(self, like: Sequence[Tensor], dimension: int):
        self.basis = [t.new_empty((dimension, *t.shape)) for t in like]
        self.diagonal: list[float] = []
        self.off_diagonal: list[float] = []  # one more than T needs: the last is β_P

    def ritz(self) -> Ritz:
        """Eigenpairs of T and what they leave over."""
        inner = self.off_diagonal[:-1]
        matrix = np.diag(self.diagonal) + np.diag(inner, 1) + np.diag(inner, -1)
        values, vectors = np.linalg.eigh(matrix)
        values, vectors = values[::-1], vectors[:, ::-1]
        return Ritz(values, vectors, self.off_diagonal[-1] * np.abs(vectors[-1]))

    def combined(self, vectors: np.ndarray) -> list[Tensor]:
        """Blocks (r, *shape) of Q s for each column of (P, r); the basis is freed block by block on the way."""
        out = []
        while self.basis:
            block = self.basis.pop(0)
            weights = torch.as_tensor(np.ascontiguousarray(vectors.T), dtype=block.dtype, device=block.device)
            out.append((weights @ _rows(block)).view(-1, *block.shape[1:]))
        return out

    def __getitem__(self, index: int) -> Vector:
        return [block[index] for block in self.basis]

    def _set(self, index: int, vector: Vector) -> None:
        for block, part in zip(self.basis, vector, strict=True):
            block[index] = part

    def _subtract(self, vector: Vector, count: int) -> None:
        """Remove what lies along the first ``count`` basis vectors, in place."""
        flat = [(_rows(block[:count]), part.view(-1)) for block, part in zip(self.basis, vector, strict=True)]
        along = sum((block @ part for block, part in flat), torch.zeros(()))
        for block, part in flat:
            part.addmv_(block.T, along, alpha=-1)


def _rows(block: Tensor) -> Tensor:
    """(r, *shape) → (r, size): of a scalar parameter, a learned temperature say, one column."""
    return block.reshape(len(block), -1)


def lanczos(
    product: Product,
    like: Sequence[Tensor],
    dimension: int,
    *,
    seed: int = 0,
    advance: Callable[[], object] = lambda: None,
) -> Krylov:
    """Run P = ``dimension`` products from a random start → ``Krylov``. Deterministic for a seed on one
    machine.

    ``like``: tensors that give shapes, precision and device; P is at most their total size p. Where the
    products close an invariant subspace early, a new random direction is taken, so eigenvalues of any
    multiplicity are found.
    """
    generator = torch.Generator().manual_seed(seed)
    krylov = Krylov(like, dimension)
    krylov._set(0, _scaled(_random(like, generator)))
    for k in range(dimension):
        w = [part.clone(memory_format=torch.contiguous_format) for part in product(krylov[k])]
        krylov.diagonal.append(_dot(w, krylov[k]))
        beta = _step(krylov, w, k)
        advance()
        closed = beta <= 10 * torch.finfo(w[0].dtype).eps * max(map(abs, krylov.diagonal + krylov.off_diagonal))
        krylov.off_diagonal.append(0.0 if closed else beta)
        if k + 1 < dimension:
            krylov._set(k + 1, _fresh(krylov, like, generator, k + 1) if closed else [part / beta for part in w])
    return krylov


def _step(krylov: Krylov, w: Vector, k: int) -> float:
    """Make H q_k orthogonal to q_0 … q_k in place → its norm β. The three-term recurrence first, then all of
    them.
    """
    _add(w, krylov[k], -krylov.diagonal[k])
    if k:
        _add(w, krylov[k - 1], -krylov.off_diagonal[k - 1])
    before, after = _norm(w), 0.0
    for _ in range(3):
        krylov._subtract(w, k + 1)
        after = _norm(w)
        if after > KEPT_SHARE * before:
            break
        before = after
    return after


def _fresh(krylov: Krylov, like: Sequence[Tensor], generator: torch.Generator, count: int) -> Vector:
    """A random unit vector orthogonal to the first ``count`` ones."""
    vector = _scaled(_random(like, generator))
    for _ in range(3):
        krylov._subtract(vector, count)
        vector = _scaled(vector)
    return vector


def _random(like: Sequence[Tensor], generator: torch.Generator) -> Vector:
    return [torch.randn(t.shape, generator=generator, dtype=t.dtype).to(t.device) for t in like]


def _scaled(vector: Vector) -> Vector:
    norm = _norm(vector)
    return [part / norm for part in vector]


def _add(vector: Vector, other: Vector, factor: float) -> None:
    for part, more in zip(vector, other, strict=True):
        part.add_(more, alpha=factor)


def _dot(left: Vector, right: Vector) -> float:
    return float(sum(torch.dot(a.reshape(-1), b.reshape(-1)).double() for a, b in zip(left, right, strict=True)))


def _norm(vector: Vector) -> float:
    return _dot(vector, vector) ** 0.5
