"""The irreducible loss: an example's loss under a model that was not trained on it (RHO, Mindermann et al. 2022).

The hold-out model is one of three: weights that the user gives; the run's model trained here on the test split; or, as
the paper does where there is no hold-out set, models trained on the other folds of the training examples, whose
out-of-fold probabilities `hardlook score --cross-validate` may have made already.

Output: ``runs/<run>/irreducible.parquet`` (example_id, label, loss in nats) of the labelled training examples. Cost:
one training on the test split, K on the folds, none with given weights; one forward pass. A killed command goes on in
its training.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from scoring.audit.errors import HardlookError
from scoring.audit.storage import digest, read_metadata, write_table
from scoring.models import build_model, load_into, read_state_dict
from scoring.models.inputs import Inputs, labelled
from scoring.pipeline.retraining.cross_validation import cross_validate
from scoring.pipeline.retraining.subset_training import Retraining
from scoring.pipeline.shards import Context
from scoring.training.dynamics import measure
from scoring.training.in_memory import InMemory

if TYPE_CHECKING:
    from torch import nn

SOURCES = ("test", "folds", "weights")


def measure_irreducible(
    context: Context,
    *,
    source: str = "test",
    weights: str | Path | None = None,
    folds: int = 5,
    epochs: int | None = None,
) -> str:
    """Write the irreducible loss of every labelled training example; returns a sentence about what was done.

    ``source``: test, folds or weights (a file that fits the run's model). Raises ``HardlookError`` for a test split
    without labels, and where weights are asked for and not given.
    """
    if source not in SOURCES or (source == "weights") != (weights is not None):
        raise HardlookError(
            f"the source of the hold-out model is {source!r} with weights {weights}; needed test, folds, or weights "
            "with the path of a file"
        )
    work, path = Retraining(context, epochs), context.run.irreducible_path
    ids, labels = work.examples["example_id"].tolist(), np.asarray(work.data.labels)
    made = {"test": _from_test, "folds": _from_folds, "weights": _from_weights}[source]
    how = Path(weights).stat().st_mtime_ns if weights and Path(weights).is_file() else folds
    key = digest([work.key, ids, labels.tolist(), context.audit.seed, source, str(weights), how, _test_key(context)])
    if path.is_file() and read_metadata(path).get("key") == key:
        work.forget("holdout")
        return f"the irreducible loss of {len(ids):,} examples is there already"
    loss = made(work, weights, folds, epochs)
    table = pa.table(
        {
            "example_id": pa.array(ids, pa.string()),
            "label": pa.array(work.examples["label"], pa.string()),
            "loss": pa.array(loss.astype(np.float32), mask=~np.isfinite(loss)),
        }
    )
    write_table(path, table, {"key": key, "source": source})
    work.forget("holdout")
    return f"irreducible loss of {len(ids):,} examples, mean {np.nanmean(loss):.3g} nats, hold-out model from {source}"


def _test_key(context: Context) -> list[Any]:
    test = labelled(context.audit, "test")
    return test[["example_id", "label", "fingerprint"]].to_numpy().tolist()


def _losses(work: Retraining, model: nn.Module) -> np.ndarray:
    rows = np.arange(len(work.examples))
    return measure(work.logits(model, rows), np.asarray(work.data.labels))["loss"]


def _from_test(work: Retraining, _weights: str | Path | None, _folds: int, _epochs: int | None) -> np.ndarray:
    test = labelled(work.audit, "test")
    if len(test) < 2:
        raise HardlookError(
            "the hold-out model is trained on the test split, which has fewer than two labelled, readable examples; "
            "use --from folds"
        )
    shared = work.examples["fingerprint"].isin(test["fingerprint"]).to_numpy()
    data = InMemory(Inputs(work.audit, work.run, test))
    with work.context.progress("hold-out model", work.epochs * len(test)) as advance:
        model = work.train("holdout", np.arange(len(test)), work.audit.seed, advance, data=data)
    return np.where(shared, np.nan, _losses(work, model))  # a copy in the test split was trained on


def _from_weights(work: Retraining, weights: str | Path | None, _folds: int, _epochs: int | None) -> np.ndarray:
    config = work.run.config
    model = build_model(config["model"], config.get("arguments"), work.audit.root).to(work.context.model.device)
    load_into(model, read_state_dict(Path(weights or "")), n_classes=len(work.audit.classes) or None)
    return _losses(work, model.eval())


def _from_folds(work: Retraining, _weights: str | Path | None, folds: int, epochs: int | None) -> np.ndarray:
    work.context.say(cross_validate(work.context, folds, epochs=epochs))
    p = work.context.aligned(work.run.out_of_fold_path)
    at = work.context.examples.reset_index().set_index("example_id")["index"].reindex(work.examples["example_id"])
    own = p[at.to_numpy(), np.asarray(work.data.labels)]
    return -np.log(np.maximum(own.astype(np.float64), np.finfo(np.float32).tiny))
