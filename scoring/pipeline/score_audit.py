"""Scores a run of an audit from its data on: reads the data, checks the run, and computes every score that it can.

``score_audit`` is what ``hardlook score`` and a notebook call. It holds the run's lock while it works; whoever calls it
hears sentences (``say``) and progress.

Inputs → outputs: an audit and a run → files under ``runs/<run>`` and a ``Summary``. Cost: what the scores cost; a call
with nothing to do reads the names, sizes and times of the files, and little more. Loads torch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from scoring.audit import Audit, Run
from scoring.audit.progress import Progress, silent
from scoring.models.checkpoints import describe_order
from scoring.pipeline.check import check_run, refuse_errors
from scoring.pipeline.ray_workers import RayWorkers
from scoring.pipeline.read_data import Say, read_data, unheard
from scoring.pipeline.score_run import Summary, score_run
from scoring.pipeline.shards import Context


def score_audit(
    audit: Audit,
    run: Run,
    *,
    device: str = "auto",
    only: Sequence[str] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    quick: bool = False,
    within: float | None = None,
    anyway: bool = False,
    workers: str | None = None,
    cross_validate: int | None = None,
    read: bool = True,
    progress: Progress = silent,
    say: Say = unheard,
) -> Summary:
    """Returns what was computed and what was left out, once every score of the run is written.

    ``only``: the names of scores (unique beginnings do); ``settings``: scorer → field → value. ``quick``: stop once the
    queue is ready. ``within``: seconds that all may take. ``anyway``: score even if the check finds errors.
    ``workers``: an address of Ray, or "local". ``cross_validate``: train so many models first, for out-of-fold
    probabilities. ``read``: False where the data has just been read.
    """
    if read:
        read_data(audit, progress=progress, say=say)
    with run.lock(), _ray(workers) as found:
        context = Context(audit, run, device=device, progress=progress, say=say)
        context.workers = found
        if run.config:
            say(f"checkpoints: {describe_order(context.checkpoints)}")
            findings = check_run(context)
            for finding in findings:
                say(f"check: {finding.level}: {finding.text}")
            if not anyway:
                refuse_errors(findings)
        if cross_validate:
            from scoring.pipeline.retraining.cross_validation import cross_validate as train_folds

            say(train_folds(context, cross_validate))
        return score_run(context, list(only) if only else None, settings)


def _ray(address: str | None) -> contextlib.AbstractContextManager[RayWorkers | None]:
    """A context of Ray's workers, or of None: shards then run in this process."""
    return contextlib.nullcontext() if address is None else RayWorkers(address)
