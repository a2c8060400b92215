"""scoring.pipeline.input_summary: what the model sees of vectors and texts, and what is warned of."""

import numpy as np
import pytest
import torch

from scoring.models.text import HashedWords
from scoring.pipeline.input_summary import column_summary, token_summary, truncation_warning, uneven_columns_warning


def test_columns_are_described_after_the_transform():
    values = np.random.default_rng(0).normal(3, 2, size=(50, 2))
    found = column_summary(torch.tensor(values), ["a", "b"])
    assert found["left"] == 0 and [row[0] for row in found["columns"]] == ["a", "b"]
    wanted = np.stack([values.mean(0), values.std(0), values.min(0), values.max(0)], 1)
    assert np.array([row[1:] for row in found["columns"]]) == pytest.approx(wanted)
    assert column_summary(torch.zeros(3, 100), None)["left"] == 40
    assert column_summary(torch.zeros(3, 2, 2), None) is None


def test_columns_of_very_different_size_are_warned_of_and_constant_ones_are_not():
    even = torch.tensor([[0.0, 0.0, 7.0], [1.0, 9.0, 7.0]])
    assert uneven_columns_warning(even, None) is None
    warning = uneven_columns_warning(even * torch.tensor([1.0, 20.0, 1.0]), ["a", "b", "c"])
    assert "'b' has deviation 90" in warning and "'a' 0.5" in warning and "'c'" not in warning


def test_texts_that_fill_the_whole_length_are_warned_of():
    transform = HashedWords(length=3)
    texts = ["one two three four", "a b c", "short"]
    found = token_summary(torch.stack([transform(text) for text in texts]), texts, transform)
    assert found["filled"] == pytest.approx(2 / 3) and found["texts"][0] == ["one", "two", "three"]
    assert "67% of the texts fill all 3 tokens" in truncation_warning(found)
    assert truncation_warning({**found, "filled": 0.5}) is None and truncation_warning(None) is None
    assert token_summary(torch.zeros(2, 3), texts, transform) is None
