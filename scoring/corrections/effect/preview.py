"""The effect of the review's corrections: predicted from influence embeddings, and measured by refitting the head.

The reviewed labels of train (verdicts through the policy) are compared with the original ones: the influence-predicted
change of loss for each slice, each class and the whole test set (Koh and Liang 2017), and the accuracy of a head
refitted on original, reviewed and placebo labels with paired intervals (Picard et al. 2022, section 4). Slices are
found on one half of the test examples and everything is judged on the other half, which did not choose them. Test
examples that were reviewed count with their corrected label; excluded ones are left out.

Inputs: a scored run with features and influence embeddings, and the review log; output: ``runs/<run>/refit.json``.
Cost: two embeddings of each edited example (the only part that needs torch) and a few logistic regressions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scoring.audit import Audit, Run
from scoring.audit.errors import HardlookError
from scoring.audit.storage import read_table, read_vectors, write_json
from scoring.corrections.effect.head_refit import REMOVED, halves, refit
from scoring.corrections.effect.predicted import predicted_changes, predicted_table
from scoring.corrections.label_patch import corrected_labels
from scoring.reviews import ReviewLog
from scoring.slices import assign_to_slices
from scoring.slices.slicing_run import Embedded, SliceSettings, embedded, find

if TYPE_CHECKING:
    from scoring.scorers import RunContext

MOST_CLASSES = 50


@dataclass(frozen=True)
class Corrections:
    """The training examples whose label the review changes: ids, rows among the embedded, and label indices (n,).

    ``original`` and ``reviewed`` cover every embedded training example, −1 where one is removed."""

    train: Embedded
    original: np.ndarray
    reviewed: np.ndarray

    @property
    def edited(self) -> np.ndarray:
        """Rows whose label changes."""
        return np.flatnonzero(self.original != self.reviewed)


def reviewed_labels(audit: Audit, log: ReviewLog, frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """(n,) label indices as given, and as the review and the policy leave them, −1 for excluded ones.

    ``frame``: example_id and label. Examples that wait for a second reader keep their label.
    """
    position = {name: number for number, name in enumerate(audit.classes)}
    examples = read_table(audit.examples_path, ["example_id", "split", "label", "fingerprint"]).to_pandas()
    patch = corrected_labels(examples, log, audit.policy).set_index("example_id")
    patch = patch.reindex(frame["example_id"])
    original = frame["label"].map(position).to_numpy(dtype=int)
    new = patch["new_label"].map(position)
    relabelled = (patch["disposition"] == "relabel").to_numpy() & new.notna().to_numpy()
    reviewed = np.where(relabelled, new.fillna(-1).to_numpy(dtype=int), original)
    return original, np.where((patch["disposition"] == "exclude").to_numpy(), REMOVED, reviewed)


def refit_audit(audit: Audit, run: Run, context: RunContext, log_url: str | None = None) -> dict[str, Any]:
    """Returns the ``preview`` of the decisions so far, kept in the run's folder for the pages. ``log_url``: of the
    review log, where it is not the audit's own."""
    url = log_url or audit.log_url
    with run.lock(), ReviewLog.open(url, audit=audit.log_name(url)) as log:
        found = preview(audit, run, log, embedder(context))
        write_json(run.refit_path, found)
    return found


def preview(
    audit: Audit,
    run: Run,
    log: ReviewLog,
    embed_again: Callable[[np.ndarray, np.ndarray], np.ndarray],
    *,
    settings: SliceSettings | None = None,
    n_placebo: int = 3,
) -> dict[str, Any]:
    """Predicted change of loss and refitted accuracies per slice and class, as a plain record.

    ``embed_again(ids, labels)``: (k, r) embeddings of training examples with other labels (``embedder`` makes it).
    Raises ``HardlookError`` where the review changed no training label, or the run has no features.
    """
    settings = settings or SliceSettings(seed=audit.seed)
    everything = embedded(audit, run)
    corrections = _corrections(audit, log, everything)
    judged, judged_labels, groups = _judged(audit, log, everything, settings)
    changes = predicted_changes(judged.vectors, *_moved(corrections, embed_again))
    predicted = predicted_table(changes, {"all": np.ones(len(changes), bool), **groups})
    features = _features(run, corrections.train), _features(run, judged)
    accuracies = refit(
        features[0],
        corrections.original,
        corrections.reviewed,
        features[1],
        judged_labels,
        groups,
        l2=run.config.get("l2") or 1e-3,
        n_placebo=n_placebo,
        seed=settings.seed,
    )
    table = accuracies.merge(predicted[["group", "change"]], on="group", how="left")
    edited = corrections.edited
    return {
        "edits": {
            "relabelled": int((corrections.reviewed[edited] != REMOVED).sum()),
            "removed": int((corrections.reviewed[edited] == REMOVED).sum()),
            "train": len(corrections.original),
        },
        "judged_on": {
            "examples": len(judged_labels),
            "split": settings.split,
            "how": "test examples that were not used to find the slices, with reviewed labels where they exist",
        },
        "placebo": f"{n_placebo} times the same number and kinds of edits on random examples, averaged",
        "position": log.position(),
        "groups": table.astype(object).where(table.notna(), None).to_dict("records"),
    }


