"""``hardlook check``: detect mistakes that would silently invalidate every score."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from scoring.commands.console import add_command, audit_argument, device_argument, open_context, read_data

if TYPE_CHECKING:
    from scoring.commands.console import Commands
    from scoring.pipeline.shards import Context


def add(commands: Commands, given: Collection[str] = ()) -> None:
    """Declare the command."""
    command = add_command(
        commands,
        "check",
        check,
        "Check for mistakes that would silently invalidate every score: random transforms, permuted classes, BGR "
        "images, missing division by 255 or normalisation.",
    )
    audit_argument(command)
    device_argument(command)


def check(options: argparse.Namespace) -> int:
    """Runs the check and prints every finding and the path of the picture."""
    from scoring.audit import Audit

    audit = Audit.open(options.audit)
    run = audit.run(options.run)
    read_data(audit)
    wrong = check_and_print(open_context(audit, run, options.device), quiet=False)
    named = f"{options.audit}" + (f" --run {run.name}" if options.run else "")
    print(
        f"next: correct these errors, then run hardlook check {named} again"
        if wrong
        else f"next: hardlook score {named}"
    )
    return 1 if wrong else 0


def check_and_print(context: Context, quiet: bool) -> list[Any]:
    """Runs the check and prints its findings; returns those that are errors."""
    from scoring.pipeline.check import check_run

    findings = check_run(context)
    for finding in findings:
        if not quiet or finding.level != "ok":
            print(f"  check: {finding.level}: {finding.text}")
    if context.run.check_picture.is_file() and not quiet:
        print(f"  check: picture of sixteen inputs as the model receives them: {context.run.check_picture}")
    return [finding for finding in findings if finding.level == "error"]
