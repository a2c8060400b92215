"""``hardlook demo``: train, score and open the sample project."""

from __future__ import annotations

import argparse
import time
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from scoring.commands.console import add_command, device_argument, read_data
from scoring.commands.new import copy_sample
from scoring.commands.score import score_audit
from scoring.commands.slice import slice_audit
from scoring.commands.train import train_and_print

if TYPE_CHECKING:
    from scoring.audit import Audit
    from scoring.commands.console import Commands


def add(commands: Commands, given: Collection[str] = ()) -> None:
    """Declare the command."""
    command = add_command(
        commands,
        "demo",
        demo,
        "Audit 1,797 images of digits with planted label errors, from training to the dashboard, in about two minutes.",
    )
    command.add_argument(
        "--audit", metavar="DIR", default="hardlook-demo", help="the folder to create (default: %(default)s)"
    )
    command.add_argument(
        "--only-write", action="store_true", help="write the project and its data, and stop before the training"
    )
    command.add_argument("--no-dashboard", action="store_true", help="stop before opening the dashboard")
    command.add_argument("--port", type=int, default=8501, help="the dashboard's port (default: %(default)s)")
    device_argument(command)


def demo(options: argparse.Namespace) -> int:
    """Train, score and open the sample project."""
    start = time.perf_counter()
    folder = Path(options.audit)
    made = copy_sample(folder)
    print(f"hardlook demo: {'made' if made else 'using'} {folder}")
    from sample_data import data as sample

    if not (folder / "data" / "truth.csv").is_file():
        sample.write(folder / "data")
    if options.only_write:
        print(f"next: hardlook train {folder}, or hardlook demo --audit {folder} for all of it")
        return 0
    from scoring.audit import Audit

    audit = Audit.open(folder)
    read_data(audit)
    train_and_print(audit, audit.run(), options.device)
    score_audit(audit, audit.run(), options)
    slice_audit(audit, audit.run(), ["kmeans", "rule"])
    _report_truth(audit)
    print(f"\ndone in {time.perf_counter() - start:.0f} s. The audit is in {folder}.")
    command = f"hardlook dashboard {folder}"
    if options.no_dashboard:
        print(f"next: {command}")
        return 0
    print(f"opening the dashboard (to open it again later: {command})")
    from dashboard.server import serve

    serve(folder, port=options.port)
    return 0


def _report_truth(audit: Audit) -> None:
    """Where the truth is known: how many of the errors the first 5 % and 10 % of each ranking hold, beside chance."""
    from scoring.queue.order import default_order, order_by, truth_report

    run = audit.run()
    named = {
        "the suspect ranking": default_order(audit, run, "train"),
        "self-influence": order_by(run, "self_influence.cook"),
    }
    orders = {name: order for name, order in named.items() if order is not None}
    reports = {name: truth_report(audit, run, order, "train") for name, order in orders.items()}
    known = {name: report for name, report in reports.items() if report is not None}
    if not known:
        return
    table, wrong, total = next(iter(known.values()))
    chance = " and ".join(f"{value:.0f}" for value in table["chance"])
    print(
        "\n"
        f"  the true labels are known here: {wrong} of {total:,} training labels are wrong. Wrong labels among the "
        "first 5 % and 10 % of each ranking:\n"
        f"    {'random order':<44}{chance}"
    )
    for name, (table, *_) in known.items():
        found = " and ".join(f"{row.found} ({row.recall:.0%})" for row in table.itertuples())
        print(f"    {f'{name} ({orders[name].score})':<44}{found}")
