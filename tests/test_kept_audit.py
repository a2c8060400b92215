"""An audit folder, its log and its patches as version 0.2.0 wrote them, before the modules moved, open unchanged.

``tests/kept_audit`` was made by ``hardlook new --sample blobs`` with 48 points and six epochs, ``train``, ``score`` and
``export``; three reviewers decided six examples. No test writes into it: each has a copy.
"""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from scoring.audit import Audit
from scoring.audit.storage import read_table
from scoring.corrections.label_patch import apply_patch, corrected_labels, read_patch
from scoring.data.examples import read_examples
from scoring.reviews import ReviewLog
from scoring.scorers import registry

from .conftest import hardlook

KEPT = Path(__file__).with_name("kept_audit")
DECIDED = ["point-000", "point-001", "point-002", "point-004", "point-006", "point-008"]


@pytest.fixture
def kept(tmp_path):
    """A copy of the kept audit."""
    return Audit.open(shutil.copytree(KEPT, tmp_path / "kept"))


@pytest.fixture
def log(kept):
    with ReviewLog.open(kept.log_url, audit=kept.log_name(kept.log_url)) as opened:
        yield opened


def test_the_log_keeps_every_event_and_what_follows_from_them(log):
    assert len(log.events()) == 12
    consensus = log.consensus().set_index("example_id")
    assert sorted(consensus.index) == DECIDED
    assert consensus["status"].to_dict() == {**dict.fromkeys(DECIDED, "agreed"), "point-004": "adjudicated"}
    assert consensus.loc["point-004", "new_label"] == "right"
    assert log.events()["action"].value_counts().to_dict() == {"decide": 9, "flag": 1, "undo": 1, "adjudicate": 1}


def test_its_patch_reads_and_is_written_again_to_the_letter(kept, log, capsys):
    patch = kept.root / "exports" / "patch-train.csv"
    before = patch.read_bytes()
    assert read_patch(patch)["example_id"].tolist() == DECIDED
    patch.unlink()
    assert hardlook("export", str(kept.root)) == 0
    assert patch.read_bytes() == before
    examples = read_examples(kept)
    labels, report = apply_patch(read_patch(patch), examples[examples["split"] == "train"])
    assert labels.set_index("example_id").loc[["point-001", "point-004"], "label"].tolist() == ["right", "right"]
    assert "refused" not in set(report["outcome"])
    assert corrected_labels(examples, log, kept.policy)["example_id"].tolist() == DECIDED


def scores(audit):
    """Every score file of the run by its name: its bytes and its table."""
    paths = sorted((audit.run().folder / "scores").glob("*.parquet"))
    return {path.stem: (path.read_bytes(), read_table(path).to_pandas()) for path in paths}


def test_scores_of_the_kept_model_stand_and_those_of_copied_files_come_out_the_same(kept):
    """Dynamics are known by the time and size of their files, which a copy changes, so what reads them is made anew."""
    before = scores(kept)
    assert set(before) <= set(registry()) and len(before) == 17
    assert hardlook("score", str(kept.root), "--device", "cpu") == 0
    after = scores(kept)
    assert after.keys() >= before.keys()
    for name in ("energy", "gradnorm", "grand", "influence", "neighbours", "odin", "self_influence", "vog"):
        assert after[name][0] == before[name][0], f"{name} was scored again"
    for name in before:
        pd.testing.assert_frame_equal(after[name][1], before[name][1], rtol=1e-5)


def test_the_fields_of_its_files_are_what_the_pages_read(kept):
    from dashboard.queries.score_columns import read_columns

    columns = {name: read_columns(kept.run(), name) for name in scores(kept)}
    assert {name for name, found in columns.items() if not found} == set()
    assert len(columns["vog"]) == 24
