"""Summaries of slices: size, accuracy, labels, predictions, coherence, central examples, common metadata.

    coherence = mean squared distance of two members' embeddings = 2/(m−1) Σ_i ‖μ_i − μ̄‖²

is the within-slice objective of InfEmbed (Wang et al. 2023, section 3): members that the training set
influences alike lie close. It is compared with random slices of the same size. Over-representation is a
one-sided hypergeometric test per slice, column and value, with the false discovery rate of all tests held by
Benjamini and Hochberg.

Embeddings (n, r), slice ids, labels, predictions and metadata columns go in; plain records and data frames
come out.

Cost: as many passes over the embeddings as random slices are drawn; one table per metadata column.

Known limits: numbers in metadata are cut into five equal shares; columns with a value of its own per row say
nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from scoring.audit.errors import HardlookError
from scoring.slices.infembed import distances_to_centres

SHARES = 5  # groups that a numeric metadata column is cut into
MANY_VALUES = 200  # a text column with more values than this is no grouping


@dataclass(frozen=True, kw_only=True)
class SliceSummary:
    """One slice in numbers.

    ``accuracy`` None where there are no labels. ``labels``, ``predictions``: counts, most frequent first.
    ``homogeneity``: share of the most frequent label. ``coherence``: mean squared distance of two members,
    lower is more coherent, None for one member; ``random_coherence``: the same of random slices of this size,
    on average; ``coherence_rank``: share of random slices at least as coherent. ``nearest``: row numbers, the
    nearest to the centre first.
    """

    slice_id: int
    size: int
    accuracy: float | None
    labels: dict[str, int]
    predictions: dict[str, int]
    homogeneity: float | None
    coherence: float | None
    random_coherence: float | None
    coherence_rank: float | None
    nearest: tuple[int, ...]


def summarize_slices(
    embeddings: np.ndarray,
    ids: np.ndarray,
    labels: Sequence[Any] | None,
    predictions: Sequence[Any],
    *,
    n_nearest: int = 12,
    n_random: int = 100,
    seed: int = 0,
) -> list[SliceSummary]:
    """One summary per slice, the least accurate first.

    ``embeddings``: (n, r); ``ids``: (n,) slice ids, −1 for none; ``labels``, ``predictions``: (n,) class
    names, labels None where there are none. Raises ``HardlookError`` for lengths that differ.
    """
    embeddings, ids = np.asarray(embeddings, dtype=np.float64), np.asarray(ids)
    for name, values in (("ids", ids), ("labels", labels), ("predictions", predictions)):
        if values is not None and len(values) != len(embeddings):
            raise HardlookError(f"found {len(values)} {name} for {len(embeddings)} embeddings; needed the same number")
    given = None if labels is None else np.asarray(labels, dtype=object)
    predicted, distances = np.asarray(predictions, dtype=object), distances_to_centres(embeddings, ids)
    rng = np.random.default_rng(seed)
    found = []
    for slice_id in range(ids.max(initial=-1) + 1):
        members = np.flatnonzero(ids == slice_id)
        spread, random, rank = _coherence(embeddings, members, n_random, rng)
        found.append(
            SliceSummary(
                slice_id=slice_id,
                size=len(members),
                accuracy=_accuracy(given, predicted, members),
                labels=_counts(given, members),
                predictions=_counts(predicted, members),
                homogeneity=None if given is None else max(Counter(given[members]).values()) / len(members),
                coherence=spread,
                random_coherence=random,
                coherence_rank=rank,
                nearest=tuple(int(i) for i in members[np.argsort(distances[members], kind="stable")[:n_nearest]]),
            )
        )
    return sorted(found, key=lambda s: (s.accuracy if s.accuracy is not None else 1.0, -s.size))


def _accuracy(labels: np.ndarray | None, predictions: np.ndarray, members: np.ndarray) -> float | None:
    return None if labels is None else float((labels[members] == predictions[members]).mean())


def _counts(values: np.ndarray | None, members: np.ndarray) -> dict[str, int]:
    return {} if values is None else {str(value): count for value, count in Counter(values[members]).most_common()}


def coherence(embeddings: np.ndarray) -> float | None:
    """Mean squared distance between two members, (m, r); None for fewer than two. Lower is more coherent.

    >>> coherence(np.array([[0.0], [2.0]]))
    4.0
    """
    if len(embeddings) < 2:
        return None
    centred = embeddings - embeddings.mean(axis=0)
    return float(2 * np.square(centred).sum() / (len(embeddings) - 1))


def _coherence(
    embeddings: np.ndarray, members: np.ndarray, n_random: int, rng: np.random.Generator
) -> tuple[float | None, float | None, float | None]:
    """The slice's coherence, that of random slices, and the share of these at least as coherent."""
    own = coherence(embeddings[members])
    if own is None or not n_random:
        return own, None, None
    draws = [rng.choice(len(embeddings), len(members), replace=False) for _ in range(n_random)]
    others = np.array([coherence(embeddings[draw]) for draw in draws])
    return own, float(others.mean()), float((1 + (others <= own).sum()) / (1 + n_random))


