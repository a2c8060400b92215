"""Scores a run of an audit from its data on: reads the data, checks the run, and computes every score that it can.

``score_audit`` is what ``hardlook score`` and a notebook call. It holds the run's lock while it works; whoever calls it
hears sentences (``say``) and progress.

Inputs → outputs: an audit and a run → files under ``runs/<run>`` and a ``Summary``. Cost: what the scores cost; a call
with nothing to do reads the names, sizes and times of the files, and little more. Loads torch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from scoring.audit import Audit, Run
from scoring.audit.errors import HardlookError
from scoring.audit.progress import Progress, silent
from scoring.audit.under_way import under_way
from scoring.models import load_transform
from scoring.models.checkpoints import describe_order
from scoring.pipeline.check import check_scored, refuse_errors
from scoring.pipeline.first_pass import first_pass
from scoring.pipeline.ray_workers import RayWorkers
from scoring.pipeline.read_data import Say, read_data, unheard
from scoring.pipeline.score_run import Summary, chosen_scorers, score_run
from scoring.pipeline.shards import Context
from scoring.scorers import find_scorer, registry


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
    with run.lock(), under_way(run) as shown, _ray(workers) as found:
        context = Context(audit, run, device=device, progress=shown.over(progress), say=say, step=shown.step)
        context.workers = found
        names = full_names(only) if only else None
        chosen_scorers(context, names, settings)
        context.step("reading the data", 0, 0)
        if run.config:
            say(f"checkpoints: {describe_order(context.checkpoints)}")
        if read:
            meet = first_pass(context, fitted_transform(context), anyway=anyway) if run.config else None
            read_data(audit, progress=context.progress, say=say, meet=meet)
        if run.config:
            findings = check_scored(context)
            for finding in findings:
                say(f"check: {finding.level}: {finding.text}")
            if not anyway:
                refuse_errors(findings)
        if cross_validate:
            from scoring.pipeline.retraining.cross_validation import cross_validate as train_folds

            say(train_folds(context, cross_validate))
        return score_run(context, names, settings, quick=quick, within=within)


def full_names(only: Sequence[str]) -> list[str]:
    """The names of scores, of which unique beginnings stand for the whole. Raises ``HardlookError`` for others.

    >>> full_names(["vog", "near", "label"])
    ['vog', 'near_duplicates', 'label_quality']
    """
    known = registry()
    found = []
    for name in only:
        meant = [name] if name in known else [full for full in known if name and full.startswith(name)]
        if len(meant) > 1:
            raise HardlookError(f"{name!r} is the beginning of several scores: {', '.join(meant)}; write one of them")
        found.append(meant[0] if meant else find_scorer(name).name)
    return found


def fitted_transform(context: Context) -> Callable[[Any], torch.Tensor]:
    """The transform, once the last checkpoint is known to fit the model; what is wrong with either is an error."""
    context.built.state(context.checkpoints[-1])
    return load_transform(context.run.config.get("transform"), context.audit.root, media=context.audit.media)


def _ray(address: str | None) -> contextlib.AbstractContextManager[RayWorkers | None]:
    """A context of Ray's workers, or of None: shards then run in this process."""
    return contextlib.nullcontext() if address is None else RayWorkers(address)
