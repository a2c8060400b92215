"""``hardlook self-supervise``: measure the difficulty of every example without labels."""

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
        "self-supervise",
        self_supervise,
        "Train the run's model from new weights on train and pool without labels, and record each example's loss, "
        "its input gradient and how far its features move. An interrupted command continues where it stopped.",
    )
    audit_argument(command)
    command.add_argument(
        "--objective",
        choices=["barlow", "rotation", "autoencoder"],
        default="",
        help="the training objective (default: barlow for images, autoencoder for other media)",
    )
    command.add_argument("--epochs", type=int, default=10, help="number of epochs (default: 10)")
    device_argument(command)


def self_supervise(options: argparse.Namespace) -> int:
    """Train without labels."""
    from scoring.pipeline.retraining.self_supervised import train_without_labels

    return retrain(
        options,
        "self_supervised",
        lambda context: train_without_labels(context, objective=options.objective, epochs=options.epochs),
    )
