"""The report on examples out of distribution, against scipy and by hand; the classical detectors; the command."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import mannwhitneyu

from scoring.evaluation import ood_curves, ood_report
from scoring.pipeline.ood_detectors import MOST, baseline_scores

from ..conftest import hardlook


def average_precision(score, positive):
    """Mean of the precision at each positive, best first (no ties)."""
    hits = np.asarray(positive)[np.argsort(-score)]
    return (np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean()


def test_the_three_numbers_are_mann_whitneys_and_average_precisions():
    rng = np.random.default_rng(0)
    out = rng.random(200) < 0.3
    score = rng.normal(size=200) + out
    row = ood_report(pd.DataFrame({"a": score}), out).loc["a"]
    u = mannwhitneyu(score[out], score[~out]).statistic
    assert row["auroc"] == pytest.approx(u / (out.sum() * (~out).sum()))
    assert row["aupr_out"] == pytest.approx(average_precision(score, out))
    assert row["aupr_in"] == pytest.approx(average_precision(-score, ~out))
    assert (row["inside"], row["outside"]) == ((~out).sum(), out.sum())


def test_curves_are_scikit_learns_and_enclose_the_auroc():
    from sklearn.metrics import roc_curve

    rng = np.random.default_rng(3)
    out = rng.random(300) < 0.4
    scores = pd.DataFrame({"a": rng.normal(size=300) + out, "b": np.where(out, np.nan, 1.0)})
    scores.loc[:4, "a"] = np.nan
    curves = ood_curves(scores, out, points=2001)
    false, found, _ = roc_curve(out[5:], scores["a"][5:], drop_intermediate=False)
    last = np.append(false[1:] != false[:-1], True)
    np.testing.assert_allclose(curves["a"], np.interp(np.linspace(0, 1, 2001), false[last], found[last]), atol=1e-9)
    assert np.trapezoid(curves["a"], dx=1 / 2000) == pytest.approx(ood_report(scores, out).loc["a", "auroc"], abs=0.01)
    assert np.isnan(curves["b"]).all()


def test_a_score_that_one_side_lacks_has_no_numbers():
    report = ood_report(pd.DataFrame({"a": [1.0, np.nan], "b": [0.0, 1.0]}), np.array([False, True]))
    assert report.loc["a"].isna().sum() == 3 and report.loc["b", "auroc"] == 1


def test_classical_detectors_find_what_lies_far_away_and_the_gaussian_is_mahalanobis():
    rng = np.random.default_rng(1)
    train, near, far = rng.normal(size=(300, 4)), rng.normal(size=(60, 4)), rng.normal(size=(60, 4)) + 6
    others, out = np.vstack([near, far]), np.repeat([False, True], 60)
    detectors = ("KDE", "PCA", "kernel PCA", "Gaussian", "one-class SVM", "minimum covariance")
    scores = dict(baseline_scores(train, others, detectors=detectors))
    report = ood_report(pd.DataFrame(scores), out)
    assert (report["auroc"] > 0.95).all(), report
    away = others - train.mean(0)
    inverse = np.linalg.inv(np.cov(train.T, bias=True))
    np.testing.assert_allclose(scores["Gaussian"], np.einsum("nd,de,ne->n", away, inverse, away), rtol=1e-6)


def test_pca_finds_what_breaks_a_correlation_and_is_the_squared_projections_over_their_variances():
    rng = np.random.default_rng(7)
    along = rng.normal(size=(700, 1))
    correlated = np.hstack([along, along, -along]) + 0.1 * rng.normal(size=(700, 3))
    train, near = correlated[:500], correlated[500:]
    across = rng.normal(size=(200, 1))
    others = np.vstack([near, np.hstack([across, -across, across]) * 0.8 + 0.6])
    ((_, score),) = baseline_scores(train, others, detectors=("PCA",))
    scaled = (others - train.mean(0)) / train.std(0)
    values, vectors = np.linalg.eigh(np.cov((train - train.mean(0)) / train.std(0), rowvar=False))
    np.testing.assert_allclose(score, ((scaled @ vectors) ** 2 / values).sum(1), rtol=1e-9)
    assert ood_report(pd.DataFrame({"PCA": score}), np.repeat([False, True], 200)).loc["PCA", "auroc"] > 0.999


def test_pca_leaves_out_directions_without_variance():
    rng = np.random.default_rng(5)
    train, others = rng.normal(size=(200, 4)), rng.normal(size=(50, 4))
    twice = [np.hstack([x, x]) for x in (train, others)]
    (_, alone), (_, doubled) = (next(baseline_scores(*pair, detectors=("PCA",))) for pair in ((train, others), twice))
    assert np.corrcoef(alone, doubled)[0, 1] > 0.95 and doubled.max() < 1e4


def test_quadratic_detectors_are_fitted_on_five_thousand_and_say_so():
    said = []
    train = np.random.default_rng(2).normal(size=(MOST + 50, 2))
    found = dict(baseline_scores(train, train[:5], detectors=("KDE", "Gaussian"), say=said.append))
    assert set(found) == {"KDE", "Gaussian"} and len(said) == 1
    assert "KDE has quadratic cost" in said[0] and "fitted on a random subset of 5,000 of 5,050" in said[0]


def test_the_command_prints_each_score_and_keeps_the_table(sample_copy, capsys):
    from scoring.audit import Audit
    from scoring.audit.storage import read_table

    assert hardlook("ood", sample_copy, "--out", "split=pool", "--no-baselines") == 0
    shown = capsys.readouterr().out
    for name in ("odin", "gradnorm", "energy", "vog.late_prediction_logit", "AUPR out"):
        assert name in shown
    table = read_table(Audit.open(sample_copy).run().out_of_distribution_path).to_pandas()
    assert (table["outside"] == 20).all() and (table["inside"] == 120).all()
    assert table["auroc"].between(0, 1).all() and not table["classical"].any()
    assert all(len(curve) == 101 and curve[-1] == 1 and (np.diff(curve) >= 0).all() for curve in table["roc"])
    assert hardlook("ood", sample_copy, "--out", "weather=fog") == 1
    assert "needed COLUMN=VALUE with one of the columns" in capsys.readouterr().err
