"""``hardlook holdout``: what a model that was not trained on an example loses on it, for the RHO loss."""

from __future__ import annotations

import time

from scoring.commands.console import add_command, audit_argument, device_argument, open_context, read_data


def add(commands, given=()) -> None:
    """Declare the command."""
    command = add_command(
        commands,
        "holdout",
        holdout,
        "The irreducible loss of every training example, for the RHO loss: "
        "by a model trained on the test split or on the other folds, or by given weights.",
    )
    audit_argument(command)
    command.add_argument(
        "--from",
        dest="source",
        default="test",
        choices=["test", "folds"],
        help="what the hold-out model is trained on (default: test)",
    )
    command.add_argument("--weights", metavar="FILE", help="weights of a hold-out model that is there already")
    command.add_argument("--folds", type=int, default=5, help="how many folds (default 5)")
    command.add_argument("--epochs", type=int, help="epochs of a training (default: audit.toml's, else 15)")
    device_argument(command)


def holdout(options) -> int:
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


def retrain(options, scorer: str, work) -> int:
    """Read the data, run ``work(context)`` under the run's lock, say what it says, and what to run next."""
    from scoring.audit import Audit
    from scoring.pipeline.peak_memory import peak_memory

    audit = Audit.open(options.audit)
    run = audit.run(options.run)
    start = time.perf_counter()
    read_data(audit)
    with run.lock(), peak_memory() as memory:
        told = work(open_context(audit, run, options.device))
    print(f"  {told} ({time.perf_counter() - start:.1f} s, peak memory {memory['peak_gb']:.2f} GB)")
    print(f"next: hardlook score {options.audit}" + (f" --run {run.name}" if options.run else "") + f" --only {scorer}")
    return 0
