"""``hardlook rank``: fit the ranking of suspects to the reviewers' decisions."""

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
        commands,
        "rank",
        rank,
        "Fit the ranking of suspects to the decisions made so far. The fitted ranking is adopted only if it finds "
        "more wrong labels among held-out decisions.",
    )
    audit_argument(command)
    command.add_argument("--log", metavar="URL", help="the review log (default: reviews.sqlite in the audit)")


def rank(options: argparse.Namespace) -> int:
    """Fit, keep the version, and rank again where it was adopted."""
    from scoring.audit import Audit
    from scoring.pipeline.score_run import score_one
    from scoring.pipeline.shards import Context
    from scoring.queue.suspicion import describe, rank_audit
    from scoring.reviews import ReviewLog
    from scoring.scorers.suspicion import Suspicion

    audit = Audit.open(options.audit)
    run = audit.run(options.run)
    url = options.log or audit.log_url
    context = Context(audit, run, device="cpu")
    with run.lock(), ReviewLog.open(url, audit=audit.log_name(url)) as log:
        made = rank_audit(audit, run, log, context.examples)
        print(
            f"  ranking {made['version']}, fitted to {made['errors']} wrong and {made['keeps']} right labels: average "
            f"precision on held-out decisions {made['fitted_yield']:.3f}, the default's {made['default_yield']:.3f}"
        )
        if not made["adopted"]:
            print(
                "  not adopted: it does not find more wrong labels than the default ranking; review more examples, "
                "then run this command again"
            )
            return 0
        score_one(context, Suspicion())
    print(f"  adopted. {describe(run)}\nnext: reload /suspects")
    return 0
