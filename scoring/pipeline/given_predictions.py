"""Predictions that a notebook hands over as arrays, imported as a run (``scoring.pipeline.imported_predictions``).

Inputs → outputs: (n, c) probabilities and (n, d) features by split, in the order of the data → a run. Cost: one read of
the data, one table in the audit's folder. Known limits: a row per example, unreadable ones among them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from scoring.audit import Audit
from scoring.audit.arrays import as_numbers, column_names, columns_of_classes, refuse_other_order
from scoring.audit.errors import HardlookError
from scoring.audit.progress import Progress, silent
from scoring.audit.storage import write_table
from scoring.data.examples import read_examples
from scoring.pipeline.imported_predictions import import_predictions
from scoring.pipeline.read_data import Say, read_data, unheard
from scoring.pipeline.shards import vector_column

RUN = "imported"


def import_given(
    audit: Audit,
    pred_probs: Mapping[str, Any],
    features: Mapping[str, Any] | None = None,
    out_of_fold: bool = False,
    *,
    progress: Progress = silent,
    say: Say = unheard,
) -> str:
    """Returns the name of the run that holds the predictions; an earlier one of that name is replaced.

    Raises ``HardlookError`` where a split's arrays do not have one row per example of it.
    """
    if not isinstance(pred_probs, Mapping):
        raise HardlookError(f"pred_probs: found {type(pred_probs).__name__}; needed one array by split: {{'train': p}}")
    read_data(audit, progress=progress, say=say)
    examples = read_examples(audit)
    parts = [
        _part(examples, split, _by_class(audit, split, pred_probs[split]), (features or {}).get(split))
        for split in pred_probs
    ]
    if {part.column_names[-1] for part in parts} == {"features", "probabilities"}:
        raise HardlookError(
            f"features: found those of {', '.join(features or {})}; needed them for every split or none"
        )
    path = audit.root / "data" / "predictions.parquet"
    write_table(path, pa.concat_tables(parts))
    import_predictions(audit, RUN, path, out_of_fold=out_of_fold, overwrite=True)
    return RUN


def refuse_other_rows(
    data: Mapping[str, Any], pred_probs: Mapping[str, Any], features: Mapping[str, Any] | None
) -> None:
    """Raises ``HardlookError`` where predictions or features have the index of their data frame in another order."""
    for name, given in {"pred_probs": pred_probs, "features": features}.items():
        for split, values in given.items() if isinstance(given, Mapping) else ():
            parts = data.get(split)
            for part in parts if isinstance(parts, tuple) else (parts,):
                refuse_other_order({f"the data of {split}": part, f"{name} of {split}": values})


def _by_class(audit: Audit, split: str, p: Any) -> Any:
    """Returns probabilities in the order of the audit's classes, where a data frame names its columns."""
    columns = column_names(p)
    if columns is None:
        return p
    name = f"pred_probs of {split}"
    order, _ = columns_of_classes(columns, audit.classes, (), name)
    return as_numbers(p, name, ndim=2)[:, order]


def _part(examples: pd.DataFrame, split: str, p: Any, features: Any) -> pa.Table:
    """One split's rows of the table."""
    rows = examples[examples["split"] == split]
    if not len(rows):
        known = ", ".join(examples["split"].unique())
        raise HardlookError(f"pred_probs: there are no examples in split {split!r}; needed one of {known}")
    keep = rows["problem"].isna().to_numpy()
    columns = {"example_id": pa.array(rows["example_id"][keep].tolist(), pa.string())}
    values = as_numbers(p, f"pred_probs of {split}", ndim=2, rows=len(rows))
    columns["probabilities"] = vector_column(np.asarray(values[keep], dtype=np.float32))
    if features is not None:
        values = as_numbers(features, f"features of {split}", ndim=2, rows=len(rows))
        columns["features"] = vector_column(np.asarray(values[keep], dtype=np.float32))
    return pa.table(columns)
