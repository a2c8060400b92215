"""Self-influence where the exact Hessian does not fit: the same numbers by conjugate gradients."""

from dataclasses import replace

import numpy as np
import pytest

from scoring.audit import Audit
from scoring.audit.storage import read_table
from scoring.influence import conjugate_gradients
from scoring.pipeline.score_run import score_one
from scoring.pipeline.shards import Context, make_shard
from scoring.scorers.self_influence import ByProducts, SelfInfluence

from ..conftest import hardlook


def cook(audit: Audit, scorer: SelfInfluence, **config) -> tuple[np.ndarray, list[str]]:
    """Cook's distance of the first fifty examples, and what was said."""
    said: list[str] = []
    run = audit.run()
    run = replace(run, config={**run.config, **config})
    context = Context(audit, run, device="cpu", say=said.append)
    state = scorer.fit(context, run.parts_folder("test"))
    shard, _ = make_shard(context, scorer, np.arange(50))
    return scorer.score(shard, state)["cook"], said


@pytest.mark.parametrize("config", [{}, {"l2": 0.05}])
def test_above_the_budget_it_is_solved_by_conjugate_gradients_and_says_so(scored_sample, config):
    audit = Audit.open(scored_sample)
    exact, nothing = cook(audit, SelfInfluence(), **config)
    solved, said = cook(audit, SelfInfluence(memory_budget=1e-6), **config)
    assert nothing == [] and "conjugate gradients over 240 training examples are used" in said[0]
    np.testing.assert_allclose(solved, exact, rtol=1e-4)


def test_the_heads_l2_makes_every_example_weigh_less(scored_sample):
    audit = Audit.open(scored_sample)
    free, _ = cook(audit, SelfInfluence())
    held, _ = cook(audit, SelfInfluence(), l2=0.05)
    assert (held < free).all()


def test_a_killed_scoring_by_conjugate_gradients_goes_on_and_gives_the_same_file(sample_copy, monkeypatch):
    monkeypatch.setattr("scoring.pipeline.score_run.cut", lambda rows, size: np.array_split(rows, 5))
    audit = Audit.open(sample_copy)
    scorer = SelfInfluence(memory_budget=1e-6, batch_size=80)
    calls = []

    def die(self, *given, distances=ByProducts.distances):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return distances(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(ByProducts, "distances", die)
        with pytest.raises(KeyboardInterrupt):
            score_one(Context(audit, audit.run(), device="cpu"), scorer)
    done = len(list(audit.run().parts_folder("self_influence").rglob("shard-*.parquet")))
    assert done == 2
    score_one(Context(audit, audit.run(), device="cpu"), scorer)
    first = read_table(audit.run().score_path("self_influence"))
    audit.run().score_path("self_influence").unlink()
    score_one(Context(audit, audit.run(), device="cpu"), scorer)
    assert read_table(audit.run().score_path("self_influence")).equals(first)


def test_a_solved_system_rests_while_a_harder_one_goes_on():
    rng = np.random.default_rng(0)
    matrix = np.diag(np.geomspace(1, 1e4, 30))
    easy, hard = np.eye(30)[0], rng.normal(size=30)
    alone = conjugate_gradients(lambda v: v @ matrix, np.stack([easy, easy]), 1e-3)
    beside = conjugate_gradients(lambda v: v @ matrix, np.stack([easy, hard]), 1e-3)
    np.testing.assert_array_equal(alone[0], beside[0])


def test_the_budget_is_an_option_of_the_command(sample_copy, capsys):
    (sample_copy / "runs" / "main" / "scores" / "self_influence.parquet").unlink()
    given = ("score", sample_copy, "--only", "self_influence", "--self-influence-memory-budget", "0.000001")
    assert hardlook(*given) == 0
    assert "conjugate gradients over" in capsys.readouterr().out
