"""Shared parts of the commands: arguments, the progress bar, and opening an audit.

Cost: light; what loads torch is imported where it is used.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]
    """What ``add_subparsers`` of the command line returns, to which every command adds its own."""

    from scoring.audit import Audit, Run
    from scoring.pipeline.shards import Context


def add_command(
    commands: Commands, name: str, function: Callable[[argparse.Namespace], int | None], text: str
) -> argparse.ArgumentParser:
    """A command with its help, which ``function(options)`` runs → exit status or None."""
    command = commands.add_parser(name, help=text, description=text)
    command.set_defaults(command=function)
    return command


def audit_argument(command: argparse.ArgumentParser, *, run: bool = True) -> None:
    """AUDIT, and --run where the command is about one run."""
    command.add_argument("audit", metavar="AUDIT", help="the audit's folder, which holds audit.toml")
    if run:
        command.add_argument("--run", metavar="NAME", help="the run (default: the first run in audit.toml)")


def device_argument(command: argparse.ArgumentParser) -> None:
    """--device."""
    command.add_argument(
        "--device", default="auto", choices=["auto", "cpu", "cuda", "mps"], help="where the model runs (default: auto)"
    )


@contextlib.contextmanager
def bar(what: str, total: int, unit: str = "examples") -> Iterator[Any]:
    """A progress bar with remaining time, shown once a pass takes more than two seconds. ``unit``: what it counts."""
    from tqdm import tqdm

    with tqdm(total=total, desc=f"  {what}", unit=f" {unit}", delay=2, leave=False, dynamic_ncols=True) as shown:
        yield shown.update


def read_data(audit: Audit) -> None:
    """Reads the data, and prints what was found, what changed and what cannot be read."""
    from scoring.pipeline.read_data import read_data as read

    read(audit, progress=bar, say=say)


def say(text: str) -> None:
    """Prints one sentence of what a command found or does, indented."""
    print(f"  {text}")


def open_context(audit: Audit, run: Run, device: str) -> Context:
    """Opens a run for computing and prints the order of its checkpoints."""
    from scoring.models.checkpoints import describe_order
    from scoring.pipeline.shards import Context

    context = Context(audit, run, device=device, progress=bar, say=say)
    if run.config:
        print(f"  checkpoints: {describe_order(context.checkpoints)}")
    return context