# -- metadata ------------------------------------------------------------------------------------------------


def overrepresented(metadata: pd.DataFrame, ids: np.ndarray, *, max_q: float = 0.05) -> pd.DataFrame:
    """Metadata values that a slice holds more of than chance would give it.

    ``metadata``: (n, columns), one row per example; numbers are cut into fifths. ``ids``: (n,) slice ids, −1
    for none. ``max_q``: the false discovery rate at which a row is returned (1 for all). → data frame
    slice_id, column, value, n (in the slice), share, base_share (in all), lift = share / base_share, p_value,
    q_value, by slice and q_value.
    """
    ids = np.asarray(ids)
    rows = [row for column in metadata for row in _column_rows(column, grouped(metadata[column]), ids)]
    columns = ["slice_id", "column", "value", "n", "share", "base_share", "lift", "p_value"]
    found = pd.DataFrame(rows, columns=columns)
    found["q_value"] = benjamini_hochberg(found["p_value"].to_numpy(dtype=float))
    found = found[(found["q_value"] <= max_q) & (found["lift"] > 1)] if max_q < 1 else found
    return found.sort_values(["slice_id", "q_value", "lift"], ascending=[True, True, False], ignore_index=True)


def grouped(values: pd.Series) -> pd.Series | None:
    """A column as groups by name: fifths of a numeric one, None where it has one value or too many."""
    values = values.reset_index(drop=True)
    numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if numeric and values.nunique() > SHARES:
        values = pd.qcut(values, SHARES, duplicates="drop", precision=3)
    names = values.astype("string")
    return names if 1 < names.nunique() <= min(MANY_VALUES, len(names) / 2) else None


def _column_rows(column: str, groups: pd.Series | None, ids: np.ndarray) -> list[tuple[Any, ...]]:
    """One row per slice and value that occurs in it, with its hypergeometric tail."""
    from scipy.stats import hypergeom

    if groups is None:
        return []
    table = pd.crosstab(ids, groups.to_numpy())
    known, totals = table.to_numpy().sum(), table.sum()
    rows = []
    for slice_id in (i for i in table.index if i >= 0):
        size = table.loc[slice_id].sum()
        for value, n in table.loc[slice_id].items():
            if n:
                share, base = n / size, totals[value] / known
                p = hypergeom.sf(n - 1, known, totals[value], size)
                rows.append((int(slice_id), column, str(value), int(n), share, base, share / base, float(p)))
    return rows


def benjamini_hochberg(p_values: np.ndarray) -> np.ndarray:
    """q values: the smallest false discovery rate at which each test is a discovery (Benjamini and Hochberg
    1995).

    >>> benjamini_hochberg(np.array([0.01, 0.04, 0.03])).round(3)
    array([0.03, 0.04, 0.04])
    """
    from scipy.stats import false_discovery_control

    return false_discovery_control(p_values) if len(p_values) else p_values
