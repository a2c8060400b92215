"""Scoring is resumable, incremental, aligned by id, and the same whatever the shard."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.audit.storage import read_metadata, read_table
from scoring.pipeline import shards
from scoring.pipeline.predictions import predict
from scoring.pipeline.score_file import scorer_code
from scoring.pipeline.score_run import score_run
from scoring.pipeline.shards import Context
from scoring.scorers import registry

from ..conftest import hardlook


def table(folder, scorer="vog", run="main"):
    return read_table(Audit.open(folder).run(run).score_path(scorer)).to_pandas().set_index("example_id")


def computed(summary):
    return {done["name"]: done["computed"] for done in summary.passes}


def rescore(folder, only=None, **options):
    audit = Audit.open(folder)
    return score_run(Context(audit, audit.run(), device="cpu"), only, **options)


def test_every_example_has_its_row_and_pool_has_prediction_scores_only(scored_sample):
    scores = table(scored_sample)
    examples = read_table(Audit.open(scored_sample).examples_path).to_pandas().set_index("example_id")
    assert set(scores.index) == set(examples.index)
    pool = examples.index[examples["split"] == "pool"]
    assert scores.loc[pool, "late_label_logit"].isna().all()
    assert scores.loc[pool, "late_prediction_logit"].notna().all()
    assert scores.loc[~scores.index.isin(pool), "late_label_logit"].notna().all()


def test_scores_are_those_of_the_pure_function_on_the_same_inputs(scored_sample):
    from scoring.gradients import input_gradients
    from scoring.scorers.vog import vog_from_maps

    audit = Audit.open(scored_sample)
    context = Context(audit, audit.run(), device="cpu")
    numbers = np.array([0, 5, 100, 250])
    inputs, _, _ = context.inputs.batch(numbers)
    maps = []
    for checkpoint in context.checkpoints[-3:]:
        with context.model.at(checkpoint) as module:
            labels = torch.tensor(context.labels[numbers])
            maps.append(input_gradients(module, inputs, labels).mean(1).numpy())
    ids = context.examples["example_id"].iloc[numbers]
    np.testing.assert_allclose(
        table(scored_sample).loc[ids, "late_label_logit"], vog_from_maps(np.stack(maps)), rtol=1e-5
    )


def test_nothing_is_scored_twice(sample_copy):
    again = rescore(sample_copy)
    assert set(computed(again).values()) == {0}


def test_only_what_changed_is_scored_again(sample_copy):
    from PIL import Image

    before = table(sample_copy)
    changed = before.index[3]
    Image.new("L", (8, 8), 200).save(sample_copy / "data" / "images" / f"{changed}.png")
    from scoring.data.ingest import ingest

    ingest(Audit.open(sample_copy))
    found = computed(rescore(sample_copy))
    assert (found["predictions"], found["vog"]) == (1, 1)
    after = table(sample_copy)
    assert after.loc[changed, "late_label_logit"] != before.loc[changed, "late_label_logit"]
    others = before.index.drop(changed)
    pd.testing.assert_series_equal(before.loc[others, "late_label_logit"], after.loc[others, "late_label_logit"])


def test_a_changed_label_is_scored_again_and_its_predictions_follow(sample_copy):
    manifest = sample_copy / "data" / "train.csv"
    lines = manifest.read_text().splitlines()
    name, path, label, ink = lines[1].split(",")
    lines[1] = ",".join([name, path, str((int(label) + 1) % 10), ink])
    manifest.write_text("\n".join(lines) + "\n")
    from scoring.data.ingest import ingest

    ingest(Audit.open(sample_copy))
    assert computed(rescore(sample_copy))["vog"] == 1
    predictions = read_table(Audit.open(sample_copy).run().predictions_path).to_pandas().set_index("example_id")
    assert predictions.loc[name, "label"] == str((int(label) + 1) % 10)


def test_other_weights_score_everything_again(sample_copy):
    audit = Audit.open(sample_copy)
    last = Context(audit, audit.run(), device="cpu").checkpoints[-1]
    last.path.unlink()
    n = len(read_table(audit.examples_path))
    assert computed(rescore(sample_copy))["vog"] == n


def test_a_scorer_whose_code_changed_is_scored_again(sample_copy, monkeypatch):
    """Every row: the numbers of an earlier formula would stand beside those of the new one."""
    scores = Audit.open(sample_copy).run().score_path("energy")
    assert read_metadata(scores)["code"] == scorer_code(registry()["energy"])
    monkeypatch.setattr("scoring.pipeline.score_file.scorer_code", lambda kind: f"another {kind.name}")
    found = computed(rescore(sample_copy, only=["energy", "uncertainty"]))
    assert found["predictions"] == 0 and found["energy"] == found["uncertainty"] > 0
    assert read_metadata(scores)["code"] == "another energy"
    assert computed(rescore(sample_copy, only=["energy"]))["energy"] == 0


def test_an_unreadable_example_gets_null_and_stops_nothing(sample_copy):
    before = table(sample_copy)
    broken = before.index[7]
    (sample_copy / "data" / "images" / f"{broken}.png").write_bytes(b"no picture")
    assert hardlook("score", sample_copy) == 0
    examples = read_table(Audit.open(sample_copy).examples_path).to_pandas().set_index("example_id")
    assert examples.loc[broken, "problem"]
    after = table(sample_copy)
    assert broken not in after.index or after.loc[broken].drop(["fingerprint", "label"]).isna().all()
    others = before.index.drop(broken)
    assert after.loc[others, "late_label_logit"].notna().sum() == before.loc[others, "late_label_logit"].notna().sum()


def test_the_shard_size_does_not_change_a_bit(sample_copy, monkeypatch):
    whole = table(sample_copy)
    Audit.open(sample_copy).run().score_path("vog").unlink()
    monkeypatch.setattr(shards, "SHARD_MOST", 64)
    monkeypatch.setattr(shards, "BATCH", 64)
    rescore(sample_copy, ["vog"])
    pd.testing.assert_frame_equal(whole, table(sample_copy))


def test_a_killed_scoring_goes_on_at_the_missing_shard_with_the_same_numbers(sample_copy):
    whole = table(sample_copy)
    run = Audit.open(sample_copy).run()
    run.score_path("vog").unlink()
    code = (
        "import sys, time; from scoring.pipeline import shards; shards.SHARD_MOST = shards.BATCH = 32\n"
        "from scoring.audit import Audit; from scoring.pipeline.score_run import score_run\n"
        "import scoring.pipeline.score_run as c; inner = c.score_shard\n"
        "left = int(sys.argv[2])\n"
        "def stopping(*a):\n"
        "    global left\n"
        "    left -= a[1].name == 'vog'\n"
        "    if left < 0: time.sleep(3600)\n"
        "    return inner(*a)\n"
        "c.score_shard = stopping\n"
        "audit = Audit.open(sys.argv[1]); score_run(shards.Context(audit, audit.run(), device='cpu'), ['vog'])"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(sample_copy), "3"], env={**os.environ})
    parts = run.parts_folder("vog") / "shards"
    deadline = time.monotonic() + 300
    while len(list(parts.glob("shard-*.parquet"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {path.name: path.stat().st_mtime_ns for path in parts.glob("shard-*.parquet")}
    assert len(done) >= 2
    assert not run.score_path("vog").exists()
    assert subprocess.run([sys.executable, "-c", code, str(sample_copy), "1000"]).returncode == 0
    pd.testing.assert_frame_equal(whole, table(sample_copy))
    assert not parts.exists()


def test_finished_shards_are_not_computed_again(tmp_path):
    import pyarrow as pa

    calls = []

    def work(positions):
        calls.append(positions.tolist())
        return pa.table({"x": positions})

    pieces = shards.cut(np.arange(5), 2)
    first = shards.resumable(tmp_path / "p", "key", pieces, work, shards.silent, "x")
    (tmp_path / "p" / "shard-00001.parquet").unlink()
    again = shards.resumable(tmp_path / "p", "key", pieces, work, shards.silent, "x")
    assert calls == [[0, 1], [2, 3], [4], [2, 3]]
    assert [t.to_pydict() for t in first] == [t.to_pydict() for t in again]
    shards.resumable(tmp_path / "p", "another key", pieces, work, shards.silent, "x")
    assert len(calls) == 7


def test_a_single_checkpoint_scores_what_needs_one_and_says_what_the_rest_needs(sample_copy):
    import shutil

    audit = Audit.open(sample_copy)
    for checkpoint in Context(audit, audit.run(), device="cpu").checkpoints[:-1]:
        checkpoint.path.unlink()
    shutil.rmtree(audit.run().folder)
    summary = rescore(sample_copy)
    assert "at least 2 checkpoints, found 1 in run 'main'" in summary.skipped["vog"]
    assert "uncertainty" in computed(summary)
    with pytest.raises(HardlookError, match="at least 2 checkpoints, found 1"):
        rescore(sample_copy, ["vog"])


def test_dynamics_come_from_the_checkpoints_where_training_was_not_recorded(sample_copy):
    import shutil

    run = Audit.open(sample_copy).run()
    recorded = table(sample_copy, "data_map")
    aum, el2n, events = (table(sample_copy, name) for name in ("aum", "el2n", "forgetting"))
    shutil.rmtree(run.dynamics_folder("main"))
    rescore(sample_copy)
    train = recorded.index[recorded["confidence"].notna()]
    np.testing.assert_allclose(
        table(sample_copy, "data_map").loc[train, "confidence"], recorded.loc[train, "confidence"], atol=1e-5
    )
    for scorer, column, before in (("aum", "eval", aum), ("el2n", "all", el2n), ("forgetting", "events", events)):
        np.testing.assert_allclose(table(sample_copy, scorer).loc[train, column], before.loc[train, column], atol=1e-4)
    assert (table(sample_copy, "aum").loc[train, "from_training"] == 0).all()


def test_the_file_carries_what_a_page_needs(scored_sample):
    path = Audit.open(scored_sample).run().score_path("vog")
    metadata = read_metadata(path)
    assert metadata["scorer"] == "vog"
    assert "batch_size" in metadata["parameters"]
    field = read_table(path).schema.field("late_label_logit_z")
    assert field.metadata[b"suspicious"] == b"measured"
    directions = Audit.open(scored_sample).run().record()["directions"]
    assert directions["vog.late_label_logit_z"]["split"] == "test"


def test_an_unknown_setting_lists_the_known_ones(scored_sample):
    with pytest.raises(HardlookError, match="vog has no setting 'bach'; available: batch_size"):
        rescore(scored_sample, ["vog"], settings={"vog": {"bach": 3}})


def test_a_run_without_a_readable_example_says_so(scored_sample):
    audit = Audit.open(scored_sample)
    context = Context(audit, audit.run(), device="cpu")
    context.examples = context.examples.head(0)
    with pytest.raises(HardlookError, match="run 'main' has no readable example"):
        predict(context)
