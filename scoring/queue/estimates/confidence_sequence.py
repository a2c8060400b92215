"""Bounds on the number of wrong labels that hold at all times simultaneously, so that reviewing can stop at any time.

A confidence sequence by the prior-posterior-ratio martingale for sampling without replacement (Waudby-Smith & Ramdas
2020, theorem 2.2 with the hypergeometric likelihood of section 2.1): for the true number K of errors among N,

    R_t(K) = π_0(K) / π_t(K) = Q_t / L_t(K),   P(R_t(K) ≥ 1/α at any t) ≤ α   (Ville's inequality)

with L_t the probability of the controls seen, in their order, and Q_t their probability under a prior. Strata are drawn
independently, so likelihoods multiply; a total K is refuted when every way of dividing it among the strata is (Spertus
& Stark 2022):  {K : max over K_1 + … + K_S = K of Σ_s log L_s(K_s) > log Q − log 1/α}. Each log L_s is concave in K_s,
so sorting the increments of all strata gives the maximum for every K. Q mixes three beta-binomial priors, fixed before
the first look: errors at about the goal's rate; any rate; any rate in each stratum by itself.

Inputs → outputs: counts per stratum → lowest and highest total. Cost: O(N log N). Limits: two-sided; controls of a
stratum count only as a prefix of its random order. ``confseq`` has the same for bounded means, but no wheel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import betaln, gammaln, logsumexp


def log_likelihood(totals: npt.ArrayLike, size: int, drawn: int, errors: int) -> np.ndarray:
    """log P(these ``drawn`` answers in their order | ``totals`` of ``size`` are wrong); −inf where impossible."""
    totals = np.asarray(totals, float)
    right = drawn - errors
    with np.errstate(invalid="ignore", divide="ignore"):
        value = (
            gammaln(totals + 1)
            - gammaln(totals - errors + 1)
            + gammaln(size - totals + 1)
            - gammaln(size - totals - right + 1)
            - gammaln(size + 1)
            + gammaln(size - drawn + 1)
        )
    return np.where((totals < errors) | (size - totals < right), -np.inf, value)


def log_evidence(drawn: npt.ArrayLike, errors: npt.ArrayLike, error_rate: float) -> float:
    """log Q: the probability of the answers under the mixture of priors; ``drawn``, ``errors`` (s,)."""
    drawn, errors = np.asarray(drawn, float), np.asarray(errors, float)

    def beta(a: Any, b: Any, e: Any, n: Any) -> Any:
        return betaln(a + e, b + n - e) - betaln(a, b)

    e, n = errors.sum(), drawn.sum()
    return float(
        logsumexp([beta(1, 3 / error_rate, e, n), beta(0.5, 0.5, e, n), beta(0.5, 2.0, errors, drawn).sum()])
        - np.log(3)
    )


def total_bounds(
    sizes: npt.ArrayLike,
    drawn: npt.ArrayLike,
    errors: npt.ArrayLike,
    *,
    open_answers: npt.ArrayLike | None = None,
    known_wrong: npt.ArrayLike | None = None,
    known_right: npt.ArrayLike | None = None,
    error_rate: float = 0.05,
    confidence: float = 0.95,
) -> tuple[int, int]:
    """(lowest, highest) number of wrong labels among all ``sizes`` that the answers so far do not refute.

    sizes, drawn, errors (s,): per stratum, the controls of its decided prefix and the errors among them. open_answers:
    of ``drawn``, those nobody could answer (unsure, disputed, not blind): right for the lower bound, wrong for the
    upper one. known_wrong, known_right: decided otherwise; they only narrow what is possible, in strata with open
    answers not before the end, since an open answer that was guessed against what is known there would refute every
    total. error_rate: the goal's, fixed beforehand. Valid at any number of looks at once.

    >>> total_bounds([1000], [0], [0])
    (0, 1000)
    """
    sizes, drawn, errors = (np.asarray(values, dtype=np.int64) for values in (sizes, drawn, errors))
    zero = np.zeros_like(sizes)
    unknown = zero if open_answers is None else np.asarray(open_answers, dtype=np.int64)
    wrong = zero if known_wrong is None else np.asarray(known_wrong, dtype=np.int64)
    right = zero if known_right is None else np.asarray(known_right, dtype=np.int64)
    bounds = []
    for end, count in ((0, errors), (1, errors + unknown)):
        least = np.maximum(count, np.where(unknown > 0, 0, wrong))
        most = np.maximum(sizes - np.maximum(drawn - count, np.where(unknown > 0, 0, right)), least)
        floor = log_evidence(drawn, count, error_rate) + np.log(1 - confidence)
        bounds.append(_ends(sizes, drawn, count, least, most, floor)[end])
        if not unknown.any():
            return _ends(sizes, drawn, count, least, most, floor)
    possible = np.maximum(errors, wrong).sum(), (sizes - np.maximum(drawn - errors - unknown, right)).sum()
    high = min(bounds[1], int(possible[1]))
    return min(max(bounds[0], int(possible[0])), high), high


def _ends(
    sizes: np.ndarray, drawn: np.ndarray, errors: np.ndarray, least: np.ndarray, most: np.ndarray, floor: float
) -> tuple[int, int]:
    """First and last total whose best division among the strata is likelier than ``floor``."""
    start, steps = 0.0, []
    for size, n, e, low, high in zip(sizes, drawn, errors, least, most, strict=True):
        values = log_likelihood(np.arange(low, high + 1), size, n, e)
        start += values[0]
        steps.append(np.diff(values))
    profile = start + np.concatenate([[0.0], np.cumsum(np.sort(np.concatenate(steps))[::-1])])
    kept = np.flatnonzero(profile > floor)
    if not len(kept):  # happens with probability α at most; the likeliest totals then
        kept = np.flatnonzero(profile > profile.max() - 1e-9)
    return int(least.sum() + kept[0]), int(least.sum() + kept[-1])
