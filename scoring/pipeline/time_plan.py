"""A plan for the time that ``hardlook score --within`` gives: what each remaining score takes, and what is lowered.

Once the queue is ready, a few examples go through each score that is left (several sizes, so that what a shard costs
and what an example costs are told apart), and influence's products are measured as it measures them itself. What would
take long by itself is told from its size: the exact Hessian of a head by its flops, the sample of the views by what
views cost. If all does not fit, influence's products and subset are lowered, then the views; what still does not fit is
dropped, and what comes after it and fits is kept.

Inputs → outputs: an opened run, its scorers, seconds → ``Plan``. Cost: up to ``FEW`` examples per score, fewer where
these would take more than ``PLANNING`` of the time. Limits: an estimate; a machine that becomes busy meanwhile takes
longer, and a score whose seconds are no longer there when its turn comes is then left out.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from scoring.audit.errors import HardlookError
from scoring.pipeline.needs import unmet
from scoring.pipeline.recomputed_dynamics import is_recomputed
from scoring.pipeline.score_file import is_current, kept_rows, score_key
from scoring.pipeline.shards import Context, make_shard
from scoring.pipeline.vog_maps import EXTREMES, QUEUE
from scoring.scorers import Scorer, State
from scoring.scorers._commands import command
from scoring.scorers.influence import Influence
from scoring.scorers.self_influence import SelfInfluence
from scoring.scorers.tta import SAMPLE, TestTimeAugmentation
from scoring.scorers.vog import VoG

FEW = (2, 8, 24)
PLANNING = 0.05
"""Of the time that is left: what all trials together may take, where the smallest do not take longer."""
WARM = 1.0
"""Seconds up to which a first call is made again, since it may be slow for being the first."""
VIEWS = (4, 2)
SHARE = 0.9
"""Of the time that is left: estimates are no promises."""


EMBEDDED = 4.0
"""Forward passes over all examples that embeddings cost, beside the products."""
MEASURED = 8.0
"""Forward passes over its examples that influence's measurement costs."""
DYNAMICS = "dynamics from checkpoints"


@dataclass
class Step:
    """One score: its settings as planned, seconds, and what was lowered; ``fits``: whether it is computed. Without a
    scorer: the pass of every checkpoint over all examples, from which dynamics are made."""

    scorer: Scorer | None
    seconds: float
    lowered: str = ""
    fits: bool = True

    @property
    def name(self) -> str:
        """Returns the score's name."""
        return DYNAMICS if self.scorer is None else self.scorer.name


@dataclass
class Plan:
    """The steps in their order, and the seconds that there are for all of them; ``ends``: when these are over, by
    ``time.perf_counter``."""

    seconds: float
    steps: list[Step] = field(default_factory=list)
    ends: float = math.inf

    def lines(self) -> list[str]:
        """Returns the plan as a table."""
        width = max([len(step.name) for step in self.steps], default=0)
        total = sum(step.seconds for step in self.steps if step.fits)
        head = f"plan for the {spoken(self.seconds)} that are left: about {spoken(total)}"
        rows = [
            f"  {step.name:<{width}}  {spoken(step.seconds):>8}  "
            f"{step.lowered if step.fits else 'dropped: does not fit'}".rstrip()
            for step in self.steps
        ]
        return [head, *rows]

    def leaves_out(self, name: str) -> bool:
        """Returns whether a step does not fit, or takes longer than what is left of the time now that its turn
        comes."""
        left = self.ends - time.perf_counter()
        return any(step.name == name and (not step.fits or step.seconds > left) for step in self.steps)

    @staticmethod
    def reason(context: Context) -> str:
        """Returns the sentence of what does not fit."""
        return f"did not fit into the time of --within; `{command(context, 'score')}` computes it"


