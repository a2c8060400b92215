"""Runs scorers over shards of an audit: resumable, incremental, with atomic files.

Order of a scoring: predictions of the last checkpoint, then each scorer whose needs are met, in the order of
``scoring.pipeline.score_order``: the queue is ready long before the last of them. With it the measured direction of
every column, and the VoG maps of the extremes. Rows whose example, label and key are unchanged are kept; everything
else is scored again. Inputs → outputs: an audit and a run → files under ``runs/<run>`` and a ``Summary``.

Cost: what each scorer's docstring says; memory follows the shard. Loads torch. Shards run in
this process, or on Ray (``scoring.pipeline.ray_workers``): the numbers are the same.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
import traceback
from collections.abc import Container, Mapping
from dataclasses import fields, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from scoring.audit.errors import HardlookError, first_line
from scoring.audit.storage import atomic_path, digest, read_metadata, write_vectors
from scoring.pipeline import score_file
from scoring.pipeline.needs import unmet
from scoring.pipeline.predictions import merge_vectors, predict
from scoring.pipeline.recomputed_dynamics import recompute_dynamics
from scoring.pipeline.run_record import Summary, directions, notes, record_run
from scoring.pipeline.score_file import is_current, kept_rows, merge_rows, score_key, write_scores
from scoring.pipeline.score_order import QUICK, in_order
from scoring.pipeline.shards import Context, cut, make_shard, resumable, vector_column
from scoring.pipeline.time_plan import DYNAMICS, Plan, make_plan
from scoring.pipeline.vog_maps import write_vog_maps
from scoring.scorers import Scorer, State, find_scorer, registry
from scoring.scorers._checks import check_finished, check_scored, check_setting, infinite, meant
from scoring.scorers.vog import VoG

__all__ = ["Summary", "directions", "make_scorer", "notes", "score_one", "score_run", "unmet"]

NOTES = b"notes"
"""The key of a shard's schema metadata under which ``Shard.notes`` travel."""


def score_run(
    context: Context,
    only: list[str] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    quick: bool = False,
    within: float | None = None,
) -> Summary:
    """Predictions, dynamics and scores of one run, in the order of ``scoring.pipeline.score_order``.

    ``settings``: fields by scorer name, before [run.<name>.scores.<scorer>] of audit.toml, before their own defaults.
    ``quick``: stop once the queue is ready. ``within``: seconds since the context was opened; then the rest is planned.

    A scorer whose needs are not met, or that cannot serve the model, is left out with its reason; where it was asked
    for by name in ``only``, that is an error once the others are done.
    """
    summary, run = Summary(), context.run
    scorers = chosen_scorers(context, only, settings)
    recorded = bool(run.dynamics_files("main"))
    stages = in_order([type(scorer) for scorer in scorers], recorded=recorded)
    stages = {stage: kinds for stage, kinds in stages.items() if not quick or stage in QUICK}
    made = {type(scorer): scorer for scorer in scorers}
    planned = [made[kind] for kinds in stages.values() for kind in kinds]
    n, begun = len(context.examples), 0
    recompute = bool(run.config) and not recorded and len(context.checkpoints) > 1 and bool(stages.get("dynamics"))
    plan: Plan | None = None
    if run.config:
        context.step("predictions", 0, len(planned))
        summary.timed("predictions", n, lambda: predict(context))
        drop_other_models(context, {kind.name for stage in QUICK for kind in stages.get(stage, [])})
    for stage, kinds in stages.items():
        if stage == "dynamics" and recompute and not is_dropped(context, summary, plan, DYNAMICS, kinds, made):
            context.step(DYNAMICS, begun, len(planned))
            summary.timed(DYNAMICS, n, lambda: recompute_dynamics(context))
        for kind in kinds:
            begun += 1
            if kind not in made or is_dropped(context, summary, plan, kind.name, [kind], made):
                continue
            context.step(kind.name, begun, len(planned))
            compute(context, summary, made[kind])
        if stage == "suspicion" and kinds and not only:
            record_run(context, summary, [scorer.name for scorer in planned[:begun]])
            context.say(ready(context))
        if stage == "suspicion" and within is not None and not quick:
            plan = begin_plan(context, planned[begun:], made, within, recompute=recompute)
        if stage in ("dynamics", "views", "influence"):
            renew(context, summary, made)
        if stage == "vog":
            write_maps(context, summary, made)
    write_maps(context, summary, made)
    record_run(context, summary, [scorer.name for scorer in planned])
    summary.notes += [f"{name}: {text}" for name, texts in run.record()["notes"].items() for text in texts]
    if only:
        refuse_left_out(summary.skipped)
    return summary


def refuse_left_out(skipped: Mapping[str, str]) -> None:
    """Raises ``HardlookError`` with the reasons of what was asked for and could not be computed."""
    if skipped:
        raise HardlookError(
            "; ".join(reason if reason.startswith(name) else f"{name}: {reason}" for name, reason in skipped.items())
        )


