"""A score that cannot serve a model is left out with its reason, and takes no other with it; what it has to say is
kept."""

from dataclasses import dataclass

import numpy as np
import pytest

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.audit.storage import read_metadata
from scoring.pipeline import score_run as compute
from scoring.pipeline.score_run import notes, score_run
from scoring.pipeline.shards import Context
from scoring.scorers import Column, Scorer, registry


@dataclass(frozen=True, kw_only=True)
class Toy(Scorer):
    """A score that fails, refuses or speaks as it is told to."""

    name = "aaa_toy"  # before all others
    needs = ("checkpoints",)
    columns = (Column(name="value", title="Toy", help="A toy."),)
    does: str = "speaks"

    def score(self, shard, state):
        if self.does == "fails":
            raise RuntimeError("shapes do not fit\nand more")
        if self.does == "refuses":
            raise HardlookError("toys are not for this model")
        if self.does == "disk":
            raise OSError(28, "No space left on device")
        shard.note("one of two ways was taken")
        return {"value": np.arange(len(shard), dtype=np.float32)}


@pytest.fixture
def context(sample_copy, monkeypatch):
    kinds = {"aaa_toy": Toy, "uncertainty": registry()["uncertainty"]}
    monkeypatch.setattr(compute, "registry", lambda: kinds)
    monkeypatch.setattr(compute, "find_scorer", kinds.__getitem__)
    audit = Audit.open(sample_copy)
    audit.run().score_path("uncertainty").unlink()
    audit.run().config["scores"] = {}
    return Context(audit, audit.run(), device="cpu")


@pytest.mark.parametrize(
    ("does", "reason"),
    [
        ("fails", "aaa_toy failed on this model: RuntimeError: shapes do not fit; the traceback is in "),
        ("refuses", "toys are not for this model"),
    ],
)
def test_one_that_fails_takes_no_other_with_it(context, does, reason):
    summary = score_run(context, settings={"aaa_toy": {"does": does}})
    assert summary.skipped["aaa_toy"].startswith(reason)
    assert context.run.record()["skipped"]["aaa_toy"].startswith(reason)
    assert context.run.score_path("uncertainty").is_file()
    assert context.run.failed_path("aaa_toy").is_file() == (does == "fails")
    assert score_run(context).skipped == {}
    assert not context.run.failed_path("aaa_toy").exists()


def test_one_that_was_asked_for_by_name_is_an_error(context):
    with pytest.raises(HardlookError, match="toys are not"):
        score_run(context, ["aaa_toy"], {"aaa_toy": {"does": "refuses"}})


def test_a_full_disk_is_no_fault_of_the_model(context):
    with pytest.raises(OSError, match="No space left"):
        score_run(context, settings={"aaa_toy": {"does": "disk"}})


def test_what_a_score_has_to_say_is_in_its_file_the_record_and_the_summary(context):
    summary = score_run(context)
    assert read_metadata(context.run.score_path("aaa_toy"))["notes"] == ["one of two ways was taken"]
    assert context.run.record()["notes"]["aaa_toy"] == notes(context.run)["aaa_toy"] == ["one of two ways was taken"]
    assert "aaa_toy: one of two ways was taken" in summary.notes
    again = score_run(context)  # nothing is computed, and still true
    assert "aaa_toy: one of two ways was taken" in again.notes


def test_the_file_of_another_model_does_not_stay_where_the_score_is_left_out(context):
    score_run(context)
    assert context.run.score_path("aaa_toy").is_file()
    score_run(context, settings={"aaa_toy": {"does": "refuses"}})  # another setting: the old file is not of it
    assert not context.run.score_path("aaa_toy").exists()


def test_what_is_left_out_is_kept_where_other_scores_are_asked_for(context):
    score_run(context, settings={"aaa_toy": {"does": "refuses"}})
    score_run(context, ["uncertainty"])
    assert context.run.record()["skipped"] == {"aaa_toy": "toys are not for this model"}
