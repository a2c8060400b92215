"""The command of hardlook that a sentence names, valid for one run: with its audit, and ``--run`` where it needs it.

An opened run → the text to type. Cost: none.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scoring.scorers._contract import RunContext


def command(context: RunContext, name: str, *options: str) -> str:
    """``hardlook NAME AUDIT``, with the run where it is not the audit's first."""
    first = context.audit.run_names()[:1] == [context.run.name]
    of = [] if first else ["--run", context.run.name]
    return shlex.join(["hardlook", name, str(context.audit.root), *of, *options])


def more_checkpoints(context: RunContext) -> str:
    """Returns how this run comes to more checkpoints: by its own training, or by hardlook's where that is the one that
    made them."""
    pattern, own = context.run.config.get("checkpoints"), f"checkpoints/{context.run.name}/"
    if pattern is None or (isinstance(pattern, str) and pattern.startswith(own)):
        return f"run `{command(context, 'train')}`"
    return (
        f"keep some of the same training with scoring.training.Recorder and name them in [run.{context.run.name}], "
        f'checkpoints = "{own}*.pt"'
    )
