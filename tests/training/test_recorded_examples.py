"""The examples a training is recorded over."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Subset, TensorDataset

from scoring.audit.errors import HardlookError
from scoring.training.recorded_examples import dataset_labels, evaluate, recorded, unpack


class Pictures:
    """A dataset in torchvision's manner."""

    def __init__(self, targets):
        self.targets = targets

    def __len__(self):
        return 3

    def __getitem__(self, row):
        return torch.full((2,), float(row)), [4, 5, 6][row]


@pytest.mark.parametrize("targets", [[4, 5, 6], np.array([4, 5, 6]), torch.tensor([4, 5, 6])])
def test_labels_are_taken_from_what_a_dataset_tells(targets):
    assert dataset_labels(Pictures(targets)).tolist() == [4, 5, 6]
    assert dataset_labels(Subset(Pictures(targets), [2, 0])).tolist() == [6, 4]


@pytest.mark.parametrize("targets", [None, ["a", "b", "c"], [4, 5], np.zeros((3, 2))])
def test_what_cannot_be_the_labels_is_read_from_the_items_instead(targets):
    assert dataset_labels(Pictures(targets)) is None
    assert recorded(None, Pictures(targets), ["x", "y", "z"]).labels.tolist() == [4, 5, 6]


def test_items_are_pairs_or_mappings_with_a_label():
    assert unpack((1, 2, "more")) == (1, 2) and unpack([1, 2]) == (1, 2)
    assert unpack({"input_ids": 1, "mask": 3, "label": 2}) == ({"input_ids": 1, "mask": 3}, 2)
    for item in (torch.zeros(2), {"input_ids": 1}, (1,)):
        with pytest.raises(HardlookError, match="needed \\(input, label\\)"):
            unpack(item)


def test_a_pass_gives_the_models_logits_of_each_row_in_eval_mode():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Dropout(0.9), nn.Linear(2, 3)).train()
    examples = recorded(None, TensorDataset(torch.randn(5, 2), torch.arange(5) % 3), list("abcde"))
    parts = list(evaluate(model, examples, batch_size=2))
    assert [(rows.start, rows.stop) for rows, _ in parts] == [(0, 2), (2, 4), (4, 5)] and model.training
    expected = model[1](examples.dataset.tensors[0]).detach()
    np.testing.assert_allclose(np.concatenate([logits for _, logits in parts]), expected, rtol=1e-6)


def test_models_that_give_no_logits_are_refused():
    dataset = TensorDataset(torch.randn(4, 2), torch.zeros(4, dtype=torch.long))
    examples = recorded(None, dataset, list("abcd"))
    for model, message in ((nn.Linear(2, 1), "one number per example"), (nn.Unflatten(1, (1, 2)), "shape")):
        with pytest.raises(HardlookError, match=message):
            list(evaluate(model, examples))