def spoken(seconds: float) -> str:
    """Returns a duration as people say it.

    >>> [spoken(seconds) for seconds in (0.4, 42, 95, 7300)]
    ['1 s', '42 s', '1.6 min', '2.0 h']
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def make_plan(context: Context, scorers: Sequence[Scorer], seconds: float, *, recompute: bool = False) -> Plan:
    """The plan for the scores that are still to be computed, in their order, in so many seconds. ``recompute``: whether
    dynamics are to be made from checkpoints first."""
    left = [scorer for scorer in scorers if "scores" not in scorer.needs and unmet(scorer, context) is None]
    tried = [scorer for scorer in left if not isinstance(scorer, Influence)]
    if seconds <= 0.0:
        first = [Step(None, 0.0)] if recompute and not is_recomputed(context) else []
        return Plan(seconds, [replace(one, fits=False) for one in (*first, *(Step(scorer, 0.0) for scorer in left))])
    steps, allowed = [], PLANNING * seconds / (len(left) + 1)
    whole = _pass(context, allowed) if recompute or len(tried) < len(left) else 0.0
    if recompute and not is_recomputed(context):
        steps.append(Step(None, whole * len(context.checkpoints)))
    steps += [Step(scorer, estimate(context, scorer, allowed)) for scorer in tried]
    steps = [step for step in steps if step.seconds > 0.0]
    influence = next((scorer for scorer in left if isinstance(scorer, Influence)), None)
    plan = arranged(Plan(seconds, steps), context)
    if influence is None:
        return plan
    return with_influence(plan, context, influence, whole, allowed)


def arranged(plan: Plan, context: Context | None = None) -> Plan:
    """The same plan with what has to be lowered or dropped: as many steps as fit, in their order, with as many views as
    that allows. ``context``: knows which of fewer views are there."""
    ways = [
        _fitting([_with_views(step, views, context) for step in plan.steps], SHARE * plan.seconds)
        for views in (None, *VIEWS)
    ]
    best = max(ways, key=lambda steps: sum(step.fits for step in steps))  # the first of equals: the most views
    return Plan(
        plan.seconds,
        [step if step.fits else replace(was, fits=False) for step, was in zip(best, plan.steps, strict=True)],
    )


def _fitting(steps: Sequence[Step], seconds: float) -> list[Step]:
    """The steps, of which each fits whose seconds are left by those before it."""
    found = []
    for step in steps:
        fits = step.seconds <= seconds
        seconds -= step.seconds if fits else 0.0
        found.append(replace(step, fits=fits))
    return found


def with_influence(plan: Plan, context: Context, scorer: Influence, whole: float, allowed: float) -> Plan:
    """The plan with influence in what is left of the time, by fewer products and views; dropped where that is too
    little. ``whole``: seconds of a pass over all examples; ``allowed``: those that its measurement may take."""
    each = whole / max(len(context.examples), 1)
    most = int(
        np.clip(allowed / max(each * MEASURED, 1e-9), min(FEW[-1], 2 * scorer.batch_size), 2 * scorer.batch_size)
    )
    last = Step(scorer, 0.0)
    for views in (None, *VIEWS):
        steps = [_with_views(step, views, context) if step.fits else step for step in plan.steps]
        left = SHARE * plan.seconds - sum(step.seconds for step in steps if step.fits)
        last = _influence(context, scorer, left, whole, most)
        if last.seconds <= left:
            return Plan(plan.seconds, [*steps, last])
    return Plan(plan.seconds, [*plan.steps, replace(last, fits=False)])


def _with_views(step: Step, views: int | None, context: Context | None) -> Step:
    """The step with fewer views, where it takes some; without cost where these are computed already."""
    if views is None or not isinstance(step.scorer, TestTimeAugmentation) or step.scorer.views <= views:
        return step
    lowered = f"{views} views instead of {step.scorer.views}"
    fewer = replace(step.scorer, views=views)
    there = context is not None and _is_there(context, fewer)
    return Step(fewer, 0.0 if there else step.seconds * views / step.scorer.views, lowered)


def _is_there(context: Context, scorer: Scorer) -> bool:
    """Returns whether the file of a score is of these settings."""
    path = context.run.score_path(scorer.name)
    return path.is_file() and is_current(path, score_key(context, scorer), scorer)


def _influence(context: Context, scorer: Influence, seconds: float, whole: float, most: int) -> Step:
    """Influence in so many seconds, or in the fewest that it can take."""
    embedding = EMBEDDED * whole
    timed = replace(scorer, seconds=max(seconds - embedding, 1.0))
    if timed.preset == "paper" or not timed.is_chosen:
        return Step(timed, 0.0 if _is_there(context, timed) else embedding)
    choice = timed.chosen(context, most)
    if _is_there(context, timed.sized(context)):
        return Step(timed, 0.0)
    lowered = (choice.products, choice.examples) != (scorer.arnoldi_dim, scorer.subset)
    return Step(
        timed,
        choice.seconds + embedding,
        f"{choice.products} products over up to {choice.examples:,} examples" if lowered else "",
    )


def _drawn(context: Context, rows: np.ndarray, few: int) -> np.ndarray:
    """A few of some positions, drawn and in their order."""
    return np.sort(np.random.default_rng(context.audit.seed).permutation(rows)[:few])


def _pass(context: Context, allowed: float) -> float:
    """Seconds of one forward pass over all examples, reading them included."""

    def passed(few: int) -> None:
        inputs, good, _ = context.inputs.batch(_drawn(context, np.arange(len(context.examples)), few), context.pool)
        if good:
            context.model.predict(inputs)

    with context.model.at(context.checkpoints[-1]):
        fixed, each = timed(passed, allowed)
    return fixed + each * len(context.examples)


def timed(run: Callable[[int], object], allowed: float) -> tuple[float, float]:
    """Seconds that ``run(few)`` takes once and per example, by ``FEW`` sizes as far as ``allowed`` seconds go."""
    sizes: list[int] = []
    times: list[float] = []
    start = time.perf_counter()
    run(FEW[0])  # warms up: the first call loads weights and begins threads
    first = time.perf_counter() - start
    if first > max(allowed, WARM):
        return 0.0, first / FEW[0]
    for few in FEW:
        if times and first + sum(times) + times[-1] * few / sizes[-1] > allowed:
            break
        begun = time.perf_counter()
        run(few)
        sizes.append(few)
        times.append(time.perf_counter() - begun)
    if len(times) == 1:
        return 0.0, times[0] / sizes[0]
    each = max(times[-1] - times[-2], 0.0) / (sizes[-1] - sizes[-2])
    return max(times[-1] - sizes[-1] * each, 0.0), each


def estimate(context: Context, scorer: Scorer, allowed: float = math.inf) -> float:
    """Seconds that a score takes for the examples that it has not scored yet; 0 where there are none. ``allowed``: the
    seconds that the trial may take, where its smallest does not take longer."""
    key = score_key(context, scorer)
    todo = np.flatnonzero(kept_rows(context.run.score_path(scorer.name), key, context.examples, scorer) < 0)
    if not len(todo):
        return 0.0
    notes, start = list(context.notes), time.perf_counter()
    with contextlib.suppress(HardlookError):  # the score itself tells it in its turn
        try:
            if isinstance(scorer, SelfInfluence) and scorer.is_exact(context):
                return scorer.exact_seconds(context, len(todo))
            state, more = _state(context, scorer)
            fitted = time.perf_counter() - start

            def scored(few: int) -> None:
                trial = _in_batches(scorer, few)
                trial.score(make_shard(context, trial, _drawn(context, todo, few))[0], state)

            fixed, each = timed(scored, allowed)
            return fitted + each * (len(todo) + more) + fixed * -(-len(todo) // context.shard_size)
        finally:
            context.notes = notes
    return 0.0


def _state(context: Context, scorer: Scorer) -> tuple[State, float]:
    """What a trial scores with, and for how many examples more than there are the score computes."""
    if isinstance(scorer, TestTimeAugmentation) and not context.run.config.get("training", {}).get("augment"):
        return {"shift": 1, "mirror": True}, 3.0 * min(SAMPLE, len(context.examples)) / scorer.views
    state = scorer.fit(context, context.run.parts_folder(scorer.name))
    maps = min(QUEUE + 2 * EXTREMES * len(context.audit.classes), len(context.examples))
    return state, float(maps) if isinstance(scorer, VoG) else 0.0


def _in_batches(scorer: Scorer, few: int) -> Scorer:
    """The scorer with batches of a few examples: a batch that is filled up costs what a whole one does."""
    size: dict[str, Any] = {"batch_size": few}
    return replace(scorer, **size) if any(one.name == "batch_size" for one in fields(scorer)) else scorer
