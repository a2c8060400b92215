"""Runs scorers over shards of an audit: resumable, incremental, with atomic files.

Order of a scoring: read the data again, check it, predictions of the last checkpoint, dynamics (recorded, else
recomputed from the checkpoints), then each scorer whose needs are met, the measured direction of every column, and
the VoG maps of the extremes. Rows whose example, label and key are unchanged are kept; everything else is scored
again. Inputs → outputs: an audit and a run → files under ``runs/<run>`` and a ``Summary``.

Cost: what each scorer's docstring says; memory follows the shard. Loads torch. Shards run in
this process, or on Ray (``scoring.pipeline.ray_workers``): the numbers are the same.
"""

from __future__ import annotations

import json
import shutil
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

import scoring
from scoring.audit.errors import HardlookError, first_line
from scoring.audit.storage import atomic_path, digest, read_metadata, read_table, write_vectors
from scoring.evaluation import measured_direction
from scoring.pipeline import score_file
from scoring.pipeline.peak_memory import peak_memory
from scoring.pipeline.predictions import merge_vectors, predict, recompute_dynamics
from scoring.pipeline.score_file import is_current, kept_rows, merge_rows, score_key, write_scores
from scoring.pipeline.shards import Context, cut, make_shard, resumable, vector_column
from scoring.pipeline.vog_maps import write_vog_maps
from scoring.scorers import Scorer, State, find_scorer, registry
from scoring.scorers._checks import check_finished, check_scored, check_setting, infinite, meant
from scoring.scorers.vog import VoG

if TYPE_CHECKING:
    from scoring.audit import Run

NOTES = b"notes"
"""The key of a shard's schema metadata under which ``Shard.notes`` travel."""


@dataclass
class Summary:
    """What a scoring did: per pass how many examples were computed of how many, seconds and peak memory (GB), and
    what was left out."""

    passes: list[dict[str, Any]] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def timed(self, name: str, total: int, work: Callable[[], int]) -> None:
        """Run ``work`` → how many examples it computed, and keep the time and the peak memory."""
        start = time.perf_counter()
        with peak_memory() as memory:
            computed = work()
        self.passes.append(
            {
                "name": name,
                "computed": computed,
                "of": total,
                "seconds": round(time.perf_counter() - start, 2),
                **memory,
            }
        )


def score_run(
    context: Context, only: list[str] | None = None, settings: Mapping[str, Mapping[str, Any]] | None = None
) -> Summary:
    """Predictions, dynamics and scores of one run.

    ``settings`` sets scorer fields by scorer name, before [run.<name>.scores.<scorer>] of audit.toml, before the
    fields' own defaults.

    A scorer whose needs are not met, or that cannot serve the model, is left out with its reason; where it was asked
    for by name in ``only``, that is an error once the others are done.
    """
    summary = Summary()
    chosen = [find_scorer(name) for name in only] if only else list(registry().values())
    later = ("scores", "neighbours", "influence")
    chosen.sort(key=lambda kind: (*(need in kind.needs for need in later), kind.name))
    for name in context.run.config.get("scores", {}):
        find_scorer(name)  # settings of a score that there is not are a slip of the pen, and refused
    given = {
        name: {**context.run.config.get("scores", {}).get(name, {}), **(settings or {}).get(name, {})}
        for name in [kind.name for kind in chosen]
    }
    scorers = [make_scorer(kind, given[kind.name]) for kind in chosen]
    n = len(context.examples)
    if context.run.config:
        summary.timed("predictions", n, lambda: predict(context))
        if not context.run.dynamics_files("main") and len(context.checkpoints) > 1:
            summary.timed("dynamics from checkpoints", n, lambda: recompute_dynamics(context))
    for scorer in scorers:
        reason = unmet(scorer, context) or attempt(summary, context, scorer)
        if reason:
            summary.skipped[scorer.name] = reason
            drop_outdated(context, scorer)
    record_run(context, summary, [scorer.name for scorer in scorers])
    summary.notes += [f"{name}: {text}" for name, texts in context.run.record()["notes"].items() for text in texts]
    vog = next((scorer for scorer in scorers if isinstance(scorer, VoG)), None)
    if vog is not None and "vog" not in summary.skipped:
        summary.timed("VoG maps", n, partial(write_vog_maps, context, vog))
    if only and summary.skipped:
        raise HardlookError(
            "; ".join(
                reason if reason.startswith(name) else f"{name}: {reason}" for name, reason in summary.skipped.items()
            )
        )
    return summary


def attempt(summary: Summary, context: Context, scorer: Scorer) -> str | None:
    """Run one scorer; → None, or why it cannot serve this model: it then takes no other scorer with it.

    What is no fault of the model (a full disk, no memory, an interruption) is raised. What is no ``HardlookError`` has
    its traceback in the run's ``failed`` folder.
    """
    failed = context.run.failed_path(scorer.name)
    try:
        summary.timed(scorer.name, len(context.examples), lambda: score_one(context, scorer))
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
    path = context.run.score_path(scorer.name)
    if path.is_file() and not is_current(path, score_key(context, scorer), scorer):
        path.unlink()
        context.say(f"{scorer.name}: removed the scores of an earlier scoring with another model or other settings")


