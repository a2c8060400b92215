"""The queue is ready before what takes long; scores come in their order; what is left out is told once per reason."""

import pytest

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.audit.storage import read_metadata, read_table
from scoring.pipeline import score_run
from scoring.pipeline.score_audit import full_names, score_audit
from scoring.pipeline.score_order import STAGES, in_order, left_out, stage_of
from scoring.queue.suspicion import describe
from scoring.scorers import find_scorer, registry

from ..conftest import hardlook
from ..small_audits import write_small_audit

LATE = {"tta", "vog", "influence", "odin", "grand", "self_influence"}


@pytest.fixture
def small(tmp_path):
    root = write_small_audit(tmp_path / "audit")
    text = (root / "audit.toml").read_text()
    (root / "audit.toml").write_text(text + "\n[run.main.scores.influence]\narnoldi_dim = 8\nrank = 4\n")
    return root


def steps(root, monkeypatch, **options):
    audit, seen = Audit.open(root), []
    real = score_run.attempt
    monkeypatch.setattr(score_run, "attempt", lambda *of: seen.append(of[2].name) or real(*of))
    score_audit(audit, audit.run(), device="cpu", say=lambda text: seen.append(text), **options)
    return [one for one in seen if one in registry() or one.startswith("the queue is ready")]


def test_the_queue_is_ready_before_anything_long_and_suspicion_is_renewed(small, monkeypatch):
    seen = steps(small, monkeypatch)
    ready = next(at for at, one in enumerate(seen) if one.startswith("the queue is ready after"))
    assert seen[ready].endswith(f"hardlook dashboard {small}")
    assert {"label_quality", "neighbours", "uncertainty", "suspicion"} <= set(seen[:ready])
    assert not LATE & set(seen[:ready])
    later = [one for one in seen[ready:] if one in LATE]
    assert later[0] == "tta" and later[-2:] == ["vog", "influence"]
    after = seen[seen.index("tta") :]
    assert after[1] == "suspicion"  # renewed with the views
    assert "margin over views" in describe(Audit.open(small).run()).lower()
    assert steps(small, monkeypatch).count("suspicion") == 1  # nothing changed: what stands is current


def test_what_a_quick_scoring_leaves_is_computed_by_the_next_and_equals_one_in_one_go(small, tmp_path, monkeypatch):
    seen = steps(small, monkeypatch, quick=True)
    run = Audit.open(small).run()
    assert not LATE & set(run.score_names()) and "suspicion" in run.score_names()
    assert not run.dynamics_files("checkpoints") and "aum" not in seen
    assert run.record()["skipped"].keys().isdisjoint(LATE)
    score_audit(Audit.open(small), run, device="cpu")
    other = write_small_audit(tmp_path / "other")
    (other / "audit.toml").write_text((small / "audit.toml").read_text())
    score_audit(Audit.open(other), Audit.open(other).run(), device="cpu")
    assert run.score_names() == Audit.open(other).run().score_names()
    for name in run.score_names():
        one, two = (read_table(Audit.open(root).run().score_path(name)).to_pandas() for root in (small, other))
        assert one.equals(two), name


def test_recorded_training_is_part_of_the_queue_and_recomputed_one_is_not():
    aum = find_scorer("aum")
    assert stage_of(aum, recorded=True) == "queue" and stage_of(aum, recorded=False) == "dynamics"


def test_every_score_has_its_stage_and_readers_come_after_writers():
    order = in_order(registry().values(), recorded=True)
    assert list(order) == list(STAGES)
    assert sorted(kind.name for kinds in order.values() for kind in kinds) == sorted(registry())
    assert {kind.name for kind in order["queue"]} >= {"label_quality", "neighbours", "aum", "near_duplicates"}
    assert [kind.name for stage in ("views", "vog", "influence") for kind in order[stage]] == [
        "tta",
        "vog",
        "influence",
    ]


def test_scores_of_one_reason_are_told_together_with_a_command_that_is_valid(small, capsys):
    for epoch in (1, 2):
        (small / "checkpoints" / f"epoch-{epoch}.pt").unlink()
    assert hardlook("score", small, "--quick") == 0
    said = [line for line in capsys.readouterr().out.splitlines() if "not computed: " in line]
    assert any("second_split" in line and f"`hardlook second-split {small}`" in line for line in said)
    assert len(said) == len({line.partition(": need")[2] for line in said})


def test_reasons_are_grouped_and_the_second_run_is_named(small, capsys):
    text = (small / "audit.toml").read_text().replace("checkpoints/*.pt", "checkpoints/epoch-3.pt")
    own = text[text.index("[run.main]") :].partition("[run.main.scores")[0]
    (small / "audit.toml").write_text(text + "\n" + own.replace("run.main", "run.other").replace("epoch-3", "epoch-2"))
    assert hardlook("score", small, "--run", "other") == 0
    said = [line for line in capsys.readouterr().out.splitlines() if "not computed: " in line]
    (dynamics,) = [line for line in said if "data_map" in line]
    assert "aum, " in dynamics and "forgetting" in dynamics and "need recorded training" in dynamics
    assert f"`hardlook train {small}" not in dynamics  # which would train another model than this one
    (split,) = [line for line in said if "second_split" in line]
    assert f"`hardlook second-split {small} --run other`" in split


def test_left_out_keeps_different_reasons_apart():
    told = left_out({"a": "a needs x", "b": "b needs y", "c": "c needs x", "d": "failed"})
    assert told == ["not computed: a, c: need x", "not computed: b: needs y", "not computed: d: failed"]


def test_beginnings_of_names_stand_for_them_and_slips_are_told(small, capsys):
    assert full_names(["vog", "near", "label_q"]) == ["vog", "near_duplicates", "label_quality"]
    with pytest.raises(HardlookError, match="'se' is the beginning of several scores: second_split, self_influence"):
        full_names(["se"])
    with pytest.raises(HardlookError, match="there is no score 'vgo'; did you mean vog"):
        full_names(["vgo"])
    assert hardlook("score", small, "--only", "vgo") == 1
    assert "did you mean vog" in capsys.readouterr().err
    assert not (small / "examples.parquet").exists()  # told before any data was read
    assert hardlook("score", small, "--only", "uncert") == 0
    assert read_metadata(Audit.open(small).run().score_path("uncertainty"))


def test_settings_of_scores_that_there_are_not_are_refused_before_the_data_is_read(small):
    with pytest.raises(HardlookError, match="vog has no setting 'chekpoints'"):
        score_audit(Audit.open(small), Audit.open(small).run(), settings={"vog": {"chekpoints": 3}})
    assert not (small / "examples.parquet").exists()
