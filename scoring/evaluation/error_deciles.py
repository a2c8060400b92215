"""Class normalisation of a score, error per decile, the hard end of a score, and accuracy with intervals.

A score is only as good as what it ranks first. Everything here takes plain arrays (n examples) and gives
small tables or numbers with intervals: *error* is a boolean per example (the model is wrong on it). VoG's
class normalisation is Agarwal et al. 2022, section 3.1; the Wilson interval is Wilson 1927, as scipy's
``binomtest`` gives it.

Cost: sorts, O(n log n). Limits: NaN means "not computed" and is left out everywhere, never counted as low
or high.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from scoring.audit.arrays import as_flags, as_list, as_numbers
from scoring.audit.errors import HardlookError

DECILES = 10
HARD_RHO = 0.05
"""A direction weaker than this rank correlation is called neither end, however narrow its interval."""


def normalize_by_class(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Class z-scores: (value − class mean) / class standard deviation (population), Agarwal et al. 2022.

    ``values`` (n,) float, ``labels`` (n,) of any hashable kind → (n,) float64. A class with one example or
    equal values gets 0 (it has nothing to rank); NaN stays NaN and takes no part in the class's mean and
    deviation.

    >>> normalize_by_class(np.array([1.0, 3.0, 5.0]), np.array(["a", "a", "b"])).tolist()
    [-1.0, 1.0, 0.0]
    """
    values = as_numbers(values, "values", ndim=1).astype(np.float64)
    labels = np.asarray(as_list(labels, "labels"))
    if len(values) != len(labels):
        raise HardlookError(f"found {len(values)} values and {len(labels)} labels; needed as many of each")
    if len(values) == 0:
        return values.copy()
    groups, inverse = np.unique(labels.astype(str) if labels.dtype == object else labels, return_inverse=True)
    present = np.isfinite(values)
    count = np.bincount(inverse[present], minlength=len(groups))
    mean = np.bincount(inverse[present], values[present], len(groups)) / np.maximum(count, 1)
    centred = np.where(present, values - mean[inverse], np.nan)
    variance = np.bincount(inverse[present], centred[present] ** 2, len(groups)) / np.maximum(count, 1)
    spread = np.sqrt(variance)
    constant = spread <= 1e-9 * np.maximum(np.abs(mean), 1e-30)
    scaled = centred / np.where(constant, 1.0, spread)[inverse]
    return np.where(present & constant[inverse], 0.0, scaled)


