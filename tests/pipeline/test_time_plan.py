"""``--within``: everything fits, nothing is lowered or dropped without a word, and more time raises it again."""

import argparse
import re

import pytest

from scoring.audit import Audit
from scoring.audit.storage import read_json, read_metadata
from scoring.commands.score import _seconds
from scoring.pipeline import time_plan
from scoring.pipeline.score_audit import score_audit
from scoring.pipeline.time_plan import Plan, Step, arranged
from scoring.scorers import find_scorer
from scoring.scorers._influence_size import Choice, choose_size
from scoring.scorers.influence import Influence

from ..conftest import hardlook
from ..small_audits import write_small_audit


def step(name, seconds):
    return Step(find_scorer(name)(), seconds)


def planned(seconds, *steps):
    return [(one.scorer.name, one.seconds, one.lowered, one.fits) for one in arranged(Plan(seconds, list(steps))).steps]


def test_what_fits_is_left_as_it_is():
    assert planned(100, step("tta", 40), step("vog", 50)) == [("tta", 40, "", True), ("vog", 50, "", True)]


def test_views_are_lowered_before_anything_is_dropped():
    found = planned(100, step("tta", 80), step("vog", 50))
    assert found == [("tta", 40, "4 views instead of 8", True), ("vog", 50, "", True)]


def test_the_last_are_dropped_and_the_others_are_then_not_lowered_for_nothing():
    found = planned(100, step("tta", 80), step("odin", 5), step("vog", 500))
    assert found == [("tta", 80, "", True), ("odin", 5, "", True), ("vog", 500, "", False)]


def test_what_fits_stays_within_nine_tenths_of_the_time():
    assert planned(100, step("vog", 91))[0][3] is False and planned(100, step("vog", 89))[0][3] is True


@pytest.mark.parametrize("text", ["20", "", "m", "1x", "-3m", "20 minutes"])
def test_a_time_without_its_unit_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="needed a number with its unit"):
        _seconds(text)


def test_a_choice_never_takes_more_than_was_asked_for_nor_longer_than_allowed():
    for per_product in (1e-4, 0.01, 0.3, 2.0, 30.0, 1e4):
        for wanted in (Choice(500, 5000, 0), Choice(80, 700, 0)):
            found = choose_size(per_product, 1500, wanted, 900.0)
            assert found.products <= wanted.products and found.examples <= wanted.examples
            least = min(wanted.products, 60) * min(wanted.examples, 500)
            assert found.seconds <= 900.0 or found.products * found.examples == least
            assert found.seconds == pytest.approx(found.products * per_product * found.examples / 1500)


@pytest.fixture
def small(tmp_path):
    return write_small_audit(tmp_path / "audit")


def scored(root, **options):
    audit, said = Audit.open(root), []
    summary = score_audit(audit, audit.run(), device="cpu", say=said.append, **options)
    return audit.run(), summary, said


def about(run, name):
    facts = read_metadata(run.score_path(name))
    return facts["parameters"], " ".join(facts["notes"])


def test_no_time_leaves_the_queue_and_says_what_was_dropped_with_the_command_that_computes_it(small):
    run, summary, said = scored(small, within=1e-3)
    assert "suspicion" in run.score_names() and not {"tta", "vog", "influence"} & set(run.score_names())
    assert {"tta", "vog", "influence"} <= summary.skipped.keys()
    assert f"`hardlook score {small}`" in summary.skipped["vog"]
    assert any(re.match(r"  vog +\d+ s  dropped: does not fit", line) for line in said)


def test_enough_time_changes_nothing_and_every_score_is_in_the_plan(small):
    run, summary, said = scored(small, within=3600)
    assert {"tta", "vog", "influence"} <= set(run.score_names())
    assert about(run, "tta")[0]["views"] == 8 and "lowered" not in about(run, "tta")[1]
    start = next(at for at, line in enumerate(said) if line.startswith("plan for the "))
    assert {line.split()[0] for line in said[start + 1 :] if line.startswith("  ")} >= {"tta", "vog", "influence"}
    assert not summary.skipped.keys() & {"tta", "vog", "influence"}


def test_what_was_lowered_is_noted_and_more_time_raises_it(small, monkeypatch):
    monkeypatch.setattr(time_plan, "estimate", lambda context, scorer: 400.0 if scorer.name == "tta" else 0.0)
    run, _, said = scored(small, within=300)
    assert about(run, "tta")[0]["views"] == 4
    assert "lowered to fit into --within: 4 views instead of 8" in about(run, "tta")[1]
    assert any("tta" in line and "4 views instead of 8" in line for line in said)
    written = run.score_path("tta").stat().st_mtime_ns
    run, _, _ = scored(small, within=10)  # less time does not throw away what is there
    assert run.score_path("tta").stat().st_mtime_ns == written
    run, _, _ = scored(small, within=600)
    assert about(run, "tta")[0]["views"] == 8 and "lowered" not in about(run, "tta")[1]


def influence(root, *options):
    assert hardlook("score", root, "--only", "influence", *options) == 0
    run = Audit.open(root).run()
    return *about(run, "influence"), read_json(run.factors_path.with_suffix(".json"))["key"]["parameters"]


def test_influence_is_lowered_by_measured_cost_says_so_and_keeps_the_choice(small):
    parameters, notes, factors = influence(small, "--influence-seconds", "1e-9")
    assert (parameters["arnoldi_dim"], parameters["subset"]) == (60, 500) == (factors["arnoldi_dim"], factors["subset"])
    assert "60 Hessian products over up to 500 examples" in notes and "--influence-preset paper" in notes
    run = Audit.open(small).run()
    written = run.score_path("influence").stat().st_mtime_ns
    influence(small, "--influence-seconds", "1e-10")  # another moment, no more time: the same numbers stand
    assert run.score_path("influence").stat().st_mtime_ns == written
    with pytest.MonkeyPatch.context() as patch:  # nor where the machine is faster by now
        patch.setattr(Influence, "_measured", lambda self, context: Choice(250, 5000, 0.0))
        influence(small, "--influence-seconds", "1e-9")
    assert run.score_path("influence").stat().st_mtime_ns == written
    parameters, notes, _ = influence(small)  # fifteen minutes are enough for the whole
    assert (parameters["arnoldi_dim"], parameters["subset"]) == (500, 5000) and "preset" not in notes


def test_the_papers_numbers_and_ones_own_are_taken_as_they_are(small):
    parameters, notes, _ = influence(small, "--influence-preset", "paper", "--influence-seconds", "1e-9")
    assert (parameters["arnoldi_dim"], parameters["subset"]) == (500, 5000) and "chosen" not in notes
    parameters, _, _ = influence(small, "--influence-arnoldi-dim", "9", "--influence-seconds", "1e-9")
    assert (parameters["arnoldi_dim"], parameters["subset"]) == (9, 5000)
    assert hardlook("score", small, "--only", "influence", "--influence-preset", "papers") == 1


def test_factors_of_before_hold_whatever_the_preset(small):
    influence(small, "--influence-preset", "paper")
    run = Audit.open(small).run()
    written = run.score_path("influence").stat().st_mtime_ns
    influence(small, "--influence-seconds", "1e-9")
    assert run.score_path("influence").stat().st_mtime_ns == written
    assert "preset" not in Influence().key_settings() and "seconds" not in Influence().key_settings()
