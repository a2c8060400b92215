"""A ranking fitted to reviewers' decisions: logistic regression with a ridge penalty towards the default ranking.

For a reviewed example with mean rank s, component ranks r_j, label l and predicted class m

    η = a + b·L(s) + Σ_j w_j L(r_j) + u_l + v_m,   L(r) = log r/(1 − r)
    minimise  Σ log(1 + exp(−y η)) + λ/2 (|w|² + |u|² + |v|²),   y = 1 where the label was wrong, else −1

so that λ → ∞ leaves the order of the default, and few decisions change it little. λ is chosen by cross-validation;
whether the result is any better by an outer one: *yield* is the average precision among reviewed examples that were
held out, over several partitions. It is adopted where its yield exceeds the default's by more than its standard error.

Inputs: ranks, labels, predictions and verdicts of the reviewed → a ``Fit``. Cost: a few hundred small convex
problems, seconds. Limits: reviewed examples mostly come from the top of a queue, so it learns to order suspects; how
many errors are left is for random controls to say. Its numbers are no probabilities.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold

from scoring.audit.errors import HardlookError
from scoring.queue.suspicion.components import mean_rank

LEAST = 20
"""So many errors and so many keeps are needed."""
RIDGES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
FOLDS = 5
PARTITIONS = 4


@dataclass(frozen=True)
class Fit:
    """A fitted ranking: coefficients by name, its λ, and its cross-validated yield beside the default's.

    ``coefficients``: "default", families as "score:…", "label:…" and "prediction:…".
    """

    coefficients: dict[str, float]
    ridge: float
    errors: int
    keeps: int
    fitted_yield: float
    default_yield: float
    standard_error: float

    @property
    def better(self) -> bool:
        """Returns whether it finds more than the default, beyond its standard error."""
        return self.fitted_yield - self.default_yield > self.standard_error

    def order(self, ranks: pd.DataFrame, labels: pd.Series, predictions: pd.Series) -> pd.Series:
        """η without its constant for any examples, higher = more suspicious; NaN where no default rank is."""
        features = design(ranks, labels, predictions)
        weights = pd.Series(self.coefficients)
        features = features.reindex(columns=weights.index, fill_value=0.0)
        return (features @ weights).where(mean_rank(ranks).notna())


def design(ranks: pd.DataFrame, labels: pd.Series, predictions: pd.Series) -> pd.DataFrame:
    """The features of each example, (n, q): log odds of ranks (0 where null) and classes as 0 or 1."""
    columns = {"default": logit(mean_rank(ranks).to_numpy())}
    columns |= {f"score:{family}": logit(ranks[family].to_numpy(dtype=float)) for family in ranks}
    frame = pd.DataFrame(columns, index=ranks.index).fillna(0.0)
    classes = [
        pd.get_dummies(values.astype("object"), prefix=what, prefix_sep=":", dtype=float).set_axis(ranks.index)
        for what, values in (("label", labels), ("prediction", predictions))
        if values.notna().any()
    ]
    return pd.concat([frame, *classes], axis=1)


def fit_ranking(
    ranks: pd.DataFrame, labels: pd.Series, predictions: pd.Series, wrong: np.ndarray, *, seed: int = 0
) -> Fit:
    """Fit to n reviewed examples.

    ranks: (n, families) as ``components`` gives them; labels, predictions: (n,) class names, aligned; wrong: (n,)
    whether a reviewer found the label wrong. Fewer than ``LEAST`` errors or keeps are a ``HardlookError``.
    """
    known = mean_rank(ranks).notna().to_numpy()
    wrong = np.asarray(wrong, dtype=bool)[known]
    errors, keeps = int(wrong.sum()), int((~wrong).sum())
    if min(errors, keeps) < LEAST:
        raise HardlookError(
            f"a fitted ranking needs at least {LEAST} examples with a wrong label and {LEAST} with a right label; "
            f"found {errors} and {keeps}; review more examples"
        )
    features = design(ranks[known], labels[known], predictions[known])
    x = features.to_numpy()
    yields = np.asarray([_nested(x, wrong, seed + number) for number in range(PARTITIONS)])
    gain = yields[:, 0] - yields[:, 1]
    ridge = _best_ridge(x, wrong, seed)
    weights = _solve(x, wrong, ridge)[1:]
    return Fit(
        {name: float(value) for name, value in zip(features, weights, strict=True)},
        ridge,
        errors,
        keeps,
        float(yields[:, 0].mean()),
        float(yields[:, 1].mean()),
        float(gain.std(ddof=1) / np.sqrt(PARTITIONS)),
    )


def _nested(x: np.ndarray, wrong: np.ndarray, seed: int) -> tuple[float, float]:
    """Average precision of held-out fits, each with a ridge chosen without the held-out part, and of the default."""
    found = np.empty(len(x))
    for train, test in _parts(wrong, seed):
        weights = _solve(x[train], wrong[train], _best_ridge(x[train], wrong[train], seed))
        found[test] = x[test] @ weights[1:] + weights[0]
    return average_precision_score(wrong, found), average_precision_score(wrong, x[:, 0])


def _best_ridge(x: np.ndarray, wrong: np.ndarray, seed: int) -> float:
    """The ridge of the lowest held-out log loss."""
    losses = np.zeros(len(RIDGES))
    for train, test in _parts(wrong, seed):
        for number, ridge in enumerate(RIDGES):
            weights = _solve(x[train], wrong[train], ridge)
            signed = (x[test] @ weights[1:] + weights[0]) * np.where(wrong[test], 1, -1)
            losses[number] += np.logaddexp(0, -signed).sum()
    return RIDGES[int(losses.argmin())]


def _parts(wrong: np.ndarray, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    return StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(wrong, wrong)


def _solve(x: np.ndarray, wrong: np.ndarray, ridge: float) -> np.ndarray:
    """(1 + q,) constant and weights; the constant is free and the default's weight nearly so."""
    y = np.where(wrong, 1.0, -1.0)
    penalty = np.full(x.shape[1] + 1, ridge)
    penalty[0], penalty[1] = 0.0, 1e-2
    wide = np.column_stack([np.ones(len(x)), x])

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        signed = y * (wide @ weights)
        value = np.logaddexp(0, -signed).sum() + (penalty * weights**2).sum() / 2
        return value, -wide.T @ (y * expit(-signed)) + penalty * weights

    start = np.zeros(wide.shape[1])
    start[1] = 1.0
    return minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 500}).x
