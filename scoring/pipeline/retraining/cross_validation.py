"""Out-of-fold probabilities: each training example is predicted by a model that was not trained on it.

The labelled training examples are dealt into K folds, the run's model is trained K times on all folds but one, and
gives the class probabilities of the fold left out. Label-issue finders ask for such probabilities (Northcutt et al.
2021, section 3), and the suggested label comes from them where they are.

Output: ``runs/<run>/out_of_fold.arrow``, (n, c), of the labelled training examples. Cost: K trainings on (K−1)/K of
the examples; a killed command goes on in the fold that it was in.
"""

from __future__ import annotations

import numpy as np

from scoring.audit.storage import digest, vectors_metadata, write_vectors
from scoring.evaluation.probabilities import softmax
from scoring.pipeline.retraining.subset_training import Retraining
from scoring.pipeline.shards import Context


def cross_validate(context: Context, folds: int, *, epochs: int | None = None) -> str:
    """Write the out-of-fold probabilities; returns a sentence about what was done.

    Probabilities that were made by the same settings, for the same examples and labels, are left alone.
    """
    work, path = Retraining(context, epochs), context.run.out_of_fold_path
    fold = work.assign_folds(folds, context.audit.seed)
    ids = work.examples["example_id"].tolist()
    key = digest([work.key, ids, np.asarray(work.data.labels).tolist(), fold.tolist(), context.audit.seed])
    if path.is_file() and vectors_metadata(path).get("key") == key:
        work.forget(*(f"fold-{number}" for number in range(folds)))
        return f"out-of-fold probabilities of {len(ids):,} examples exist already"
    if "weights" in context.run.config:
        context.say(
            "training starts from given weights and re-initialises only the last block and the head; if those "
            "weights were trained on these examples, out-of-fold probabilities are too optimistic"
        )
    probabilities = np.full((len(ids), len(context.audit.classes)), np.nan, np.float32)
    with context.progress(f"{folds} folds", work.epochs * len(ids) * (folds - 1)) as advance:
        for number in range(folds):
            model = work.train(f"fold-{number}", np.flatnonzero(fold != number), context.audit.seed, advance)
            rows = np.flatnonzero(fold == number)
            probabilities[rows] = softmax(work.logits(model, rows).astype(np.float64))
    write_vectors(path, ids, probabilities, {"key": key, "folds": folds})
    work.forget(*(f"fold-{number}" for number in range(folds)))
    right = (probabilities.argmax(1) == np.asarray(work.data.labels)).mean()
    return (
        f"out-of-fold probabilities of {len(ids):,} examples from {folds} folds; the prediction equals the label for "
        f"{right:.1%}"
    )
