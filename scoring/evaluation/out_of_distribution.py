"""Detection of out-of-distribution examples by scores, where the distribution of each example is known.

Per score, with outside as the positive class and a high score outside:

    AUROC      probability that an example outside scores higher than one inside
    AUPR out   average precision of finding those outside; AUPR in: of finding those inside, by the score turned round

Inputs (n, scores) numbers and (n,) outside or not → one row per score, and its ROC curve. The AUPRs depend on the share
outside, which is their chance level. Cost: one sort per score.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from scoring.evaluation.detection import roc_curve

COLUMNS = ("auroc", "aupr_in", "aupr_out", "inside", "outside")


def ood_report(scores: pd.DataFrame, outside: np.ndarray) -> pd.DataFrame:
    """(n, scores) data frame, higher = more out of distribution, and (n,) bool → data frame by score: auroc, aupr_in,
    aupr_out, and how many examples of each kind had the score. NaN in a score leaves the example out of its row; a
    score that is there on one side only has no numbers.

    >>> ood_report(pd.DataFrame({"a": [0.1, 0.2, 0.9]}), np.array([False, False, True]))["auroc"].to_dict()
    {'a': 1.0}
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    rows = {}
    for name in scores:
        values = scores[name].to_numpy(dtype=float)
        known = np.isfinite(values)
        out, values = np.asarray(outside, dtype=bool)[known], values[known]
        row = dict.fromkeys(COLUMNS, np.nan) | {"inside": int((~out).sum()), "outside": int(out.sum())}
        if 0 < row["outside"] < len(out):
            row |= {
                "auroc": float(roc_auc_score(out, values)),
                "aupr_in": float(average_precision_score(~out, -values)),
                "aupr_out": float(average_precision_score(out, values)),
            }
        rows[name] = row
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(COLUMNS))


def ood_curves(scores: pd.DataFrame, outside: np.ndarray, points: int = 101) -> dict[str, np.ndarray]:
    """Of each score the ROC curve: (points,) share of the examples outside that score at least as high as the highest
    0 … 1 of those inside. Scores as in ``ood_report``; NaN where one side has none.

    >>> ood_curves(pd.DataFrame({"a": [0.1, 0.8, 0.5, 0.9]}), np.array([False, False, True, True]), 3)["a"].tolist()
    [0.5, 1.0, 1.0]
    """
    at, curves = np.linspace(0, 1, points), {}
    for name in scores:
        values = scores[name].to_numpy(dtype=float)
        known = np.isfinite(values)
        out = np.asarray(outside, dtype=bool)[known]
        sound = 0 < out.sum() < len(out)
        curves[name] = roc_curve(values[known], out, at) if sound else np.full(points, np.nan)
    return curves
