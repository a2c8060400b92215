"""Suspicion: a mean of ranks by hand, the order that an infinite ridge leaves, and versions that are adopted when
better."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata, spearmanr
from sklearn.linear_model import LogisticRegression

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.audit.storage import read_table
from scoring.data.examples import truth
from scoring.pipeline.score_run import score_one
from scoring.pipeline.shards import Context
from scoring.queue.order import default_order
from scoring.queue.suspicion import adopted, components, fit_ranking, fitted, mean_rank, rank_within, read_versions
from scoring.reviews import Event, ReviewLog
from scoring.scorers.suspicion import Suspicion

from ..conftest import hardlook


def test_suspicion_is_the_rank_of_the_mean_rank_of_three_families(scored_sample):
    audit = Audit.open(scored_sample)
    run, examples = audit.run(), read_table(audit.examples_path).to_pandas()
    train = examples[(examples["split"] == "train") & examples["label"].notna()].set_index("example_id")

    def column(scorer, name):
        return read_table(run.score_path(scorer)).to_pandas().set_index("example_id")[name].reindex(train.index)

    parts = [-column("aum", "aum"), -column("tta", "margin"), column("neighbours", "disagreement")]
    expected = rankdata(np.mean([rankdata(part) for part in parts], axis=0))
    found = column("suspicion", "suspicion")
    np.testing.assert_allclose(found, (expected - 0.5) / len(train), atol=1e-6)
    pool = examples.loc[examples["split"] == "pool", "example_id"]
    assert (
        read_table(run.score_path("suspicion")).to_pandas().set_index("example_id").loc[pool, "suspicion"].isna().all()
    )
    order = default_order(audit, run)
    assert order.score == "suspicion.suspicion"
    assert "mean rank of Area under the margin" in order.sentence


def test_without_recorded_training_it_falls_back_to_the_loss_family(sample_copy):
    audit = Audit.open(sample_copy)
    for name in audit.run().score_names():
        if name != "uncertainty":
            audit.run().score_path(name).unlink()
    score_one(Context(audit, audit.run(), device="cpu"), Suspicion())
    found = read_table(audit.run().score_path("suspicion")).to_pandas().set_index("example_id")["suspicion"]
    margin = read_table(audit.run().score_path("uncertainty")).to_pandas().set_index("example_id")["loss"]
    known = found.notna()
    split = read_table(audit.examples_path).to_pandas().set_index("example_id")["split"].reindex(found.index)
    for one in ("train", "test"):
        rows = known & (split == one)
        np.testing.assert_allclose(rankdata(found[rows]), rankdata(margin[rows]))
    audit.run().score_path("uncertainty").unlink()
    audit.run().score_path("suspicion").unlink()
    with pytest.raises(HardlookError, match="suspicion combines scores"):
        score_one(Context(audit, audit.run(), device="cpu"), Suspicion())


def ranks_of(n: int, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """One informative family, two of noise."""
    rng = np.random.default_rng(seed)
    wrong = rng.random(n) < 0.4
    groups = np.full(n, "train")
    values = {
        "dynamics": wrong * 1.5 + rng.normal(size=n),
        "loss": rng.normal(size=n),
        "neighbours": rng.normal(size=n),
    }
    frame = pd.DataFrame({name: rank_within(value, groups) for name, value in values.items()})
    return frame.set_index(pd.Index([f"e{i}" for i in range(n)], name="example_id")), wrong


def test_a_ridge_without_end_leaves_the_default_order():
    ranks, wrong = ranks_of(200)
    none = pd.Series(np.nan, index=ranks.index, dtype=object)
    x = fitted.design(ranks, none, none).to_numpy()
    weights = fitted._solve(x, wrong, 1e9)
    assert weights[1] > 0 and abs(weights[2:]).max() < 1e-6
    assert spearmanr(x @ weights[1:], mean_rank(ranks)).statistic > 1 - 1e-4


def test_the_solver_is_a_logistic_regression_with_this_penalty():
    ranks, wrong = ranks_of(300)
    x = fitted.design(ranks, *[pd.Series(np.nan, index=ranks.index, dtype=object)] * 2).to_numpy()
    scaled = x.copy()
    scaled[:, 0] *= np.sqrt(5.0 / 1e-2)  # scikit-learn penalises all alike: a lighter penalty is a longer column
    other = LogisticRegression(C=1 / 5.0, max_iter=10_000, tol=1e-10).fit(scaled, wrong)
    expected = other.coef_[0] * np.r_[np.sqrt(5.0 / 1e-2), np.ones(x.shape[1] - 1)]
    np.testing.assert_allclose(fitted._solve(x, wrong, 5.0)[1:], expected, atol=2e-3)


def test_too_few_decisions_are_refused_with_the_numbers():
    ranks, wrong = ranks_of(60)
    wrong[:] = False
    wrong[:19] = True
    none = pd.Series(np.nan, index=ranks.index, dtype=object)
    with pytest.raises(HardlookError, match="found 19 and 41"):
        fit_ranking(ranks, none, none, wrong)


def test_it_is_adopted_where_one_family_finds_all_and_not_where_nothing_is_to_learn():
    ranks, wrong = ranks_of(400)
    none = pd.Series(np.nan, index=ranks.index, dtype=object)
    assert fit_ranking(ranks, none, none, wrong).better
    coin = np.random.default_rng(1).random(400) < 0.3
    assert sum(fit_ranking(ranks_of(200, seed)[0], none[:200], none[:200], coin[:200]).better for seed in range(4)) <= 1


def test_the_command_learns_from_decisions_keeps_versions_and_says_what_carries_it(sample_copy, capsys):
    audit = Audit.open(sample_copy)
    assert hardlook("rank", sample_copy) == 1
    assert "at least 20 examples with a wrong label" in capsys.readouterr().err
    assert read_versions(audit.run()) == []
    examples = read_table(audit.examples_path).to_pandas().set_index("example_id")
    train = examples[examples["split"] == "train"]
    true = truth(audit).set_index("example_id")["true_label"].astype(str)
    run = audit.run()
    used, ranks = components(run, examples.reset_index())
    by_hand = ranks["neighbours"].reindex(train.index).sort_values()
    wrong = set(by_hand.index[-40:])  # a reviewer who goes by the neighbours alone
    events = [
        Event(
            client="c",
            seq=seq,
            example_id=one,
            fingerprint=train.loc[one, "fingerprint"],
            label=train.loc[one, "label"],
            reviewer="r",
            action="decide",
            verdict="none" if one in wrong else "given",
        )
        for seq, one in enumerate(train.index, 1)
    ]
    with ReviewLog.open(audit.log_url, audit=audit.log_name(audit.log_url)) as log:
        log.append(events)
    assert hardlook("rank", sample_copy) == 0
    shown = capsys.readouterr().out
    assert "adopted" in shown and adopted(run)["errors"] == 40
    assert default_order(audit, run).sentence.startswith("Most suspicious first: ranking 1, fitted to 240 decisions")
    found = read_table(run.score_path("suspicion")).to_pandas().set_index("example_id")["suspicion"]
    assert np.isin(found.reindex(train.index).sort_values().index[-40:], list(wrong)).mean() > 0.8
    assert hardlook("rank", sample_copy) == 0
    assert [version["version"] for version in read_versions(run)] == [1, 2]
    assert len(true) and len(used) >= 3
