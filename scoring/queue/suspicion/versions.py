"""The stored rankings of a run: the default one, and numbered versions fitted to decisions.

``rankings.json`` of a run lists every fit that was made (how many errors and keeps, yields, coefficients, whether it
was adopted) and says in one sentence what ranks now. The last adopted fit ranks; without one the default does. Fits are
only ever added, so a queue can be traced back to what ordered it.

Inputs: a run's score files, the review log → one number per example, and the file. Cost: one read of each score file,
seconds for a fit. Limits: decisions that are disputed, unsure or "several" teach nothing, nor do those on a label that
was changed since.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scoring.audit import Audit, Run
from scoring.audit.errors import HardlookError
from scoring.audit.storage import read_json, read_table, write_json
from scoring.queue.suspicion.components import EARNED, Component, components, mean_rank, rank_within
from scoring.queue.suspicion.fitted import Fit, fit_ranking
from scoring.reviews.verdicts import verdicts_by_label_status

if TYPE_CHECKING:
    from scoring.reviews import ReviewLog

"""Verdicts that say the label is wrong, or right; the others teach nothing."""


def read_versions(run: Run) -> list[dict[str, Any]]:
    """Every fit of a run, oldest first."""
    return read_json(run.rankings_path, {}).get("versions", [])


def adopted(run: Run) -> dict[str, Any] | None:
    """The fit that ranks; None where the default does."""
    return next((version for version in reversed(read_versions(run)) if version["adopted"]), None)


def describe(run: Run) -> str | None:
    """Returns what ranks now, in one sentence; None where nothing was ranked yet."""
    return read_json(run.rankings_path, {}).get("sentence")


def suspicion(run: Run, examples: pd.DataFrame) -> pd.Series:
    """(n,) by example_id: rank within the split in (0, 1), high = look first; NaN without a label or any score.

    ``examples``: example_id, split, label. Writes the sentence that ``describe`` gives.
    """
    used, ranks = components(run, examples)
    carriers = [one for one in used if one.family in EARNED]
    if not carriers:
        raise HardlookError(
            f"suspicion combines scores that find label errors, and run {run.name!r} has none of the score families "
            f"dynamics, loss and neighbours; run `hardlook score {run.root} --run {run.name}` for aum, uncertainty or "
            "neighbours"
        )
    version = adopted(run)
    if version is None:
        values, sentence = mean_rank(ranks), _default_sentence(carriers)
    else:
        labels, predictions = _classes(run, examples)
        values = _fit_of(version).order(ranks, labels, predictions)
        sentence = _fitted_sentence(version, used)
    _write(run, read_versions(run), sentence)
    split = examples["split"].to_numpy(dtype=object)
    return pd.Series(rank_within(values.to_numpy(), split), index=ranks.index)


def rank_audit(audit: Audit, run: Run, log: ReviewLog, examples: pd.DataFrame) -> dict[str, Any]:
    """Fit to the decisions so far and keep the result as a version, adopted only where its held-out yield is higher.

    Raises ``HardlookError`` where there are too few decisions; nothing is written then.
    """
    used, ranks = components(run, examples)
    labels, predictions = _classes(run, examples)
    taught = reviewed(log, examples)
    rows = ranks.index.isin(taught.index)
    fit = fit_ranking(
        ranks[rows],
        labels[rows],
        predictions[rows],
        taught.reindex(ranks.index[rows]).to_numpy(dtype=bool),
        seed=audit.seed,
    )
    versions = read_versions(run)
    version = {
        "version": len(versions) + 1,
        "adopted": fit.better,
        "position": log.position(),
        "scores": [one.address for one in used],
        **asdict(fit),
    }
    _write(run, [*versions, version], describe(run))
    return version


def reviewed(log: ReviewLog, examples: pd.DataFrame) -> pd.Series:
    """Returns what decisions teach: bool by example_id, whether the label was found wrong, of examples that are
    settled."""
    found = log.consensus()
    found = found[
        found["status"].isin(("agreed", "adjudicated"))
        & found["verdict"].isin(verdicts_by_label_status("right", "wrong"))
    ]
    now = examples.set_index("example_id")["label"].reindex(found["example_id"]).to_numpy(dtype=object)
    seen = found["label"].astype(object).where(found["label"].notna(), now).to_numpy(dtype=object)
    same = pd.notna(now) & (seen == now)
    return found[same].set_index("example_id")["verdict"].isin(verdicts_by_label_status("wrong"))


def _classes(run: Run, examples: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Labels and predicted classes by example_id, class names or null."""
    labels = examples.set_index("example_id")["label"].astype(object)
    if not run.predictions_path.is_file():
        return labels, pd.Series(np.nan, index=labels.index, dtype=object)
    table = read_table(run.predictions_path, ["example_id", "prediction"]).to_pandas().set_index("example_id")
    return labels, table["prediction"].astype(object).reindex(labels.index)


def _fit_of(version: dict[str, Any]) -> Fit:
    return Fit(**{name: version[name] for name in Fit.__dataclass_fields__})


def _default_sentence(carriers: list[Component]) -> str:
    titles = ", ".join(one.title for one in carriers)
    return f"Most suspicious first: the mean rank of {titles}"


def _fitted_sentence(version: dict[str, Any], used: list[Component]) -> str:
    strong = sorted(used, key=lambda one: -abs(version["coefficients"].get(f"score:{one.family}", 0.0)))
    return (
        f"Most suspicious first: ranking {version['version']}, fitted to {version['errors'] + version['keeps']:,} "
        "decisions in addition to the mean rank; its largest weights are those of "
        f"{', '.join(one.title for one in strong[:3])}"
    )


def _write(run: Run, versions: list[dict[str, Any]], sentence: str | None) -> None:
    value = {"sentence": sentence, "versions": versions}
    if read_json(run.rankings_path, None) != value:
        write_json(run.rankings_path, value)
