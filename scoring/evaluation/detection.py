"""How well a score finds label errors, where the truth is known."""

from __future__ import annotations

import numpy as np
import pandas as pd


def found_within(suspicion: np.ndarray, wrong: np.ndarray, shares: tuple[float, ...] = (0.05, 0.10)) -> pd.DataFrame:
    """How many known label errors the first share of a ranking holds, beside chance.

    ``suspicion`` (n,): higher is inspected first, NaN last; ``wrong`` (n,) bool. Columns: share, inspected, found,
    recall, precision, chance (expected number found when inspecting as many at random), lift (found / chance).
    """
    suspicion, wrong = np.asarray(suspicion, dtype=np.float64), np.asarray(wrong, dtype=bool)
    order = np.argsort(-np.nan_to_num(suspicion, nan=-np.inf), kind="stable")
    total = int(wrong.sum())
    rows = []
    for share in shares:
        inspected = int(np.ceil(share * len(wrong)))
        found = int(wrong[order[:inspected]].sum())
        chance = inspected * total / max(len(wrong), 1)
        rows.append({
            "share": share, "inspected": inspected, "found": found, "recall": found / total if total else np.nan,
            "precision": found / inspected if inspected else np.nan, "chance": chance,
            "lift": found / chance if chance else np.nan,
        })
    return pd.DataFrame(rows)
