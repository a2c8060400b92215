"""Trainings on parts: who is trained on what, and that a stopped command goes on with the same bits."""

import numpy as np
import pandas as pd
import pytest
import torch

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.audit.storage import read_table, read_vectors
from scoring.models.inputs import labelled
from scoring.pipeline.retraining import subset_training
from scoring.pipeline.retraining.cross_validation import cross_validate
from scoring.pipeline.retraining.holdout import measure_irreducible
from scoring.pipeline.retraining.second_split import measure_second_split
from scoring.pipeline.retraining.self_supervised import train_without_labels
from scoring.pipeline.retraining.ssl_objectives import barlow_loss, fixed_views, shifted
from scoring.pipeline.retraining.subset_training import Retraining, assign_folds
from scoring.pipeline.shards import Context
from scoring.training.dynamics import read_dynamics


def opened(folder, progress=None):
    audit = Audit.open(folder)
    return Context(audit, audit.run(), device="cpu", **({"progress": progress} if progress else {}))


class Stop(BaseException):
    """What a kill is to a command: nothing after it runs."""


def stops_after(many):
    """A progress that stops the command once so many examples were trained on."""
    import contextlib

    @contextlib.contextmanager
    def progress(what, total):
        seen = 0

        def advance(n):
            nonlocal seen
            seen += n
            if seen >= many:
                raise Stop

        yield advance

    return progress


def test_folds_follow_from_the_content_and_spread_the_classes():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"label": rng.choice(["a", "b", "c"], 90), "fingerprint": [f"f{i // 2}" for i in range(90)]})
    fold = assign_folds(table, 5, seed=3)
    assert (fold[::2] == fold[1::2]).all()  # duplicates share a fold
    order = rng.permutation(45)
    pairs = np.ravel(np.column_stack([2 * order, 2 * order + 1]))
    shuffled = assign_folds(table.iloc[pairs].reset_index(drop=True), 5, seed=3)
    assert (shuffled[::2] == shuffled[1::2]).all()
    single = table.drop_duplicates("fingerprint").reset_index(drop=True)
    counts = pd.crosstab(single["label"], assign_folds(single, 5, seed=3))
    assert (counts.max(axis=1) - counts.min(axis=1) <= 1).all()
    np.testing.assert_array_equal(assign_folds(single, 5, 3)[order], assign_folds(single.iloc[order], 5, 3))
    assert (assign_folds(single, 5, 3) != assign_folds(single, 5, 4)).any()
    with pytest.raises(HardlookError, match="1 folds"):
        assign_folds(single, 1, 0)


def test_each_example_is_judged_by_a_model_that_was_not_trained_on_it(sample_copy, monkeypatch):
    context, trained = opened(sample_copy), {}

    def train(self, name, rows, seed, advance, **_options):
        trained[name] = rows
        return name

    monkeypatch.setattr(Retraining, "train", train)
    monkeypatch.setattr(
        Retraining,
        "logits",
        lambda self, name, rows: np.where(np.isin(rows, trained[name])[:, None], np.nan, np.eye(10)[rows % 10]),
    )
    cross_validate(context, 3)
    ids, p = read_vectors(context.run.out_of_fold_path)
    assert ids.tolist() == labelled(context.audit)["example_id"].tolist()
    assert np.isfinite(p).all() and (p.argmax(1) == np.arange(len(p)) % 10).all()
    everybody = np.concatenate([np.setdiff1d(np.arange(len(ids)), rows) for rows in trained.values()])
    assert sorted(everybody) == list(range(len(ids)))


def test_cross_validation_goes_on_after_a_kill_with_the_same_bits_and_is_not_done_twice(sample_copy):
    whole = opened(sample_copy)
    assert "from 2 folds" in cross_validate(whole, 2, epochs=2)
    expected = np.array(read_vectors(whole.run.out_of_fold_path)[1])
    assert "already" in cross_validate(opened(sample_copy), 2, epochs=2)
    whole.run.out_of_fold_path.unlink()
    for many in (180, 330):  # in the second epoch of the first fold, in the second fold
        with pytest.raises(Stop):
            cross_validate(opened(sample_copy, stops_after(many)), 2, epochs=2)
        assert not whole.run.out_of_fold_path.exists()
    cross_validate(opened(sample_copy), 2, epochs=2)
    np.testing.assert_array_equal(read_vectors(whole.run.out_of_fold_path)[1], expected)
    np.testing.assert_allclose(expected.sum(1), 1, rtol=1e-5)
    assert not list(whole.run.parts_folder("retraining-fold-0").glob("*"))


def test_the_second_split_goes_on_after_a_kill_with_the_same_numbers(sample_copy):
    context = opened(sample_copy)
    context.run.second_split_path.unlink()
    measure_second_split(context, seeds=1, epochs=2)
    expected = read_table(context.run.second_split_path)
    context.run.second_split_path.unlink()
    for many in (200, 400):  # in the first part, in the second
        with pytest.raises(Stop):
            measure_second_split(opened(sample_copy, stops_after(many)), seeds=1, epochs=2)
    measure_second_split(opened(sample_copy), seeds=1, epochs=2)
    assert read_table(context.run.second_split_path).equals(expected)
    assert not list(context.run.dynamics_folder("x").parent.glob("split-*"))


