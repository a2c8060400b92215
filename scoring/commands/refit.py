"""``hardlook refit``: estimate the effect of the corrections."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from scoring.commands.console import add_command, audit_argument, bar, device_argument

if TYPE_CHECKING:
    from scoring.commands.console import Commands


def add(commands: Commands, given: Collection[str] = ()) -> None:
    """Declare the command."""
    command = add_command(
        commands,
        "refit",
        refit,
        "Estimate the effect of the corrections: the predicted change of the loss, and the accuracy of the head "
        "refitted on original, reviewed and placebo labels.",
    )
    audit_argument(command)
    command.add_argument("--log", metavar="URL", help="the review log (default: reviews.sqlite in the audit)")
    device_argument(command)


def refit(options: argparse.Namespace) -> int:
    """Predict and check the effect of the corrections; keep it for the page and print it."""
    from scoring.audit import Audit
    from scoring.corrections.effect.conclusion import conclusion
    from scoring.corrections.effect.preview import refit_audit
    from scoring.pipeline.shards import Context

    audit = Audit.open(options.audit)
    run = audit.run(options.run)
    print("  refitting the head on original, reviewed and placebo labels …", flush=True)
    context = Context(audit, run, device=options.device, progress=bar)
    found = refit_audit(audit, run, context, options.log)
    edits, judged = found["edits"], found["judged_on"]
    print(
        f"  {edits['relabelled']} training labels changed and {edits['removed']} examples removed, of "
        f"{edits['train']:,}; evaluated on {judged['examples']:,} {judged['how']}"
    )
    print(f"  {'group':<24}{'n':>6}  original  reviewed   placebo  gain (95 % interval)       predicted Δloss")
    for row in found["groups"]:
        print("  " + _refit_row(row))
    print(conclusion(next(row for row in found["groups"] if row["group"] == "all")))
    print(f"next: hardlook dashboard {options.audit} (page Reviews shows it), then hardlook export {options.audit}")
    return 0


def _refit_row(row: dict[str, Any]) -> str:
    """One group of the refit as a line of the table."""
    if not row["n"]:
        return f"{row['group'][:23]:<24}{0:>6}"
    return (
        f"{row['group'][:23]:<24}{row['n']:>6}  {row['original']:>8.1%}  {row['reviewed']:>8.1%}  "
        f"{row['placebo']:>8.1%}  {row['gain']:>+6.1%} ({row['gain_low']:+.1%} to {row['gain_high']:+.1%})  "
        f"{row['change']:>+10.4f}"
    )
