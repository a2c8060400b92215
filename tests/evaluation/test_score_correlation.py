"""Agreement of scores against scipy, pandas and hand computations."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from scoring.evaluation import (
    between_groups,
    clustered_order,
    correlation_by_group,
    disagreement,
    rank_correlation,
    sampled,
    top_overlap,
    turned,
)


@pytest.fixture(scope="module")
def scores() -> pd.DataFrame:
    """Six columns with ties, three patterns of missing values and one constant."""
    rng = np.random.default_rng(0)
    base = rng.normal(size=400)
    frame = pd.DataFrame(
        {
            "a": base,
            "b": base + rng.normal(size=400),
            "ties": np.round(base),
            "pool": -base + rng.normal(size=400),
            "few": rng.normal(size=400),
            "same": np.ones(400),
        },
        index=[f"id {at:03d}" for at in range(400)],
    )
    frame.loc[frame.index[:120], "pool"] = np.nan
    frame.loc[frame.index[300:], "few"] = np.nan
    return frame


@pytest.mark.parametrize("method", ["spearman", "kendall"])
def test_correlations_are_those_of_scipy_pair_by_pair(scores, method):
    table = rank_correlation(scores, method)
    function = {"spearman": stats.spearmanr, "kendall": stats.kendalltau}[method]
    for a in scores:
        for b in scores:
            both = scores[list({a, b})].dropna()
            if "same" in (a, b):
                assert np.isnan(table.loc[a, b])
            else:
                expected = function(both[a], both[b]).statistic
                assert table.loc[a, b] == pytest.approx(expected, abs=1e-12), (a, b)


def test_kendall_is_taken_on_the_same_sample_whatever_the_order(scores):
    one = rank_correlation(scores, "kendall", most=100)
    other = rank_correlation(scores.sample(frac=1, random_state=1), "kendall", most=100)
    pd.testing.assert_frame_equal(one, other)
    assert not one.equals(rank_correlation(scores, "kendall", most=100, seed=1))
    assert len(sampled(scores, 100)) == 100 and sampled(scores, 1000) is scores


def test_too_few_common_examples_have_no_correlation():
    frame = pd.DataFrame({"a": [1.0, 2, np.nan, np.nan], "b": [np.nan, 1.0, 2, 3]})
    assert np.isnan(rank_correlation(frame).loc["a", "b"])
    assert rank_correlation(frame.iloc[:0]).shape == (2, 2)
    assert rank_correlation(frame[[]]).shape == (0, 0)


def test_turning_makes_scores_that_suspect_the_same_agree():
    frame = pd.DataFrame({"aum": [3.0, 2, 1], "loss": [1.0, 2, 3], "unknown": [1.0, 3, 2]})
    table = rank_correlation(turned(frame, {"aum": "low", "loss": "high", "unknown": None}))
    assert table.loc["aum", "loss"] == pytest.approx(1)
    assert table.loc["loss", "unknown"] == pytest.approx(0.5)


def test_the_clustered_order_puts_two_families_side_by_side():
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 300, 1))
    noise = rng.normal(scale=0.3, size=(300, 6))
    frame = pd.DataFrame(np.hstack([one, other] * 3) + noise, columns=["x1", "y1", "x2", "y2", "x3", "y3"])
    order = clustered_order(rank_correlation(frame))
    assert {name[0] for name in order[:3]} in ({"x"}, {"y"})
    assert sorted(order) == sorted(frame)
    frame["constant"] = 1.0
    assert sorted(clustered_order(rank_correlation(frame))) == sorted(frame)
    assert clustered_order(rank_correlation(frame[["x1"]])) == ["x1"]


def test_overlap_counts_the_common_top_by_hand():
    frame = pd.DataFrame({"a": np.arange(20.0), "b": np.arange(20.0), "c": -np.arange(20.0)})
    frame.loc[0, "c"] = np.nan
    table = top_overlap(frame, (0.05, 0.5)).set_index(["a", "b", "share"])
    assert table.loc[("a", "b", 0.05), ["k", "common", "overlap", "chance"]].tolist() == [1, 1, 1, 0.05]
    # nineteen have both: the top ten of a are 10…19, those of c are 1…10
    assert table.loc[("a", "c", 0.5), ["n", "k", "common", "overlap"]].tolist() == [19, 10, 1, 0.1]


def test_the_top_is_the_suspicious_end_not_the_other():
    low = np.arange(20.0)
    low[:10] = low[:10][::-1]
    table = top_overlap(pd.DataFrame({"a": np.arange(20.0), "b": low}), (0.25,))
    assert table["overlap"].tolist() == [1]


def test_by_chance_the_overlap_is_the_share():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(20_000, 2)), columns=["a", "b"])
    table = top_overlap(frame, (0.10,))
    assert table["overlap"][0] == pytest.approx(table["chance"][0], abs=0.02)


def test_disagreement_puts_the_widest_gap_first_and_missing_values_out():
    a = pd.Series([1.0, 2, 3, 4, 9], index=list("pqrst"))
    b = pd.Series([40.0, 30, 20, 10, np.nan], index=list("pqrst"))
    table = disagreement(a, b)
    assert table.index.tolist() == ["s", "r", "q", "p"]
    assert table["difference"].tolist() == pytest.approx([1, 1 / 3, -1 / 3, -1])
    assert table.loc["s", "place_a"] == 1 and table.loc["s", "place_b"] == 0
    assert disagreement(b, a).index[0] == "p"


def test_equal_disagreements_keep_one_order():
    a = pd.Series([1.0, 2, 3], index=list("zyx"))
    assert disagreement(a, a).index.tolist() == ["x", "y", "z"]


def test_correlation_within_groups_is_that_of_scipy(scores):
    groups = pd.Series(np.where(np.arange(400) % 3 == 0, "one", "two"), index=scores.index)
    table = correlation_by_group(scores["a"], scores["pool"], groups)
    assert table["group"].tolist() == ["two", "one"]
    for row in table.itertuples():
        both = scores.loc[groups == row.group, ["a", "pool"]].dropna()
        assert row.n == len(both)
        assert row.rho == pytest.approx(stats.spearmanr(both["a"], both["pool"]).statistic)
        assert row.low < row.rho < row.high
    assert np.isnan(correlation_by_group(scores["a"], scores["same"], groups)["rho"]).all()


def test_the_mean_within_and_between_groups_by_hand():
    table = pd.DataFrame([[1, 0.8, 0.1], [0.8, 1, np.nan], [0.1, np.nan, 1]], index=list("abc"), columns=list("abc"))
    found = between_groups(table, {"a": "with", "b": "with", "c": "without"})
    assert found.to_dict("records") == [
        {"group_a": "with", "group_b": "with", "pairs": 1, "mean": 0.8},
        {"group_a": "with", "group_b": "without", "pairs": 1, "mean": 0.1},
    ]
