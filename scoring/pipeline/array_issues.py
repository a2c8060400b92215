"""``find_issues``: label issues and near duplicates from arrays alone, without an audit's folder.

    label_quality = cleanlab's self-confidence, adjusted per class (confident learning, Northcutt et al. 2021) suspicion
    = mean rank / n of the loss −log p(label) and of the neighbours' disagreement, of those that can be computed

Inputs → outputs: labels, probabilities, features → a data frame. Cost: one neighbour search, n·n·d up to 40,000 rows.
Known limits: probabilities of a model about its own training examples hide the errors that it memorised; hand over
those of a cross-validation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scoring.audit.errors import HardlookError

if TYPE_CHECKING:
    from scoring.data.nearest_neighbours import Neighbours

K, FEWEST = 200, 10
"""Neighbours that are asked about a label, and how many at least of a small class (``scoring.scorers.neighbours``)."""

MOST_CLASSES = 100_000
"""Larger numbers are no class indices."""


def find_issues(
    labels: Any,
    pred_probs: Any = None,
    features: Any = None,
    ids: Iterable[object] | None = None,
    *,
    classes: Iterable[object] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Returns one row per example, in the order given: what is wrong with its label, and which other it nearly repeats.

    ``labels``: (n,) indices of the columns of ``pred_probs``, or class names; None, NaN and −1 mean no label.
    ``pred_probs``: (n, c), out-of-sample, rows summing to 1; the columns of a data frame may be named by class.
    ``features``: (n, d) of any encoder. One of the two is enough. ``ids``: (n,) names; default: 0 to n − 1.
    ``classes``: (c,) names in the order of the columns; default: those of the columns, else the names among the labels,
    sorted.

    Columns: example_id, label, suspicion (0 to 1, high first; a rank, no probability of error), rank (1 = look first),
    suggested_label, p_suggested (its probability; without ``pred_probs`` the neighbours' share), label_quality (low is
    suspicious), label_issue, knn_disagreement (share of the neighbours with another label), near_duplicate_of (an id).
    Raises ``HardlookError`` for arrays that do not fit each other.
    """
    from scoring.audit.arrays import named_classes, refuse_other_order
    from scoring.queue.suspicion import mean_rank, rank_within

    refuse_other_order({"labels": labels, "pred_probs": pred_probs, "features": features, "ids": ids})
    values = _plain(labels)
    pred_probs, wanted = _by_class(pred_probs, named_classes(classes), values)
    given, names = _classes(values, wanted)
    n = len(given)
    names, p = _probabilities(pred_probs, names, n)
    if p is None and features is None:
        raise HardlookError("find_issues has nothing to judge labels by; pass pred_probs=, features=, or both")
    found = pd.DataFrame({"example_id": _ids(ids, n), "label": _named(given, names)})
    ranks = pd.DataFrame(index=found.index)
    together = np.zeros(n)
    if p is not None:
        if given.max() >= p.shape[1]:
            raise HardlookError(f"label {given.max()} is out of range for pred_probs with {p.shape[1]} columns")
        known = given >= 0
        loss = np.full(n, np.nan)
        loss[known] = -np.log(np.maximum(p[known, given[known]], 1e-30))
        ranks["loss"] = rank_within(loss, together)
        found = found.join(_suggested(p, given, names)).join(_quality(p, given))
    if features is not None:
        near = _neighbours(features, given, names, np.asarray(found["example_id"]), seed)
        ranks["neighbours"] = rank_within(near["knn_disagreement"].to_numpy(), together)
        found = found.join(near.drop(columns=[name for name in near if name in found]))
    suspicion = rank_within(mean_rank(ranks, tuple(ranks)).to_numpy(), together)
    place = pd.Series(-suspicion).rank(method="first").astype("Int64")
    found.insert(2, "suspicion", suspicion)
    found.insert(3, "rank", place)
    return found


def _plain(labels: Any) -> list[Any]:
    """Returns one label per example, whole numbers as ``int`` and missing ones as None."""
    from scoring.audit.arrays import as_list

    if isinstance(labels, (set, frozenset, Mapping)):
        raise HardlookError(f"labels: found {type(labels).__name__}; needed a list, array, tensor or column")
    found = as_list(labels, "labels")
    for value in found:
        if (hasattr(value, "__len__") and not isinstance(value, (str, bytes))) or isinstance(value, complex):
            raise HardlookError(
                f"labels: found {type(value).__name__} as a label; needed one class per example, its name or index"
            )
    values = [None if value is None or value is pd.NA or value != value else value for value in found]
    if not values:
        raise HardlookError("labels are empty; needed one per example")
    return [int(value) if isinstance(value, float) and value.is_integer() else value for value in values]


def _by_class(p: Any, classes: list[str] | None, values: list[Any]) -> tuple[Any, list[str] | None]:
    """Returns probabilities in the order of the classes, and the classes, where a data frame names its columns."""
    from scoring.audit.arrays import as_numbers, column_names, columns_of_classes

    columns = column_names(p)
    if columns is None:
        return p, classes
    labels = [str(value) for value in values if value is not None and value != -1]
    order, names = columns_of_classes(columns, classes, labels, "pred_probs")
    return np.ascontiguousarray(as_numbers(p, "pred_probs", ndim=2)[:, order]), names


