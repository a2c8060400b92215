"""Arrays of every library as one kind, and one sentence for what is none."""

import numpy as np
import pandas as pd
import pytest
import torch

from scoring.audit.arrays import as_flags, as_list, as_numbers
from scoring.audit.errors import HardlookError

ROWS = [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize(
    "of",
    [
        list,
        np.array,
        torch.tensor,
        pd.DataFrame,
        lambda rows: torch.tensor(rows, dtype=torch.bfloat16, requires_grad=True),
        lambda rows: pd.DataFrame(rows, dtype=object),
        lambda rows: tuple(map(tuple, rows)),
    ],
)
def test_numbers_of_any_library(of):
    assert as_numbers(of(ROWS), "x", ndim=2, rows=2).tolist() == ROWS


def test_missing_numbers_are_nan():
    assert np.isnan(as_numbers(pd.Series([1.0, None], dtype=object), "x")[1])


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("abc", "found str"),
        (None, "needed 2 axes"),
        ([[None, "a"]], "x: holds values that are no numbers"),
        ([["a"]], "needed an array"),
        ([[1.0], [2.0, 3.0]], "rows of one length"),
        (np.array([1j]), "needed an array"),
        ([1.0, 2.0], "needed 2 axes"),
        ([[1.0]], "1 rows; needed 2"),
    ],
)
def test_what_is_no_matrix_of_two_rows_is_refused(value, words):
    with pytest.raises(HardlookError, match=words):
        as_numbers(value, "x", ndim=2, rows=2)


def test_flags_are_booleans_or_zeros_and_ones():
    assert as_flags(torch.tensor([1, 0]), "correct").tolist() == [True, False]
    with pytest.raises(HardlookError, match="0 and 1"):
        as_flags([0.2, 1.0], "correct")


@pytest.mark.parametrize(
    "value", [[1, 2], np.array([1, 2]), torch.tensor([1, 2]), pd.Series([1, 2]), np.array([[1], [2]]), range(1, 3)]
)
def test_lists_hold_pythons_own_numbers(value):
    found = as_list(value, "labels")
    assert found == [1, 2]
    assert all(type(each) is int for each in found)


@pytest.mark.parametrize("value", ["cat", 7, np.zeros((2, 2))])
def test_what_is_no_list_is_refused(value):
    with pytest.raises(HardlookError, match="labels: found"):
        as_list(value, "labels")


RAGGED = [[1.0, 2.0], [3.0]]


def _calls():
    """Every fixed function with rows of several lengths, or with what is no number at all."""
    from torch import nn

    from scoring.curvature import head_hessian
    from scoring.evaluation import error_by_decile, normalize_by_class
    from scoring.influence import InfluenceFactors, self_influence
    from scoring.scorers.data_map import data_map
    from scoring.scorers.forgetting import forgetting_events
    from scoring.scorers.second_split import second_split_forgetting_time
    from scoring.scorers.vog import vog_from_maps
    from scoring.slices import find_slices, find_slices_by_rule, slice_opponents

    good, p = np.ones((4, 2)), np.full((4, 2), 0.5)
    batch = [(torch.ones(4, 2), torch.tensor([0, 1, 0, 1]))]
    return {
        "find_slices": lambda bad: find_slices(bad, 1),
        "rule, embeddings": lambda bad: find_slices_by_rule(bad, [True] * 4, max_accuracy=1.0, min_size=1),
        "rule, correct": lambda bad: find_slices_by_rule(good, bad, max_accuracy=1.0, min_size=1),
        "opponents, slice": lambda bad: slice_opponents(bad, good, 1),
        "opponents, train": lambda bad: slice_opponents(good, bad, 1),
        "vog": vog_from_maps,
        "head_hessian, features": lambda bad: head_hessian(bad, p),
        "head_hessian, probabilities": lambda bad: head_hessian(good, bad),
        "self_influence, labels": lambda bad: self_influence(good, p, bad),
        "data_map": lambda bad: data_map(bad, bad),
        "forgetting": forgetting_events,
        "second split": second_split_forgetting_time,
        "deciles": lambda bad: error_by_decile(bad, [True] * 2),
        "z-scores": lambda bad: normalize_by_class(bad, [0, 1]),
        "factors, layers": lambda bad: InfluenceFactors.fit(nn.Linear(2, 2), batch, layers=3, arnoldi_dim=2, rank=1),
        "factors, data": lambda bad: InfluenceFactors.fit(nn.Linear(2, 2), [(bad, [0, 1])], layers=[""], rank=1),
    }


@pytest.mark.parametrize("bad", [RAGGED, "abc", [["a", "b"], ["c", "d"]], np.array([[1j, 2j], [3j, 4j]])])
@pytest.mark.parametrize("name", _calls())
def test_every_fixed_function_says_in_a_sentence_what_it_cannot_take(name, bad):
    with pytest.raises(HardlookError) as error:
        _calls()[name](bad)
    assert "\n" not in str(error.value)
