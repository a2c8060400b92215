"""Detection of wrong labels by a score, where verified labels exist: curves, areas, and the distance of two groups.

*Suspicion* is a score turned so that higher is inspected first; *wrong* says whose label is known to be
wrong.

    recall(s) = wrong labels among the first s of the ranking / all wrong labels; chance: s,
                perfect: min(s / base rate, 1)
    AUROC = P(suspicion of a wrong > that of a right one), ties half      (Mann and Whitney 1947)
    AP    = Σ_k (recall_k − recall_{k−1}) precision_k                     (scikit-learn's definition)
    Welch   t = (x̄_w − x̄_r) / sqrt(s_w²/n_w + s_r²/n_r)                   (Agarwal et al. 2022, section 4)
    Cohen   d = (x̄_w − x̄_r) / pooled standard deviation                   (Cohen 1988)

Ties are broken by neither luck nor position in curves: within equal suspicion recall grows in a straight
line, which is what a random order gives on average. ROC over runs are averaged vertically, at equal
false-positive rates (Fawcett 2006, algorithm 3), with every run kept to be drawn, as Picard et al. 2022 do.

Cost: one sort per score. Limits: what is not scored is inspected last in the curves, and takes no part in
AUROC, AP and the test; ``scored`` says how much that is. Welch's p says that two means differ, not that one
may rank by the score.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

POINTS = 201
"""Points of a curve over the share inspected."""
REPORT = [
    "score",
    "n",
    "scored",
    "wrong",
    "auroc",
    "average_precision",
    "recall_1",
    "recall_5",
    "recall_10",
    "recall_20",
    "to_find_80",
    "t",
    "p",
    "effect",
]


def found_within(suspicion: np.ndarray, wrong: np.ndarray, shares: tuple[float, ...] = (0.05, 0.10)) -> pd.DataFrame:
    """Returns how many known label errors the first share of a ranking holds, beside chance.

    ``suspicion`` (n,): higher is inspected first, NaN last; ``wrong`` (n,) bool. Columns: share, inspected,
    found, recall, precision, chance (expected number found when inspecting as many at random), lift (found
    / chance).
    """
    suspicion, wrong = np.asarray(suspicion, dtype=np.float64), np.asarray(wrong, dtype=bool)
    order = np.argsort(-np.nan_to_num(suspicion, nan=-np.inf), kind="stable")
    total = int(wrong.sum())
    rows = []
    for share in shares:
        inspected = int(np.ceil(share * len(wrong)))
        found = int(wrong[order[:inspected]].sum())
        chance = inspected * total / max(len(wrong), 1)
        rows.append(
            {
                "share": share,
                "inspected": inspected,
                "found": found,
                "recall": found / total if total else np.nan,
                "precision": found / inspected if inspected else np.nan,
                "chance": chance,
                "lift": found / chance if chance else np.nan,
            }
        )
    return pd.DataFrame(rows)


def _steps(suspicion: np.ndarray, wrong: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inspected and found at the end of each group of equal suspicion, from (0, 0) on; NaN is the last
    group."""
    order = np.argsort(-np.nan_to_num(suspicion, nan=-np.inf), kind="stable")
    ranked = np.nan_to_num(suspicion, nan=-np.inf)[order]
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    found = np.cumsum(wrong[order])
    return np.append(0, ends + 1), np.append(0, found[ends])


def recall_curve(suspicion: np.ndarray, wrong: np.ndarray, points: int = POINTS) -> pd.DataFrame:
    """Recall against the share inspected → share, recall, chance, perfect; ``points`` rows from 0 to 1.

    >>> curve = recall_curve(np.array([3.0, 2.0, 1.0, 0.0]), np.array([True, False, True, False]), 5)
    >>> curve["recall"].tolist()
    [0.0, 0.5, 0.5, 1.0, 1.0]
    """
    suspicion, wrong = np.asarray(suspicion, dtype=np.float64), np.asarray(wrong, dtype=bool)
    share = np.linspace(0, 1, points)
    total, n = int(wrong.sum()), len(wrong)
    if not total:
        nothing = np.full(points, np.nan)
        return pd.DataFrame({"share": share, "recall": nothing, "chance": share, "perfect": nothing})
    inspected, found = _steps(suspicion, wrong)
    recall = np.interp(share * n, inspected, found / total)
    return pd.DataFrame(
        {"share": share, "recall": recall, "chance": share, "perfect": np.minimum(share * n / total, 1)}
    )


def inspections_to_find(suspicion: np.ndarray, wrong: np.ndarray, recall: float = 0.8) -> float:
    """Returns how many examples are inspected until this share of the wrong labels is found; NaN where none is wrong.

    >>> inspections_to_find(np.array([3.0, 2.0, 1.0, 0.0]), np.array([True, False, True, False]), 1.0)
    3.0
    """
    suspicion, wrong = np.asarray(suspicion, dtype=np.float64), np.asarray(wrong, dtype=bool)
    total = int(wrong.sum())
    if not total:
        return float("nan")
    inspected, found = _steps(suspicion, wrong)
    needed = recall * total - 1e-9
    at = int(np.argmax(found >= needed))
    over = (needed - found[at - 1]) / (found[at] - found[at - 1])
    return float(np.ceil(inspected[at - 1] + over * (inspected[at] - inspected[at - 1])))


