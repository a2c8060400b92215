"""Ray's workers give the numbers of one process, to the bit, and one message where something is wrong."""

import shutil

import pytest

from scoring.audit import Audit
from scoring.audit.storage import read_table

from ..conftest import hardlook

pytest.importorskip("ray", reason="Ray is not installed: pip install 'hardlook[ray]'")


def score_files(audit: Audit) -> dict:
    return {name: read_table(audit.run().score_path(name)) for name in ("vog", "influence")}


def test_shards_on_ray_give_the_same_files_as_in_this_process(sample_copy, monkeypatch):
    monkeypatch.setattr("scoring.pipeline.shards.SHARD_MOST", 64)
    audit = Audit.open(sample_copy)
    before = score_files(audit)
    shutil.rmtree(audit.run().scores_folder)
    monkeypatch.setattr("scoring.pipeline.score_run.score_shard", None)  # of this process: the workers have their own
    assert hardlook("score", sample_copy, "--only", "vog,influence", "--ray") == 0
    for name, table in score_files(audit).items():
        assert table.equals(before[name]), name


def test_a_cluster_that_does_not_answer_is_one_message(sample_copy, capsys):
    assert hardlook("score", sample_copy, "--ray", "nowhere") == 1
    shown = capsys.readouterr().err
    assert "no Ray cluster answers at 'nowhere'" in shown and "Traceback" not in shown
