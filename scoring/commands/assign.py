"""``hardlook assign``: give examples to reviewers, or deal them out by share."""

from __future__ import annotations

from scoring.commands.console import add_command, audit_argument


def add(commands, given=()) -> None:
    """Declare the command."""
    command = add_command(commands, "assign", assign, "Give examples to reviewers, by class, slice, metadata or share.")
    audit_argument(command)
    command.add_argument("--to", metavar="NAMES", help="who: ana, or ana,ben=2 to deal out with twice as much for ben")
    command.add_argument("--release", action="store_true", help="take the examples back from whoever has them")
    command.add_argument("--split", choices=["train", "test", "pool"], help="of this split only")
    command.add_argument("--class", dest="class_name", metavar="CLASS", help="with this label only")
    command.add_argument("--slice", metavar="SLICING:N", help="of this slice only, such as kmeans:3")
    command.add_argument("--where", metavar="COLUMN=VALUE", action="append", default=[], help="with this metadata only")
    command.add_argument("--by", metavar="NAME", help="who assigns (default: the operating system's user)")
    command.add_argument("--log", metavar="URL", help="the review log (default: reviews.sqlite in the audit)")


def assign(options) -> int:
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
        raise HardlookError("no example matches; nothing was assigned")
    if bool(options.to) == options.release:
        raise HardlookError("say either --to NAMES or --release")
    url, by = options.log or audit.log_url, options.by or getpass.getuser()
    client = f"assign {secrets.token_hex(8)}"
    with ReviewLog.open(url, audit=audit.log_name(url)) as log:
        if options.release:
            log.append(assignments.releasing(ids, by, client))
            print(f"released {len(ids):,} examples")
        else:
            dealt = assignments.deal(ids, assignments.shares_of(options.to), audit.seed)
            log.append(assignments.assigning(dealt, by, client))
            print(assignments.workload(log).to_string(index=False))
    print(
        f"next: hardlook dashboard {options.audit} (/suspects begins with what is assigned; /reviews shows how far "
        f"each is)"
    )
    return 0
