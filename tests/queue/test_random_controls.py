"""Controls: one fixed stratified permutation per split, a planner, and a queue in which nobody can tell them."""

import numpy as np
import pandas as pd
import pytest

from scoring.audit import Audit, check_config
from scoring.audit.errors import HardlookError
from scoring.audit.storage import read_table, write_table
from scoring.queue.random_controls import (
    audit_queue,
    chance_of_seeing,
    controls_needed,
    drawn_controls,
    fix_controls,
    hashes,
    mixed_queue,
    permute,
    plan,
    strata,
)


def test_the_planner_knows_the_textbook_numbers():
    assert controls_needed(0.05) == 59
    assert controls_needed(0.01) == 299
    assert controls_needed(0.05, errors=1) == 93  # 95/95 with one failure, Hahn & Meeker
    for rate, errors in ((0.03, 0), (0.2, 3)):
        n = controls_needed(rate, errors=errors)
        draws = np.random.default_rng(0).binomial([[n - 1], [n]], rate, (2, 400_000)) <= errors
        assert draws[0].mean() > 0.05 - 0.0015 and draws[1].mean() < 0.05 + 0.0015


def test_a_small_population_needs_fewer_and_never_more_than_there_are():
    assert controls_needed(0.05, population=10**6) in (58, 59)
    assert controls_needed(0.01, population=500) < 299
    assert controls_needed(0.05, population=8) == 8
    assert plan({}, 0).controls == 0


def test_thirty_controls_say_almost_nothing_about_one_point_six_percent():
    none, bound = chance_of_seeing(0.016, 30)
    assert none > 0.6  # six audits in ten see no error at all …
    assert bound > 5 * 0.016  # … and then can only say "below 9.5 %"
    assert controls_needed(0.016) == 186


def test_the_share_of_the_queue_follows_the_goal():
    shares = [plan({"error_rate": rate}, 50_000).share for rate in (0.05, 0.02, 0.01, 0.005)]
    assert shares == sorted(shares) and shares[0] < shares[-1]
    assert plan({"error_rate": 0.05, "controls": 300, "decisions": 900}, 50_000).share == pytest.approx(1 / 3)


def test_a_goal_that_means_nothing_is_refused():
    good = {"format": 1, "classes": ["a"], "data": [{"path": "x"}]}
    assert check_config({**good, "goal": {"error_rate": 0.02, "controls": 10}})
    for goal in ({"error_rate": 5}, {"rate": 0.1}, {"error_rate": 1.5}, {"controls": 0}):
        with pytest.raises(HardlookError, match="goal"):
            check_config({**good, "goal": goal})


def test_every_prefix_holds_each_stratum_in_proportion():
    groups = strata(np.random.default_rng(1).random(1000))
    place, key, _ = permute(groups, np.random.default_rng(2))
    order = np.argsort(key)
    for m in (1, 10, 59, 200, 777):
        first = groups[order[:m]]
        for stratum in np.unique(groups):
            share = (groups == stratum).mean()
            assert abs((first == stratum).sum() - m * share) <= 2
            taken = place[order[:m]][first == stratum]
            assert sorted(taken) == list(range(len(taken)))  # a prefix of the stratum's own order


def test_the_inclusion_probabilities_are_those_of_the_draw():
    ranked = np.arange(200.0)
    groups = strata(ranked)
    hits, told = np.zeros(200), np.zeros(200)
    for seed in range(1500):
        place, key, size = permute(groups, np.random.default_rng(seed))
        frame = pd.DataFrame(
            {"example_id": np.arange(200).astype(str), "stratum": groups, "place": place, "key": key, "size": size}
        )
        drawn = drawn_controls(frame, plan({"controls": 40}, 200))
        at = drawn["example_id"].astype(int).to_numpy()
        hits[at] += 1
        told[at] += 1 / drawn["probability"].to_numpy()
    np.testing.assert_allclose(told / 1500, 1, atol=0.35)  # Horvitz-Thompson: each example counts once on average
    assert abs(told.mean() / 1500 - 1) < 0.01
    assert (hits / 1500).min() > 0.2 * 0.7 and (hits / 1500).max() < 0.2 * 1.3


def test_small_and_unscored_splits_have_strata_too():
    assert set(strata(np.full(7, np.nan))) == {0}
    assert len(strata(np.array([]))) == 0
    assert np.bincount(strata(np.arange(45.0))).min() >= 20