def begin_plan(
    context: Context, left: list[Scorer], made: dict[type[Scorer], Scorer], within: float, *, recompute: bool
) -> Plan:
    """Plan what is left, say it, and put the planned settings into ``made``."""
    begun = time.perf_counter()
    plan = make_plan(context, left, within - (begun - context.started), recompute=recompute)
    for line in plan.lines():
        context.say(line)
    for step in plan.steps:
        if step.fits and step.scorer is not None:
            made[type(step.scorer)] = step.scorer
            if step.lowered:
                context.planned[step.scorer.name] = f"lowered to fit into --within: {step.lowered}"
    plan.ends = context.started + within
    return plan


def is_dropped(
    context: Context,
    summary: Summary,
    plan: Plan | None,
    name: str,
    kinds: list[type[Scorer]],
    made: dict[type[Scorer], Scorer],
) -> bool:
    """Returns whether a step of a plan is left out, now that its turn comes; the scores of ``kinds`` are then not
    made, and files that another model wrote of them do not stay."""
    if plan is None or not plan.leaves_out(name):
        return False
    for kind in kinds:
        if kind in made:
            summary.skipped[kind.name] = plan.reason(context)
            drop_outdated(context, made.pop(kind))
    return True


def chosen_scorers(
    context: Context, only: list[str] | None = None, settings: Mapping[str, Mapping[str, Any]] | None = None
) -> list[Scorer]:
    """The scorers that are asked for, with their settings. Raises ``HardlookError`` for a name or setting that there is
    not."""
    kinds = [find_scorer(name) for name in only] if only else list(registry().values())
    for name in (*context.run.config.get("scores", {}), *(settings or {})):
        find_scorer(name)  # settings of a score that there is not are a slip of the pen, and refused
    return [
        make_scorer(
            kind, {**context.run.config.get("scores", {}).get(kind.name, {}), **(settings or {}).get(kind.name, {})}
        )
        for kind in dict.fromkeys(kinds)
    ]


def compute(context: Context, summary: Summary, scorer: Scorer) -> None:
    """Run one scorer, or keep why it is left out."""
    summary.skipped.pop(scorer.name, None)
    reason = unmet(scorer, context) or attempt(summary, context, scorer)
    if reason:
        summary.skipped[scorer.name] = reason
        drop_outdated(context, scorer)


def renew(context: Context, summary: Summary, made: Mapping[type[Scorer], Scorer]) -> None:
    """Compute what reads the other scores' files again, where these have changed since."""
    for kind, scorer in made.items():
        path = context.run.score_path(scorer.name)
        if "scores" in kind.needs and not (path.is_file() and is_current(path, score_key(context, scorer), scorer)):
            compute(context, summary, scorer)


def write_maps(context: Context, summary: Summary, made: Mapping[type[Scorer], Scorer]) -> None:
    """The VoG maps of the extremes that have none yet."""
    vog = next((scorer for scorer in made.values() if isinstance(scorer, VoG)), None)
    if vog is not None and "vog" not in summary.skipped and context.run.score_path("vog").is_file():
        summary.timed("VoG maps", len(context.examples), partial(write_vog_maps, context, vog))


def ready(context: Context) -> str:
    """Returns that the queue can be looked at, and how."""
    seconds = time.perf_counter() - context.started
    return f"the queue is ready after {seconds:.0f} s: hardlook dashboard {context.audit.root}"


def attempt(summary: Summary, context: Context, scorer: Scorer) -> str | None:
    """Run one scorer; → None, or why it cannot serve this model: it then takes no other scorer with it.

    What is no fault of the model (a full disk, no memory, an interruption) is raised. What is no ``HardlookError`` has
    its traceback in the run's ``failed`` folder.
    """
    failed = context.run.failed_path(scorer.name)
    try:
        summary.timed(scorer.name, len(context.examples), lambda: score_one(context, scorer.sized(context)))
    except HardlookError as error:
        return str(error)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  a scorer may raise anything: the trace is kept and the others go on
        with atomic_path(failed) as temporary:
            temporary.write_text(traceback.format_exc(), encoding="utf8")
        return (
            f"{scorer.name} failed on this model: {type(error).__name__}: {first_line(error)}; the traceback is in "
            f"{failed}"
        )
    failed.unlink(missing_ok=True)
    return None


def drop_outdated(context: Context, scorer: Scorer) -> None:
    """Remove the file of a score that is left out now, unless it is of the same model, settings and data."""
    with contextlib.suppress(HardlookError):  # what is wrong was the reason to leave it out
        scorer = scorer.sized(context)
    path = context.run.score_path(scorer.name)
    if path.is_file() and not is_current(path, score_key(context, scorer), scorer):
        path.unlink()
        context.say(f"{scorer.name}: removed the scores of an earlier scoring with another model or other settings")


def drop_other_models(context: Context, soon: Container[str]) -> None:
    """Remove the scores that were made of another model than the one that is predicted with now, so that no ranking
    mixes the two. ``soon``: those that this command is about to replace."""
    kinds = registry()
    for name in [one for one in context.run.score_names() if one not in soon]:
        kind = kinds.get(name)
        if kind is None or "scores" in kind.needs or is_of_model(context, kind) is not False:
            continue
        for path in (context.run.score_path(name), *(context.run.vectors_path(one) for one in kind.vectors)):
            path.unlink(missing_ok=True)
        context.say(f"{name}: removed the scores of an earlier scoring with another model")


