"""Second-split forgetting, first-split learning and RHO loss, by hand and against the definitions in loops."""

import numpy as np
import pytest

from scoring.scorers import Shard
from scoring.scorers.rho import RHO, rho_loss
from scoring.scorers.second_split import SecondSplit, first_split_learning_time, second_split_forgetting_time


def by_definition(correct, wanted):
    """First t, from 1, with the wanted state at every epoch from t on."""
    epochs, n = correct.shape
    return [next((t + 1.0 for t in range(epochs) if (correct[t:, i] == wanted).all()), np.nan) for i in range(n)]


def test_both_times_are_the_first_epoch_from_which_the_state_stays():
    correct = np.random.default_rng(0).random((6, 200)) < 0.6
    np.testing.assert_array_equal(second_split_forgetting_time(correct), by_definition(correct, False))
    np.testing.assert_array_equal(first_split_learning_time(correct), by_definition(correct, True))


def test_sequences_by_hand():
    correct = np.array([[1, 1, 0, 0, 1], [1, 0, 0, 1, 1], [0, 1, 0, 1, 1]], dtype=bool)
    np.testing.assert_array_equal(second_split_forgetting_time(correct), [3, np.nan, 1, np.nan, np.nan])
    np.testing.assert_array_equal(first_split_learning_time(correct), [np.nan, 3, np.nan, 2, 1])


def test_a_memorised_label_is_forgotten_before_one_that_the_rest_supports():
    held = np.arange(10)[:, None] < np.array([2, 7])
    fast, slow = second_split_forgetting_time(held)
    assert fast == 3 and slow == 8


def test_what_was_measured_under_another_label_is_null():
    shard = Shard(
        example_id=np.array(["a", "b", "c"]),
        split=np.array(["train"] * 3),
        labels=np.array([0, 1, -1]),
        classes=["x", "y"],
    )
    found = SecondSplit().score(shard, {("a", "x"): np.array([2.0, 3.0, 1.0]), ("b", "x"): np.array([1.0, 1.0, 1.0])})
    np.testing.assert_array_equal(found["forgetting_time"], [2, np.nan, np.nan])
    np.testing.assert_array_equal(found["learning_time"], [3, np.nan, np.nan])


def test_rho_is_training_loss_minus_irreducible_loss():
    losses = np.array([[3.0, 1.0, np.nan], [1.0, 0.0, 2.0]])
    mean, last = rho_loss(losses, np.array([0.5, 4.0, 1.0]))
    np.testing.assert_allclose(mean, [1.5, -3.5, 1.0])
    np.testing.assert_allclose(last, [0.5, -4.0, 1.0])  # the second: memorised against other data


def test_of_learnable_learned_and_noisy_the_learnable_one_is_highest():
    learnable, learned, noisy = rho_loss(np.array([[2.0, 0.1, 2.0]]), np.array([0.1, 0.1, 2.5]))[0]
    assert learnable > learned > noisy


def test_the_battery_sample_has_both_from_their_commands(scored_sample):
    from scoring.audit import Audit
    from scoring.audit.storage import read_table
    from scoring.training.dynamics import read_dynamics

    run = Audit.open(scored_sample).run()
    frame = read_table(run.score_path("rho")).to_pandas().set_index("example_id").dropna(subset=["last"])
    last = read_dynamics(run.dynamics_files()[-1:], frame.index.tolist(), ["loss"])["loss"][0]
    np.testing.assert_allclose(frame["last"] + frame["irreducible"], last, rtol=1e-4, atol=1e-5)
    times = read_table(run.score_path("second_split")).to_pandas()
    assert times["forgetting_time"].dropna().isin([1, 2]).all()
    assert times["forgotten"].dropna().isin([0, 1]).all()
    assert RHO().lacks(type("context", (), {"run": Audit.open(scored_sample).run()})) is None
    assert (times["forgotten"] == times["forgetting_time"].notna())[times["forgotten"].notna()].all()


def test_without_the_training_the_reason_names_the_command(sample_copy):
    from scoring.audit import Audit
    from scoring.pipeline.score_run import unmet
    from scoring.pipeline.shards import Context

    audit = Audit.open(sample_copy)
    run = audit.run()
    run.second_split_path.unlink()
    run.irreducible_path.unlink()
    context = Context(audit, run, device="cpu")
    assert "hardlook second-split" in unmet(SecondSplit(), context)
    assert "hardlook holdout" in unmet(RHO(), context)
    with pytest.raises(FileNotFoundError):
        RHO().depends(context)