def test_the_permutation_is_fixed_once_and_grows_without_moving(sample_copy):
    audit = Audit.open(sample_copy)
    first = fix_controls(audit, audit.run())
    audit.run().score_path("aum").unlink()  # another suspicion changes nothing any more
    pd.testing.assert_frame_equal(first, fix_controls(audit, audit.run()))
    assert set(first["split"]) == {"train", "test"}  # the pool has no labels to be wrong
    table = read_table(audit.examples_path)
    fewer = table.slice(5)
    write_table(audit.examples_path, fewer)
    assert len(fix_controls(audit, audit.run())) < len(first)
    audit.controls_path.unlink()
    small = fix_controls(audit, audit.run())
    write_table(audit.examples_path, table)
    grown = fix_controls(audit, audit.run()).set_index("example_id")
    pd.testing.assert_frame_equal(grown.loc[small["example_id"]].reset_index(), small, check_like=True)
    late = grown.drop(small["example_id"])
    assert len(late) and late["stratum"].min() > small["stratum"].max()


def queue_of(n=400, controls=60, share=0.25, **options):
    ranked = pd.Series(np.random.default_rng(0).random(n), index=[f"e{i}" for i in range(n)])
    drawn = pd.DataFrame(
        {
            "example_id": np.random.default_rng(1).choice(ranked.index, controls, replace=False),
            "probability": controls / n,
        }
    )
    return ranked, drawn, mixed_queue(ranked, drawn, share=share, **options)


def test_the_queue_mixes_controls_at_their_share_and_names_each_example_once():
    ranked, drawn, queue = queue_of()
    assert sorted(queue["example_id"]) == sorted(ranked.index)
    assert set(queue.loc[queue["kind"] == "control", "example_id"]) == set(drawn["example_id"])
    assert 0.2 <= (queue["kind"].head(200) == "control").mean() <= 0.36  # a suspect that is a control comes early
    suspects = queue.loc[queue["kind"] == "suspect", "example_id"]
    assert ranked[suspects].is_monotonic_decreasing
    assert (queue.loc[queue["kind"] == "suspect", "probability"] == 1).all()
    assert (queue.loc[queue["kind"] == "control", "probability"] == 60 / 400).all()


def test_controls_and_as_many_suspects_are_blind_at_places_that_nobody_can_foretell():
    _, _, queue = queue_of(n=8000, controls=2000, share=0.25)
    head = queue.head(4000)
    assert head.loc[head["kind"] == "control", "blind"].all()
    blind_suspects = (head["blind"] & (head["kind"] == "suspect")).sum()
    assert blind_suspects == pytest.approx((head["kind"] == "control").sum(), rel=0.25)
    gaps = np.diff(np.flatnonzero(head["kind"] == "control"))
    assert len(set(gaps.tolist())) > 4  # no "every fourth one"


def test_what_is_decided_leaves_and_nothing_else_moves():
    ranked, drawn, queue = queue_of()
    done = queue["example_id"].iloc[[0, 5, 50]].tolist()
    rest = mixed_queue(ranked, drawn, share=0.25, done=done)
    pd.testing.assert_frame_equal(rest, queue[~queue["example_id"].isin(done)].reset_index(drop=True))


def test_a_filtered_ranking_filters_the_controls_and_a_share_of_one_is_refused():
    ranked, drawn, _ = queue_of()
    some = mixed_queue(ranked.head(50), drawn)
    assert set(some["example_id"]) == set(ranked.index[:50])
    assert (mixed_queue(ranked, drawn, share=0)["kind"] == "suspect").all()
    with pytest.raises(HardlookError, match="share of the queue"):
        mixed_queue(ranked, drawn, share=1)


def test_an_audits_queue_follows_its_goal(sample_copy):
    audit = Audit.open(sample_copy)
    from scoring.queue.order import default_order, suspicion

    order = default_order(audit, audit.run())
    examples = read_table(audit.examples_path).to_pandas()
    ids = examples.loc[examples["split"] == "train", "example_id"]
    ranked = suspicion(audit.run(), order).reindex(ids)
    queue = audit_queue(audit, audit.run(), ranked, "train")
    assert (queue["kind"] == "control").sum() == plan({}, len(ids)).controls
    assert audit.controls_path.is_file()


def test_hashes_follow_the_seed_and_the_id_alone():
    ids = [f"e{i}" for i in range(2000)]
    values = hashes(ids, 0, "blind")
    assert values[7] == hashes(["e7"], 0, "blind")[0] != hashes(["e7"], 1, "blind")[0]
    assert np.histogram(values, 10, (0, 1))[0].min() > 140
