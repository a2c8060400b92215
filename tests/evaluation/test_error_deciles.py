"""Numbers about scores, against algebra and other libraries."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from scoring.audit.errors import HardlookError
from scoring.evaluation import accuracy_table, deciles, error_by_decile, measured_direction, normalize_by_class, wilson


def test_class_z_scores_are_pandas_population_z_scores():
    rng = np.random.default_rng(0)
    values, labels = rng.normal(3, 2, 500), rng.integers(0, 7, 500)
    expected = pd.Series(values).groupby(labels).transform(lambda v: (v - v.mean()) / v.std(ddof=0))
    np.testing.assert_allclose(normalize_by_class(values, labels), expected, rtol=1e-10)
    np.testing.assert_allclose(normalize_by_class(values, labels.astype(str).astype(object)), expected, rtol=1e-10)


def test_singleton_and_constant_classes_get_zero_and_nan_stays():
    values = np.array([5.0, 2.0, 2.0, np.nan, 1.0, 3.0])
    labels = np.array(["one", "same", "same", "same", "two", "two"])
    np.testing.assert_array_equal(normalize_by_class(values, labels), [0, 0, 0, np.nan, -1, 1])


def test_a_constant_class_of_an_inexact_value_gets_zero():
    assert (normalize_by_class(np.full(7, 0.1), np.zeros(7)) == 0).all()


def test_z_scores_do_not_depend_on_order():
    rng = np.random.default_rng(1)
    values, labels, order = rng.normal(size=50), rng.integers(0, 3, 50), rng.permutation(50)
    np.testing.assert_allclose(
        normalize_by_class(values, labels)[order], normalize_by_class(values[order], labels[order]), rtol=1e-12
    )


def test_lengths_that_differ_are_refused():
    with pytest.raises(ValueError, match="found 2 values and 3 labels"):
        normalize_by_class(np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match="found 2 scores and 3 errors"):
        error_by_decile(np.zeros(2), np.zeros(3))


def test_deciles_are_of_equal_size_and_nan_has_none():
    scores = np.random.default_rng(0).permutation(105).astype(float)
    scores = np.append(scores, np.nan)
    member = deciles(scores)
    assert member[-1] == 0
    assert np.bincount(member[:-1]).tolist()[1:] == [11, 10, 11, 10, 11, 10, 11, 10, 11, 10]
    assert member[scores == 0] == 1
    assert member[scores == 104] == 10


def test_error_by_decile_counts_errors_and_gives_wilson_intervals():
    scores, errors = np.arange(100.0), np.arange(100) >= 90
    table = error_by_decile(scores, errors)
    assert table["decile"].tolist() == list(range(1, 11))
    assert table["error"].tolist() == [0] * 9 + [1]
    # Wilson by hand: centre and half width with z = 1.959964
    z2 = 1.959964**2
    assert table["high"][0] == pytest.approx(z2 / (10 + z2), rel=1e-5)
    assert table["low"][9] == pytest.approx(10 / (10 + z2), rel=1e-5)


def test_fewer_than_ten_examples_leave_empty_deciles():
    table = error_by_decile(np.array([1.0, 2.0]), np.array([True, False]))
    assert table["n"].sum() == 2
    assert table.loc[table["n"] == 0, "error"].isna().all()


def test_the_wilson_interval_of_nothing_is_nan_and_more_errors_than_examples_are_refused():
    assert np.isnan(wilson(0, 0)).all()
    with pytest.raises(HardlookError, match="3 errors of 2 examples are no share"):
        wilson(3, 2)


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.999])
def test_the_wilson_interval_is_that_of_the_binomial_test(confidence):
    for n in (1, 2, 3, 10, 137, 10_000, 1_300_000):
        for errors in sorted({0, 1, n // 7, n // 2, n - 1, n}):
            known = stats.binomtest(errors, n).proportion_ci(confidence, method="wilson")
            np.testing.assert_allclose(wilson(errors, n, confidence), (known.low, known.high), rtol=0, atol=1e-15)


@pytest.mark.parametrize(("sign", "hard"), [(1, "high"), (-1, "low")])
def test_the_hard_end_is_measured(sign, hard):
    rng = np.random.default_rng(0)
    scores = rng.normal(size=2000)
    errors = rng.random(2000) < 1 / (1 + np.exp(2 - sign * scores))
    found = measured_direction(scores, errors)
    assert found["hard"] == hard
    assert found["rho"] == pytest.approx(stats.spearmanr(scores, errors).statistic)
    assert found["low"] < found["rho"] < found["high"]


def test_an_unrelated_score_has_no_hard_end_and_the_interval_covers():
    rng = np.random.default_rng(0)
    outcomes = [measured_direction(rng.normal(size=300), rng.random(300) < 0.2) for _ in range(300)]
    covered = np.mean([found["low"] <= 0 <= found["high"] for found in outcomes])
    assert 0.91 <= covered <= 0.98
    assert sum(found["hard"] is None for found in outcomes) >= 270


def test_without_errors_nothing_is_claimed():
    assert measured_direction(np.arange(50.0), np.zeros(50, bool))["rho"] is None
    assert measured_direction(np.full(50, 1.0), np.arange(50) > 40)["hard"] is None


def test_accuracy_is_counted_per_group_and_null_left_out():
    frame = pd.DataFrame({"split": list("aabb"), "correct": [True, False, True, None]})
    table = accuracy_table(frame, ["split"]).set_index("split")
    assert table["accuracy"].to_dict() == {"a": 0.5, "b": 1.0}
    assert table["n"].to_dict() == {"a": 2, "b": 1}


def test_a_u_is_hard_at_both_ends_and_neither_by_rank():
    scores = np.linspace(-1, 1, 1000)
    errors = np.random.default_rng(0).random(1000) < 0.05 + 0.4 * scores**8
    found = measured_direction(scores, errors)
    assert found["hard"] is None and found["both"]
    assert not measured_direction(scores, np.random.default_rng(0).random(1000) < 0.1)["both"]
    assert not measured_direction(scores, scores > 0.9)["both"]


@pytest.mark.parametrize("wrong", [None, "abc", 3, [[1.0], [2.0, 3.0]], np.array([object()]), np.ones(2) * 1j])
def test_what_is_no_list_of_numbers_is_one_sentence(wrong):
    for ask in (
        lambda: normalize_by_class(wrong, [0, 1]),
        lambda: error_by_decile(wrong, [True, False]),
        lambda: error_by_decile([0.1, 0.2], wrong),
    ):
        with pytest.raises(HardlookError, match="values|scores|errors"):
            ask()
