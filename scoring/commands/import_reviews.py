"""``hardlook import-reviews``: decisions that were made in another tool."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from scoring.commands.console import add_command, audit_argument

if TYPE_CHECKING:
    from scoring.commands.console import Commands

SHOWN = 5


def add(commands: Commands, given: Collection[str] = ()) -> None:
    """Declare the command."""
    command = add_command(
        commands,
        "import-reviews",
        import_reviews,
        "Read the answers of another review tool into the review log: an export of Label Studio (of the tasks that "
        "`hardlook export --format label-studio` wrote), or a table with example_id, label and reviewer.",
    )
    audit_argument(command, run=False)
    command.add_argument("file", metavar="FILE", help="the tool's export (JSON, JSON-MIN, CSV), or a CSV or Parquet")
    command.add_argument("--id-column", metavar="NAME", help="the column, or key of a task (default: example_id)")
    command.add_argument("--label-column", metavar="NAME", help="the column with the class (default: label)")
    command.add_argument("--reviewer-column", metavar="NAME", help="the column with names (default: reviewer)")
    command.add_argument("--control", metavar="NAME", help="Label Studio: the Choices with classes (default: label)")
    command.add_argument(
        "--skipped",
        choices=["unsure", "none", "ignore"],
        default="unsure",
        help="Label Studio: what a skipped task says (default: %(default)s)",
    )
    command.add_argument(
        "--rename",
        metavar="OLD=NEW",
        action="append",
        default=[],
        help="call an annotator by another name in the log, e.g. --rename 1=ana",
    )
    command.add_argument(
        "--leave-out", action="store_true", help="import the other answers where some cannot be imported"
    )
    command.add_argument("--log", metavar="URL", help="the review log (default: reviews.sqlite in the audit)")


def import_reviews(options: argparse.Namespace) -> int:
    """Read, check and append."""
    from scoring.audit import Audit
    from scoring.audit.errors import HardlookError
    from scoring.corrections.imported_reviews import checked, import_answers, read_answers
    from scoring.reviews import ReviewLog

    audit, path = Audit.open(options.audit), Path(options.file)
    if not audit.examples_path.is_file():
        raise HardlookError(f"{audit.root} has no example table yet; run `hardlook score {audit.root}`")
    columns = {"id": options.id_column, "label": options.label_column, "reviewer": options.reviewer_column}
    answers = read_answers(path, columns, options.control)
    found = checked(audit, answers, options.skipped, _renamed(options.rename))
    if found.refused and not options.leave_out:
        raise HardlookError(
            f"{len(found.refused):,} of {len(answers):,} answers cannot be imported, and nothing was; the first: "
            f"{found.refused[0]}; correct the file, or leave these out with --leave-out"
        )
    url = options.log or audit.log_url
    with ReviewLog.open(url, audit=audit.log_name(url), classes=audit.classes) as log:
        done = import_answers(log, path, found.decisions)
    names = ", ".join(done.reviewers)
    print(f"imported {done.new:,} decisions{f' of {names}' if names else ''}; {done.known:,} were in the log already")
    if found.empty:
        print(f"{found.empty:,} answers name no class and were passed over")
    for sentence in found.refused[:SHOWN]:
        print(f"left out {sentence}")
    if len(found.refused) > SHOWN:
        print(f"left out {len(found.refused) - SHOWN:,} more")
    print(f"next: hardlook dashboard {options.audit}, then hardlook export {options.audit}")
    return 0


def _renamed(pairs: list[str]) -> dict[str, str]:
    """Annotator → reviewer. Raises ``HardlookError`` where a pair is none."""
    from scoring.audit.errors import HardlookError

    found = {}
    for pair in pairs:
        old, equals, new = pair.partition("=")
        if not (old and equals and new):
            raise HardlookError(f"--rename {pair!r}; needed OLD=NEW, e.g. --rename 1=ana")
        found[old] = new
    return found
