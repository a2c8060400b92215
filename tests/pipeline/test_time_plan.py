"""``--within``: everything fits, nothing is lowered or dropped without a word, and more time raises it again."""

import argparse
import re

import numpy as np
import pytest

import scoring.influence as influence_room
from scoring.audit import Audit
from scoring.audit.storage import read_json, read_metadata
from scoring.commands.score import _seconds
from scoring.influence import cooks_distance
from scoring.pipeline import time_plan
from scoring.pipeline.score_audit import score_audit
from scoring.pipeline.shards import Context
from scoring.pipeline.time_plan import Plan, Step, arranged
from scoring.scorers import find_scorer
from scoring.scorers._influence_size import Choice, choose_size
from scoring.scorers.influence import Influence
from scoring.scorers.self_influence import SelfInfluence, _flops
from scoring.scorers.tta import TestTimeAugmentation

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


def test_what_fits_after_something_that_does_not_is_kept():
    found = planned(100, step("self_influence", 170), step("vog", 20), step("gradnorm", 1))
    assert found == [("self_influence", 170, "", False), ("vog", 20, "", True), ("gradnorm", 1, "", True)]


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
    monkeypatch.setattr(time_plan, "estimate", lambda context, scorer, allowed: 400.0 if scorer.name == "tta" else 0.0)
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
        patch.setattr(Influence, "_measured", lambda self, context, most: Choice(250, 5000, 0.0))
        influence(small, "--influence-seconds", "1e-9")
    assert run.score_path("influence").stat().st_mtime_ns == written
    parameters, notes, _ = influence(small)  # fifteen minutes are enough for the whole
    assert (parameters["arnoldi_dim"], parameters["subset"]) == (500, 5000) and "preset" not in notes


def test_more_time_on_a_busier_machine_keeps_the_products_that_are_there(small, monkeypatch):
    monkeypatch.setattr(Influence, "_measured", lambda self, context, most: Choice(250, 5000, 1.0))
    influence(small, "--influence-seconds", "10")
    monkeypatch.setattr(Influence, "_measured", lambda self, context, most: Choice(60, 500, 1.0))
    parameters, _, factors = influence(small, "--influence-seconds", "20")
    assert parameters["arnoldi_dim"] == factors["arnoldi_dim"] == 250


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


def wide_head(small):
    """The small audit at its queue, opened, with features of 900 columns and so a Hessian of 2,703 × 2,703."""
    scored(small, quick=True)
    audit = Audit.open(small)
    context = Context(audit, audit.run(), device="cpu")
    context.features = np.random.default_rng(0).random((len(context.examples), 900), dtype=np.float32)
    return context


def test_an_exact_hessian_is_told_from_its_size_and_never_made_by_the_plan(small, monkeypatch):
    context, widths, factor = wide_head(small), [], cooks_distance.head_factor
    monkeypatch.setattr(
        influence_room, "head_factor", lambda hessian, d: widths.append(hessian.sums.shape[0]) or factor(hessian, d)
    )
    monkeypatch.setattr(SelfInfluence, "fit", lambda *_: pytest.fail("the plan fitted the exact Hessian"))
    assert time_plan.estimate(context, SelfInfluence(damping=2e-3)) > 0.0
    assert widths and max(widths) <= 600


def test_flops_of_the_exact_way_are_those_of_its_products_its_factor_and_its_solves():
    # X of n rows and w columns: XᵀX by symmetry n w², c parts n w · w/c twice, Cholesky w³/3, a triangle per example w²
    assert _flops(300, 3, 50, 70) == pytest.approx(50 * 300**2 + 2 * 50 * 300 * 100 + 300**3 / 3 + 70 * 300**2)


class Clock:
    """A clock that only work moves."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(time_plan.time, "perf_counter", lambda: self.now)

    def work(self, fixed, each):
        tried = []

        def run(few):
            tried.append(few)
            self.now += fixed + each * few

        return run, tried


@pytest.mark.parametrize(("fixed", "each"), [(0.0, 0.01), (0.5, 0.01), (3.0, 0.0)])
def test_what_is_fixed_and_what_an_example_takes_are_told_apart(monkeypatch, fixed, each):
    run, tried = Clock(monkeypatch).work(fixed, each)
    assert time_plan.timed(run, 1e9) == pytest.approx((fixed, each))
    assert tried == [2, 2, 8, 24]


def test_a_trial_goes_no_further_than_its_seconds_and_takes_all_of_a_single_one_per_example(monkeypatch):
    clock = Clock(monkeypatch)
    run, tried = clock.work(0.0, 1.0)
    assert time_plan.timed(run, 13.0) == pytest.approx((0.0, 1.0)) and tried == [2, 2, 8] and clock.now <= 13.0
    run, tried = clock.work(0.0, 10.0)
    assert time_plan.timed(run, 11.0) == pytest.approx((0.0, 10.0)) and tried == [2]


def test_a_batch_that_is_filled_up_is_not_taken_for_the_few_that_are_tried(small, monkeypatch):
    """``tta`` fills a batch up to ``batch_size``: each of its views costs what 256 examples cost, not 8."""
    scored(small, quick=True)
    audit, clock = Audit.open(small), Clock(monkeypatch)
    context = Context(audit, audit.run(), device="cpu")
    logits = TestTimeAugmentation._logits

    def slow(model, inputs):
        clock.now += 0.5 * len(inputs)
        return logits(model, inputs)

    monkeypatch.setattr(TestTimeAugmentation, "_logits", staticmethod(slow))
    n = len(context.examples)
    fit, views = 3 * n, 8 * n
    assert time_plan.estimate(context, TestTimeAugmentation(batch_size=n)) == pytest.approx(0.5 * (fit + views))


def test_no_step_begins_that_ends_after_the_time(monkeypatch):
    clock = Clock(monkeypatch)
    plan = Plan(100.0, [step("tta", 40), step("vog", 30)], ends=100.0)
    assert not plan.leaves_out("tta") and not plan.leaves_out("vog") and not plan.leaves_out("odin")
    clock.now = 65.0
    assert plan.leaves_out("tta") and not plan.leaves_out("vog")
    clock.now = 71.0
    assert plan.leaves_out("vog")


def test_dynamics_from_checkpoints_are_planned_and_left_out_with_what_is_made_of_them(small):
    run, summary, said = scored(small, within=1e-3)
    assert {"aum", "el2n", "forgetting"} & summary.skipped.keys() and not run.dynamics_files("checkpoints")
    assert any(re.match(r"  dynamics from checkpoints +\d+ s  dropped: does not fit", line) for line in said)
    run, summary, said = scored(small, within=3600)
    assert run.dynamics_files("checkpoints") and "el2n" in run.score_names()
    assert any(re.match(r"  dynamics from checkpoints +\d+ s$", line) for line in said)
    _, _, said = scored(small, within=3600)  # and are not planned where they are there
    assert not any(line.startswith("  dynamics") for line in said)
