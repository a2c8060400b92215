"""Shared parts of the commands: arguments, the progress bar, and opening an audit.

Cost: light; what loads torch is imported where it is used.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]
    """What ``add_subparsers`` of the command line returns, to which every command adds its own."""

    from scoring.audit import Audit, Run
    from scoring.pipeline.shards import Context


def add_command(
    commands: Commands, name: str, function: Callable[[argparse.Namespace], int | None], text: str
) -> argparse.ArgumentParser:
    """A command with its help, which ``function(options)`` runs → exit status or None."""
    command = commands.add_parser(name, help=text, description=text)
    command.set_defaults(command=function)
    return command


def audit_argument(command: argparse.ArgumentParser, *, run: bool = True) -> None:
    """AUDIT, and --run where the command is about one run."""
    command.add_argument("audit", metavar="AUDIT", help="the audit's folder, which holds audit.toml")
    if run:
        command.add_argument("--run", metavar="NAME", help="the run (default: the first run in audit.toml)")


def device_argument(command: argparse.ArgumentParser) -> None:
    """--device."""
    command.add_argument(
        "--device", default="auto", choices=["auto", "cpu", "cuda", "mps"], help="where the model runs (default: auto)"
    )


@contextlib.contextmanager
def bar(what: str, total: int, unit: str = "examples") -> Iterator[Any]:
    """A progress bar with remaining time, shown once a pass takes more than two seconds. ``unit``: what it counts."""
    from tqdm import tqdm

    with tqdm(total=total, desc=f"  {what}", unit=f" {unit}", delay=2, leave=False, dynamic_ncols=True) as shown:
        yield shown.update


def read_data(audit: Audit) -> None:
    """Reads the data, and prints what was found, what changed and what cannot be read."""
    from scoring.data.ingest import ingest
    from scoring.queue.second_reader_policy import ReviewPolicy

    ReviewPolicy.of(audit)  # a policy that nobody can follow is refused before the work, not at the export
    found = ingest(audit, progress=bar, decided=lambda: _decided(audit))
    splits = ", ".join(f"{split} {facts['examples']:,}" for split, facts in found.splits.items())
    changes = [
        f"{count:,} {name}"
        for name in ("moved", "added", "changed", "relabelled", "removed")
        if (count := getattr(found, name)) and count < found.examples
    ]
    print(
        f"  data: {found.examples:,} examples ({splits})"
        + (f"; {', '.join(changes)}" if changes else "")
        + f" ({found.seconds:.1f} s)"
    )
    if found.problems:
        print(f"  data: {len(found.problems):,} examples cannot be read and get null scores:")
        for problem in found.problems[:5]:
            print(f"    {problem['example_id']}: {problem['problem']}")
        if len(found.problems) > 5:
            print(f"    … and {len(found.problems) - 5:,} more, in {audit.ingest_path}")
    for sentence in found.reading:
        print(f"  data: {sentence}")
    for note in found.notes:
        print(f"  data: note: {note}")
    if groups := found.duplicates.get("groups"):
        print(
            f"  data: {groups:,} groups of exact duplicates, {found.duplicates.get('across_splits', 0):,} across "
            f"splits, {found.duplicates.get('conflicting', 0):,} with conflicting labels (see /overview)"
        )


def _decided(audit: Audit) -> dict[str, str]:
    """Example → fingerprint, of what the audit's own log has decisions about that do not exclude it; a log elsewhere is
    not asked."""
    from scoring.reviews import ReviewLog
    from scoring.reviews.disposition import disposition, full_policy

    if not (audit.root / "reviews.sqlite").is_file():
        return {}
    with ReviewLog.open(audit.log_url, audit=audit.log_name(audit.log_url)) as log:
        known = log.consensus().dropna(subset="fingerprint")
    policy = full_policy(audit.policy)
    columns = (known[name] for name in ("example_id", "fingerprint", "verdict", "issues"))
    return {
        example: content
        for example, content, verdict, issues in zip(*columns, strict=True)
        if disposition(verdict, issues, policy)[0] != "exclude"
    }


def open_context(audit: Audit, run: Run, device: str) -> Context:
    """Opens a run for computing and prints the order of its checkpoints."""
    from scoring.models.checkpoints import describe_order
    from scoring.pipeline.shards import Context

    context = Context(audit, run, device=device, progress=bar, say=lambda text: print(f"  {text}"))
    if run.config:
        print(f"  checkpoints: {describe_order(context.checkpoints)}")
    return context
