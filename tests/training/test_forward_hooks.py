"""Which example each row of a batch is."""

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, ConcatDataset, DataLoader, RandomSampler, Subset, TensorDataset

from scoring.training.forward_hooks import ForwardTap, follow, input_in, labels_in, row_map, unfollow


def plain(n):
    return TensorDataset(torch.arange(n))


@pytest.mark.parametrize(
    "dataset, examples, expected",
    [
        (plain(4), plain(4), [0, 1, 2, 3]),
        (Subset(plain(4), [3, 1]), plain(4), [3, 1]),
        (Subset(Subset(plain(4), [3, 1, 0]), [2, 0]), plain(4), [0, 3]),
        (Subset(plain(4), [1, 3]), Subset(plain(4), [3, 2]), [-1, 0]),
        (Subset(plain(4), [1, 3, 0, 2]), plain(4), [1, 3, 0, 2]),  # as long as the examples, and in another order
        (plain(2), Subset(plain(4), [3, 2]), [0, 1]),
        (plain(3), plain(4), None),
        (ConcatDataset([plain(4), plain(1)]), plain(4), None),
    ],
)
def test_rows_are_followed_through_subsets_or_not_at_all(dataset, examples, expected):
    found = row_map(dataset, examples)
    assert (found if expected is None else found.tolist()) == expected


def test_a_dataset_is_its_own_examples():
    dataset = Subset(plain(4), [2, 2, 0])
    assert row_map(dataset, dataset).tolist() == [0, 1, 2]


def test_following_a_loader_changes_nothing_that_it_gives_and_can_be_undone():
    loader = DataLoader(plain(10), 3, shuffle=True, generator=torch.Generator().manual_seed(0))
    alone = [
        batch[0].tolist()
        for batch in DataLoader(plain(10), 3, shuffle=True, generator=torch.Generator().manual_seed(0))
    ]
    sampler = loader.batch_sampler
    order = follow(loader)
    assert follow(loader) is order and len(loader) == 4 and order.batch_size == 3
    for batch, rows in zip(loader, alone, strict=True):
        assert batch[0].tolist() == order.take().tolist() == rows
    assert order.take() is None
    unfollow(loader)
    assert loader.batch_sampler is sampler


def test_a_loop_that_was_left_does_not_shift_the_next_one():
    loader = DataLoader(plain(10), 3)
    order = follow(loader)
    next(iter(loader))
    assert [(batch[0] == torch.as_tensor(order.take())).all() for batch in loader]
    assert not order.pending


def test_a_sampler_that_draws_single_rows_is_followed():
    loader = DataLoader(plain(3), batch_size=None, sampler=BatchSampler(RandomSampler(range(3)), 2, False))
    order = follow(loader)
    for batch in loader:
        assert batch[0].tolist() == order.take().tolist()


def test_loaders_without_a_known_order_are_not_followed():
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(range(4))

    assert follow([1, 2]) is None and follow(DataLoader(Stream())) is None
    assert follow(DataLoader(plain(4), num_workers=1, in_order=False)) is None


def test_a_followed_sampler_can_be_sent_to_another_process():
    order = follow(DataLoader(plain(4), 2))
    assert list(pickle.loads(pickle.dumps(order))) == [[0, 1], [2, 3]]


def test_labels_and_inputs_are_found_in_batches_of_any_make():
    x, y = torch.zeros(2, 3), torch.tensor([0, 1])
    assert labels_in((x, y)) is labels_in({"values": x, "labels": y}) is labels_in([x, y, 5]) is y
    assert input_in((x, y)) is input_in({"labels": y, "values": x}) is input_in(x) is x
    for soft in ((x, x), (x, y.float()), (x, y.bool()), x, {"values": x}, (x,)):
        assert labels_in(soft) is None


def test_an_example_drawn_twice_gets_the_mean_of_its_margins():
    tap, model = ForwardTap([0, 1]), torch.nn.Identity().train()
    with tap.on(model):
        batches = {(0, 0, -1): [[3.0, 1.0], [5.0, 1.0], [9.0, 0.0]], (1, 0, 1): [[0.0, 2.0]] * 3}
        for rows, logits in batches.items():
            tap.expect(np.array(rows), None)
            model(torch.tensor(logits))
    np.testing.assert_allclose(tap.margins(), [(2 + 4 - 2) / 3, 2.0])
