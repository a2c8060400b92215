"""One battery over every registered scorer: aligned, float32, finite or null, deterministic, untouched model."""

import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from dashboard.help import read_topic
from scoring.audit import Audit
from scoring.audit.storage import read_table
from scoring.pipeline.score_run import make_scorer, score_one, unmet
from scoring.pipeline.shards import Context, make_shard
from scoring.scorers import registry

from ..nets import picture, unchanged


@pytest.fixture(scope="module")
def context(scored_sample):
    audit = Audit.open(scored_sample)
    return Context(audit, audit.run(), device="cpu")


def configured(run, name):
    """The scorer with the settings that audit.toml gives it."""
    return make_scorer(registry()[name], run.config.get("scores", {}).get(name, {}))


def fitted(context, name):
    scorer = configured(context.run, name)
    return scorer, scorer.fit(context, context.run.parts_folder(f"battery-{name}"))


def scored(context, scorer, state, positions):
    return scorer.score(make_shard(context, scorer, np.asarray(positions))[0], state)


@pytest.fixture(scope="module", params=list(registry()))
def name(request, context):
    reason = unmet(registry()[request.param](), context)
    assert reason is None, reason
    return request.param


def test_the_file_is_aligned_float32_and_finite_or_null(context, name):
    table = read_table(context.run.score_path(name))
    assert table["example_id"].to_pylist() == context.examples["example_id"].tolist()
    columns = [column.name for column in registry()[name].columns]
    assert table.column_names[3:] == columns
    for column in columns:
        assert table.schema.field(column).type == pa.float32()
        assert np.isfinite(table[column].drop_null().to_numpy()).all()
        assert table[column].null_count < len(table), f"{column} is null for every example"


def test_scores_are_the_same_twice_at_any_shard_and_in_any_order(context, name):
    scorer, state = fitted(context, name)
    positions = np.arange(90)
    whole = scored(context, scorer, state, positions)
    again = scored(context, scorer, state, positions)
    parts = [scored(context, scorer, state, part) for part in (positions[:13], positions[13:])]
    order = np.random.default_rng(0).permutation(90)
    shuffled = scored(context, scorer, state, positions[order])
    for column, values in whole.items():
        np.testing.assert_array_equal(values, again[column])
        np.testing.assert_array_equal(values, np.concatenate([part[column] for part in parts]))
        np.testing.assert_array_equal(values[order], shuffled[column])


def test_the_batch_size_changes_nothing_beyond_rounding(context, name):
    scorer, state = fitted(context, name)
    if not hasattr(scorer, "batch_size"):
        return
    positions = np.arange(60)
    small = scored(context, replace(scorer, batch_size=7), state, positions)
    for column, values in scored(context, scorer, state, positions).items():
        length = np.linalg.norm(np.nan_to_num(values), axis=1).max() if values.ndim == 2 else 0.01
        np.testing.assert_allclose(values, small[column], rtol=1e-5, atol=1e-5 * length)


def test_the_model_is_left_untouched(context, name):
    module = context.model.module
    with torch.no_grad():
        context.model.at(context.checkpoints[-1])  # where a scorer that loads a checkpoint leaves its weights
    module.train()
    patched = [part for part in module.modules() if isinstance(part, torch.nn.Conv2d)][-1]
    own = patched.forward
    patched.forward = lambda x: own(x)  # as attention patches and accelerate's hooks do
    patched.register_forward_hook(lambda *_: None)
    try:
        before = picture(module)
        scorer, state = fitted(context, name)
        scored(context, scorer, state, np.arange(20))
        assert unchanged(before, picture(module))
    finally:
        del patched.forward
        patched._forward_hooks.clear()


def test_scoring_again_writes_the_same_file(sample_copy, name):
    audit = Audit.open(sample_copy)
    path = audit.run().score_path(name)
    before = read_table(path)
    path.unlink()
    score_one(Context(audit, audit.run(), device="cpu"), configured(audit.run(), name))
    assert read_table(path).equals(before)


def test_every_column_stands_in_the_glossary_under_the_heading_of_its_score(name):
    sections = [one.text for one in read_topic("scores").sections if one.anchor == name]
    assert len(sections) == 1, f"dashboard/help/scores.md needs one heading `## {name}`"
    (section,) = sections
    families = {column.family for column in registry()[name].columns if column.family}
    names = {
        column.name for column in registry()[name].columns if not column.stage
    }  # those of VoG stand there as a pattern
    assert not {*families, *names} - set(re.findall(r"`([^`]+)`", section))