def _classes(values: list[Any], names: list[str] | None) -> tuple[np.ndarray, list[str] | None]:
    """Returns (n,) class indices, −1 for none, and the names, None where labels are indices."""
    known = [value for value in values if value is not None]
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in known)
    if numbers and not all(isinstance(value, int) for value in known):
        raise HardlookError("labels hold numbers that are not whole; needed class indices from 0, or class names")
    if numbers and not (names and any(str(value) in names for value in known)):
        if known and min(known) < -1:
            raise HardlookError(f"label {min(known)} is negative; needed class indices from 0, or −1 for none")
        if known and max(known) >= (most := MOST_CLASSES if names is None else len(names)):
            raise HardlookError(
                f"label {max(known)} is out of range for {most:,} classes; needed class indices from 0, or class names"
            )
        return np.array([-1 if value is None else value for value in values]), names
    names = names or sorted({str(value) for value in known})
    position = {name: at for at, name in enumerate(names)}
    unknown = next((value for value in known if str(value) not in position and value != -1), None)
    if unknown is not None:
        raise HardlookError(f"label {unknown!r} is none of the classes {', '.join(names[:10])}")
    return np.array([-1 if value is None else position.get(str(value), -1) for value in values]), names


def _probabilities(p: Any, names: list[str] | None, n: int) -> tuple[list[str] | None, np.ndarray | None]:
    from scoring.audit.arrays import as_numbers

    if p is None:
        return names, None
    values = as_numbers(p, "pred_probs", ndim=2, rows=n)
    if names is not None and values.shape[1] != len(names):
        raise HardlookError(
            f"pred_probs have {values.shape[1]} columns and there are {len(names)} classes; pass classes=, one name "
            "per column in their order"
        )
    sums = values.sum(1)
    bad = np.flatnonzero((values < -1e-6).any(1) | (np.abs(sums - 1) > 0.01))
    if len(bad):
        raise HardlookError(
            f"pred_probs of row {bad[0]} sum to {sums[bad[0]]:.4g} ({len(bad):,} such rows); needed probabilities that "
            "sum to 1 (apply a softmax to logits first)"
        )
    return names, np.clip(values, 0, 1)


def _ids(ids: Iterable[object] | None, n: int) -> list[str]:
    from scoring.audit.arrays import as_list

    if isinstance(ids, (set, frozenset, Mapping)):
        raise HardlookError(f"ids: found {type(ids).__name__}; needed a list, array, tensor or column")
    given = range(n) if ids is None else as_list(ids, "ids")
    if any(value is None or value is pd.NA or value != value for value in given):
        raise HardlookError("ids: found a missing one; needed one per label")
    found = [str(value) for value in given]
    if len(found) != n or len(set(found)) != n:
        raise HardlookError(
            f"ids: found {len(found)}, {len(set(found))} different; needed {n}, one per label, all unique"
        )
    return found


def _named(given: np.ndarray, names: list[str] | None) -> pd.Series:
    """Class names of indices, or the indices themselves where classes have no names; null for none."""
    if names is None:
        return pd.Series(given, dtype="Int64").mask(given < 0)
    return pd.Series([None if at < 0 else names[at] for at in given.tolist()], dtype=object)


def _suggested(p: np.ndarray, given: np.ndarray, names: list[str] | None) -> pd.DataFrame:
    """The most probable class other than the label."""
    from scoring.evaluation.probabilities import other_than

    best, value = other_than(p, given)
    return pd.DataFrame({"suggested_label": _named(best, names), "p_suggested": value})


def _quality(p: np.ndarray, given: np.ndarray) -> pd.DataFrame:
    from scoring.scorers.label_quality import confident_learning

    rows = np.flatnonzero((given >= 0) & np.isfinite(p).all(1))
    quality, issue = np.full(len(given), np.nan), np.zeros(len(given), dtype=bool)
    if len(rows) and p.shape[1] > 1:  # a row without a prediction says nothing of a class's threshold
        quality[rows], issue[rows] = confident_learning(p[rows], given[rows])
    return pd.DataFrame({"label_quality": quality, "label_issue": issue})


def _neighbours(features: Any, given: np.ndarray, names: list[str] | None, ids: np.ndarray, seed: int) -> pd.DataFrame:
    """What the nearest labelled others say, and near duplicates."""
    from scoring.audit.arrays import as_numbers
    from scoring.data.duplicates import near_groups
    from scoring.data.nearest_neighbours import disagreement, fair_k, nearest

    values = as_numbers(features, "features", ndim=2, rows=len(given))
    base = np.flatnonzero((given >= 0) & np.isfinite(values).all(1))
    own = np.full(len(given), -1)
    own[base] = np.arange(len(base))
    near = near_groups(values, ids, seed=seed)
    repeats = [ids[at] if group >= 0 and at >= 0 else None for group, at in zip(near.group, near.closest, strict=True)]
    frame = pd.DataFrame({"knn_disagreement": np.nan, "near_duplicate_of": repeats}, index=range(len(given)))
    if len(base) < 2:
        return frame
    found = nearest(values, values[base], min(K, len(base) - 1), own=own, seed=seed)
    k = fair_k(K, given[base], given, FEWEST)
    best, share = _majority(found, given[base], given)
    frame["knn_disagreement"] = disagreement(found.positions, given[base], given, k)
    return frame.assign(suggested_label=_named(best, names), p_suggested=share)


def _majority(found: Neighbours, base: np.ndarray, given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The most frequent other label among the ten nearest, and its share."""
    from scoring.evaluation.probabilities import other_than

    positions = found.positions[:, :FEWEST]
    votes = np.zeros((len(positions), int(max(base.max(), given.max())) + 1))
    rows, columns = np.nonzero(positions >= 0)
    np.add.at(votes, (rows, base[positions[rows, columns]]), 1)
    best, count = other_than(votes / np.maximum(votes.sum(1, keepdims=True), 1), given)
    return np.where(count > 0, best, -1), count
