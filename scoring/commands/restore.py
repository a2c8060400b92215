"""``hardlook restore``: the review log from a backup, without losing an event that the log holds."""

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
        commands, "restore", restore, "Check a backup of the review log, and bring its events back into the log."
    )
    audit_argument(command, run=False)
    command.add_argument("file", metavar="FILE", help="what hardlook backup wrote")
    command.add_argument("--check", action="store_true", help="only check the backup, and write nothing")
    command.add_argument("--log", metavar="URL", help="the review log (default: reviews.sqlite in the audit)")


def restore(options: argparse.Namespace) -> int:
    """Check the backup and restore it."""
    from pathlib import Path

    from scoring.audit import Audit
    from scoring.reviews import log_copy

    audit = Audit.open(options.audit)
    url = options.log or audit.log_url
    name = audit.log_name(url)
    if options.check:
        found = log_copy.check_backup(Path(options.file), name)
        print(f"{options.file} is whole: {found.events:,} events of {', '.join(found.audits)}")
        return 0
    found = log_copy.restore(Path(options.file), url, name)
    print(f"restored {found.new:,} of {found.events:,} events; the others were in the log")
    print(f"next: hardlook dashboard {options.audit}   (restart it, if it runs)")
    return 0