def test_the_halves_are_trained_on_one_after_the_other(sample_copy, monkeypatch):
    seen = []
    real = subset_training.fit
    monkeypatch.setattr(
        subset_training, "fit", lambda model, part, **given: seen.append(set(part.ids)) or real(model, part, **given)
    )
    context = opened(sample_copy)
    context.run.second_split_path.unlink()
    measure_second_split(context, seeds=1, epochs=1)
    first, second, third, fourth = seen
    assert not first & second and first == fourth and second == third
    assert first | second == set(labelled(context.audit)["example_id"])


def test_the_audits_own_function_trains_the_parts(sample_copy):
    (sample_copy / "own.py").write_text("""
import torch

def train(model, data, recorder, epochs=1, lr=0.01):
    descent = torch.optim.SGD(model.parameters(), lr=lr)
    loader = torch.utils.data.DataLoader(data, 64, shuffle=True)
    for epoch in range(epochs):
        for inputs, labels in recorder.watch(loader):
            descent.zero_grad()
            torch.nn.functional.cross_entropy(model(inputs), labels).backward()
            descent.step()
""")
    config = (sample_copy / "audit.toml").read_text()
    start = config.index("[run.main.training]")
    stop = config.index("\n#", start)
    (sample_copy / "audit.toml").write_text(
        config[:start] + '[run.main.training]\nfunction = "own.py:train"\nepochs = 2\n' + config[stop:]
    )
    context = opened(sample_copy)
    assert "from 2 folds" in cross_validate(context, 2)
    p = read_vectors(context.run.out_of_fold_path)[1]
    assert np.isfinite(p).all()
    measure_second_split(context, seeds=1)
    assert read_table(context.run.second_split_path)["learning_time"].null_count < 240


def test_irreducible_losses_are_those_of_the_given_weights_and_of_the_other_folds(sample_copy):
    context = opened(sample_copy)
    weights = sorted((sample_copy / "checkpoints" / "main").glob("*.pt"))[-1]
    measure_irreducible(context, source="weights", weights=weights)
    table = read_table(context.run.irreducible_path).to_pandas()
    recorded = read_dynamics(context.run.dynamics_files()[-1:], table["example_id"].tolist(), ["loss"])["loss"][0]
    np.testing.assert_allclose(table["loss"], recorded, rtol=1e-4, atol=1e-6)
    measure_irreducible(context, source="folds", folds=2, epochs=1)
    table = read_table(context.run.irreducible_path).to_pandas()
    ids, p = read_vectors(context.run.out_of_fold_path)
    own = pd.DataFrame(p, index=ids, columns=context.audit.classes)
    expected = [-np.log(own.loc[i, label]) for i, label in zip(table["example_id"], table["label"], strict=True)]
    np.testing.assert_allclose(table["loss"], expected, rtol=1e-5)
    with pytest.raises(HardlookError, match="needed test, folds"):
        measure_irreducible(context, source="weights")


@pytest.mark.parametrize("objective", ["barlow", "rotation", "autoencoder"])
def test_self_supervised_training_goes_on_after_a_kill_with_the_same_bits(sample_copy, objective):
    path = opened(sample_copy).run.self_supervised_path
    path.unlink()
    train_without_labels(opened(sample_copy), objective=objective, epochs=2, batch_size=64)
    expected = read_table(path)
    path.unlink()
    with pytest.raises(Stop):
        train_without_labels(opened(sample_copy, stops_after(400)), objective=objective, epochs=2, batch_size=64)
    train_without_labels(opened(sample_copy), objective=objective, epochs=2, batch_size=64)
    assert read_table(path).equals(expected)
    frame = expected.to_pandas()
    assert len(frame) == 380 and frame.notna().all().all()
    assert (frame[["gradient", "displacement"]] > 0).all().all()


def test_barlow_twins_loss_is_that_of_the_correlation_matrix():
    torch.manual_seed(0)
    a, b = torch.randn(50, 6), torch.randn(50, 6)
    a, b = ((x - x.mean(0)) / x.std(0, correction=0) for x in (a, b))
    c = np.corrcoef(a.numpy().T, b.numpy().T)[:6, 6:]
    expected = (((1 - np.diag(c)) ** 2).sum() + 0.005 * ((c**2).sum() - (np.diag(c) ** 2).sum())) / 6
    assert float(barlow_loss(a, b)) == pytest.approx(expected, rel=1e-4)
    each = 0.5 * (a - b).square().mean(1)  # what an example is charged with averages to mean(1 − C_ii)
    assert float(each.mean()) == pytest.approx(float(np.mean(1 - np.diag(c))), rel=1e-4)


def test_views_are_shifted_by_whole_pixels_and_fixed():
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert shifted(x, 1, 0)[0, 0, 1:].equal(x[0, 0, :-1]) and shifted(x, 1, 0)[0, 0, 0].equal(x[0, 0, 0])
    assert shifted(x, 0, -2)[0, 0, :, :2].equal(x[0, 0, :, 2:])
    first, second = fixed_views(x)
    assert first.shape == x.shape and not first.equal(second) and fixed_views(x)[0].equal(first)
