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
