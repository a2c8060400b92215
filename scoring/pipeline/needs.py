"""Whether a score can be computed for a run, and if not, what it lacks and which command brings it.

A score and an opened run → None, or one sentence. Cost: a look at which files there are.
"""

from __future__ import annotations

from scoring.pipeline.shards import Context
from scoring.scorers import Scorer
from scoring.scorers._commands import command, more_checkpoints


def unmet(scorer: Scorer, context: Context) -> str | None:
    """Returns why a scorer cannot run here, and what would make it run; None where it can."""
    run = context.run
    for need in scorer.needs:
        least = scorer.least.get(need, 1)
        if not run.config and need in ("checkpoints", "dynamics", "influence", "training"):
            return f"{scorer.name} needs {need}, but the imported run {run.name!r} has only predictions"
        if not run.config and need == "features" and not run.features_path.is_file():
            return f"{scorer.name} needs features; import run {run.name!r} again from a table with features"
        if need == "head" and (reason := _head_unmet(scorer, context)):
            return reason
        if need == "checkpoints" and (found := len(context.checkpoints) if run.config else 0) < least:
            return (
                f"{scorer.name} needs at least {least} checkpoints, found {found} in run {run.name!r}; "
                f"{more_checkpoints(context)}"
            )
        if need == "dynamics" and not run.dynamics_files():
            return (
                f"{scorer.name} needs recorded training (at least two epochs or checkpoints), found none in run "
                f"{run.name!r}; {more_checkpoints(context)}"
            )
        if need == "features" and not run.features_path.is_file():
            reason = context.head.get("reason", "see `hardlook check`")
            return f"{scorer.name} needs features, but there are none: {reason}"
        if need == "influence" and not run.influence_path.is_file():
            return f"{scorer.name} needs influence embeddings; run `{command(context, 'score', '--only', 'influence')}`"
        if need == "labels" and not context.examples["label"].notna().any():
            return f"{scorer.name} needs labels, and no example has one"
        if need == "neighbours" and not run.neighbours_path.is_file():
            return f"{scorer.name} needs neighbours; run `{command(context, 'score', '--only', 'neighbours')}`"
    return scorer.lacks(context)


def _head_unmet(scorer: Scorer, context: Context) -> str | None:
    """Returns why closed forms of the head do not stand for this run; None where they do."""
    if not context.run.config:
        return f"{scorer.name} needs the model's logits, but an imported table holds probabilities"
    if context.head.get("linear"):
        return None
    return f"{scorer.name} is a closed form of a linear head: {context.head.get('reason', 'none was measured')}"
