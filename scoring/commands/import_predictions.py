"""``hardlook import-predictions``: import predictions of any model as a run."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from scoring.commands.console import add_command, audit_argument, read_data
from scoring.commands.score import score_audit

if TYPE_CHECKING:
    from scoring.audit import Audit
    from scoring.commands.console import Commands


def add(commands: Commands, given: Collection[str] = ()) -> None:
    """Declare the command."""
    command = add_command(
        commands,
        "import-predictions",
        import_predictions,
        "Import a table of predictions as a run and compute every score that needs no checkpoint, for models that "
        "are not PyTorch models. The table is CSV or Parquet: example_id, one probability column per class (or one "
        "list column), and optional features.",
    )
    audit_argument(command, run=False)
    command.add_argument("file", metavar="FILE", help="the table of predictions, one row per example")
    command.add_argument(
        "--run", metavar="NAME", default="imported", help="the name of the new run (default: %(default)s)"
    )
    command.add_argument(
        "--id-column", metavar="NAME", help="(default: example_id, else the id_column of the audit's [[data]] tables)"
    )
    command.add_argument(
        "--out-of-fold",
        action="store_true",
        help="every prediction comes from a model that was not trained on that example (cross-validation)",
    )
    command.add_argument(
        "--overwrite", action="store_true", help="replace the imported run of that name, including its scores"
    )


def import_predictions(options: argparse.Namespace) -> int:
    """Import a run and score it."""
    from scoring.audit import Audit
    from scoring.pipeline import imported_predictions

    audit = Audit.open(options.audit)
    path = Path(options.file)
    options.id_column = imported_predictions.id_column_of(path, audit, options.id_column)
    imported_predictions.read_predictions(
        path, audit.classes, options.id_column
    )  # refuse a bad file before reading any picture
    read_data(audit)
    run = imported_predictions.audit_run(audit, options.run)
    with run.lock() if run.folder.is_dir() else contextlib.nullcontext():
        known = path, options.id_column, options.out_of_fold
        if not options.overwrite and imported_predictions.is_unfinished(audit, run, *known):
            print(f"  run {options.run!r} was imported from this file by a command that was stopped; its scores go on")
        else:
            _import(audit, options)
    options.device, options.only = "cpu", None
    score_audit(audit, audit.run(options.run), options)
    run.import_path.unlink(missing_ok=True)
    print(
        f"next: hardlook dashboard {options.audit}"
        + ("" if audit.run().name == options.run else f", run {options.run} (to score it again: --run {options.run})")
    )
    return 0


def _import(audit: Audit, options: argparse.Namespace) -> None:
    """Import the table and say what it holds."""
    from scoring.pipeline.imported_predictions import import_predictions

    found = import_predictions(
        audit,
        options.run,
        Path(options.file),
        id_column=options.id_column,
        out_of_fold=options.out_of_fold,
        overwrite=options.overwrite,
    )
    accuracy = "" if found["accuracy"] is None else f", accuracy {found['accuracy']:.1%} on the labelled examples"
    features = f" and {found['features']} features each" if found["features"] else ""
    print(f"  imported {found['examples']:,} of {found['of']:,} examples{features} as run {options.run!r}{accuracy}")
    if found["examples"] < found["of"]:
        print(f"  {found['of'] - found['examples']:,} examples are not in the file and get null scores")
