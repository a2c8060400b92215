"""Confident learning by hand: class thresholds, adjusted probabilities, and which probabilities are whose."""

import numpy as np
import pytest

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.audit.storage import read_table, write_vectors
from scoring.pipeline.score_run import make_scorer
from scoring.pipeline.shards import Context
from scoring.scorers import registry
from scoring.scorers.label_quality import confident_learning


@pytest.fixture
def noisy():
    """2,000 examples of three classes, 10 % of the labels wrong, and a model that knows the truth fairly well."""
    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, 2000)
    logits = rng.normal(size=(2000, 3)) + 3 * np.eye(3)[true]
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    wrong = rng.random(2000) < 0.1
    return p, np.where(wrong, (true + 1) % 3, true), wrong


def test_quality_is_the_probability_less_the_classs_threshold_shifted_and_normalised(noisy):
    p, labels, _ = noisy
    thresholds = np.array([p[labels == j, j].mean() for j in range(3)])
    adjusted = p - thresholds + thresholds.max()
    adjusted /= adjusted.sum(1, keepdims=True)
    quality, _ = confident_learning(p, labels)
    np.testing.assert_allclose(quality, adjusted[np.arange(2000), labels], rtol=1e-9)


def test_issues_are_mostly_errors_and_most_errors_are_issues(noisy):
    p, labels, wrong = noisy
    _, issue = confident_learning(p, labels)
    assert wrong[issue].mean() > 0.8 and issue[wrong].mean() > 0.7


def test_a_class_that_nobody_bears_is_no_error(noisy):
    p, labels, _ = noisy
    wider = np.column_stack([p * 0.99, np.full(len(p), 0.01)])
    quality, issue = confident_learning(wider, labels)
    assert np.isfinite(quality).all() and issue.any()


def test_in_sample_and_out_of_sample_are_told_apart(sample_copy):
    audit = Audit.open(sample_copy)
    frame = read_table(audit.run().score_path("label_quality")).to_pandas()
    context = Context(audit, audit.run(), device="cpu")
    split = context.examples["split"].to_numpy()
    assert frame.loc[split == "train", "in_sample"].notna().all()
    assert frame.loc[split == "train", "out_of_sample"].isna().all()  # no fold was held out
    assert frame.loc[split == "test", "out_of_sample"].notna().all()
    assert frame.loc[split == "test", "in_sample"].isna().all()
    assert frame.loc[split == "pool"].iloc[:, 3:].isna().all(axis=None)

    rows = split == "train"
    folds = np.random.default_rng(0).dirichlet(np.ones(10), size=rows.sum())
    write_vectors(audit.run().out_of_fold_path, context.examples["example_id"][rows].tolist(), folds)
    scorer = make_scorer(registry()["label_quality"], {})
    before = scorer.depends(context)
    state = scorer.fit(context, None)
    quality, _ = confident_learning(folds.astype(np.float32), context.labels[rows])
    np.testing.assert_allclose(state["out_of_sample"].to_numpy()[rows], quality, rtol=1e-6)
    audit.run().out_of_fold_path.unlink()
    assert scorer.depends(context) != before


def test_an_unknown_method_is_refused_with_those_known():
    with pytest.raises(HardlookError, match="normalized_margin"):
        make_scorer(registry()["label_quality"], {"method": "guess"}).fit(None, None)


@pytest.mark.parametrize("label", [0, 1, 3])
def test_labels_of_one_class_are_judged_alike_whatever_its_index(label):
    p = np.random.default_rng(0).dirichlet(np.ones(4), 30)
    quality, issue = confident_learning(np.roll(p, label, axis=1), np.full(30, label))
    expected, _ = confident_learning(p, np.zeros(30, dtype=int))
    assert np.allclose(quality, expected, rtol=1e-12, atol=0) and not issue.any()
