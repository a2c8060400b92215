"""``hardlook holdout``: measure the irreducible loss of every example, for the RHO loss."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from scoring.commands.console import add_command, audit_argument, device_argument, open_context, read_data

if TYPE_CHECKING:
    from scoring.commands.console import Commands
    from scoring.pipeline.shards import Context


def add(commands: Commands, given: Collection[str] = ()) -> None:
    """Declare the command."""
    command = add_command(
        commands,
        "holdout",
        holdout,
        "Measure the irreducible loss of every training example, for the RHO loss. The hold-out model is trained on "
        "the test split or on the other folds, or loaded from a file.",
    )
    audit_argument(command)
    command.add_argument(
        "--from",
        dest="source",
        default="test",
        choices=["test", "folds"],
        help="the data that the hold-out model is trained on (default: test)",
    )
    command.add_argument("--weights", metavar="FILE", help="weights of an existing hold-out model")
    command.add_argument("--folds", type=int, default=5, help="number of folds (default: 5)")
    command.add_argument("--epochs", type=int, help="epochs per training (default: the run's in audit.toml, else 15)")
    device_argument(command)


def holdout(options: argparse.Namespace) -> int:
    """Measure the irreducible loss."""
    from scoring.pipeline.retraining.holdout import measure_irreducible

    source = "weights" if options.weights else options.source
    return retrain(
        options,
        "rho",
        lambda context: measure_irreducible(
            context, source=source, weights=options.weights, folds=options.folds, epochs=options.epochs
        ),
    )


def retrain(options: argparse.Namespace, scorer: str, work: Callable[[Context], str]) -> int:
    """Reads the data, runs ``work(context)`` under the run's lock, prints its summary and the next command."""
    from scoring.audit import Audit
    from scoring.pipeline.peak_memory import peak_memory

    audit = Audit.open(options.audit)
    run = audit.run(options.run)
    start = time.perf_counter()
    read_data(audit)
    with run.lock(), peak_memory() as memory:
        summary = work(open_context(audit, run, options.device))
    print(f"  {summary} ({time.perf_counter() - start:.1f} s, peak memory {memory['peak_gb']:.2f} GB)")
    print(f"next: hardlook score {options.audit}" + (f" --run {run.name}" if options.run else "") + f" --only {scorer}")
    return 0
