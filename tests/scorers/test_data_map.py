"""Data maps, by hand."""

import warnings

import numpy as np
import pandas as pd
import pytest

from scoring.audit.errors import HardlookError
from scoring.scorers import Shard, find_scorer
from scoring.scorers.data_map import DataMap, data_map, data_map_regions


def shard(**dynamics):
    n = next(iter(dynamics.values())).shape[1]
    return Shard(
        example_id=np.arange(n).astype(str),
        split=np.full(n, "train"),
        labels=np.zeros(n, int),
        classes=["a", "b"],
        dynamics=dynamics,
    )


def test_confidence_variability_and_correctness_are_mean_population_deviation_and_share():
    p = np.array([[0.1, 0.9], [0.3, 0.9], [0.8, 0.9]])
    confidence, variability, correctness = data_map(p, p > 0.25)
    np.testing.assert_allclose(confidence, [0.4, 0.9])
    np.testing.assert_allclose(variability, [np.sqrt((0.09 + 0.01 + 0.16) / 3), 0.0], atol=1e-12)
    np.testing.assert_allclose(correctness, [2 / 3, 1.0])


def test_the_data_map_agrees_with_numpy_on_random_trainings():
    p = np.random.default_rng(0).random((7, 50))
    confidence, variability, correctness = data_map(p, p > 0.5)
    np.testing.assert_allclose(confidence, p.mean(0))
    np.testing.assert_allclose(variability, p.std(0, ddof=0))
    np.testing.assert_allclose(correctness, (p > 0.5).mean(0))


def test_epochs_that_were_not_recorded_are_left_out_and_without_any_there_is_no_number():
    p = np.array([[0.2, np.nan], [np.nan, np.nan], [0.6, np.nan]], dtype=np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        confidence, variability, correctness = data_map(p, np.where(np.isnan(p), np.nan, p > 0.5))
    np.testing.assert_allclose(confidence, [0.4, np.nan], rtol=1e-6)
    np.testing.assert_allclose(variability, [0.2, np.nan], rtol=1e-6)
    np.testing.assert_allclose(correctness, [0.5, np.nan])


def test_a_memorised_wrong_label_is_less_confident_than_one_learned_at_once():
    steps = np.linspace(0, 1, 20)[:, None]
    right, wrong = np.clip(steps * 5, 0, 1), np.clip(steps * 5 - 4, 0, 1)  # both end at 1
    confidence, _, correctness = data_map(np.hstack([right, wrong]), np.hstack([right, wrong]) > 0.5)
    assert confidence[1] < 0.2 < 0.8 < confidence[0] and correctness[1] < correctness[0]


def test_the_scorer_gives_its_columns_and_their_direction():
    p = np.array([[0.1, 0.9], [0.3, 0.9]], dtype=np.float32)
    found = DataMap().score(shard(p_label=p, correct=(p > 0.5).astype(np.float32)), None)
    found = DataMap().finish(found, pd.DataFrame({"split": ["train", "train"]}))
    assert list(found) == [column.name for column in DataMap.columns]
    assert find_scorer("data_map") is DataMap
    assert {column.name: column.suspicious for column in DataMap.columns} == {
        "confidence": "low",
        "variability": "high",
        "correctness": "low",
        "region": None,
    }


@pytest.mark.parametrize("cut", [1, 3, 5])
def test_the_scores_of_an_example_do_not_depend_on_its_shard(cut):
    p = np.random.default_rng(1).random((4, 8)).astype(np.float32)
    both = {"p_label": p, "correct": (p > 0.5).astype(np.float32)}
    whole = DataMap().score(shard(**both), None)
    parts = [
        DataMap().score(shard(**{k: v[:, at] for k, v in both.items()}), None) for at in (slice(cut), slice(cut, None))
    ]
    for name in whole:
        np.testing.assert_array_equal(whole[name], np.concatenate([part[name] for part in parts]))


def test_regions_are_cut_where_the_quantiles_say():
    confidence = np.array([0.0, 0.1, 0.5, 0.6, 0.9, 1.0])
    variability = np.array([0.1, 0.4, 0.2, 0.2, 0.4, 0.1])  # its 2/3 quantile lies between 0.2 and 0.4
    assert data_map_regions(confidence, variability).tolist() == [
        "hard",
        "ambiguous",
        "ambiguous",
        "ambiguous",
        "ambiguous",
        "easy",
    ]
    assert (
        data_map_regions(confidence, variability, easy=0.5, hard=0.5, ambiguous=1).tolist()
        == ["hard"] * 3 + ["easy"] * 3
    )
    assert data_map_regions(confidence, variability, easy=1, hard=0, ambiguous=1).tolist() == [
        "hard",
        *["ambiguous"] * 4,
        "easy",
    ]


def test_without_a_confidence_there_is_no_region_and_quantiles_the_wrong_way_round_are_refused():
    assert data_map_regions(np.array([np.nan, 0.5]), np.array([0.1, np.nan])).tolist() == [None, None]
    with pytest.raises(HardlookError, match="hard = 0.8, easy = 0.2"):
        data_map_regions(np.ones(2), np.ones(2), easy=0.2, hard=0.8)


def test_the_region_column_is_cut_within_each_split():
    columns = {"confidence": np.array([0.1, 0.3, 0.8, 0.9]), "variability": np.full(4, 0.1)}
    found = DataMap(easy=0.5, hard=0.5).finish(columns, pd.DataFrame({"split": ["test", "test", "train", "train"]}))
    np.testing.assert_array_equal(found["region"], [2, 0, 2, 0])
