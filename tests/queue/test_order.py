"""The queue's default order, and the suggested label with its source."""

import numpy as np
import pytest

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.audit.storage import read_table, read_vectors
from scoring.evaluation.probabilities import other_than, softmax
from scoring.queue.order import Order, default_order, order_by, suggestions, suspicion, truth_report


def test_the_default_order_is_suspicion_else_aum_of_the_recorded_training(sample_copy):
    audit = Audit.open(sample_copy)
    order = default_order(audit, audit.run(), "train")
    assert (order.score, order.suspicious) == ("suspicion.suspicion", "high")
    audit.run().score_path("suspicion").unlink()
    order = default_order(audit, audit.run(), "train")
    assert (order.score, order.suspicious) == ("aum.aum", "low")


def test_test_examples_fall_back_to_a_loss_that_says_it_is_out_of_sample(sample_copy):
    audit = Audit.open(sample_copy)
    for scorer in ("suspicion", "aum", "data_map"):
        audit.run().score_path(scorer).unlink()
    assert "out-of-sample" in default_order(audit, audit.run(), "test").sentence
    assert "in-sample" in default_order(audit, audit.run(), "train").sentence
    assert default_order(audit, audit.run(), "pool").score == "uncertainty.entropy"
    audit.run().score_path("uncertainty").unlink()
    assert default_order(audit, audit.run(), "train") is None


def test_suspicion_is_high_where_the_score_is_suspicious(scored_sample):
    audit = Audit.open(scored_sample)
    order = Order("aum.aum", "low", "")
    stored = read_table(audit.run().score_path("aum")).to_pandas().set_index("example_id")["aum"]
    turned = suspicion(audit.run(), order)
    np.testing.assert_allclose(turned.dropna(), -stored.dropna())


def test_a_measured_score_is_ranked_by_its_measured_end(sample_copy):
    run = Audit.open(sample_copy).run()
    directions = run.record()["directions"]
    directions["vog.late_label_logit"]["hard"] = "low"
    run.add_to_record(directions=directions)
    assert order_by(run, "vog.late_label_logit").suspicious == "low"
    assert order_by(run, "uncertainty.loss").suspicious == "high"
    with pytest.raises(HardlookError, match="no score 'vog.x'"):
        order_by(run, "vog.x")


def test_the_suggestion_is_the_most_probable_other_class():
    p = np.array([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.2, 0.3, 0.5]])
    best, value = other_than(p, np.array([0, 0, -1]))
    assert best.tolist() == [1, 1, 2]
    np.testing.assert_allclose(value, [0.3, 0.8, 0.5], rtol=1e-6)
    assert other_than(np.array([[1.0]]), np.array([0]))[0].tolist() == [-1]


def test_a_suggestion_never_repeats_the_label_and_names_its_source(scored_sample):
    audit = Audit.open(scored_sample)
    found = suggestions(audit, audit.run()).set_index("example_id")
    examples = read_table(audit.examples_path).to_pandas().set_index("example_id")
    both = found.join(examples[["label", "split"]])
    assert (both["suggested_label"] != both["label"]).all()
    assert both.loc[both["split"] == "train", "source"].unique().tolist() == ["mean over epochs"]
    assert both.loc[both["split"] == "pool", "source"].unique().tolist() == ["last checkpoint"]


def test_out_of_fold_probabilities_win_over_all_other_sources(sample_copy):
    from scoring.audit.storage import write_vectors

    audit = Audit.open(sample_copy)
    ids, _ = read_vectors(audit.run().logits_path)
    sure_of_7 = np.eye(10, dtype=np.float32)[np.full(len(ids), 7)]
    write_vectors(audit.run().out_of_fold_path, ids, sure_of_7)
    found = suggestions(audit, audit.run())
    assert found["source"].unique().tolist() == ["out-of-fold probabilities"]
    labels = read_table(audit.examples_path).to_pandas().set_index("example_id")["label"]
    other = found[found["example_id"].map(labels) != "7"]
    assert (other["suggested_label"] == "7").all()


def test_softmax_sums_to_one_even_for_huge_logits():
    np.testing.assert_allclose(softmax(np.array([[1000.0, 0.0], [0.0, 0.0]])), [[1, 0], [0.5, 0.5]])


def test_the_planted_errors_stand_first(scored_sample):
    audit = Audit.open(scored_sample)
    table, wrong, total = truth_report(audit, audit.run(), default_order(audit, audit.run()), "train")
    assert total == 240
    assert 5 <= wrong <= 25
    assert table["lift"][1] > 3