def is_of_model(context: Context, kind: type[Scorer]) -> bool | None:
    """Returns whether a score's file is of the model as it is now; None where that cannot be told."""
    facts = read_metadata(context.run.score_path(kind.name))
    if "model" in facts:
        return facts["model"] == context.key
    if "checkpoints" not in kind.needs:
        return None
    try:  # a file that does not name its model
        return facts.get("key") == score_key(context, make_scorer(kind, facts.get("parameters", {})))
    except HardlookError:
        return None


def make_scorer(kind: type[Scorer], settings: Mapping[str, Any]) -> Scorer:
    """The scorer with some of its fields set; an unknown field is an error that lists the known ones."""
    known = {field.name: field.default for field in fields(kind)}
    for key, value in settings.items():
        if key not in known:
            raise HardlookError(f"{kind.name} has no setting {key!r}{meant(key, known)}")
        check_setting(kind.name, key, known[key], value)
    return replace(kind(), **settings)


def score_one(context: Context, scorer: Scorer) -> int:
    """Score what is new or stale with one scorer and write its file; returns how many examples were scored."""
    run, examples = context.run, context.examples
    path = run.score_path(scorer.name)
    key = score_key(context, scorer)
    kept = kept_rows(path, key, examples, scorer)
    context.notes = list(read_metadata(path).get("notes", [])) if (kept >= 0).any() else []
    if not all(run.vectors_path(name).is_file() for name in scorer.vectors):
        kept[:] = -1
    if scorer.name in context.planned:
        context.note(context.planned[scorer.name])
    everything = digest([examples[c].fillna("").tolist() for c in ("example_id", "fingerprint", "label", "split")])
    if scorer.together and (kept >= 0).any() and read_metadata(path).get("examples") != everything:
        kept[:] = -1
    todo = np.flatnonzero(kept < 0)
    if path.is_file() and len(todo) == 0 and read_metadata(path).get("examples") == everything:
        shutil.rmtree(run.parts_folder(scorer.name), ignore_errors=True)  # of a command that was killed at its very end
        return 0
    state = scorer.fit(context, run.parts_folder(scorer.name))
    workers = context.workers if "checkpoints" in scorer.needs else None
    size = context.shard_size if "checkpoints" in scorer.needs else 1 << 16
    parts = run.parts_folder(scorer.name) / "shards"
    ids = examples[["example_id", "fingerprint", "label"]].iloc[todo].fillna("")
    tables = resumable(
        parts,
        digest([key, score_file.scorer_code(type(scorer)), ids.to_numpy().tolist()]),
        cut(todo, size),
        lambda at: score_shard(context, scorer, state, at),
        context.progress,
        scorer.name,
        workers.scoring(context, scorer, state) if workers else map,
    )
    for table in tables:
        for text in json.loads((table.schema.metadata or {}).get(NOTES, b"[]")):
            context.note(text)
    columns = merge_rows(path, kept, todo, tables, scorer)
    for name in scorer.vectors:
        vectors = merge_vectors(run.vectors_path(name), kept, todo, tables, name)
        if vectors is not None:
            write_vectors(run.vectors_path(name), examples["example_id"].tolist(), vectors)
    columns = check_finished(scorer, scorer.finish(columns, examples_frame(context)), len(examples))
    for text in infinite(columns):
        context.note(text)
    facts = {
        "key": key,
        "model": context.key if run.config else None,
        "code": score_file.scorer_code(type(scorer)),
        "examples": everything,
        "notes": context.notes,
    }
    write_scores(context, scorer, columns, facts)
    shutil.rmtree(run.parts_folder(scorer.name), ignore_errors=True)
    return len(todo)


def score_shard(context: Context, scorer: Scorer, state: State, positions: np.ndarray) -> pa.Table:
    """One shard's columns as a table aligned with ``positions``; unreadable examples are NaN."""
    shard, at = make_shard(context, scorer, positions)
    finishes = type(scorer).finish is not Scorer.finish
    scored = check_scored(scorer, scorer.score(shard, state), len(shard), finishes=finishes) if len(shard) else {}
    columns = {}
    for name, values in scored.items():
        full = np.full((len(positions), *values.shape[1:]), np.nan, dtype=np.float32)
        full[at] = values
        columns[name] = vector_column(full) if name in scorer.vectors else full
    columns = columns or {c.name: np.full(len(positions), np.nan, np.float32) for c in scorer.columns}
    return pa.table(columns).replace_schema_metadata({NOTES: json.dumps(shard.notes)})


def examples_frame(context: Context) -> pd.DataFrame:
    """Returns what ``finish`` sees of each example: example_id, split, label and prediction (class names)."""
    frame = context.examples[["example_id", "split", "label"]].copy()
    frame["prediction"] = None
    if context.run.logits_path.is_file():
        names = np.asarray([*context.audit.classes, None], dtype=object)
        frame["prediction"] = names[context.predicted[0]]
    return frame