def _corrections(audit: Audit, log: ReviewLog, everything: Embedded) -> Corrections:
    train = everything.of("train")
    original, reviewed = reviewed_labels(audit, log, train.frame)
    if (original == reviewed).all():
        raise HardlookError(
            "the review has not changed any training label yet, so there is no effect to estimate; correct some "
            "suspects first, or set in [policy] which verdicts and issues exclude an example"
        )
    return Corrections(train, original, reviewed)


def _judged(
    audit: Audit, log: ReviewLog, everything: Embedded, settings: SliceSettings
) -> tuple[Embedded, np.ndarray, dict[str, np.ndarray]]:
    """The half of the test examples that judges, their best known labels, and its slices and classes as masks."""
    part = everything.of(settings.split)
    choosing = halves(part.frame["example_id"], seed=settings.seed)
    if choosing.all() or not choosing.any():
        raise HardlookError(
            f"{len(part.frame)} labelled {settings.split} examples are too few to evaluate on; needed at least 20"
        )
    chooser = Embedded(part.frame[choosing].reset_index(drop=True), part.vectors[choosing])
    n_slices = max(1, min(settings.n_slices, int(choosing.sum()) // 20))
    found = find(chooser, replace(settings, n_slices=n_slices))["slice_id"].to_numpy()
    _, reviewed = reviewed_labels(audit, log, part.frame)
    judging = np.flatnonzero(~choosing & (reviewed != REMOVED))
    judged = Embedded(part.frame.iloc[judging].reset_index(drop=True), part.vectors[judging])
    slices = assign_to_slices(judged.vectors, chooser.vectors, found)
    groups = {f"slice {number}": slices == number for number in range(found.max(initial=-1) + 1)}
    labels = reviewed[judging]
    for number in np.unique(labels)[:MOST_CLASSES]:
        groups[f"class {audit.classes[number]}"] = labels == number
    return judged, labels, groups


def _moved(
    corrections: Corrections, embed_again: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> tuple[np.ndarray, int, np.ndarray]:
    """Embeddings of the edited examples before, the number of training examples, and embeddings after."""
    edited = corrections.edited
    before = corrections.train.vectors[edited]
    after = np.zeros_like(before)
    relabelled = corrections.reviewed[edited] != REMOVED
    if relabelled.any():
        ids = corrections.train.frame["example_id"].to_numpy()[edited[relabelled]]
        after[relabelled] = embed_again(ids, corrections.reviewed[edited[relabelled]])
    return before, len(corrections.original), after


def _features(run: Run, part: Embedded) -> np.ndarray:
    """(n, d) features of these examples."""
    if not run.features_path.is_file():
        why = (run.record().get("head") or {}).get("reason", "they were not computed")
        raise HardlookError(
            f"run {run.name!r} has no features ({why}): the head cannot be refitted; retrain the whole model on the "
            "exported labels instead"
        )
    ids, values = read_vectors(run.features_path)
    return values[pd.Index(ids).get_indexer(part.frame["example_id"])]


def embedder(context: RunContext) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The function that embeds training examples with other labels, at the run's last checkpoint. Loads torch.

    ``context``: a ``scoring.scorers.RunContext``.
    """

    def embed_again(ids: np.ndarray, labels: np.ndarray) -> np.ndarray:
        import torch

        from scoring.influence import InfluenceFactors

        factors = InfluenceFactors.load(context.run.factors_path)
        positions = pd.Index(context.examples["example_id"]).get_indexer(ids)
        inputs, good, _ = context.inputs.batch(positions, context.pool)
        vectors = np.zeros((len(ids), factors.rank), np.float32)
        with context.model.at(context.checkpoints[-1]) as module:
            vectors[good] = factors.embed(module, [(inputs, torch.as_tensor(labels[good]))])
        return vectors

    return embed_again
