"""What a scoring did: the ``Summary`` that a command prints, and the record that ``run.json`` keeps of a run.

Passes, files of scores → timings, notes, reasons, measured directions. Cost: one read of the score files. Limits: peak
memory is the process's own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import scoring
from scoring.audit import Run
from scoring.audit.storage import read_metadata, read_table
from scoring.evaluation import measured_direction
from scoring.pipeline.peak_memory import peak_memory
from scoring.pipeline.shards import Context


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
        seconds = time.perf_counter() - start
        before = next((one for one in self.passes if one["name"] == name), None)
        if before is None:
            self.passes.append(
                {"name": name, "computed": computed, "of": total, "seconds": round(seconds, 2), **memory}
            )
            return
        before |= {key: max(value, before.get(key, 0.0)) for key, value in memory.items()}
        before |= {"computed": max(computed, before["computed"]), "seconds": round(before["seconds"] + seconds, 2)}


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
        facts["classes"] = context.audit.classes
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
