"""Bad input to influence and slices, at the command: one message, and nothing half-written."""

import numpy as np
import pytest
import torch

from scoring.audit import Audit
from scoring.audit.storage import read_table, read_vectors

from ..conftest import hardlook
from ..small_audits import spoil, write_small_audit


def without_influence(folder):
    """The run, with its embeddings, factors and score taken away."""
    run = Audit.open(folder).run()
    for path in (
        run.influence_path,
        run.factors_path,
        run.factors_path.with_suffix(".json"),
        run.score_path("influence"),
    ):
        path.unlink(missing_ok=True)
    return run


@pytest.mark.parametrize(
    "layers, message",
    [
        ("layres", "layres"),
        ("0, nothing-like-it", "nothing-like-it"),
    ],
)
def test_unknown_layers_are_refused_and_nothing_is_written(sample_copy, capsys, layers, message):
    run = without_influence(sample_copy)
    assert hardlook("score", sample_copy, "--only", "influence", "--influence-layers", layers) == 1
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said
    assert not run.factors_path.exists() and not run.influence_path.exists()
    assert not run.score_path("influence").exists()


def test_batches_of_one_and_a_subset_that_lacks_classes_are_scored(sample_copy):
    run = without_influence(sample_copy)
    assert (
        hardlook(
            "score",
            sample_copy,
            "--only",
            "influence",
            "--influence-batch-size",
            "1",
            "--influence-subset",
            "3",
            "--influence-arnoldi-dim",
            "8",
            "--influence-rank",
            "4",
        )
        == 0
    )
    _, vectors = read_vectors(run.influence_path)
    scores = read_table(run.score_path("influence")).to_pandas()["self_influence"].to_numpy()
    known = np.isfinite(vectors).all(1)
    assert known.sum() == 360 and np.isfinite(scores).sum() == 360


@pytest.mark.parametrize(
    "options, message",
    [
        (("--n-slices", "1000"), "n_slices is 1000 for 120 examples"),
        (("--n-slices", "0"), "needed between 1 and 120"),
        (("--method", "rule", "--max-accuracy", "2"), "accuracy between 0 and 1"),
        (("--method", "rule", "--branching", "1"), "at least 2 branches"),
        (("--name", "a/b"), "cannot be the name of a slicing"),
    ],
)
def test_bad_settings_of_slices_are_refused_and_nothing_is_written(sample_copy, capsys, options, message):
    run = Audit.open(sample_copy).run()
    before = run.slicing_names()
    assert hardlook("slice", sample_copy, "--name", "fresh", *options) == 1
    assert message in capsys.readouterr().err
    assert run.slicing_names() == before


@pytest.fixture
def no_map(monkeypatch):
    """Slices without their map: UMAP compiles itself for a long time, and makes no slice."""
    monkeypatch.setattr("scoring.slices.slicing_run.write_embedding_map", lambda *given: None)


def test_a_test_set_without_errors_has_no_slice_and_is_told_so(sample_copy, capsys, monkeypatch, no_map):
    from scoring.slices import slicing_run

    def all_correct(*given, embedded=slicing_run.embedded):
        found = embedded(*given)
        found.frame["correct"] = True
        return found

    monkeypatch.setattr(slicing_run, "embedded", all_correct)
    assert hardlook("slice", sample_copy, "--method", "rule", "--name", "none") == 0
    said = capsys.readouterr().out
    assert "0 slices" in said and "the model makes no error on these examples" in said


def test_a_rule_that_nothing_satisfies_is_told_what_to_change(sample_copy, capsys, no_map):
    assert hardlook("slice", sample_copy, "--method", "rule", "--max-accuracy", "0", "--min-size", "100") == 0
    assert "raise --max-accuracy or lower --min-size" in capsys.readouterr().out


def test_an_error_names_the_command_and_not_the_slicing(sample_copy, capsys):
    assert hardlook("slice", sample_copy / "nowhere", "--name", "mine") == 1
    assert capsys.readouterr().err.startswith("hardlook slice: ")


