"""Scores of an earlier scoring: none of another model, label or content gets into a ranking of today."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from scoring.audit import Audit
from scoring.audit.storage import read_metadata, read_table
from scoring.pipeline.score_audit import score_audit
from scoring.queue.suspicion import components

from ..small_audits import striped, write_small_audit


def scored(root, **options):
    audit, said = Audit.open(root), []
    summary = score_audit(audit, audit.run(), device="cpu", say=said.append, **options)
    return audit.run(), summary, said


def ranking(run):
    return read_table(run.score_path("suspicion")).to_pandas().set_index("example_id")["suspicion"]


def another_model(root):
    """Turns the last checkpoint's head, so that the model predicts other classes."""
    path = sorted((root / "checkpoints").glob("*.pt"))[-1]
    weights = torch.load(path, weights_only=True)
    head = weights["state_dict"]["5.weight"]
    weights["state_dict"]["5.weight"] = head.roll(1, 0)
    torch.save(weights, path)


@pytest.mark.parametrize("options", [{"quick": True}, {"within": 1e-3}], ids=["quick", "no time for the rest"])
def test_views_of_another_model_are_gone_before_the_queue_is_ranked(tmp_path, options):
    root = write_small_audit(tmp_path / "audit")
    run, _, _ = scored(root)
    assert {"tta", "vog", "influence"} <= set(run.score_names())
    another_model(root)
    run, _, said = scored(root, anyway=True, **options)
    shutil.copytree(root, tmp_path / "fresh", ignore=shutil.ignore_patterns("runs"))
    fresh, _, _ = scored(tmp_path / "fresh", anyway=True, **options)
    pd.testing.assert_series_equal(ranking(run), ranking(fresh))
    assert not {"tta", "vog", "influence", "odin"} & set(run.score_names()) and not run.influence_path.exists()
    assert "tta: removed the scores of an earlier scoring with another model" in said


def test_scores_of_the_same_model_stay_whatever_is_asked_for(tmp_path):
    root = write_small_audit(tmp_path / "audit")
    run, _, _ = scored(root)
    before = {name: run.score_path(name).read_bytes() for name in run.score_names()}
    for options in ({"quick": True}, {"within": 1e-3}, {"only": ["vog"]}, {"within": 600.0}, {}):
        run, _, said = scored(root, **options)
        assert {name: run.score_path(name).read_bytes() for name in run.score_names()} == before
        assert not any("removed" in text for text in said)


def test_only_one_score_of_another_model_leaves_none_of_the_old(tmp_path):
    root = write_small_audit(tmp_path / "audit")
    scored(root)
    another_model(root)
    run, _, _ = scored(root, anyway=True, only=["vog"])
    models = {name: read_metadata(run.score_path(name)).get("model") for name in run.score_names()}
    assert len({model for name, model in models.items() if name != "suspicion"}) == 1


def test_rows_of_another_label_or_content_rank_nothing(tmp_path):
    root = write_small_audit(tmp_path / "audit")
    run, _, _ = scored(root)
    examples = read_table(Audit.open(root).examples_path, ["example_id", "split", "label", "fingerprint"]).to_pandas()
    _, ranks = components(run, examples)
    assert ranks["loss"].notna().all()
    changed = examples.copy()
    changed.loc[0, "label"] = next(label for label in "abc" if label != changed.loc[0, "label"])
    changed.loc[1, "fingerprint"] = "another"
    _, ranks = components(run, changed)
    assert np.flatnonzero(ranks["loss"].isna()).tolist() == [0, 1]


def test_one_more_training_example_is_in_the_hessian_of_every_distance(tmp_path):
    root = write_small_audit(tmp_path / "audit")
    scored(root)
    Image.fromarray(striped(1, 321)).save(root / "train" / "b" / "more.png")
    run, _, _ = scored(root)
    shutil.copytree(root, tmp_path / "fresh", ignore=shutil.ignore_patterns("runs", "parts", "*.arrow", "examples.*"))
    fresh, _, _ = scored(tmp_path / "fresh")
    one, other = (
        read_table(each.score_path("self_influence")).to_pandas().set_index("example_id")["cook"]
        for each in (run, fresh)
    )
    pd.testing.assert_series_equal(one, other, rtol=1e-5)


def test_embeddings_that_are_gone_are_computed_again(tmp_path):
    root = write_small_audit(tmp_path / "audit")
    run, _, _ = scored(root)
    run.influence_path.unlink()
    run, summary, _ = scored(root)
    assert run.influence_path.is_file() and "influence" not in summary.skipped
