"""``hardlook apply``: put corrected labels into the dataset itself, and take them back."""

from __future__ import annotations

from scoring.commands.console import add_command

SHOWN = 10


def add(commands, given=()) -> None:
    """Declare the command."""
    command = add_command(
        commands,
        "apply",
        apply,
        "Apply a label patch to a manifest or an image folder, in place. An "
        "example whose fingerprint differs is refused and reported; --undo takes all of it back.",
    )
    command.add_argument("patch", metavar="PATCH", nargs="?", help="what `hardlook export` wrote (not with --undo)")
    command.add_argument("data", metavar="DATA", help="a manifest (.csv, .tsv, .parquet) or an image folder")
    command.add_argument("--undo", action="store_true", help="take the last patch that was applied to DATA back")
    command.add_argument("--audit", metavar="AUDIT", help="the audit that DATA belongs to, for its classes and media")
    command.add_argument("--classes", metavar="NAMES", help="class names in order, where DATA's labels are numbers")
    command.add_argument("--media", choices=["image", "vector", "text"], help="(default: the audit's, else image)")
    for name in ("label", "id", "image", "text"):
        command.add_argument(
            f"--{name}-column", metavar="COLUMN", help=f"the manifest's column of {name}s, where it has no usual name"
        )
    command.add_argument("--report", metavar="PATH", help="write what became of every example as CSV")


def apply(options) -> int:
    """Apply or undo; the exit status is 1 where any example was refused."""
    from pathlib import Path

    from scoring.audit import Audit
    from scoring.audit.errors import HardlookError
    from scoring.corrections.apply import apply_to, undo
    from scoring.corrections.apply.targets import open_target

    audit = Audit.open(options.audit) if options.audit else None
    classes = options.classes.split(",") if options.classes else audit.classes if audit else []
    media = options.media or (audit.media if audit else "image")
    columns = {
        f"{name}_column": value
        for name in ("label", "id", "image", "text")
        if (value := getattr(options, f"{name}_column")) is not None
    }
    target = open_target(Path(options.data), classes, media, columns)
    if options.undo:
        if options.patch:
            raise HardlookError("--undo takes DATA alone: it takes back what was applied last")
        return _undone(options.data, undo(target), target.applications)
    if not options.patch:
        raise HardlookError("needs PATCH and DATA; PATCH is what `hardlook export` wrote")
    report = apply_to(Path(options.patch), target)
    counts = report["outcome"].value_counts()
    print(f"{options.data}: " + (", ".join(f"{n:,} {what}" for what, n in counts.items()) or "the patch is empty"))
    refused = report[report["outcome"] == "refused"]
    for row in refused.head(SHOWN).itertuples():
        print(f"  refused {row.example_id!r}: {row.reason}")
    if len(refused) > SHOWN:
        print(f"  … and {len(refused) - SHOWN:,} more" + ("" if options.report else "; --report PATH lists them"))
    if options.report:
        _write(report, Path(options.report))
    if counts.get("relabelled", 0) or counts.get("excluded", 0):
        print(f"to take it back: hardlook apply --undo {options.data}")
    return 1 if len(refused) else 0


def _undone(data: str, problems: list[str], left: int) -> int:
    print(f"{data}: the last patch was taken back")
    if left:
        print(f"next: hardlook apply --undo {data} takes the one before it back ({left} left), if that is to go too")
    for problem in problems:
        print(f"  not brought back: {problem}")
    return 1 if problems else 0


def _write(report, path) -> None:
    import pyarrow as pa
    import pyarrow.csv

    from scoring.audit.storage import atomic_path
    from scoring.corrections.label_patch import neutralise

    texts = {name: neutralise(pa.array(report[name], pa.string(), from_pandas=True)) for name in report}
    with atomic_path(path) as temporary:
        pyarrow.csv.write_csv(pa.table(texts), temporary)
    print(f"wrote {path}")
