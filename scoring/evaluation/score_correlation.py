"""Correlation of scores: rank correlation, clustered order, common top examples, and the largest disagreements of two.

Scores come as a data frame of m columns by example_id (NaN = not computed), *turned* so that high is the end
that deserves a look. For each pair only the examples that have both take part.

    Spearman  ρ = correlation of the ranks, ties sharing their mean rank
    Kendall   τ_b = (concordant − discordant) / sqrt((pairs − ties of a)(pairs − ties of b))
    overlap   |top_k(a) ∩ top_k(b)| / k,   k = ⌈share · n⌉;  by chance k / n

Cost: Spearman ranks each column once per pattern of missing values and multiplies; 50 columns of 60,000 take
about a second. Kendall is O(n log n) per pair and is taken on at most ``KENDALL_MOST`` examples. Limits: a
rank correlation says nothing about which of two scores is better; that takes the truth (``detection``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from scoring.evaluation.error_deciles import spearman_interval

KENDALL_MOST = 2000
SHARES = (0.01, 0.05, 0.10)
FEWEST = 3
"""Below so many common examples a correlation is NaN."""


def turned(scores: pd.DataFrame, ends: Mapping[str, str | None]) -> pd.DataFrame:
    """The scores with those negated whose *low* end deserves a look, so that high means "look here"
    throughout.

    ``ends``: column → "high", "low" or None (left as it is).

    >>> turned(pd.DataFrame({"aum": [1.0, 2.0]}), {"aum": "low"})["aum"].tolist()
    [-1.0, -2.0]
    """
    return scores.mul([-1.0 if ends.get(name) == "low" else 1.0 for name in scores.columns], axis=1)


def sampled(scores: pd.DataFrame, most: int, seed: int = 0) -> pd.DataFrame:
    """At most so many rows, the same ones whatever their order: drawn by a hash of seed and example_id."""
    if len(scores) <= most:
        return scores
    key = pd.util.hash_array(np.array([f"{seed} {name}" for name in scores.index], dtype=object))
    return scores.iloc[np.sort(np.argsort(key, kind="stable")[:most])]


def rank_correlation(
    scores: pd.DataFrame, method: str = "spearman", *, most: int = KENDALL_MOST, seed: int = 0
) -> pd.DataFrame:
    """(n, m) scores → (m, m) rank correlations, NaN where a pair has fewer than three common examples or is
    constant.

    ``method``: "spearman", or "kendall", which is taken on a sample of at most ``most`` examples.

    >>> table = rank_correlation(pd.DataFrame({"a": [1.0, 2, 3, 4], "b": [8.0, 4, 2, 1]}))
    >>> float(table.loc["a", "b"])
    -1.0
    """
    if method == "spearman":
        return _spearman(scores)
    if method == "kendall":
        return _kendall(sampled(scores, most, seed))
    raise ValueError(f"method = {method!r}; needed 'spearman' or 'kendall'")


def _spearman(scores: pd.DataFrame) -> pd.DataFrame:
    """Columns with the same missing values are ranked together: usually two or three patterns, not m."""
    values = scores.to_numpy(dtype=np.float64)
    present = np.isfinite(values)
    patterns, member = (
        np.unique(present, axis=1, return_inverse=True)
        if present.size
        else (present[:, :0], np.zeros(values.shape[1], dtype=int))
    )
    member = np.asarray(member).reshape(-1)
    found = np.full((values.shape[1],) * 2, np.nan)
    for one in range(patterns.shape[1]):
        for other in range(one, patterns.shape[1]):
            rows = patterns[:, one] & patterns[:, other]
            if rows.sum() < FEWEST:
                continue
            a, b = np.flatnonzero(member == one), np.flatnonzero(member == other)
            block = _standard_ranks(values[np.ix_(rows, a)]).T @ _standard_ranks(values[np.ix_(rows, b)])
            found[np.ix_(a, b)], found[np.ix_(b, a)] = block, block.T
    return _as_table(np.clip(found, -1, 1), scores.columns)


def _standard_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks with zero mean and unit length per column, so that a product of two is their correlation; NaN
    for a constant one."""
    ranks = stats.rankdata(values, axis=0)
    ranks -= ranks.mean(0)
    length = np.sqrt((ranks**2).sum(0))
    return np.divide(ranks, length, out=np.full_like(ranks, np.nan), where=length > 0)


def _kendall(scores: pd.DataFrame) -> pd.DataFrame:
    values = scores.to_numpy(dtype=np.float64)
    found = np.full((values.shape[1],) * 2, np.nan)
    for a in range(values.shape[1]):
        for b in range(a, values.shape[1]):
            rows = np.isfinite(values[:, a]) & np.isfinite(values[:, b])
            if rows.sum() >= FEWEST and np.ptp(values[rows, a]) > 0 and np.ptp(values[rows, b]) > 0:
                found[a, b] = found[b, a] = stats.kendalltau(values[rows, a], values[rows, b]).statistic
    return _as_table(found, scores.columns)


