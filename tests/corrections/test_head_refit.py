"""The refit finds that correcting helps where it does, and no more than a placebo where it does not."""

from __future__ import annotations

import numpy as np
import pytest

from scoring.audit.errors import HardlookError
from scoring.corrections.effect.head_refit import fit_head, halves, paired_interval, placebo_labels, refit
from scoring.corrections.effect.predicted import predicted_changes, predicted_table


def noisy(n: int = 400, wrong: float = 0.3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of three classes, true labels, and labels of which half of class 0 are called 1."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, n)
    features = np.eye(3)[truth] * 2 + rng.normal(size=(n, 3))
    given = np.where((truth == 0) & (rng.random(n) < 2 * wrong), 1, truth)
    return features, truth, given


def test_correcting_planted_errors_helps_and_random_edits_do_not():
    x, truth, given = noisy()
    test, labels, _ = noisy(500)
    table = refit(x, given, truth, test, labels, {"class 0": labels == 0, "empty": labels > 9}).set_index("group")
    assert list(table.index) == ["all", "class 0", "empty"]
    assert table.loc["class 0", "gain_low"] > 0.2 and table.loc["class 0", "over_placebo_low"] > 0.2
    assert table.loc["all", "reviewed"] > table.loc["all", "original"]
    assert table.loc["all", "placebo"] < table.loc["all", "original"]  # the same edits elsewhere do harm
    assert table.loc["empty", "n"] == 0 and np.isnan(table.loc["empty", "gain_low"])
    np.testing.assert_allclose(table["gain"][:2], (table["reviewed"] - table["original"])[:2])


def test_random_edits_gain_nothing_over_random_edits():
    x, truth, _ = noisy()
    edited = placebo_labels(truth, np.where(np.arange(len(truth)) < 40, (truth + 1) % 3, truth), seed=7)
    table = refit(x, truth, edited, *noisy(500)[:2], n_placebo=5)
    assert abs(table.loc[0, "over_placebo"]) < 0.02


def test_a_placebo_makes_as_many_edits_of_the_same_kinds_elsewhere():
    _, truth, given = noisy()
    removed = np.where(np.arange(len(given)) % 50 == 0, -1, truth)
    placebo = placebo_labels(given, removed, seed=1)
    kinds = [sorted(zip(given[given != new], new[given != new], strict=True)) for new in (removed, placebo)]
    assert kinds[0] == kinds[1] and not ((placebo != given) & (removed != given)).any()
    np.testing.assert_array_equal(placebo, placebo_labels(given, removed, seed=1))
    assert placebo_labels(np.zeros(3, int), np.ones(3, int)).tolist() == [1, 1, 1]  # no other example is left


def test_the_placebo_is_the_mean_over_draws_of_their_own():
    x, truth, given = noisy()
    test, labels, _ = noisy(500)
    draws = [placebo_labels(given, truth, seed=seed) for seed in (5, 6, 7)]
    assert not (draws[0] == draws[1]).all()
    right = [np.mean(fit_head(x, draw).predict(test) == labels) for draw in draws]
    table = refit(x, given, truth, test, labels, n_placebo=3, seed=5)
    assert table.loc[0, "placebo"] == pytest.approx(np.mean(right))
    assert table.loc[0, "over_placebo"] == pytest.approx(table.loc[0, "reviewed"] - np.mean(right))


def test_the_head_is_at_its_minimum_and_leaves_removed_examples_out():
    x, truth, given = noisy()
    truth = np.where(np.arange(len(truth)) < 100, -1, truth)
    head = fit_head(x, truth, l2=0.1)
    standard, kept = (x - x.mean(0)) / x.std(0), truth >= 0
    errors = head.model.predict_proba(standard[kept]) - np.eye(3)[truth[kept]]
    gradient = errors.T @ standard[kept] / kept.sum() + 0.1 * head.model.coef_
    assert np.abs(gradient).max() < 1e-3
    wrong = given.copy()
    wrong[:100] = 2
    np.testing.assert_array_equal(
        fit_head(x, np.where(np.arange(len(x)) < 100, -1, wrong)).predict(x),
        fit_head(x, np.where(np.arange(len(x)) < 100, -1, given)).predict(x),
    )


def test_one_class_and_constant_features_still_give_a_head():
    assert set(fit_head(np.ones((4, 2)), np.full(4, 2)).predict(np.zeros((3, 2))).tolist()) == {2}
    head = fit_head(np.array([[1.0, 0], [1, 1], [1, 0], [1, 1]]), np.array([0, 1, 0, 1]))
    assert head.predict(np.array([[1.0, 0], [1, 1]])).tolist() == [0, 1]


def test_paired_intervals_cover_as_they_claim():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(1000):
        differences = rng.choice([-1.0, 0.0, 1.0], 60, p=[0.05, 0.8, 0.15])
        low, high = paired_interval(differences)
        hits += low <= 0.10 <= high
    assert 925 <= hits <= 985
    low, high = paired_interval(np.zeros(10))
    assert low < 0 < high  # no difference seen is not no difference


@pytest.mark.parametrize(
    "reviewed, message",
    [
        (np.zeros(4, int), "differ in 0 examples"),
        (np.zeros(3, int), "needed as many of each"),
    ],
)
def test_a_refit_without_edits_is_refused(reviewed, message):
    with pytest.raises(HardlookError, match=message):
        refit(np.eye(4), np.zeros(4, int), reviewed, np.eye(4), np.zeros(4, int))


def test_a_head_without_examples_or_penalty_is_refused():
    with pytest.raises(HardlookError, match="0 of 2 examples are left"):
        fit_head(np.eye(2), np.array([-1, -1]))
    with pytest.raises(HardlookError, match="l2 is 0"):
        fit_head(np.eye(2), np.array([0, 1]), l2=0)
    with pytest.raises(HardlookError, match=r"needed finite"):
        fit_head(np.eye(2) * np.nan, np.array([0, 1]))


def test_halves_depend_on_the_id_alone():
    ids = [f"example {i}" for i in range(1000)]
    one, two = halves(ids), halves(ids[::-1])
    np.testing.assert_array_equal(one, two[::-1])
    assert 450 < one.sum() < 550 and (halves(ids, seed=1) != one).any()


# -- the predicted effect ------------------------------------------------------------------------------------


def test_removing_an_opponent_lowers_the_loss_and_relabelling_moves_by_the_difference():
    on, of = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[-3.0, 1.0]])
    np.testing.assert_allclose(predicted_changes(on, of, 10), [-0.3, 0.1])
    np.testing.assert_allclose(predicted_changes(on, of, 10, after=np.array([[1.0, 1.0]])), [-0.4, 0.0])
    table = predicted_table(predicted_changes(on, of, 10), {"test": np.array([0, 1]), "none": np.array([], int)})
    assert table["change"].round(3).tolist()[0] == -0.1 and np.isnan(table["change"][1])
    with pytest.raises(HardlookError, match="from the same factors"):
        predicted_changes(on, of[:, :1], 10)
    with pytest.raises(HardlookError, match="n_train is 0"):
        predicted_changes(on, of, 0)
