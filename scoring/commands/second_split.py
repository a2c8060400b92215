"""``hardlook second-split``: measure second-split forgetting time and first-split learning time."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from typing import TYPE_CHECKING

from scoring.commands.console import add_command, audit_argument, device_argument
from scoring.commands.holdout import retrain

if TYPE_CHECKING:
    from scoring.commands.console import Commands


def add(commands: Commands, given: Collection[str] = ()) -> None:
    """Declare the command."""
    command = add_command(
        commands,
        "second-split",
        second_split,
        "Train on one half of the examples, then on the other half, and again with the halves swapped, to measure "
        "second-split forgetting time and first-split learning time. An interrupted command continues where it "
        "stopped.",
    )
    audit_argument(command)
    command.add_argument("--seeds", type=int, default=3, help="number of random divisions to average over (default: 3)")
    command.add_argument("--epochs", type=int, help="epochs on each half (default: the run's in audit.toml, else 15)")
    device_argument(command)


def second_split(options: argparse.Namespace) -> int:
    """Measure both times."""
    from scoring.pipeline.retraining.second_split import measure_second_split

    return retrain(
        options,
        "second_split",
        lambda context: measure_second_split(context, seeds=options.seeds, epochs=options.epochs),
    )