def wilson(errors: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of the share errors / n (Wilson 1927, without continuity correction), NaN for n = 0.

        centre ± half = (p + z²/2n ± z √(p (1 − p)/n + z²/4n²)) / (1 + z²/n)

    >>> tuple(round(x, 3) for x in wilson(5, 10))
    (0.237, 0.763)
    """
    if n == 0:
        return float("nan"), float("nan")
    errors, n, z = int(errors), int(n), _quantile(0.5 + confidence / 2)
    if not 0 <= errors <= n:
        raise HardlookError(f"{errors} errors of {n} examples are no share; needed 0 to {n}")
    centre = errors + z * z / 2
    half = z * math.sqrt(errors * (n - errors) / n + z * z / 4)
    low, high = (centre - half) / (n + z * z), (centre + half) / (n + z * z)
    return (low if errors else 0.0), (high if errors < n else 1.0)


@cache
def _quantile(share: float) -> float:
    """The standard normal's quantile: looked up once per confidence."""
    return float(stats.norm.ppf(share))


def deciles(scores: np.ndarray) -> np.ndarray:
    """The decile 1 (lowest) … 10 of each example, 0 where the score is NaN. Ties are split by position.

    >>> deciles(np.arange(20.0))[[0, 1, 2, 19]].tolist()
    [1, 1, 2, 10]
    """
    scores = np.asarray(scores, dtype=np.float64)
    present = np.flatnonzero(~np.isnan(scores))
    rank = np.empty(len(present), dtype=np.int64)
    rank[np.argsort(scores[present], kind="stable")] = np.arange(len(present))
    result = np.zeros(len(scores), dtype=np.int64)
    result[present] = rank * DECILES // max(len(present), 1) + 1
    return result


def error_by_decile(scores: np.ndarray, errors: np.ndarray) -> pd.DataFrame:
    """Share of errors in each decile of a score, lowest to highest, with 95 % Wilson intervals.

    ``scores`` (n,) float, ``errors`` (n,) bool → columns decile 1…10, n, error, low, high. Fewer than ten
    examples leave deciles empty (n = 0, error NaN).
    """
    errors, scores = as_flags(errors, "errors", ndim=1), as_numbers(scores, "scores", ndim=1)
    if len(errors) != len(np.asarray(scores)):
        raise HardlookError(f"found {len(np.asarray(scores))} scores and {len(errors)} errors; needed as many of each")
    member = deciles(scores)
    rows = []
    for decile in range(1, DECILES + 1):
        wrong = errors[member == decile]
        low, high = wilson(wrong.sum(), len(wrong))
        share = float(wrong.mean()) if len(wrong) else float("nan")
        rows.append({"decile": decile, "n": len(wrong), "error": share, "low": low, "high": high})
    return pd.DataFrame(rows)


def spearman_interval(rho: float, n: int) -> tuple[float, float]:
    """95 % interval of Spearman's ρ: Fisher's z with the variance (1 + ρ²/2) / (n − 3) (Bonett and Wright
    2000).

    >>> [round(x, 3) for x in spearman_interval(0.0, 103)]
    [-0.194, 0.194]
    """
    if n <= 3 or np.isnan(rho):
        return float("nan"), float("nan")
    half = 1.959964 * np.sqrt((1 + rho**2 / 2) / (n - 3))
    centre = np.arctanh(np.clip(rho, -0.999999, 0.999999))
    return float(np.tanh(centre - half)), float(np.tanh(centre + half))


def measured_direction(scores: np.ndarray, errors: np.ndarray) -> dict[str, Any]:
    """Returns which end of a score is hard: the rank correlation of score and error, with its 95 % interval.

    Returns rho (Spearman; positive = high scores err more), low, high (Fisher's z with the Bonett-Wright
    variance), n, errors, and hard: "high", "low", or None where the interval holds 0 or |rho| < 0.05. A
    rank correlation calls a U neither end, so ``both`` says whether lowest and highest decile each err more
    (95 % Wilson) than those between them. Without errors, or without correct examples, nothing can be said:
    rho is None.
    """
    scores, errors = np.asarray(scores, dtype=np.float64), np.asarray(errors, dtype=bool)
    present = np.isfinite(scores)
    scores, errors = scores[present], errors[present]
    n, wrong = len(scores), int(errors.sum())
    if n < 10 or wrong == 0 or wrong == n or np.ptp(scores) == 0:
        return {"rho": None, "low": None, "high": None, "n": n, "errors": wrong, "hard": None, "both": False}
    rho = float(stats.spearmanr(scores, errors).statistic)
    low, high = spearman_interval(rho, n)
    clear = (low > 0 or high < 0) and abs(rho) >= HARD_RHO
    hard = ("high" if rho > 0 else "low") if clear else None
    both = hard is None and _both_ends_err(scores, errors)
    return {"rho": rho, "low": low, "high": high, "n": n, "errors": wrong, "hard": hard, "both": both}


def _both_ends_err(scores: np.ndarray, errors: np.ndarray) -> bool:
    """Returns whether the lowest and the highest decile each err more than the eight between them."""
    table = error_by_decile(scores, errors)
    inner = table.iloc[1:-1]
    between = (inner["error"] * inner["n"]).sum() / max(inner["n"].sum(), 1)
    return bool(table["low"].iloc[0] > between and table["low"].iloc[-1] > between)


def accuracy_table(frame: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Accuracy with Wilson intervals per group. ``frame`` has a boolean ``correct`` and the columns of
    ``by``.
    """
    known = frame.dropna(subset=["correct"])
    grouped = known.groupby(by, observed=True, sort=False)["correct"].agg(["size", "sum"]).reset_index()
    grouped = grouped.rename(columns={"size": "n", "sum": "right"})
    bounds = [wilson(right, n) for right, n in zip(grouped["right"], grouped["n"], strict=True)]
    grouped["accuracy"] = grouped["right"] / grouped["n"]
    grouped["low"], grouped["high"] = [b[0] for b in bounds], [b[1] for b in bounds]
    return grouped
