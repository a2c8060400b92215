"""Stability of a score over runs: other seeds, other batch sizes, fewer checkpoints.

The same score of r runs comes as a data frame of r columns by example_id. *Run against run* is Spearman's
rank correlation of each pair; per example it is the deviation of the value and of its place in the ranking,
which also compares runs whose scales differ; per decile it is the error of every run with the band mean ±
one standard deviation over the runs (n − 1 in the denominator), as the figures of Agarwal et al. 2022 draw
it.

Cost: sorts, r · n log n. Limits: the runs of one audit share the data, so this is the noise of training, not
of sampling the data; a band of two runs says little.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from scoring.evaluation.error_deciles import error_by_decile
from scoring.evaluation.score_correlation import rank_correlation


def run_agreement(values: pd.DataFrame) -> pd.DataFrame:
    """(n, r) one score of r runs → run_a, run_b, n, rho (Spearman), one row per pair of runs."""
    table = rank_correlation(values)
    present = values.notna().to_numpy()
    names = list(values.columns)
    rows = [
        {"run_a": a, "run_b": b, "n": int((present[:, i] & present[:, j]).sum()), "rho": table.loc[a, b]}
        for i, a in enumerate(names)
        for j, b in enumerate(names)
        if i < j
    ]
    return pd.DataFrame(rows, columns=["run_a", "run_b", "n", "rho"])


def places(values: pd.DataFrame) -> pd.DataFrame:
    """The place of each example in each run's own ranking, from 0 (lowest) to 1 (highest); ties share their
    mean.

    >>> places(pd.DataFrame({"a": [5.0, 7.0, 6.0]}))["a"].tolist()
    [0.0, 1.0, 0.5]
    """
    return (values.rank() - 1) / (values.count() - 1).clip(lower=1)


def deviation_per_example(values: pd.DataFrame) -> pd.DataFrame:
    """Returns how much each example moves between runs → mean, deviation, place, place_deviation, runs, by
    example_id.

    Deviations are standard deviations over the runs that have the example, n − 1 in the denominator; NaN
    where fewer than two have it. ``place`` is the mean place in the rankings (0 to 1).

    >>> values = pd.DataFrame({"a": [1.0, 0.0], "b": [3.0, 0.0]}, index=["x", "y"])
    >>> deviation_per_example(values)["mean"].tolist()
    [2.0, 0.0]
    """
    place = places(values)
    return pd.DataFrame(
        {
            "mean": values.mean(axis=1),
            "deviation": values.std(axis=1, ddof=1),
            "place": place.mean(axis=1),
            "place_deviation": place.std(axis=1, ddof=1),
            "runs": values.count(axis=1),
        }
    )


def decile_errors_by_run(scores: Mapping[str, pd.Series], errors: Mapping[str, pd.Series]) -> pd.DataFrame:
    """Error per decile, run by run → run, decile, n, error, low, high (95 % Wilson).

    ``scores`` and ``errors`` (bool, null where not known): per run, by example_id. Each run is cut into its
    own deciles and judged by its own errors.
    """
    frames = []
    for run, score in scores.items():
        both = pd.DataFrame({"score": score, "error": errors[run]}).dropna()
        table = error_by_decile(both["score"].to_numpy(dtype=float), both["error"].to_numpy(dtype=bool))
        frames.append(table.assign(run=run))
    columns = ["run", "decile", "n", "error", "low", "high"]
    return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)


def decile_band(by_run: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation of the error per decile over runs → decile, runs, mean, deviation, low,
    high.

    low and high: mean ∓ one standard deviation, cut to [0, 1]; NaN with a single run.
    """
    grouped = by_run.dropna(subset=["error"]).groupby("decile")["error"]
    found = pd.DataFrame({"runs": grouped.size(), "mean": grouped.mean(), "deviation": grouped.std(ddof=1)})
    found["low"] = (found["mean"] - found["deviation"]).clip(0, 1)
    found["high"] = (found["mean"] + found["deviation"]).clip(0, 1)
    return found.reset_index()
