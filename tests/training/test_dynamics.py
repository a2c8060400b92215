"""The per-epoch tables: the measures, and reading them back."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.special import softmax

from scoring.audit import Run
from scoring.training.dynamics import MEASURES, EpochTables, measure, read_dynamics

LOGITS = np.random.default_rng(0).normal(size=(50, 4)) * 3
LABELS = np.random.default_rng(1).integers(0, 4, 50)


def written(folder, epochs=2, ids=None, labels=LABELS):
    ids = [f"id {number}" for number in range(50)] if ids is None else ids
    tables = EpochTables(Run("main", folder), "main", ids, labels)
    tables.open()
    for epoch in range(1, epochs + 1):
        margin = np.where(np.arange(50) % 5, epoch, np.nan).astype(np.float32)
        tables.append(epoch, measure(LOGITS * epoch, labels), margin, None, {})
    tables.close()
    return Run("main", folder).dynamics_files()


def test_measures_are_those_of_the_definitions():
    p, rows = softmax(LOGITS, axis=1), np.arange(50)
    found = measure(LOGITS.astype(np.float32), LABELS)
    np.testing.assert_allclose(found["p_label"], p[rows, LABELS], rtol=1e-5)
    np.testing.assert_allclose(found["loss"], -np.log(p[rows, LABELS]), rtol=1e-5)
    np.testing.assert_allclose(found["error_norm"], np.linalg.norm(p - np.eye(4)[LABELS], axis=1), rtol=1e-5)
    others = np.array([np.delete(row, label).max() for row, label in zip(LOGITS, LABELS, strict=True)])
    np.testing.assert_allclose(found["margin"], LOGITS[rows, LABELS] - others, rtol=1e-5)
    assert found["correct"].tolist() == (p.argmax(1) == LABELS).tolist()


def test_measures_stay_finite_and_exact_where_the_model_is_sure():
    found = measure(np.array([[800.0, 0.0], [800.0, 0.0], [20.0, 0.0]]), np.array([0, 1, 0]))
    assert found["loss"].tolist()[:2] == [0.0, 800.0] and found["p_label"].tolist()[:2] == [1.0, 0.0]
    np.testing.assert_allclose(found["error_norm"], [0, np.sqrt(2), np.sqrt(2) * np.exp(-20)], rtol=1e-5)
    assert found["loss"][2] == pytest.approx(np.exp(-20), rel=1e-5)  # not rounded to zero


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_is_unknown_and_the_others_are_not(bad):
    logits = LOGITS[:3].copy()
    logits[1, 2] = bad
    found, clean = measure(logits, LABELS[:3]), measure(LOGITS[:3], LABELS[:3])
    for name in MEASURES[:-1]:
        assert np.isnan(found[name][1])
        np.testing.assert_array_equal(found[name][[0, 2]], clean[name][[0, 2]])


def test_a_single_class_has_no_margin():
    found = measure(np.zeros((2, 1)), np.zeros(2, int))
    assert np.isnan(found["margin"]).all() and found["p_label"].tolist() == [1.0, 1.0]


def test_what_was_written_is_read_back_in_any_order_and_null_where_it_is_not_there(tmp_path):
    files = written(tmp_path)
    found = read_dynamics(files, ["id 7", "stranger", "id 5", "id 0"])
    whole = [measure(LOGITS * epoch, LABELS) for epoch in (1, 2)]
    for name in MEASURES:
        expected = [measures[name][[7, 5, 0]].astype(np.float32) for measures in whole]
        np.testing.assert_array_equal(found[name][:, [0, 2, 3]], expected)
        assert found[name].dtype == np.float32 and np.isnan(found[name][:, 1]).all()
    nothing = [np.nan] * 3
    np.testing.assert_array_equal(found["train_margin"], [[1, *nothing], [2, *nothing]])


def test_an_example_recorded_under_another_label_is_unknown_under_this_one(tmp_path):
    labels = LABELS.copy()
    labels[3] = (labels[3] + 1) % 4
    found = read_dynamics(written(tmp_path), [f"id {number}" for number in range(50)], labels=labels)
    assert np.flatnonzero(np.isnan(found["loss"]).any(0)).tolist() == [3]


def test_epochs_are_read_in_their_order_although_their_examples_are_listed_in_another(tmp_path):
    (first,) = written(tmp_path / "a", 1)
    (second,) = written(tmp_path / "b", 1, [f"id {number}" for number in reversed(range(50))])
    found = read_dynamics([first, second], ["id 0", "id 49"], ["loss"])["loss"]
    assert found[0].tolist() == found[1, ::-1].tolist() and found[0, 0] != found[0, 1]


def test_null_is_written_and_no_number_in_its_place(tmp_path):
    logits = LOGITS.copy()
    logits[0] = np.nan
    tables = EpochTables(Run("main", tmp_path), "main", [str(i) for i in range(50)], LABELS)
    tables.open()
    tables.append(1, measure(logits, LABELS), np.full(50, np.nan, np.float32), None, {})
    tables.close()
    table = pq.read_table(tables.path(1))
    assert [table[name].null_count for name in MEASURES] == [1] * 5 and table["train_margin"].null_count == 50
    assert table["label"].null_count == 0


def test_means_too_large_to_keep_are_not_kept_and_epochs_still_count(tmp_path, monkeypatch):
    monkeypatch.setattr("scoring.training.dynamics.MEAN_MOST_BYTES", 50 * 4 * 4 - 1)
    tables = EpochTables(Run("main", tmp_path), "main", [str(i) for i in range(50)], LABELS)
    tables.open()
    assert tables.next_mean(4) is None and tables.next_mean(3) is not None
    tables.append(1, measure(LOGITS, LABELS), np.full(50, np.nan, np.float32), None, {})
    tables.close()
    tables.open(resume=True)
    assert tables.epochs == [1] and tables.mean is None
    tables.close()
