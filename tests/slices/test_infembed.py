"""Slices, who is behind them and what they hold: planted groups, brute force, and the algebra of the
objective.
"""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.audit.errors import HardlookError
from scoring.slices import (
    assign_to_slices,
    distances_to_centres,
    find_slices,
    find_slices_by_rule,
    slice_centres,
    slice_ids,
    slice_opponents,
    slice_proponents,
    summed_influence,
)
from scoring.slices.clustering import _centres, kmeans, knee
from scoring.slices.summaries import benjamini_hochberg, coherence, grouped, overrepresented, summarize_slices


def groups(sizes: tuple[int, ...] = (30, 20, 10), d: int = 5, noise: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings along as many axes as there are groups, of any length, and the group of each."""
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(len(sizes)), sizes)
    x = np.eye(d)[truth] + noise * rng.normal(size=(len(truth), d))
    order = rng.permutation(len(truth))
    return (x * rng.lognormal(size=(len(truth), 1)))[order], truth[order]


def same_partition(one: np.ndarray, two: np.ndarray) -> bool:
    pairs = set(zip(one.tolist(), two.tolist(), strict=True))
    return len(pairs) == len(set(one.tolist())) == len(set(two.tolist()))


def test_slices_import_neither_torch_nor_streamlit():
    code = (
        "import sys, scoring.slices, scoring.slices.summaries, scoring.corrections.effect.predicted, "
        "scoring.corrections.effect.head_refit;"
        "print(any(name in sys.modules for name in ('torch', 'streamlit', 'umap', 'ray')))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize("method", ["kmeans", "spectral"])
def test_planted_directions_are_found_whatever_the_lengths(method):
    x, truth = groups()
    x = x if method == "kmeans" else x / np.linalg.norm(x, axis=1, keepdims=True)
    ids = find_slices(x, 3, method=method)
    assert same_partition(ids, truth)
    assert np.bincount(ids).tolist() == [30, 20, 10]  # the largest slice is 0


def test_dbscan_finds_its_own_number_and_calls_the_rest_noise():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, 0.1, (20, 2)), rng.normal(5, 0.1, (30, 2)), [[50.0, 50.0]]])
    for eps in (0.5, None):
        ids = find_slices(x, method="dbscan", eps=eps)
        assert ids[-1] == -1 and set(ids[20:50]) == {0} and set(ids[:20]) == {1}


def test_dbscan_needs_no_distance_where_there_is_none():
    assert find_slices(np.zeros((9, 2)), method="dbscan").tolist() == [0] * 9
    assert knee(np.zeros((3, 2)), 5) > 0


def test_kmeans_serves_the_sum_of_inner_products_with_unit_centroids():
    x, _ = groups(noise=0.5)
    ids = find_slices(x, 4)
    centres = slice_centres(x, ids)
    np.testing.assert_allclose(np.linalg.norm(centres, axis=1), 1)
    assert ((x @ centres.T).argmax(1) == ids).all()  # a fixed point
    objective = sum(np.linalg.norm(x[ids == i].sum(0)) for i in range(4))
    rng = np.random.default_rng(1)
    for _ in range(20):
        other = rng.integers(0, 4, len(x))
        assert objective > sum(np.linalg.norm(x[other == i].sum(0)) for i in range(4))


def test_more_starts_never_do_worse_and_a_seed_decides():
    x = np.random.default_rng(0).normal(size=(80, 6))
    value = [
        sum(np.linalg.norm(x[ids == i].sum(0)) for i in range(8))
        for ids in (kmeans(x, 8, n_init=1), kmeans(x, 8, n_init=20))
    ]
    assert value[1] > value[0]  # 8 of 80 random vectors: one start is never the best of twenty here
    np.testing.assert_array_equal(find_slices(x, 8, seed=4), find_slices(x, 8, seed=4))


def test_an_empty_cluster_is_seeded_anew():
    x = np.array([[1.0, 0.0]] * 8 + [[0.0, 1.0]] + [[-1.0, 0.0]])
    assert len(set(kmeans(x, 3, n_init=1).tolist())) == 3


def test_seeds_are_drawn_where_most_is_lost_without_them():
    x, truth = groups((600, 10, 10), noise=0.01)
    for seed in range(20):  # without the weights, a single start would miss the small groups nearly always
        assert same_partition(kmeans(x, 3, n_init=1, seed=seed), truth)


def test_an_empty_cluster_restarts_at_the_vector_that_is_served_worst():
    x = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]])
    similarity = x @ np.array([[1.0, 0.0], [-1.0, 0.0]]).T
    centres = _centres(x, np.linalg.norm(x, axis=1), np.zeros(3, int), similarity)
    np.testing.assert_allclose(centres, [[np.sqrt(0.5), np.sqrt(0.5)], [0.0, 1.0]])


def test_the_knee_is_where_the_neighbour_distances_lie_furthest_below_their_chord():
    x = np.array([[0.0], [1.0], [3.0], [6.0], [10.0]])
    assert knee(x, 1) == 1.0  # nearest: 1, 1, 2, 3, 4 under the chord 1, 1.75, 2.5, 3.25, 4
    assert knee(x, 2) == 4.0  # second: 2, 3, 3, 4, 7 under the chord 2, 3.25, 4.5, 5.75, 7


def test_slices_of_one_size_are_named_by_their_first_member():
    assert find_slices(np.eye(5)[[3, 0, 4, 1, 2, 2]], 5).tolist() == [1, 2, 3, 4, 0, 0]


def test_zero_embeddings_have_no_direction_and_no_slice():
    x = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    assert find_slices(x, 2)[0] == -1
    assert find_slices(np.zeros((3, 2)), 2).tolist() == [-1, -1, -1]


def test_the_default_number_of_slices_is_no_more_than_the_examples():
    assert len(set(find_slices(np.eye(6)).tolist())) == 6
    assert find_slices(np.random.default_rng(0).normal(size=(300, 8))).max() == 24


@pytest.mark.parametrize(
    "change, message",
    [
        ({"n_slices": 7}, "n_slices is 7 for 6 examples"),
        ({"n_slices": 0}, "n_slices is 0"),
        ({"method": "dbscn"}, "method is 'dbscn'; needed one of kmeans, dbscan, spectral"),
        ({"embeddings": np.eye(6) * np.nan}, "row 0 and 5 more are not finite"),
        ({"embeddings": np.zeros((0, 3))}, "needed .n, r. numbers"),
    ],
)
def test_bad_settings_are_refused_in_one_sentence(change, message):
    with pytest.raises(HardlookError, match=message):
        find_slices(**{"embeddings": np.eye(6), "n_slices": 2, **change})


# -- InfEmbed-Rule -------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    n=st.integers(1, 120),
    accuracy=st.floats(0, 1),
    size=st.integers(1, 30),
    branching=st.integers(2, 5),
)
def test_every_slice_satisfies_the_rule_and_no_example_is_in_two(seed, n, accuracy, size, branching):
    rng = np.random.default_rng(seed)
    x, correct = rng.normal(size=(n, 3)), rng.random(n) < 0.6
    found = find_slices_by_rule(
        x, correct, max_accuracy=accuracy, min_size=size, branching=branching, seed=seed, n_init=2
    )
    for members in found:
        assert correct[members].mean() <= accuracy and len(members) >= size and (np.diff(members) > 0).all()
    together = np.concatenate(found) if found else np.array([], int)
    assert len(together) == len(set(together.tolist()))
    assert [correct[m].mean() for m in found] == sorted(correct[m].mean() for m in found)


def test_the_rule_finds_the_planted_group_that_is_wrong():
    x, truth = groups((60, 60, 30))
    (found,) = find_slices_by_rule(x, truth != 2, max_accuracy=0.4, min_size=20)
    assert (truth[found] == 2).all() and len(found) == 30
    assert set(slice_ids([found], len(x))[truth != 2].tolist()) == {-1}


def test_the_rule_splits_no_further_than_it_must_and_stops_where_it_cannot():
    x, truth = groups()
    (everything,) = find_slices_by_rule(x, truth < 0, max_accuracy=0.0, min_size=5)
    assert len(everything) == len(x)
    assert find_slices_by_rule(np.ones((50, 2)), np.arange(50) % 2 == 0, max_accuracy=0.1, min_size=5) == []
    assert find_slices_by_rule(x, truth >= 0, max_accuracy=0.9, min_size=5) == []  # a test set without errors


def test_the_worst_slice_comes_first_then_the_larger_and_a_size_at_the_limit_counts():
    x, truth = groups((60, 30, 20, 10), noise=0.01)
    correct = (truth == 0) | ((truth == 1) & (np.cumsum(truth == 1) % 2 == 0))
    found = find_slices_by_rule(x, correct, max_accuracy=0.5, min_size=10, branching=4)
    assert [np.unique(truth[members]).tolist() for members in found] == [[2], [3], [1]]
    assert find_slices_by_rule(x, correct, max_accuracy=0.5, min_size=11, branching=4)[1].size == 30
    assert len(find_slices_by_rule(x, correct, max_accuracy=1.0, min_size=120)[0]) == 120
    assert find_slices_by_rule(x, correct, max_accuracy=1.0, min_size=121) == []


def test_bad_rules_are_refused():
    with pytest.raises(HardlookError, match="needed an accuracy between 0 and 1"):
        find_slices_by_rule(np.eye(3), np.ones(3), max_accuracy=40, min_size=1)
    with pytest.raises(HardlookError, match=r"correct has shape \(2,\)"):
        find_slices_by_rule(np.eye(3), np.ones(2), max_accuracy=0.4, min_size=1)


# -- centres and other examples ------------------------------------------------------------------------------


def test_other_examples_fall_into_the_slice_that_they_point_at_or_into_none():
    x, truth = groups(noise=0.05)
    ids = find_slices(x, 3)
    more, other = groups((5, 5, 5, 5), noise=0.01)
    assigned = assign_to_slices(more, x, ids)
    named = {int(truth[ids == i][0]): i for i in range(3)}
    assert all(assigned[i] == named.get(int(other[i]), -1) for i in range(len(more)))
    assert assign_to_slices(more, x, np.full(len(x), -1)).tolist() == [-1] * 20


def test_an_example_beyond_a_narrow_slice_may_still_lie_within_a_wide_one():
    def at(*degrees):
        return np.column_stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])

    found_on, ids = at(-1, 1, 2, 118), np.array([0, 0, 1, 1])  # around 0 and around 60 degrees
    assert assign_to_slices(at(0.5, 20, 117, 119, -3), found_on, ids).tolist() == [0, 1, 1, -1, -1]


def test_every_member_lies_within_its_own_slice():
    x, _ = groups(noise=0.4)
    ids = find_slices(x, 3)
    np.testing.assert_array_equal(assign_to_slices(x, x, ids), ids)
    distances = distances_to_centres(x, ids)
    assert (distances >= 0).all() and (distances <= 2).all()


# -- opponents -----------------------------------------------------------------------------------------------


def test_opponents_and_proponents_are_the_ends_of_the_summed_influence():
    rng = np.random.default_rng(0)
    of, on = rng.normal(size=(200, 7)).astype(np.float32), rng.normal(size=(9, 7)).astype(np.float32)
    by_hand = np.array([sum(float(a.astype(float) @ b.astype(float)) for b in on) for a in of])
    np.testing.assert_allclose(summed_influence(on, of), by_hand, rtol=1e-5, atol=1e-5)
    order = np.argsort(by_hand)
    assert slice_opponents(on, of, 5).tolist() == order[:5].tolist()
    assert slice_proponents(on, of, 5).tolist() == order[::-1][:5].tolist()
    assert len(slice_opponents(on, of, 1000)) == 200
    assert slice_opponents(on[0], of, 1).shape == (1,)  # one example is a slice too


def test_a_large_slice_is_summed_in_float64():
    tenth = np.float32(0.1)
    found = summed_influence(np.full((200_000, 1), tenth), np.ones((1, 1), np.float32))
    np.testing.assert_allclose(found, [200_000 * float(tenth)], rtol=1e-12)


def test_embeddings_of_other_factors_are_refused():
    with pytest.raises(HardlookError, match="from the same factors"):
        slice_opponents(np.ones((2, 3)), np.ones((4, 5)), 1)
    with pytest.raises(HardlookError, match="k is 0"):
        slice_opponents(np.ones((2, 3)), np.ones((4, 3)), 0)


# -- summaries -----------------------------------------------------------------------------------------------


def test_coherence_is_the_mean_squared_distance_of_two_members():
    x = np.random.default_rng(0).normal(size=(7, 3))
    pairs = [((x[i] - x[j]) ** 2).sum() for i in range(7) for j in range(i)]
    assert coherence(x) == pytest.approx(np.mean(pairs))
    assert coherence(x[:1]) is None


def test_a_summary_counts_what_the_slice_holds():
    x, truth = groups((12, 6, 2), noise=0.05)
    names = np.array(["cat", "dog", "owl"], dtype=object)
    labels, predictions = names[truth], np.where(truth == 1, "cat", names[truth])
    ids = np.where(truth < 2, truth, -1)
    worst, best = summarize_slices(x, ids, labels, predictions, n_nearest=3)
    assert (worst.slice_id, worst.size, worst.accuracy) == (1, 6, 0.0)
    assert worst.labels == {"dog": 6} and worst.predictions == {"cat": 6} and worst.homogeneity == 1.0
    assert best.accuracy == 1.0 and len(best.nearest) == 3 and (truth[list(best.nearest)] == 0).all()
    assert list(distances_to_centres(x, ids)[list(best.nearest)]) == sorted(distances_to_centres(x, ids)[ids == 0])[:3]


def test_homogeneity_is_the_share_of_the_commonest_label():
    labels = ["cat", "dog", "cat", "owl", "cat"]
    (found,) = summarize_slices(np.eye(5), np.zeros(5, int), labels, labels)
    assert found.homogeneity == 3 / 5 and list(found.labels) == ["cat", "dog", "owl"]


def test_a_planted_group_is_more_coherent_than_random_slices():
    x = np.concatenate([np.random.default_rng(0).normal(size=(90, 4)), np.full((10, 4), 1.0)])
    ids = np.where(np.arange(100) >= 90, 0, -1)
    (found,) = summarize_slices(x, ids, None, ["a"] * 100)
    assert found.coherence == pytest.approx(0, abs=1e-12) and found.random_coherence > 4
    assert found.coherence_rank == pytest.approx(1 / 101) and found.accuracy is None and found.homogeneity is None
    with pytest.raises(HardlookError, match="found 3 labels for 100"):
        summarize_slices(x, ids, ["a"] * 3, ["a"] * 100)


def test_planted_metadata_stand_out_and_random_ones_do_not():
    rng = np.random.default_rng(0)
    ids = np.repeat([0, 1, -1], [40, 40, 120])
    frame = pd.DataFrame(
        {
            "hospital": np.where((ids == 1) & (rng.random(200) < 0.9), "north", rng.choice(["south", "east"], 200)),
            "age": np.where(ids == 0, rng.integers(80, 99, 200), rng.integers(0, 99, 200)),
            "coin": rng.random(200) < 0.5,
            "file": [f"{i}.png" for i in range(200)],
            "same": "x",
        }
    )
    found = overrepresented(frame, ids)
    assert {(row.slice_id, row.column) for row in found.itertuples()} == {(0, "age"), (1, "hospital")}
    top = found[found["column"] == "hospital"].iloc[0]
    assert (
        top["value"] == "north" and top["lift"] == pytest.approx(top["share"] / top["base_share"]) and top["lift"] > 4
    )
    assert (found["q_value"] >= found["p_value"]).all()
    everything = overrepresented(frame, ids, max_q=1)
    assert len(everything) > len(found) and "file" not in set(everything["column"])
    assert overrepresented(pd.DataFrame(index=range(200)), ids).empty


def test_the_tail_probability_counts_by_hand():
    ids = np.array([0, 0, -1, -1])
    found = overrepresented(pd.DataFrame({"c": ["a", "a", "b", "b"]}), ids, max_q=1)
    assert found.loc[0, "p_value"] == pytest.approx(1 / 6)  # one of six ways to draw two of four
    assert found.loc[0, "lift"] == 2
    ids = np.array([0, 0, -1, -1, -1, -1])
    found = overrepresented(pd.DataFrame({"c": ["a", "b", "a", "b", "b", "b"]}), ids, max_q=1).set_index("value")
    assert found.loc["a", "p_value"] == pytest.approx(1 - 6 / 15)  # six of fifteen ways to draw two hold no "a"
    assert found.loc["a", ["share", "base_share", "lift"]].tolist() == [1 / 2, 1 / 3, 3 / 2]
    assert found.loc["b", "lift"] == pytest.approx(3 / 4)
    assert overrepresented(pd.DataFrame({"c": ["a", "b", "a", "b", "b", "b"]}), ids, max_q=0.999)["value"].tolist() == [
        "a"
    ]


def test_numbers_are_cut_into_fifths_and_missing_values_left_out():
    column = grouped(pd.Series([*range(100), np.nan]))
    assert column.nunique() == 5 and column.isna().sum() == 1
    assert grouped(pd.Series(["a", "a"])) is None
    assert grouped(pd.Series(range(100)) ** 4).value_counts().tolist() == [20] * 5  # of the rows, not of the range


def test_false_discoveries_are_held_as_benjamini_and_hochberg_do():
    p = np.array([0.001, 0.02, 0.03, 0.5])
    np.testing.assert_allclose(benjamini_hochberg(p), [0.004, 0.04, 0.04, 0.5])
