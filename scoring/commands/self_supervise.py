"""``hardlook self-supervise``: how hard is each example for a model that sees no label?"""

from __future__ import annotations

from scoring.commands.console import add_command, audit_argument, device_argument
from scoring.commands.holdout import retrain


def add(commands, given=()) -> None:
    """Declare the command."""
    command = add_command(
        commands,
        "self-supervise",
        self_supervise,
        "Train the run's model afresh on train and pool without "
        "labels, and keep each example's loss, its input gradient and how far its features move. Goes "
        "on where it was stopped.",
    )
    audit_argument(command)
    command.add_argument(
        "--objective",
        choices=["barlow", "rotation", "autoencoder"],
        default="",
        help="default: barlow for images, autoencoder for the rest",
    )
    command.add_argument("--epochs", type=int, default=10, help="epochs of the training (default 10)")
    device_argument(command)


def self_supervise(options) -> int:
    """Train without labels."""
    from scoring.pipeline.retraining.self_supervised import train_without_labels

    return retrain(
        options,
        "self_supervised",
        lambda context: train_without_labels(context, objective=options.objective, epochs=options.epochs),
    )
