"""Detection of known label errors, against scikit-learn, scipy and hand computations."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics

from scoring.evaluation import (
    detection_report,
    found_within,
    inspections_to_find,
    recall_curve,
    roc_over_runs,
    welch,
)


@pytest.fixture(scope="module")
def case():
    """Suspicions with ties and a tenth wrong."""
    rng = np.random.default_rng(0)
    wrong = rng.random(500) < 0.1
    return np.round(rng.normal(size=500) + 1.5 * wrong, 1), wrong


def test_found_within_counts_by_hand():
    suspicion = np.array([0.9, 0.8, np.nan, 0.1] + [0.0] * 16)
    wrong = np.array([True, False, True, True] + [False] * 16)
    table = found_within(suspicion, wrong, (0.05, 0.10, 1.0))
    assert table["found"].tolist() == [1, 1, 3]
    assert table["inspected"].tolist() == [1, 2, 20]
    assert table["chance"].tolist() == pytest.approx([0.15, 0.3, 3])


def test_recall_is_the_mean_over_random_orders_of_ties(case):
    suspicion, wrong = case
    curve = recall_curve(suspicion, wrong, 11)
    rng = np.random.default_rng(1)
    drawn = []
    for _ in range(600):
        order = np.lexsort((rng.random(500), -suspicion))
        drawn.append(np.append(0, np.cumsum(wrong[order]))[::50] / wrong.sum())
    np.testing.assert_allclose(curve["recall"], np.mean(drawn, 0), atol=0.01)


def test_a_constant_score_is_chance_and_the_truth_is_perfect(case):
    _, wrong = case
    constant = recall_curve(np.zeros(500), wrong)
    np.testing.assert_allclose(constant["recall"], constant["chance"], atol=1e-12)
    perfect = recall_curve(wrong.astype(float), wrong)
    np.testing.assert_allclose(perfect["recall"], perfect["perfect"], atol=1e-12)


def test_unscored_examples_are_inspected_last():
    suspicion, wrong = np.array([np.nan, 1.0, 0.0, -1.0]), np.array([True, False, False, False])
    assert recall_curve(suspicion, wrong, 5)["recall"].tolist() == [0, 0, 0, 0, 1]
    assert inspections_to_find(suspicion, wrong, 1.0) == 4


def test_without_a_wrong_label_nothing_is_claimed():
    wrong = np.zeros(5, bool)
    assert recall_curve(np.arange(5.0), wrong)["recall"].isna().all()
    assert np.isnan(inspections_to_find(np.arange(5.0), wrong))
    report = detection_report(pd.DataFrame({"a": np.arange(5.0)}), wrong)
    assert report[["auroc", "average_precision", "recall_10", "p"]].isna().all(axis=None)


def test_areas_are_those_of_mann_and_whitney_and_of_a_hand_computation(case):
    suspicion, wrong = case
    report = detection_report(pd.DataFrame({"a": suspicion, "b": -suspicion}), wrong).set_index("score")
    u = stats.mannwhitneyu(suspicion[wrong], suspicion[~wrong]).statistic
    assert report.loc["a", "auroc"] == pytest.approx(u / (wrong.sum() * (~wrong).sum()))
    assert report.loc["a", "auroc"] + report.loc["b", "auroc"] == pytest.approx(1)
    # average precision by its definition, one threshold at a time
    expected, before = 0.0, 0.0
    for threshold in sorted(set(suspicion), reverse=True):
        taken = suspicion >= threshold
        recall = wrong[taken].sum() / wrong.sum()
        expected += (recall - before) * wrong[taken].mean()
        before = recall
    assert report.loc["a", "average_precision"] == pytest.approx(expected)
    assert report.index[0] == "a"


def test_welch_is_the_formula_and_the_effect_is_cohens():
    values = np.array([1.0, 2, 3, 4, 10, 12, 11, np.nan])
    wrong = np.array([False, False, False, False, True, True, True, True])
    found = welch(values, wrong)
    w, r = np.array([10.0, 12, 11]), np.array([1.0, 2, 3, 4])
    t = (w.mean() - r.mean()) / np.sqrt(w.var(ddof=1) / 3 + r.var(ddof=1) / 4)
    assert found["t"] == pytest.approx(t) and found["p"] < 0.001
    pooled = np.sqrt((2 * w.var(ddof=1) + 3 * r.var(ddof=1)) / 5)
    assert found["effect"] == pytest.approx((11 - 2.5) / pooled)
    assert np.isnan(welch(np.ones(4), np.array([True, True, False, False]))["t"])
    assert np.isnan(welch(values[:5], wrong[:5])["t"])


def test_roc_of_each_run_and_their_mean(case):
    suspicion, wrong = case
    rng = np.random.default_rng(2)
    other = suspicion + rng.normal(size=500)
    curves, areas = roc_over_runs([suspicion, other, other], [wrong, wrong, np.zeros(500, bool)])
    assert areas["auroc"][0] == pytest.approx(metrics.roc_auc_score(wrong, suspicion))
    assert areas["auroc"][1] == pytest.approx(metrics.roc_auc_score(wrong, other))
    assert np.isnan(areas["auroc"][2]) and curves[2].isna().all()
    np.testing.assert_allclose(curves["mean"], (curves[0] + curves[1]) / 2)
    for number, values in ((0, suspicion), (1, other)):
        false, true, _ = metrics.roc_curve(wrong, values, drop_intermediate=False)
        assert np.trapezoid(curves[number], curves["false_positive"]) == pytest.approx(
            metrics.auc(false, true), abs=0.01
        )
        last = np.append(np.diff(false) > 0, True)
        np.testing.assert_allclose(curves[number], np.interp(curves["false_positive"], false[last], true[last]))
