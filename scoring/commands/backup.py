"""``hardlook backup``: a consistent copy of the review log, while reviewers go on."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from typing import TYPE_CHECKING

from scoring.commands.console import add_command, audit_argument

if TYPE_CHECKING:
    from scoring.commands.console import Commands


def add(commands: Commands, given: Collection[str] = ()) -> None:
    """Declare the command."""
    command = add_command(
        commands, "backup", backup, "Copy the review log into one file, consistently and while it is in use."
    )
    audit_argument(command, run=False)
    command.add_argument("file", metavar="FILE", help="the new file; a backup never replaces one")
    command.add_argument("--log", metavar="URL", help="the review log (default: reviews.sqlite in the audit)")


def backup(options: argparse.Namespace) -> int:
    """Write the backup."""
    from pathlib import Path

    from scoring.audit import Audit
    from scoring.reviews.log_copy import back_up

    audit = Audit.open(options.audit)
    copied = back_up(options.log or audit.log_url, Path(options.file))
    print(f"wrote {options.file} ({copied.events:,} events)")
    print(f"next: hardlook restore {options.audit} {options.file}   (if the log is lost)")
    return 0
