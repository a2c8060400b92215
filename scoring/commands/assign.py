"""``hardlook assign``: assign examples to reviewers."""

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
        commands, "assign", assign, "Assign examples to reviewers, by class, slice, metadata or share."
    )
    audit_argument(command)
    command.add_argument(
        "--to", metavar="NAMES", help="the reviewers: ana, or ana,ben=2 to give ben twice as many examples"
    )
    command.add_argument("--release", action="store_true", help="remove the assignments of the examples")
    command.add_argument("--split", choices=["train", "test", "pool"], help="only examples of this split")
    command.add_argument("--class", dest="class_name", metavar="CLASS", help="only examples with this label")
    command.add_argument("--slice", metavar="SLICING:N", help="only examples of this slice, for example kmeans:3")
    command.add_argument(
        "--where", metavar="COLUMN=VALUE", action="append", default=[], help="only examples with this metadata value"
    )
    command.add_argument(
        "--by", metavar="NAME", help="the name recorded as the assigner (default: the operating system's user)"
    )
    command.add_argument("--log", metavar="URL", help="the review log (default: reviews.sqlite in the audit)")


def assign(options: argparse.Namespace) -> int:
    """Write the assignments as one act that one undo takes back."""
    import getpass
    import secrets

    from scoring.audit import Audit
    from scoring.audit.errors import HardlookError
    from scoring.queue import assignments
    from scoring.reviews import ReviewLog

    audit = Audit.open(options.audit)
    where = dict(one.split("=", 1) if "=" in one else (one, "") for one in options.where)
    ids = assignments.chosen(
        audit, split=options.split, class_name=options.class_name, slice_of=options.slice, where=where, run=options.run
    )
    if not ids:
        raise HardlookError(
            "no example matches these filters, so nothing was assigned; relax --split, --class, --slice or --where"
        )
    if bool(options.to) == options.release:
        raise HardlookError("give either --to NAMES or --release")
    url, by = options.log or audit.log_url, options.by or getpass.getuser()
    client = f"assign {secrets.token_hex(8)}"
    with ReviewLog.open(url, audit=audit.log_name(url)) as log:
        if options.release:
            log.append(assignments.release_events(ids, by, client))
            print(f"released {len(ids):,} examples")
        else:
            dealt = assignments.distribute(ids, assignments.parse_shares(options.to), audit.seed)
            log.append(assignments.assignment_events(dealt, by, client))
            print(assignments.workload(log).to_string(index=False))
    print(
        f"next: hardlook dashboard {options.audit} (/suspects shows assigned examples first; /reviews shows each "
        "reviewer's progress)"
    )
    return 0
