"""Test-time augmentation against views made by hand, and its randomness against rows and batches."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from scoring.audit import Audit
from scoring.evaluation.probabilities import softmax
from scoring.models.augmentation import moved, own_view, shifts, view_of
from scoring.pipeline.score_run import make_scorer
from scoring.pipeline.shards import Context
from scoring.scorers import Shard, registry
from scoring.scorers.uncertainty import uncertainty

IDS = np.array([f"digit-{number}" for number in range(40)], dtype=object)


class Slot:
    """A model slot around a linear model, as a Shard carries it."""

    def __init__(self, features=36, classes=3):
        generator = torch.Generator().manual_seed(0)
        self.weights = torch.randn(features, classes, generator=generator)

    def at(self, checkpoint):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def __call__(self, inputs):
        return inputs.flatten(1) @ self.weights


@pytest.fixture
def shard():
    inputs = torch.randn(40, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    labels = np.arange(40) % 4 - 1  # −1 = none
    return Shard(
        example_id=IDS,
        split=np.array(["train"] * 40),
        labels=labels,
        classes=["a", "b", "c"],
        inputs=inputs,
        model=Slot(),
        checkpoints=[None],
    )


def test_a_picture_is_moved_as_numpy_would_move_it():
    pictures = torch.arange(2 * 2 * 5 * 4, dtype=torch.float32).reshape(2, 2, 5, 4)
    by = np.array([[2, -1], [0, 1]])
    found = moved(pictures, by, mirrored=True).numpy()
    for number, (down, right) in enumerate(by):
        wide = np.pad(pictures[number].numpy(), ((0, 0), (2, 2), (2, 2)), mode="reflect")
        cut = wide[:, 2 - down : 7 - down, 2 - right : 6 - right]
        np.testing.assert_array_equal(found[number], cut[..., ::-1])


def test_shifts_fill_their_range_and_the_first_pair_is_not_shifted():
    drawn = shifts([str(number) for number in range(2000)], 2, 2, seed=0)
    assert sorted(set(map(tuple, drawn.tolist()))) == [(y, x) for y in range(-2, 3) for x in range(-2, 3)]
    assert not shifts(IDS, 0, 2, 0).any() and not shifts(IDS, 1, 2, 0).any()
    np.testing.assert_array_equal(shifts(IDS, 2, 2, 0), shifts(IDS, 3, 2, 0))
    assert (shifts(IDS, 2, 2, 0) != shifts(IDS, 4, 2, 0)).any() and (shifts(IDS, 2, 2, 0) != shifts(IDS, 2, 2, 1)).any()


@pytest.mark.parametrize("mirror", [True, False])
def test_the_score_is_the_mean_over_views_of_each_measure(shard, mirror):
    scorer = make_scorer(registry()["tta"], {"views": 4, "batch_size": 16})
    found = scorer.score(shard, {"shift": 1, "mirror": mirror})
    views = [view_of(shard.inputs, IDS, view, shift=1, mirror=mirror, seed=0) for view in range(4)]
    assert all(not torch.equal(views[0], other) for other in views[1:])
    each = [uncertainty(softmax(shard.model(view).numpy()), shard.labels) for view in views]
    loss, margin, entropy = np.mean([np.stack(values) for values in each], axis=0)
    known = shard.labels >= 0
    np.testing.assert_allclose(found["loss"][known], loss[known], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["margin"][known], margin[known], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["entropy"], entropy, rtol=1e-4)
    assert np.isnan(found["loss"][~known]).all() and np.isnan(found["margin"][~known]).all()


def test_where_the_model_stands_no_view_the_example_itself_is_the_only_one(shard):
    scorer = make_scorer(registry()["tta"], {})
    found = scorer.score(shard, {"shift": 0, "mirror": False})
    loss, _, _ = uncertainty(softmax(shard.model(shard.inputs).numpy()), shard.labels)
    known = shard.labels >= 0
    np.testing.assert_allclose(found["loss"][known], loss[known], rtol=1e-5, atol=1e-6)


def test_the_runs_own_augmentation_draws_by_the_examples_id(shard):
    def noisy(batch):
        return batch + torch.randn(batch.shape)

    before = torch.get_rng_state()
    view = own_view(noisy, shard.inputs, IDS, 3, seed=0)
    order = np.random.default_rng(0).permutation(40)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(own_view(noisy, shard.inputs[order], IDS[order], 3, seed=0), view[order])
    assert not torch.equal(own_view(noisy, shard.inputs, IDS, 2, seed=0), view)


def test_digits_are_neither_mirrored_nor_shifted_and_the_plan_says_why(scored_sample):
    audit, said = Audit.open(scored_sample), []
    context = Context(audit, audit.run(), device="cpu", say=said.append)
    plan = make_scorer(registry()["tta"], {}).fit(context, None)
    assert plan["mirror"] is False
    assert "mirroring" in said[0] and "90%" in said[0]
    always = make_scorer(registry()["tta"], {"stable": 0.0}).fit(context, None)
    assert always == {"shift": 1, "mirror": True}


def test_vectors_without_an_augmentation_are_left_out_and_told_so():
    scorer = make_scorer(registry()["tta"], {})
    run = SimpleNamespace(name="main", config={})
    context = SimpleNamespace(audit=SimpleNamespace(media="vector"), run=run)
    assert "augment" in scorer.lacks(context)
    run.config = {"training": {"augment": "model.py:noise"}}
    assert scorer.lacks(context) is None


def test_an_augmentation_that_works_in_place_sees_the_example_anew_in_every_view():
    inputs = torch.randn(4, 1, 6, 6, generator=torch.Generator().manual_seed(2))
    before = inputs.clone()
    for view in range(3):
        found = own_view(lambda picture: picture.mul_(2), inputs, list(IDS[:4]), view, seed=0)
        assert torch.equal(found, 2 * before)
    assert torch.equal(inputs, before)