def _as_table(values: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(values, index=pd.Index(names), columns=pd.Index(names))


def clustered_order(correlation: pd.DataFrame) -> list[str]:
    """The columns of a correlation table so that those which agree stand together.

    Average linkage on the distance 1 − ρ with the leaves ordered optimally (Bar-Joseph et al. 2001); a
    correlation that is not known counts as none (ρ = 0).
    """
    names = list(correlation.columns)
    if len(names) < 3:
        return names
    distance = 1 - correlation.fillna(0.0).to_numpy()
    distance = (distance + distance.T) / 2
    np.fill_diagonal(distance, 0.0)
    condensed = squareform(distance.clip(min=0), checks=False)
    tree = hierarchy.linkage(condensed, method="average", optimal_ordering=True)
    return [names[at] for at in hierarchy.leaves_list(tree)]


def top_overlap(scores: pd.DataFrame, shares: Sequence[float] = SHARES) -> pd.DataFrame:
    """Returns how much of their top two scores have in common → a, b, share, n, k, common, overlap, chance.

    The top of a pair is taken among the n examples that have both; ``k`` = ⌈share · n⌉ of them; ``overlap``
    = common / k and ``chance`` = k / n. Ties at the edge of a top go by position, so a score of few values
    says little here.
    """
    rows = []
    values = {name: scores[name].to_numpy(dtype=np.float64) for name in scores.columns}
    names = list(values)
    for at, a in enumerate(names):
        for b in names[at + 1 :]:
            both = np.isfinite(values[a]) & np.isfinite(values[b])
            n = int(both.sum())
            order = [np.argsort(-values[name][both], kind="stable") for name in (a, b)]
            for share in shares:
                k = int(np.ceil(share * n - 1e-9))
                common = len(np.intersect1d(order[0][:k], order[1][:k], assume_unique=True))
                rows.append(
                    {
                        "a": a,
                        "b": b,
                        "share": share,
                        "n": n,
                        "k": k,
                        "common": common,
                        "overlap": common / k if k else np.nan,
                        "chance": k / n if n else np.nan,
                    }
                )
    columns = ["a", "b", "share", "n", "k", "common", "overlap", "chance"]
    return pd.DataFrame(rows, columns=columns)


def disagreement(a: pd.Series, b: pd.Series) -> pd.DataFrame:
    """Returns where two scores disagree: place_a, place_b (share of the examples that rank lower, 0 to 1) and
    difference = place_a − place_b, by example_id, the largest difference first.

    Only examples that have both take part; equal differences go by id, so that the order is the same every
    time.

    >>> a, b = pd.Series([3.0, 1.0, 2.0], list("xyz")), pd.Series([1.0, 3.0, 2.0], list("xyz"))
    >>> disagreement(a, b)["difference"].to_dict()
    {'x': 1.0, 'z': 0.0, 'y': -1.0}
    """
    both = pd.DataFrame({"a": a, "b": b}).replace([np.inf, -np.inf], np.nan).dropna()
    most = max(len(both) - 1, 1)
    places = (both.rank(method="average") - 1) / most
    found = pd.DataFrame({"place_a": places["a"], "place_b": places["b"], "difference": places["a"] - places["b"]})
    found.index.name = "example_id"
    order = np.lexsort((found.index.to_numpy(dtype=object).astype(str), -found["difference"].to_numpy()))
    return found.iloc[order]


def correlation_by_group(a: pd.Series, b: pd.Series, groups: pd.Series) -> pd.DataFrame:
    """Spearman's ρ of two scores within each group (class) → group, n, rho, low, high; the largest groups
    first.

    low and high: 95 % interval by Fisher's z with the Bonett-Wright variance; NaN below four examples or for
    constants.
    """
    both = pd.DataFrame({"a": a, "b": b, "group": groups}).replace([np.inf, -np.inf], np.nan).dropna()
    rows = []
    for name, part in both.groupby("group", observed=True, sort=True):
        n = len(part)
        rho = low = high = np.nan
        if n > 3 and part["a"].nunique() > 1 and part["b"].nunique() > 1:
            rho = float(stats.spearmanr(part["a"], part["b"]).statistic)
            low, high = spearman_interval(rho, n)
        rows.append({"group": name, "n": n, "rho": rho, "low": low, "high": high})
    found = pd.DataFrame(rows, columns=["group", "n", "rho", "low", "high"])
    return found.sort_values(["n", "group"], ascending=[False, True], ignore_index=True)


def between_groups(correlation: pd.DataFrame, groups: Mapping[str, str]) -> pd.DataFrame:
    """Mean correlation within and between groups of scores (supervised, unsupervised) → group_a, group_b,
    pairs, mean.

    A score is never paired with itself; pairs without a correlation are left out.
    """
    names = list(correlation.columns)
    upper = [(groups[a], groups[b], correlation.loc[a, b]) for at, a in enumerate(names) for b in names[at + 1 :]]
    pairs = pd.DataFrame([(*sorted((a, b)), value) for a, b, value in upper], columns=["group_a", "group_b", "value"])
    found = pairs.dropna().groupby(["group_a", "group_b"])["value"].agg(pairs="size", mean="mean")
    return found.reset_index()