def make_scorer(kind: type[Scorer], settings: Mapping[str, Any]) -> Scorer:
    """The scorer with some of its fields set; an unknown field is an error that lists the known ones."""
    known = {field.name: field.default for field in fields(kind)}
    for key, value in settings.items():
        if key not in known:
            raise HardlookError(f"{kind.name} has no setting {key!r}{meant(key, known)}")
        check_setting(kind.name, key, known[key], value)
    return replace(kind(), **settings)


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
                f"{scorer.name} needs at least {least} checkpoints, found {found} in run {run.name!r}; keep more with "
                f"Recorder(every=1), or run `hardlook train {context.audit.root}`"
            )
        if need == "dynamics" and not run.dynamics_files():
            return (
                f"{scorer.name} needs recorded training (at least two epochs or checkpoints), found none in run "
                f"{run.name!r}; record it with scoring.training.Recorder, or run `hardlook train {context.audit.root}`"
            )
        if need == "features" and not run.features_path.is_file():
            reason = context.head.get("reason", "see `hardlook check`")
            return f"{scorer.name} needs features, but there are none: {reason}"
        if need == "influence" and not run.influence_path.is_file():
            return (
                f"{scorer.name} needs influence embeddings; run `hardlook score {context.audit.root} --only influence`"
            )
        if need == "labels" and not context.examples["label"].notna().any():
            return f"{scorer.name} needs labels, and no example has one"
        if need == "neighbours" and not run.neighbours_path.is_file():
            return f"{scorer.name} needs neighbours; run `hardlook score {context.audit.root} --only neighbours`"
    return scorer.lacks(context)


def _head_unmet(scorer: Scorer, context: Context) -> str | None:
    """Returns why closed forms of the head do not stand for this run; None where they do."""
    if not context.run.config:
        return f"{scorer.name} needs the model's logits, but an imported table holds probabilities"
    if context.head.get("linear"):
        return None
    return f"{scorer.name} is a closed form of a linear head: {context.head.get('reason', 'none was measured')}"


def score_one(context: Context, scorer: Scorer) -> int:
    """Score what is new or stale with one scorer and write its file; returns how many examples were scored."""
    run, examples = context.run, context.examples
    path = run.score_path(scorer.name)
    key = score_key(context, scorer)
    kept = kept_rows(path, key, examples, scorer)
    context.notes = list(read_metadata(path).get("notes", [])) if (kept >= 0).any() else []
    if not all(run.vectors_path(name).is_file() for name in scorer.vectors):
        kept[:] = -1
    todo = np.flatnonzero(kept < 0)
    everything = digest([examples[c].fillna("").tolist() for c in ("example_id", "fingerprint", "label", "split")])
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
    facts = {"key": key, "code": score_file.scorer_code(type(scorer)), "examples": everything, "notes": context.notes}
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


def record_run(context: Context, summary: Summary, chosen: list[str]) -> None:
    """Put checkpoints, settings, versions, timings and measured directions into ``run.json``. What is left out is
    renewed for the ``chosen`` scorers and kept for the others."""
    import torch

    run = context.run
    before = run.record().get("skipped") or {}
    skipped = {name: reason for name, reason in before.items() if name not in chosen} | summary.skipped
    facts: dict[str, Any] = {
        "name": run.name,
        "directions": directions(context),
        "skipped": skipped,
        "notes": {**loading_notes(context), **notes(run)},
        "passes": summary.passes or run.record().get("passes", []),
        "versions": {"hardlook": scoring.__version__, "torch": torch.__version__, "numpy": np.__version__},
        "configuration": dict(run.config),
    }
    if run.config:
        facts["checkpoints"] = [
            {"path": context.audit.reference(c.path), "sha256": c.sha256, "when": c.when, "weights": c.kind}
            for c in context.checkpoints
        ]
    run.add_to_record(**facts)


def loading_notes(context: Context) -> dict[str, list[str]]:
    """Returns what finding and loading the checkpoints had to say (which of two kinds of weights was taken, and from
    where)."""
    if not context.run.config:
        return {}
    sentences = [*(note for each in context.checkpoints for note in each.notes), *context.model.notes]
    before = context.run.record()
    same = [each["sha256"] for each in before.get("checkpoints", [])] == [each.sha256 for each in context.checkpoints]
    if same and not context.model.notes:  # nothing was loaded this time, or loading had nothing to say before either
        sentences += before.get("notes", {}).get("checkpoints", [])
    return {"checkpoints": list(dict.fromkeys(sentences))} if sentences else {}


def notes(run: Run) -> dict[str, list[str]]:
    """Returns what each score has to say of this run: scorer → sentences, read from the files of the scores."""
    paths = {"predictions": run.predictions_path, **{name: run.score_path(name) for name in run.score_names()}}
    found = {name: read_metadata(path).get("notes", []) for name, path in paths.items() if path.is_file()}
    return {name: texts for name, texts in found.items() if texts}


def directions(context: Context) -> dict[str, dict[str, Any]]:
    """The measured hard end of every score column: on test where it has labels, else on train."""
    run = context.run
    if not run.predictions_path.is_file():
        return {}
    frame = read_table(run.predictions_path, ["example_id", "split", "correct"]).to_pandas()
    frame = frame[frame["correct"].notna()].set_index("example_id")
    split = "test" if (frame["split"] == "test").any() else "train"
    errors = ~frame.loc[frame["split"] == split, "correct"].astype(bool)
    found = {}
    for name in run.score_names():
        scores = read_table(run.score_path(name)).to_pandas().set_index("example_id")
        scores = scores.reindex(errors.index)
        for column in scores.columns.drop(["fingerprint", "label"]):
            measured = measured_direction(scores[column].to_numpy(dtype=float), errors.to_numpy())
            found[f"{name}.{column}"] = {**measured, "split": split}
    return found
