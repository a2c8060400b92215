"""Reads the data of an audit and says, a sentence at a time, what was found, what changed and what cannot be read.

Inputs → outputs: an audit → the example table (``scoring.data.ingest``) and its summary. Cost: that of the reading.
Limits: only the audit's own log is asked for what was decided; one elsewhere is not opened.
"""

from __future__ import annotations

from collections.abc import Callable

from scoring.audit import Audit
from scoring.audit.progress import Progress, silent
from scoring.data.companion import Meet
from scoring.data.ingest import Ingest, ingest
from scoring.queue.second_reader_policy import ReviewPolicy

Say = Callable[[str], object]
"""Hears one sentence of what a command plans or found out."""

FEW = 5


def unheard(text: str) -> None:
    """The listener that keeps nothing."""


def read_data(audit: Audit, *, progress: Progress = silent, say: Say = unheard, meet: Meet | None = None) -> Ingest:
    """Returns what was found in the data; the example table is written, and each sentence about it is said. ``meet``:
    see ``scoring.data.companion``."""
    ReviewPolicy.of(audit)  # a policy that nobody can follow is refused before the work, not at the export
    found = ingest(audit, progress=progress, decided=lambda: decided(audit), meet=meet)
    for text in sentences(audit, found):
        say(text)
    return found


def sentences(audit: Audit, found: Ingest) -> list[str]:
    """Returns what a reading found, as a command prints it."""
    splits = ", ".join(f"{split} {facts['examples']:,}" for split, facts in found.splits.items())
    changes = [
        f"{count:,} {name}"
        for name in ("moved", "added", "changed", "relabelled", "removed")
        if (count := getattr(found, name)) and count < found.examples
    ]
    changed = f"; {', '.join(changes)}" if changes else ""
    said = [f"data: {found.examples:,} examples ({splits}){changed} ({found.seconds:.1f} s)"]
    if found.problems:
        said.append(f"data: {len(found.problems):,} examples cannot be read and get null scores:")
        said += [f"  {problem['example_id']}: {problem['problem']}" for problem in found.problems[:FEW]]
        if (more := len(found.problems) - FEW) > 0:
            said.append(f"  … and {more:,} more, in {audit.ingest_path}")
    said += [f"data: {sentence}" for sentence in found.reading]
    said += [f"data: note: {note}" for note in found.notes]
    if groups := found.duplicates.get("groups"):
        said.append(
            f"data: {groups:,} groups of exact duplicates, {found.duplicates.get('across_splits', 0):,} across "
            f"splits, {found.duplicates.get('conflicting', 0):,} with conflicting labels (see /overview)"
        )
    return said


def decided(audit: Audit) -> dict[str, str]:
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