# -- models, in a small audit of their own ----------------------------------------------------------------------------

INFLUENCE = ("--only", "influence,self_influence", "--influence-arnoldi-dim", "12", "--influence-rank", "4")
NOTHING_TO_TRAIN = """from collections import OrderedDict

import numpy as np
import torch
from torch import nn


def net():
    norm, pool = nn.BatchNorm2d(1, affine=False), nn.AdaptiveAvgPool2d((3, 1))
    return nn.Sequential(OrderedDict(norm=norm, pool=pool, flat=nn.Flatten()))


def transform(image):
    return torch.from_numpy(np.asarray(image.convert("L"), dtype=np.float32)[None] / 255)
"""


@pytest.fixture
def small(tmp_path):
    return write_small_audit(tmp_path / "small")


def nothing_is_written(folder):
    """Nothing of influence: the scores beside it, which can serve the model, are."""
    run = Audit.open(folder).run()
    paths = (run.influence_path, run.factors_path, run.score_path("influence"))
    return not any(path.exists() for path in paths) and not list(folder.rglob("*.partial"))


def test_dropout_as_a_function_is_refused_by_influence_even_where_the_check_is_overruled(small, capsys):
    spoil(small, "return self.net(nn.functional.dropout(x, 0.5))")
    assert hardlook("score", small, *INFLUENCE) == 1
    assert "functional dropout stays active" in capsys.readouterr().err
    assert hardlook("score", small, *INFLUENCE, "--anyway") == 1
    said = capsys.readouterr().err
    assert "different outputs for the same inputs in eval mode" in said and nothing_is_written(small)


def test_dropout_as_a_module_is_off_and_changes_no_number(small, tmp_path):
    plain = write_small_audit(tmp_path / "plain")
    spoil(small, "return self.net(nn.Dropout(0.5).train(self.training)(x))")
    for folder in (small, plain):
        assert hardlook("score", folder, *INFLUENCE) == 0
    one, two = (
        read_table(Audit.open(folder).run().score_path("self_influence")).to_pandas() for folder in (small, plain)
    )
    assert np.allclose(one["cook"], two["cook"], rtol=1e-5)


def test_duplicates_weigh_alike_and_have_finite_influence(small):
    for at in (1, 2, 3):
        (small / "train" / "a" / f"{at}.png").write_bytes((small / "train" / "a" / "0.png").read_bytes())
    assert hardlook("score", small, *INFLUENCE) == 0
    run = Audit.open(small).run()
    same = [f"train/a/{at}.png" for at in range(4)]
    for name, column in (("influence", "self_influence"), ("self_influence", "cook")):
        values = read_table(run.score_path(name)).to_pandas().set_index("example_id")[column]
        assert np.isfinite(values).all() and len(values) == 36
        assert np.allclose(values[same], values[same[0]], rtol=1e-4)


def test_a_model_without_trainable_parameters_is_told_so(small, capsys):
    (small / "model.py").write_text(NOTHING_TO_TRAIN)
    for epoch in (1, 2, 3):
        state = {
            "norm.running_mean": torch.full((1,), 0.1 * epoch),
            "norm.running_var": torch.ones(1),
            "norm.num_batches_tracked": torch.tensor(epoch),
        }
        torch.save({"state_dict": state, "epoch": epoch}, small / "checkpoints" / f"epoch-{epoch}.pt")
    assert hardlook("score", small, "--only", "influence", "--anyway") == 1
    said = capsys.readouterr().err
    assert "parameter" in said and nothing_is_written(small)


def test_gradients_that_are_not_finite_are_told_and_nothing_is_half_written(small, capsys):
    spoil(
        small, "y = self.net(x); return y + torch.sqrt(nn.functional.relu(y - 1e9))"
    )  # the root's slope at 0 is infinite
    assert hardlook("score", small, *INFLUENCE) == 1
    said = capsys.readouterr().err
    assert "finite" in said and nothing_is_written(small)
