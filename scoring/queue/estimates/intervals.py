"""The rate of label errors estimated from a random sample of fixed size, with its interval.

    Horvitz-Thompson, stratified:  p̂ = Σ_s (N_s/N) (e_s/n_s),   v̂ = Σ_s (N_s/N)² (1 − n_s/N_s) p̂_s(1−p̂_s)/(n_s−1)
    below ten errors: Clopper-Pearson without replacement (Buonaccorsi 1987), from the pooled counts
    from ten on: mid-P of the effective counts n* = p̂(1−p̂)/v̂, e* = p̂ n* (Korn & Graubard 1998)
    reviewers err: p = (p̂ + specificity − 1)/(sensitivity + specificity − 1) (Rogan & Gladen 1978), with the interval
    of Lang & Reiczigel 2014, which knows that both were measured too

Inputs → outputs: counts → ``Estimate``, shares from 0 to 1. Cost: microseconds; arrays of audits at once. Limits: these
intervals hold for one look at a size chosen beforehand; whoever looks again and again needs ``sequence``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special, stats

FEW = 10
"""Errors; below, the exact interval of the pooled counts is taken."""


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; all three are NaN without data."""

    value: float
    low: float
    high: float


def clopper_pearson(errors: npt.ArrayLike, n: npt.ArrayLike, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """The exact binomial interval of ``errors`` among ``n``, arrays welcome; counts need not be whole.

    >>> [round(float(x), 4) for x in clopper_pearson(0, 30)]
    [0.0, 0.1157]
    """
    errors, n = np.asarray(errors, float), np.asarray(n, float)
    tail = (1 - confidence) / 2
    low = np.where(errors > 0, special.betaincinv(np.maximum(errors, 1e-12), n - errors + 1, tail), 0.0)
    high = np.where(errors < n, special.betaincinv(errors + 1, np.maximum(n - errors, 1e-12), 1 - tail), 1.0)
    return low, high


def mid_p(errors: npt.ArrayLike, n: npt.ArrayLike, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """The mid-P interval: half of the probability of the observed count is no evidence against a rate."""
    errors, n = np.asarray(errors, float), np.asarray(n, float)
    tail = (1 - confidence) / 2

    def above(p: np.ndarray) -> np.ndarray:  # ½ P(X > e) + ½ P(X ≥ e), growing in p
        return (
            special.betainc(errors + 1, np.maximum(n - errors, 1e-12), p)
            + special.betainc(np.maximum(errors, 1e-12), n - errors + 1, p)
        ) / 2

    shape = np.broadcast(errors, n).shape
    return _solve(above, tail, shape), _solve(above, 1 - tail, shape)


def _solve(growing: Callable[[np.ndarray], np.ndarray], target: float, shape: tuple[int, ...]) -> np.ndarray:
    low, high = np.zeros(shape), np.ones(shape)
    for _ in range(50):
        middle = (low + high) / 2
        short = growing(middle) < target
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    return (low + high) / 2


def exact_without_replacement(errors: int, n: int, population: int, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper-Pearson for ``n`` of ``population`` examples (Buonaccorsi 1987): shares of those not yet refuted."""
    tail, first, last = (1 - confidence) / 2, errors, population - (n - errors)

    def bisect(
        keep: Callable[[int], bool], low: int, high: int
    ) -> int:  # the first total in low … high from which ``keep`` holds
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if keep(middle) else (middle + 1, high)
        return low

    least = bisect(lambda total: stats.hypergeom.sf(errors - 1, population, total, n) > tail, first, last)
    most = bisect(lambda total: stats.hypergeom.cdf(errors, population, total, n) <= tail, first, last + 1) - 1
    return least / population, most / population


def rate_of_strata(
    sizes: npt.ArrayLike, drawn: npt.ArrayLike, errors: npt.ArrayLike, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The share of wrong labels from a stratified draw → value, low, high.

    sizes (s,), drawn (s,) and errors (…, s): examples of each stratum, controls decided, errors among them; leading
    axes of ``errors`` are audits. A stratum without controls takes the rate of the others. No control at all: NaN.
    """
    sizes, drawn, errors = (np.asarray(values, float) for values in (sizes, drawn, errors))
    population, seen = sizes.sum(), drawn > 0
    if not seen.any():
        nothing = np.full(errors.shape[:-1], np.nan)
        return nothing, nothing, nothing
    weight = np.where(seen, sizes, 0) / sizes[seen].sum()
    share = errors / np.maximum(drawn, 1)
    value = (weight * share).sum(-1)
    fpc = np.clip(1 - drawn / sizes.clip(1), 0, 1)
    variance = (weight**2 * fpc * share * (1 - share) / np.maximum(drawn - 1, 1)).sum(-1)
    count, n = errors.sum(-1), drawn.sum()
    effective = np.where(variance > 0, value * (1 - value) / np.maximum(variance, 1e-300), n)
    low, high = mid_p(value * effective, effective, confidence)
    few = (count < FEW) | (n - count < FEW)
    exact = {c: exact_without_replacement(int(c), int(n), int(population), confidence) for c in np.unique(count[few])}
    for c, (least, most) in exact.items():
        low, high = np.where(few & (count == c), least, low), np.where(few & (count == c), most, high)
    return value, np.minimum(low, value), np.maximum(high, value)


def rate_by_cluster(errors: npt.ArrayLike, members: npt.ArrayLike, confidence: float = 0.95) -> Estimate:
    """The rate where examples come in clusters (patients, scenes) → ``Estimate`` that holds for new clusters too.

    errors (g,), members (g,): wrong labels and decided controls of each cluster. Ratio estimate, variance between
    clusters, effective counts with the t of g − 1 clusters (Korn & Graubard 1998).
    """
    errors, members = np.asarray(errors, float), np.asarray(members, float)
    groups, n = len(members), members.sum()
    if not n:
        return Estimate(np.nan, np.nan, np.nan)
    value = errors.sum() / n
    variance = groups / max(groups - 1, 1) * ((errors - value * members) ** 2).sum() / n**2
    simple = value * (1 - value) / n
    effective = n if variance <= simple else value * (1 - value) / variance
    if groups > 1:
        tail = (1 + confidence) / 2
        effective *= min(1.0, (stats.t.ppf(tail, n - 1) / stats.t.ppf(tail, groups - 1)) ** 2)
    low, high = clopper_pearson(value * effective, effective, confidence)
    return Estimate(float(value), float(low), float(high))


def rogan_gladen(
    errors: float, n: float, found: int, true_errors: int, passed: int, true_right: int, confidence: float = 0.95
) -> Estimate:
    """The rate corrected for reviewers' own errors (Rogan & Gladen 1978; interval: Lang & Reiczigel 2014).

    errors of n: what reviewers called wrong. found of true_errors: what single readers caught (sensitivity); passed of
    true_right: right labels that they left alone (specificity). NaN where the readers do no better than chance.

    >>> round(rogan_gladen(382, 10_000, 850, 1000, 970, 1000).value, 4)
    0.01
    """
    nothing = Estimate(np.nan, np.nan, np.nan)
    if not n or not true_errors or not true_right:
        return nothing
    sensitivity, specificity = found / true_errors, passed / true_right
    if sensitivity + specificity <= 1:
        return nothing
    value = (errors / n + specificity - 1) / (sensitivity + specificity - 1)
    z = stats.norm.ppf((1 + confidence) / 2)
    n_, p = n + z**2, (errors + z**2 / 2) / (n + z**2)
    n_se, se = true_errors + 2, (found + 1) / (true_errors + 2)
    n_sp, sp = true_right + 2, (passed + 1) / (true_right + 2)
    rate = (p + sp - 1) / (se + sp - 1)
    shift = 2 * z**2 * (rate * se * (1 - se) / n_se - (1 - rate) * sp * (1 - sp) / n_sp)
    half = z * np.sqrt(p * (1 - p) / n_ + rate**2 * se * (1 - se) / n_se + (1 - rate) ** 2 * sp * (1 - sp) / n_sp)
    half /= se + sp - 1
    return Estimate(*(float(np.clip(x, 0, 1)) for x in (value, rate + shift - half, rate + shift + half)))


def rate_ratio(errors: int, n: int, base_errors: int, base_n: int, confidence: float = 0.95) -> Estimate:
    """Returns how many times as often suspects are wrong as controls: ``errors`` of ``n`` against ``base_errors`` of
    ``base_n``, exact given their sum (Clopper-Pearson of the share, as for two Poisson counts)."""
    if not n or not base_n or not errors + base_errors:
        return Estimate(np.nan, np.nan, np.nan)
    low, high = clopper_pearson(errors, errors + base_errors, confidence)
    odds = [share / (1 - share) * base_n / n if share < 1 else np.inf for share in (low, high)]
    value = errors / n / (base_errors / base_n) if base_errors else np.inf
    return Estimate(float(value), *(float(x) for x in odds))
