"""Classical out-of-distribution detectors of scikit-learn and pyod, on feature vectors.

The baselines of the VoG paper's table (Agarwal et al. 2022): kernel density, PCA, kernel PCA, one Gaussian
(Mahalanobis), one-class SVM, minimum covariance determinant, and an autoencoder. Each is fitted on training vectors,
standardised, and scores others: high = out of distribution.

PCA is the principal component classifier of Shyu et al. (2003, "A Novel Anomaly Detection Scheme Based on Principal
Component Classifier"): the squared projections on the components over their variances, Σ y_i²/λ_i, from scikit-learn's
``PCA``. Over all components this is the Mahalanobis distance of the Gaussian. pyod's ``PCA`` sums the Euclidean
distances from a point to the components' unit vectors instead, which does not see a broken correlation (AUROC 0.6 where
Σ y_i²/λ_i has 1.0: findings).

Inputs: (n, d) training vectors, (m, d) others → (m,) per detector. Cost: those of ``QUADRATIC`` take n² in fitting or
n m in scoring, so they are fitted on at most 5,000 examples, and say so. Limits: settings are the libraries' own;
constant dimensions are left out, and of PCA the directions with less than 1e-6 of the largest variance, whose
projections are rounding errors. Needs pyod: pip install 'hardlook[ood]'.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from scoring.audit.errors import HardlookError

MOST = 5000
QUADRATIC = ("KDE", "kernel PCA", "one-class SVM", "minimum covariance")
DETECTORS = ("KDE", "PCA", "kernel PCA", "Gaussian", "one-class SVM", "minimum covariance", "autoencoder")


def baseline_scores(
    train: np.ndarray,
    others: np.ndarray,
    *,
    seed: int = 0,
    detectors: tuple[str, ...] = DETECTORS,
    say: Callable[[str], object] = lambda text: None,
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (detector, (m,) scores), high = out of distribution; ``say`` hears what was fitted on a part only.

    A detector that fails on these vectors (a covariance that is not of full rank) gives NaN and says why.
    """
    mean, deviation = train.mean(0, dtype=np.float64), train.std(0, dtype=np.float64)
    moving = deviation > 1e-9
    train, others = ((x[:, moving] - mean[moving]) / deviation[moving] for x in (train, others))
    chosen = np.random.default_rng(seed).permutation(len(train))[:MOST]
    for name in detectors:
        part = train
        if name in QUADRATIC and len(train) > MOST:
            part = train[np.sort(chosen)]
            say(f"{name} has quadratic cost, so it was fitted on a random subset of {MOST:,} of {len(train):,}")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the libraries' words on ranks and convergence; results are reported
                yield name, np.asarray(_scored(name, part, others, seed), dtype=np.float64)
        except (ValueError, np.linalg.LinAlgError) as error:
            say(f"{name} failed: {error}")
            yield name, np.full(len(others), np.nan)


def _scored(name: str, train: np.ndarray, others: np.ndarray, seed: int) -> np.ndarray:
    if name == "Gaussian":
        from sklearn.covariance import EmpiricalCovariance

        return EmpiricalCovariance().fit(train).mahalanobis(others)
    if name == "autoencoder":
        return _autoencoder(train, others, seed)
    if name == "PCA":
        from sklearn.decomposition import PCA

        whitened = PCA(n_components=_rank(train), whiten=True, svd_solver="full").fit(train).transform(others)
        return (whitened**2).sum(1)
    detectors: dict[str, tuple[str, str, dict[str, Any]]] = {
        "KDE": ("kde", "KDE", {"bandwidth": "scott"}),
        "kernel PCA": ("kpca", "KPCA", {"random_state": seed}),
        "one-class SVM": ("ocsvm", "OCSVM", {}),
        "minimum covariance": ("mcd", "MCD", {"random_state": seed}),
    }
    module, kind, settings = detectors[name]
    return getattr(_pyod(module), kind)(**settings).fit(train).decision_function(others)


def _rank(train: np.ndarray, least: float = 1e-6) -> int:
    """In how many directions (n, d) vectors vary."""
    variances = np.linalg.eigvalsh(np.atleast_2d(np.cov(train, rowvar=False)))
    return max(1, int((variances > least * variances.max()).sum()))


def _autoencoder(train: np.ndarray, others: np.ndarray, seed: int) -> np.ndarray:
    from scoring.models.randomness import own_randomness

    with own_randomness(seed):  # pyod seeds the global generators
        detector = _pyod("auto_encoder").AutoEncoder(
            epoch_num=10, batch_size=min(256, len(train)), random_state=seed, verbose=0
        )
        return detector.fit(train).decision_function(others)


def _pyod(module: str) -> Any:
    try:
        return importlib.import_module(f"pyod.models.{module}")
    except ImportError as error:
        raise HardlookError(
            "the classical detectors need pyod, which is not installed; run: pip install 'hardlook[ood]'"
        ) from error
