"""A plan for the time that ``hardlook score --within`` gives: what each remaining score takes, and what is lowered.

Once the queue is ready, a few examples go through each score that is left (two sizes, so that what a shard costs and
what an example costs are told apart), and influence's products are measured as it measures them itself. If all does not
fit, influence's products and subset are lowered, then the views; what still does not fit is dropped, the last first.

Inputs → outputs: an opened run, its scorers, seconds → ``Plan``. Cost: ``FEW`` examples per score. Limits: an estimate;
a machine that becomes busy meanwhile takes longer.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from scoring.audit.errors import HardlookError
from scoring.pipeline.needs import unmet
from scoring.pipeline.score_file import is_current, kept_rows, score_key
from scoring.pipeline.shards import Context, make_shard
from scoring.scorers import Scorer
from scoring.scorers._commands import command
from scoring.scorers.influence import Influence
from scoring.scorers.tta import TestTimeAugmentation

FEW = (8, 24)
VIEWS = (4, 2)
SHARE = 0.9
"""Of the time that is left: estimates are no promises."""


@dataclass
class Step:
    """One score: its settings as planned, seconds, and what was lowered; ``fits``: whether it is computed."""

    scorer: Scorer
    seconds: float
    lowered: str = ""
    fits: bool = True


@dataclass
class Plan:
    """The steps in their order, and the seconds that there are for all of them."""

    seconds: float
    steps: list[Step] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Returns the plan as a table."""
        width = max([len(step.scorer.name) for step in self.steps], default=0)
        total = sum(step.seconds for step in self.steps if step.fits)
        head = f"plan for the {spoken(self.seconds)} that are left: about {spoken(total)}"
        rows = [
            f"  {step.scorer.name:<{width}}  {spoken(step.seconds):>8}  "
            f"{step.lowered if step.fits else 'dropped: does not fit'}".rstrip()
            for step in self.steps
        ]
        return [head, *rows]

    def dropped(self, context: Context) -> dict[str, str]:
        """Returns why each score that does not fit is left out."""
        whole = command(context, "score")
        return {
            step.scorer.name: f"did not fit into the time of --within; `{whole}` computes it"
            for step in self.steps
            if not step.fits
        }


def spoken(seconds: float) -> str:
    """Returns a duration as people say it.

    >>> [spoken(seconds) for seconds in (0.4, 42, 95, 7300)]
    ['1 s', '42 s', '1.6 min', '2.0 h']
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def make_plan(context: Context, scorers: Sequence[Scorer], seconds: float) -> Plan:
    """The plan for the scores that are still to be computed, in their order, in so many seconds."""
    left = [scorer for scorer in scorers if "scores" not in scorer.needs and unmet(scorer, context) is None]
    steps = [Step(scorer, estimate(context, scorer)) for scorer in left if not isinstance(scorer, Influence)]
    steps = [step for step in steps if step.seconds > 0.0]
    influence = next((scorer for scorer in left if isinstance(scorer, Influence)), None)
    if influence is None:
        return arranged(Plan(seconds, steps))
    return arranged(Plan(seconds, [*steps, Step(influence, 0.0)]), context)


def arranged(plan: Plan, context: Context | None = None) -> Plan:
    """The same plan with what has to be lowered or dropped for all to fit. ``context``: measures influence."""
    budget = SHARE * plan.seconds
    for drop in range(len(plan.steps) + 1):
        kept = plan.steps[: len(plan.steps) - drop]
        for views in (None, *VIEWS):
            steps = [_with_views(step, views, context) for step in kept]
            total = sum(step.seconds for step in steps)
            if steps and isinstance(steps[-1].scorer, Influence) and context is not None:
                steps[-1] = _with_influence(context, steps[-1].scorer, budget - total)
                total = sum(step.seconds for step in steps)
            if total <= budget:
                gone = [replace(step, fits=False) for step in plan.steps[len(kept) :]]
                return Plan(plan.seconds, [*steps, *gone])
    return Plan(plan.seconds, [replace(step, fits=False) for step in plan.steps])


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


def _with_influence(context: Context, scorer: Influence, seconds: float) -> Step:
    """Influence in so many seconds, or in the fewest that it can take."""
    embedding = 4.0 * context.pass_seconds
    timed = replace(scorer, seconds=max(seconds - embedding, 1.0))
    if timed.preset == "paper" or not timed.is_chosen:
        return Step(timed, embedding)
    if _is_there(context, timed.sized(context)):
        return Step(timed, 0.0)
    choice = timed.chosen(context)
    whole = (choice.products, choice.examples) == (scorer.arnoldi_dim, scorer.subset)
    lowered = "" if whole else f"{choice.products} products over up to {choice.examples:,} examples"
    return Step(timed, choice.seconds + embedding, lowered)


def estimate(context: Context, scorer: Scorer) -> float:
    """Seconds that a score takes for the examples that it has not scored yet; 0 where there are none."""
    key = score_key(context, scorer)
    todo = np.flatnonzero(kept_rows(context.run.score_path(scorer.name), key, context.examples, scorer) < 0)
    if not len(todo):
        return 0.0
    start = time.perf_counter()
    notes = list(context.notes)
    try:
        with contextlib.suppress(HardlookError):  # the score itself tells it in its turn
            state = scorer.fit(context, context.run.parts_folder(scorer.name))
            fitted = time.perf_counter() - start
            drawn = np.random.default_rng(context.audit.seed).permutation(todo)
            times = []
            for few in FEW:
                begun = time.perf_counter()
                scorer.score(make_shard(context, scorer, np.sort(drawn[:few]))[0], state)
                times.append(time.perf_counter() - begun)
            each = max(times[1] - times[0], 0.0) / (FEW[1] - FEW[0])
            shards = -(-len(todo) // context.shard_size)
            return fitted + each * len(todo) + max(times[0] - FEW[0] * each, 0.0) * shards
    finally:
        context.notes = notes
    return 0.0
