"""``hardlook report``: write a report as one self-contained HTML file."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from scoring.commands.console import add_command, audit_argument

if TYPE_CHECKING:
    from scoring.commands.console import Commands


def add(commands: Commands, given: Collection[str] = ()) -> None:
    """Declare the command."""
    command = add_command(
        commands,
        "report",
        report,
        "Write a report as one self-contained HTML file: overview, example grids, error per decile, slices, "
        "decisions, annotator agreement, effect of the corrections, estimates, and the settings of every number.",
    )
    audit_argument(command)
    command.add_argument("-o", "--out", metavar="FILE", default="report.html", help="(default: %(default)s)")
    command.add_argument("--log", metavar="URL", help="the review log (default: reviews.sqlite in the audit)")


def report(options: argparse.Namespace) -> int:
    """Write the report and say where it is."""
    from scoring.audit import Audit
    from scoring.report import write_report
    from scoring.reviews.readable_log import open_for_reading

    audit = Audit.open(options.audit)
    run = audit.run(options.run) if audit.run_names() or options.run else None
    url = options.log or audit.log_url
    with open_for_reading(url, audit.log_name(url)) as log:
        size = write_report(audit, run, log, Path(options.out))
    print(f"wrote {options.out} ({size / 1e3:,.0f} kB). next: open, send or print it; it needs no server")
    return 0
