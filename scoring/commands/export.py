"""``hardlook export``: write the corrected labels."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from scoring.commands.console import add_command, audit_argument

if TYPE_CHECKING:
    from scoring.audit import Audit, Run
    from scoring.commands.console import Commands


def add(commands: Commands, given: Collection[str] = ()) -> None:
    """Declare the command."""
    command = add_command(
        commands,
        "export",
        export,
        "Write the corrected labels: one patch per split, or the corrected dataset in the format of another tool.",
    )
    audit_argument(command)
    command.add_argument("--out", metavar="PATH", help="the output folder (default: exports in the audit)")
    command.add_argument(
        "--format",
        choices=["csv", "parquet", "imagefolder", "huggingface", "cleanlab", "fiftyone", "label-studio"],
        default="csv",
        help="(default: %(default)s)",
    )
    command.add_argument(
        "--most", metavar="N", type=int, help="label-studio: only the N most suspicious of each split (default: all)"
    )
    command.add_argument("--copy", action="store_true", help="imagefolder: copy the images instead of linking them")
    command.add_argument("--log", metavar="URL", help="the review log (default: reviews.sqlite in the audit)")


def export(options: argparse.Namespace) -> int:
    """Write the patches of corrected labels."""
    from scoring.audit import Audit
    from scoring.audit.storage import write_json
    from scoring.corrections.label_patch import excluded_already, export_patches, missing_examples, read_patch
    from scoring.data.examples import read_examples
    from scoring.reviews.meeting_outcomes import class_mapping
    from scoring.reviews.readable_log import open_for_reading

    audit = Audit.open(options.audit)
    out = Path(options.out) if options.out else audit.exports_folder
    url = options.log or audit.log_url
    if options.format not in ("csv", "parquet"):
        return _export_as(options, audit, out, url)
    with open_for_reading(url, audit.log_name(url)) as log:
        paths = export_patches(read_examples(audit), log, out, fmt=options.format, policy=audit.policy)
        examples = read_examples(audit)
        excluded = excluded_already(examples, log, audit.policy)
        gone = missing_examples(examples, log, audit.policy)
        mapping = class_mapping(log, audit.classes)
    rows = {path: len(read_patch(path)) for path in paths}
    for path, count in rows.items():
        print(f"wrote {path} ({count:,} decided examples)")
    if mapping["changes"]:
        write_json(out / "class-mapping.json", mapping)
        print(f"wrote {out / 'class-mapping.json'} ({len(mapping['changes'])} merged or split classes)")
    if excluded:
        print(f"{len(excluded)} excluded examples are gone from the dataset already, the first: {excluded[0]}")
    if gone:
        print(f"left out {len(gone)} decisions about examples that are no longer in the dataset, the first: {gone[0]}")
    if not sum(rows.values()):
        print(f"no example has a decision yet; review examples with: hardlook dashboard {options.audit}")
    else:
        first = next(path for path, count in rows.items() if count)
        print(
            f"next: hardlook apply {first} DATA   (DATA: the manifest or image folder of that split; --undo reverts it)"
        )
    return 0


def _export_as(options: argparse.Namespace, audit: Audit, out: Path, url: str) -> int:
    """The corrected dataset in a format of others."""
    from scoring.corrections.dataset_formats import export_as
    from scoring.reviews.readable_log import open_for_reading

    run = audit.run(options.run) if audit.run_names() or options.run else None
    if options.format == "label-studio":
        return _tasks(options, audit, run, out, url)
    with open_for_reading(url, audit.log_name(url)) as log:
        for path in export_as(options.format, audit, run, log, out, copy=options.copy):
            print(f"wrote {path}")
    return 0


def _tasks(options: argparse.Namespace, audit: Audit, run: Run | None, out: Path, url: str) -> int:
    """Tasks for Label Studio, and how to serve their pictures there."""
    from scoring.audit.errors import HardlookError
    from scoring.corrections.label_studio_tasks import label_studio
    from scoring.reviews.readable_log import open_for_reading

    if options.most is not None and options.most < 1:
        raise HardlookError(f"--most {options.most}; needed a number from 1")
    with open_for_reading(url, audit.log_name(url)) as log:
        written = label_studio(audit, run, log, out, most=options.most)
    for path in written.paths:
        print(f"wrote {path}")
    if written.storage is not None:
        print(
            "next: start Label Studio with LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true and "
            f"LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={written.storage.parent}, make a project with "
            f"{written.paths[-1].name} as interface and {written.storage} as local storage, and import the tasks"
        )
    print(f"then: hardlook import-reviews {options.audit} FILE   (FILE: the project's export as JSON)")
    return 0
