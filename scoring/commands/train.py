"""``hardlook train``: train a run with the Recorder."""

from __future__ import annotations

import argparse
import time
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from scoring.commands.console import add_command, audit_argument, bar, device_argument, read_data

if TYPE_CHECKING:
    from scoring.audit import Audit, Run
    from scoring.commands.console import Commands


def add(commands: Commands, given: Collection[str] = ()) -> None:
    """Declare the command."""
    command = add_command(
        commands,
        "train",
        train,
        "Train the run's model and record its training dynamics. Training starts from the model factory's weights, "
        "or from given weights with the head and the last block re-initialised.",
    )
    audit_argument(command)
    command.add_argument("--epochs", type=int, help="number of epochs (default: the run's in audit.toml, else 15)")
    command.add_argument("--resume", action="store_true", help="continue after the last recorded epoch")
    command.add_argument("--overwrite", action="store_true", help="train again and replace the recorded training")
    device_argument(command)


def train(options: argparse.Namespace) -> int:
    """Train a run with the Recorder."""
    from scoring.audit import Audit

    audit = Audit.open(options.audit)
    run = audit.run(options.run)
    refuse_averaged(run)
    read_data(audit)
    train_and_print(
        audit, run, options.device, epochs=options.epochs, resume=options.resume, overwrite=options.overwrite
    )
    print(f"next: hardlook score {options.audit}" + (f" --run {run.name}" if options.run else ""))
    return 0


def refuse_averaged(run: Run) -> None:
    """The Recorder keeps the trained weights, in which no average could be found afterwards."""
    from scoring.audit.errors import HardlookError

    if run.config.get("averaged"):
        raise HardlookError(
            f"audit.toml: [run.{run.name}] averaged = true, but hardlook train saves the trained weights and no "
            "moving average (EMA); remove averaged, or name the checkpoints of a training that saved the average"
        )


def train_and_print(audit: Audit, run: Run, device: str, **settings: Any) -> None:
    """Trains and prints what was written."""
    from scoring.training.run_training import train_run

    start = time.perf_counter()
    with run.lock():
        summary = train_run(audit, run, device=device, progress=bar, **settings)
    print(f"  training: {summary} ({time.perf_counter() - start:.1f} s)")
