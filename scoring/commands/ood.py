"""``hardlook ood``: measure how well each score detects known out-of-distribution examples.

Prints one line per score: AUROC, AUPR in, AUPR out, beside the classical detectors fitted on the training features; the
table is kept as ``runs/<run>/out_of_distribution.parquet``, with each one's ROC curve, and /compare shows it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scoring.audit.errors import HardlookError
from scoring.audit.storage import column_facts, read_table, read_vectors, write_table
from scoring.commands.console import add_command, audit_argument

if TYPE_CHECKING:
    import pyarrow as pa

    from scoring.audit import Audit, Run
    from scoring.commands.console import Commands


def add(commands: Commands, given: Collection[str] = ()) -> None:
    """Declare the command."""
    command = add_command(
        commands,
        "ood",
        ood,
        "Measure how well each score detects examples that are known to be out of distribution: AUROC, AUPR in and "
        "AUPR out, compared with classical detectors.",
    )
    audit_argument(command)
    command.add_argument(
        "--out",
        required=True,
        metavar="COLUMN=VALUE",
        help="the out-of-distribution examples, e.g. split=pool or corruption=fog",
    )
    command.add_argument(
        "--in",
        dest="inside",
        default="split=test",
        metavar="COLUMN=VALUE",
        help="the in-distribution examples (default: split=test); examples that match --out are excluded",
    )
    command.add_argument("--no-baselines", action="store_true", help="leave out the classical detectors")


def ood(options: argparse.Namespace) -> int:
    """Report."""
    from scoring.audit import Audit

    audit = Audit.open(options.audit)
    run = audit.run(options.run)
    examples = read_table(audit.examples_path).to_pandas()
    out = chosen(examples, options.out)
    inside = chosen(examples, options.inside) & ~out
    if not out.any() or not inside.any():
        raise HardlookError(
            f"{options.out} holds for {out.sum()} examples and {options.inside} for {inside.sum()} others; needed at "
            "least one of each; correct --out or --in"
        )
    rows = pd.concat([examples[inside], examples[out]])
    outside = np.r_[np.zeros(inside.sum(), bool), np.ones(out.sum(), bool)]
    table = report(audit, run, examples, rows["example_id"].tolist(), outside, baselines=not options.no_baselines)
    write_table(run.out_of_distribution_path, _arrow(table), {"out": options.out, "in": options.inside})
    show(table, options.out, options.inside)
    print("next: the section on out-of-distribution detection of /compare shows this table with the ROC curves")
    return 0


def chosen(examples: pd.DataFrame, condition: str) -> np.ndarray:
    """(n,) whether "column=value" holds, values compared as text."""
    column, equals, value = condition.partition("=")
    if not equals or column not in examples:
        raise HardlookError(f"{condition!r}; needed COLUMN=VALUE with one of the columns {', '.join(examples.columns)}")
    return (examples[column].astype(str) == value).to_numpy()


def report(
    audit: Audit, run: Run, examples: pd.DataFrame, ids: list[str], outside: np.ndarray, *, baselines: bool = True
) -> pd.DataFrame:
    """The report over the run's scores for out of distribution, VoG on predicted labels, and the classical
    detectors."""
    from scoring.evaluation.out_of_distribution import ood_curves, ood_report

    scores = run_scores(run, ids)
    own = set(scores)
    if baselines and run.features_path.is_file():
        for name, values in classical(audit, run, examples, ids):
            scores[name] = values
    if scores.empty:
        raise HardlookError(f"run {run.name!r} has no scores yet; run `hardlook score {audit.root}`")
    curves = ood_curves(scores, outside)
    return ood_report(scores, outside).assign(
        classical=[name not in own for name in scores], roc=[curves[name].tolist() for name in scores]
    )


def run_scores(run: Run, ids: list[str]) -> pd.DataFrame:
    """Returns the run's label-free scores for out-of-distribution detection, signed so that high = out of
    distribution."""
    found = {}
    for scorer in run.score_names():
        table = read_table(run.score_path(scorer))
        frame = table.to_pandas().set_index("example_id").reindex(ids)
        for field in table.schema:
            column, facts = field.name, column_facts(field)
            vog = scorer == "vog" and facts.get("index") == "prediction" and not facts.get("normalised")
            if vog or facts.get("detects") == "out of distribution" or (scorer, column) == ("uncertainty", "entropy"):
                values = frame[column].to_numpy(dtype=float)
                name = scorer if scorer == column else f"{scorer}.{column}"
                found[name] = -values if facts.get("suspicious") == "low" else values
    return pd.DataFrame(found)


def classical(audit: Audit, run: Run, examples: pd.DataFrame, ids: list[str]) -> Iterator[tuple[str, np.ndarray]]:
    """(name, scores) of each classical detector, fitted on the features of the training examples."""
    from scoring.pipeline.ood_detectors import baseline_scores

    known, features = read_vectors(run.features_path)
    at = pd.Series(np.arange(len(known)), index=known)
    train = at.reindex(examples.loc[examples["split"] == "train", "example_id"]).dropna().astype(int).to_numpy()
    train = train[np.isfinite(features[train]).all(1)]
    positions = at.reindex(ids).to_numpy()
    there = ~np.isnan(positions)
    if len(train) < 2 or not there.any():
        return
    start = time.perf_counter()
    there[there] = np.isfinite(features[positions[there].astype(int)]).all(1)
    for name, values in baseline_scores(
        features[train], features[positions[there].astype(int)], seed=audit.seed, say=lambda text: print(f"  {text}")
    ):
        full = np.full(len(ids), np.nan)
        full[there] = values
        print(f"  {name}: {time.perf_counter() - start:.1f} s")
        start = time.perf_counter()
        yield name, full


def show(table: pd.DataFrame, out: str, inside: str) -> None:
    """Print the report, the best first."""
    counts = table.iloc[0]
    print(
        f"out of distribution: {out} ({counts['outside']:,.0f}), in: {inside} ({counts['inside']:,.0f}); AUPR out of "
        f"a random order {counts['outside'] / (counts['inside'] + counts['outside']):.3f}. High VoG is read as out of "
        "distribution, as in the VoG paper"
    )
    print(f"  {'score':34} AUROC  AUPR in  AUPR out")
    for name, row in table.sort_values("auroc", ascending=False).iterrows():
        print(f"  {name:34} {row['auroc']:5.3f}  {row['aupr_in']:7.3f}  {row['aupr_out']:8.3f}")


def _arrow(table: pd.DataFrame) -> pa.Table:
    import pyarrow as pa

    return pa.Table.from_pandas(table.rename_axis("score").reset_index(), preserve_index=False)
