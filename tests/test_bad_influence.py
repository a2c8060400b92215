"""Bad input to influence and slices, at the command: one message, and nothing half-written."""

import numpy as np
import pytest

from scoring.audit import Audit
from scoring.tables import read_table, read_vectors

from .conftest import hardlook


def without_influence(folder):
    """The run, with its embeddings, factors and score taken away."""
    run = Audit.open(folder).run()
    for path in (run.influence_path, run.factors_path, run.factors_path.with_suffix(".json"),
                 run.score_path("influence")):
        path.unlink(missing_ok=True)
    return run


@pytest.mark.parametrize("layers, message", [
    ("layres", "layres"),
    ("0, nothing-like-it", "nothing-like-it"),
])
def test_unknown_layers_are_refused_and_nothing_is_written(sample_copy, capsys, layers, message):
    run = without_influence(sample_copy)
    assert hardlook("score", sample_copy, "--only", "influence", "--influence-layers", layers) == 1
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said
    assert not run.factors_path.exists() and not run.influence_path.exists()
    assert not run.score_path("influence").exists()


def test_batches_of_one_and_a_subset_that_lacks_classes_are_scored(sample_copy):
    run = without_influence(sample_copy)
    assert hardlook("score", sample_copy, "--only", "influence", "--influence-batch-size", "1", "--influence-subset",
                    "3", "--influence-arnoldi-dim", "8", "--influence-rank", "4") == 0
    ids, vectors = read_vectors(run.influence_path)
    scores = read_table(run.score_path("influence")).to_pandas()["self_influence"].to_numpy()
    known = np.isfinite(vectors).all(1)
    assert known.sum() == 360 and np.isfinite(scores).sum() == 360


@pytest.mark.parametrize("options, message", [
    (("--n-slices", "1000"), "n_slices is 1000 for 120 examples"),
    (("--n-slices", "0"), "needed between 1 and 120"),
    (("--method", "rule", "--max-accuracy", "2"), "accuracy between 0 and 1"),
    (("--method", "rule", "--branching", "1"), "at least 2 branches"),
    (("--name", "a/b"), "cannot name a slicing"),
])
def test_bad_settings_of_slices_are_refused_and_nothing_is_written(sample_copy, capsys, options, message):
    run = Audit.open(sample_copy).run()
    before = run.slicing_names()
    assert hardlook("slice", sample_copy, "--name", "fresh", *options) == 1
    assert message in capsys.readouterr().err
    assert run.slicing_names() == before


def test_a_test_set_without_errors_has_no_slice_and_is_told_so(sample_copy, capsys, monkeypatch):
    from scoring import slicing

    def all_correct(*given, embedded=slicing.embedded):
        found = embedded(*given)
        found.frame["correct"] = True
        return found

    monkeypatch.setattr(slicing, "embedded", all_correct)
    assert hardlook("slice", sample_copy, "--method", "rule", "--name", "none") == 0
    said = capsys.readouterr().out
    assert "0 slices" in said and "the model makes no error on them" in said


def test_a_rule_that_nothing_satisfies_is_told_what_to_change(sample_copy, capsys):
    assert hardlook("slice", sample_copy, "--method", "rule", "--max-accuracy", "0", "--min-size", "100") == 0
    assert "raise --max-accuracy or lower --min-size" in capsys.readouterr().out


def test_an_error_names_the_command_and_not_the_slicing(sample_copy, capsys):
    assert hardlook("slice", sample_copy / "nowhere", "--name", "mine") == 1
    assert capsys.readouterr().err.startswith("hardlook slice: ")
