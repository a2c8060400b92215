"""``hardlook apply``: apply corrected labels to the dataset, or revert them."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from scoring.commands.console import add_command

if TYPE_CHECKING:
    import pandas as pd

    from scoring.audit import Audit
    from scoring.commands.console import Commands

SHOWN = 10


def add(commands: Commands, given: Collection[str] = ()) -> None:
    """Declare the command."""
    command = add_command(
        commands,
        "apply",
        apply,
        "Apply a label patch to a manifest or an image folder, in place. Examples whose content has changed since "
        "the review are refused and reported. --undo reverts the whole patch.",
    )
    command.add_argument(
        "patch", metavar="PATCH", nargs="?", help="a patch written by `hardlook export` (not with --undo)"
    )
    command.add_argument("data", metavar="DATA", help="a manifest (.csv, .tsv, .parquet) or an image folder")
    command.add_argument("--undo", action="store_true", help="revert the last patch that was applied to DATA")
    command.add_argument(
        "--audit",
        metavar="AUDIT",
        help="the audit whose audit.toml says how DATA is read (default: the one above PATCH or DATA that reads it)",
    )
    command.add_argument(
        "--classes", metavar="NAMES", help="class names in the order of their indices, if DATA stores labels as numbers"
    )
    command.add_argument("--media", choices=["image", "vector", "text"], help="(default: the audit's, else image)")
    for name in ("label", "id", "image", "text"):
        command.add_argument(
            f"--{name}-column", metavar="COLUMN", help=f"the manifest's {name} column, if it does not have a usual name"
        )
    command.add_argument("--report", metavar="PATH", help="write the outcome of every example to a CSV file")


def apply(options: argparse.Namespace) -> int:
    """Apply or undo; the exit status is 1 where any example was refused."""
    from pathlib import Path

    from scoring.audit import Audit
    from scoring.audit.errors import HardlookError
    from scoring.corrections.apply import apply_to, undo
    from scoring.corrections.apply.targets import open_target

    data = Path(options.data)
    audit = Audit.open(options.audit) if options.audit else _audit_of(options)
    classes = options.classes.split(",") if options.classes else []
    columns = {
        f"{name}_column": value
        for name in ("label", "id", "image", "text")
        if (value := getattr(options, f"{name}_column")) is not None
    }
    target = open_target(data, classes, options.media, columns, audit)
    if options.undo:
        if options.patch:
            raise HardlookError(
                "found PATCH together with --undo; give DATA alone: --undo reverts the last patch that was applied "
                "to it"
            )
        return _undone(options.data, undo(target), target.applications)
    if not options.patch:
        raise HardlookError("found no PATCH; give a patch written by `hardlook export`, then DATA")
    report = apply_to(Path(options.patch), target)
    counts = report["outcome"].value_counts()
    print(f"{options.data}: " + (", ".join(f"{n:,} {what}" for what, n in counts.items()) or "the patch is empty"))
    noted = report[(report["outcome"] == "relabelled") & report["reason"].notna()]
    for row in noted.head(SHOWN).itertuples():
        print(f"  {row.example_id!r}: {row.reason}")
    refused = report[report["outcome"] == "refused"]
    for row in refused.head(SHOWN).itertuples():
        print(f"  refused {row.example_id!r}: {row.reason}")
    if len(refused) > SHOWN:
        print(f"  … and {len(refused) - SHOWN:,} more" + ("" if options.report else "; --report PATH lists them"))
    if options.report:
        _write(report, Path(options.report))
    if counts.get("relabelled", 0) or counts.get("excluded", 0):
        print(f"to revert: hardlook apply --undo {options.data}")
    return 1 if len(refused) else 0


def _audit_of(options: argparse.Namespace) -> Audit | None:
    """The audit that reads the data, in a folder above the patch or above the data."""
    from pathlib import Path

    from scoring.corrections.apply.audit_table import find_audit

    data = Path(options.data)
    audit = find_audit(*([Path(options.patch)] if options.patch else []), data, data=data)
    if audit is not None:
        print(f"read as {audit.config_path} says (--audit names another audit)")
    return audit


def _undone(data: str, problems: list[str], left: int) -> int:
    print(f"{data}: reverted the last patch")
    if left:
        print(f"next: hardlook apply --undo {data} reverts the patch before it ({left} left), if you want that too")
    for problem in problems:
        print(f"  not restored: {problem}")
    return 1 if problems else 0


def _write(report: pd.DataFrame, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.csv

    from scoring.audit.storage import atomic_path
    from scoring.corrections.label_patch import neutralise

    texts = {name: neutralise(pa.array(report[name], pa.string(), from_pandas=True)) for name in report}
    with atomic_path(path) as temporary:
        pyarrow.csv.write_csv(pa.table(texts), temporary)
    print(f"wrote {path}")