def welch(values: np.ndarray, wrong: np.ndarray) -> dict[str, float]:
    """Do wrong and right labels differ in a score? → t, df, p (two-sided), effect (Cohen's d), mean_wrong,
    mean_right.

    Positive t and effect: the wrong ones lie higher. All NaN where a group has fewer than two values or
    neither varies.
    """
    values, wrong = np.asarray(values, dtype=np.float64), np.asarray(wrong, dtype=bool)
    w, r = (values[group & np.isfinite(values)] for group in (wrong, ~wrong))
    found = dict.fromkeys(("t", "df", "p", "effect", "mean_wrong", "mean_right"), float("nan"))
    if min(len(w), len(r)) < 2 or max(np.ptp(w), np.ptp(r)) == 0:
        return found
    test = stats.ttest_ind(w, r, equal_var=False)
    pooled = np.sqrt(((len(w) - 1) * w.var(ddof=1) + (len(r) - 1) * r.var(ddof=1)) / (len(w) + len(r) - 2))
    return {
        "t": float(test.statistic),
        "df": float(test.df),
        "p": float(test.pvalue),
        "effect": float((w.mean() - r.mean()) / pooled),
        "mean_wrong": float(w.mean()),
        "mean_right": float(r.mean()),
    }


def detection_report(suspicions: pd.DataFrame, wrong: np.ndarray) -> pd.DataFrame:
    """Every score's power to find wrong labels → one row per column with ``REPORT``, the best average
    precision first.

    ``suspicions`` (n, m), ``wrong`` (n,) bool. ``recall_5``: share of the wrong labels in the first 5 %;
    ``to_find_80``: inspections until 80 % of them are found; t, p and effect as ``welch`` gives them.
    """
    wrong = np.asarray(wrong, dtype=bool)
    rows = []
    for name in suspicions.columns:
        values = suspicions[name].to_numpy(dtype=np.float64)
        there = np.isfinite(values)
        row = {"score": name, "n": len(wrong), "scored": int(there.sum()), "wrong": int(wrong.sum())}
        if 0 < wrong[there].sum() < there.sum():
            row["auroc"] = float(roc_auc_score(wrong[there], values[there]))
            row["average_precision"] = float(average_precision_score(wrong[there], values[there]))
        curve = recall_curve(values, wrong, 101)["recall"]
        row |= {f"recall_{percent}": float(curve[percent]) for percent in (1, 5, 10, 20)}
        row["to_find_80"] = inspections_to_find(values, wrong)
        rows.append(row | {key: welch(values, wrong)[key] for key in ("t", "p", "effect")})
    found = pd.DataFrame(rows, columns=REPORT)
    return found.sort_values(["average_precision", "score"], ascending=[False, True], ignore_index=True)


def roc_curve(suspicion: np.ndarray, wrong: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Share of the wrong found when a share ``at`` of the right ones is inspected too; NaN suspicion comes
    last."""
    suspicion, wrong = np.asarray(suspicion, dtype=np.float64), np.asarray(wrong, dtype=bool)
    inspected, found = _steps(suspicion, wrong)
    total, rest = max(int(wrong.sum()), 1), max(int((~wrong).sum()), 1)
    false = (inspected - found) / rest
    # where the curve rises straight up, its upper end counts
    last = np.append(false[1:] != false[:-1], True)
    return np.interp(at, false[last], (found / total)[last])


def roc_over_runs(
    suspicions: Sequence[np.ndarray], wrongs: Sequence[np.ndarray], points: int = 101
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """ROC of several runs and their mean → (curves: false_positive, one column per run 0 … r−1, mean,
    deviation; areas: run, auroc).

    ``suspicions`` and ``wrongs``: per run (n,). A run without a wrong or without a right label is NaN.
    """
    at = np.linspace(0, 1, points)
    rates, areas = {}, []
    for number, (suspicion, wrong) in enumerate(zip(suspicions, wrongs, strict=True)):
        suspicion, wrong = np.asarray(suspicion, dtype=np.float64), np.asarray(wrong, dtype=bool)
        sound = 0 < wrong.sum() < len(wrong)
        rates[number] = roc_curve(suspicion, wrong, at) if sound else np.full(points, np.nan)
        last = np.nan_to_num(suspicion, nan=-np.inf)
        areas.append({"run": number, "auroc": _area(last, wrong) if sound else np.nan})
    curves = pd.DataFrame(rates)
    deviation = curves.std(axis=1, ddof=1)
    curves = curves.assign(mean=curves.mean(axis=1), deviation=deviation)
    curves.insert(0, "false_positive", at)
    return curves, pd.DataFrame(areas, columns=["run", "auroc"])


def _area(suspicion: np.ndarray, wrong: np.ndarray) -> float:
    """AUROC by ranks, −inf allowed."""
    ranks = stats.rankdata(suspicion)
    n, m = int(wrong.sum()), int((~wrong).sum())
    return float((ranks[wrong].sum() - n * (n + 1) / 2) / (n * m))
