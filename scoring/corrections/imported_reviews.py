"""Answers of another review tool as decisions in the review log: ``read_answers``, ``checked``, ``import_answers``.

Two kinds of file: an export of Label Studio (JSON, JSON-MIN, CSV) of tasks that ``hardlook export --format
label-studio`` wrote, and a plain table (CSV, TSV, Parquet) with example_id, label and reviewer. ``label`` is a class,
a JSON list of several, or empty where a column ``verdict`` says none or unsure; ``note`` and ``fingerprint`` may stand
beside it. What an answer means is ``scoring.corrections.label_studio_answers``'s.

All or nothing: an example that is not in the audit, a class that is none of its classes, and an example that changed
since the file was written are refused, or left out where that is asked for. The same file twice adds nothing: each
event keeps where it came from, and an answer that is already there, or that only repeats what its reviewer's last
import said, is passed over. A later file with more answers adds those alone.

Inputs → outputs: a file → answers → events, appended in one transaction. Cost: one read of the file and of the log's
events. Known limits: a table says no times, so its answers are dated by their import; two imports at the same moment
of different files with the same answers may both write them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.audit.storage import read_table
from scoring.audit.user_code import close_names
from scoring.corrections.label_studio_answers import CONTROL, NO_CLASS, Meaning, meaning
from scoring.data.adapters.json_files import text
from scoring.data.adapters.label_studio import LabelStudio
from scoring.data.adapters.label_studio_tasks import Task, read_tasks
from scoring.data.adapters.text_tables import read_text_table
from scoring.reviews import Event, ReviewLog
from scoring.reviews.verdicts import VERDICTS

COLUMNS = {"id": ("example_id",), "label": ("label", "new_label"), "reviewer": ("reviewer", "annotator")}
"""The usual names of a table's columns."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer in a file: by whom, about which example, which classes. ``source`` names it among all answers of its
    tool (an annotation and its time); ``label`` and ``fingerprint`` are those that were shown, where the file says."""

    place: str
    example_id: str
    reviewer: str
    chosen: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    verdict: str | None = None
    skipped: bool = False
    label: str | None = None
    fingerprint: str | None = None
    note: str | None = None
    seconds: float | None = None
    source: str | None = None


@dataclass(frozen=True)
class Checked:
    """The decisions that an audit can take, what it cannot (sentences), and how many answers say nothing."""

    decisions: list[tuple[Answer, Meaning]]
    refused: list[str]
    empty: int


@dataclass(frozen=True)
class Imported:
    """How many decisions were new, and how many were in the log."""

    new: int
    known: int
    reviewers: tuple[str, ...]


# -- reading ----------------------------------------------------------------------------------------


def read_answers(path: Path, columns: Mapping[str, str | None], control: str | None = None) -> list[Answer]:
    """The answers in a file. ``columns``: names for ``id``, ``label`` and ``reviewer``, None for the usual ones;
    ``control``: the Choices of Label Studio that hold the classes."""
    if not path.is_file():
        raise HardlookError(f"{path} does not exist; needed an export of Label Studio, or a table of answers")
    if LabelStudio.recognises(path):
        return _from_tasks(path, read_tasks(path), columns.get("id") or "example_id", control)
    if path.suffix.lower() == ".json":
        raise HardlookError(f"{path} is no export of Label Studio; export the project there as JSON, JSON-MIN or CSV")
    return _from_table(path, columns)


def _from_tasks(path: Path, tasks: Sequence[Task], id_key: str, control: str | None) -> list[Answer]:
    flat = any(task.flat for task in tasks)
    used = {id_key, "fingerprint", "split", "given_label", "image", "text", NO_CLASS} if flat else {NO_CLASS}
    every = dict.fromkeys(name for task in tasks for each in task.answers for name in each.choices)
    names = [name for name in every if name not in used]
    if control is None and len(names) > 1 and CONTROL not in names:
        raise HardlookError(f"{path} has several Choices ({', '.join(names)}); name the one with classes: --control")
    if control is not None and names and control not in names:
        raise HardlookError(f"{path} has no Choices {control!r}; {close_names(control, names)}")
    chosen = control or (CONTROL if CONTROL in names else next(iter(names), CONTROL))
    found = []
    for task in tasks:
        example = text(task.data.get(id_key))
        if example is None:
            raise HardlookError(
                f"{path}: task {task.number} has no {id_key!r} in its data; export the tasks with `hardlook export "
                "--format label-studio`, or name the key with --id-column"
            )
        for each in task.answers:
            found.append(
                Answer(
                    place=f"annotation {each.annotation}",
                    example_id=example,
                    reviewer=each.annotator,
                    chosen=each.choices.get(chosen, ()),
                    outside=each.choices.get(NO_CLASS, ()),
                    skipped=each.skipped,
                    label=text(task.data.get("given_label")) or None,
                    fingerprint=text(task.data.get("fingerprint")),
                    seconds=each.seconds,
                    source=f"{each.annotation} {each.updated}",
                )
            )
    return sorted(found, key=lambda answer: (answer.source or "").split(" ", 1)[-1])


def _from_table(path: Path, columns: Mapping[str, str | None]) -> list[Answer]:
    table = read_table(path) if path.suffix.lower() in (".parquet", ".pq") else read_text_table(path)
    own = {what: _column(path, what, columns.get(what), table.column_names) for what in COLUMNS}
    found: dict[tuple[str, str], Answer] = {}
    for at, row in enumerate(table.to_pylist(), 1):
        example, who = (str(row[own[what]] or "").strip() for what in ("id", "reviewer"))
        if not example or not who:
            raise HardlookError(f"{path}: row {at} has no {own['reviewer'] if example else own['id']}; needed in each")
        answer = Answer(
            place=f"row {at}",
            example_id=example,
            reviewer=who,
            chosen=_classes(path, at, row[own["label"]]),
            verdict=_verdict(path, at, row.get("verdict")),
            fingerprint=row.get("fingerprint") or None,
            note=row.get("note") or None,
        )
        earlier = found.setdefault((example, who), answer)
        if replace(earlier, place=answer.place) != answer:
            raise HardlookError(
                f"{path}: {earlier.place} and {answer.place} are different answers of {who!r} about {example!r}; "
                "needed one answer of each reviewer"
            )
    return list(found.values())


def _column(path: Path, what: str, given: str | None, names: Sequence[str]) -> str:
    if given is not None and given not in names:
        raise HardlookError(f"{path} has no column {given!r}; {close_names(given, names)}")
    found = given or next((name for name in COLUMNS[what] if name in names), None)
    if found is None:
        raise HardlookError(
            f"{path} has no column {COLUMNS[what][0]!r} ({what}); it has {', '.join(names)}; name it with "
            f"--{what}-column"
        )
    return found


def _classes(path: Path, at: int, cell: Any) -> tuple[str, ...]:
    """The classes in a cell: one as it is, several as a list or its JSON."""
    if isinstance(cell, str) and cell.startswith("["):
        try:
            cell = json.loads(cell)
        except ValueError:  # a class may begin so
            return (cell,)
    if isinstance(cell, list):
        if not all(isinstance(name, str) for name in cell):
            raise HardlookError(f"{path}: row {at} has the label {cell!r:.80}; needed names of classes")
        return tuple(cell)
    return () if cell is None or not str(cell).strip() else (str(cell),)


def _verdict(path: Path, at: int, cell: Any) -> str | None:
    if cell is None or not str(cell).strip():
        return None
    if cell not in VERDICTS:
        raise HardlookError(f"{path}: row {at} has verdict {cell!r:.40}; needed one of {', '.join(VERDICTS)}")
    return str(cell)


# -- checking ---------------------------------------------------------------------------------------


def checked(
    audit: Audit, answers: Iterable[Answer], skipped: str = "unsure", renamed: Mapping[str, str] | None = None
) -> Checked:
    """What of these answers an audit can take. ``skipped``: the verdict of skipped tasks, or "ignore"; ``renamed``:
    annotator → reviewer."""
    rows = read_table(audit.examples_path, ["example_id", "label", "fingerprint"]).to_pandas()
    examples = {row.example_id: (row.label, row.fingerprint) for row in rows.itertuples(index=False)}
    result = Checked([], [], 0)
    empty = 0
    for given in answers:
        answer = replace(given, reviewer=(renamed or {}).get(given.reviewer, given.reviewer))
        try:
            shown = _shown(answer, examples)
            found = _meaning(shown, skipped)
            if found is not None:
                _need_classes(found, audit.classes)
        except HardlookError as error:
            result.refused.append(f"{answer.place} ({answer.example_id!r}): {error}")
            continue
        if found is None:
            empty += 1
        else:
            result.decisions.append((shown, found))
    return replace(result, empty=empty)


def _shown(answer: Answer, examples: Mapping[str, tuple[Any, Any]]) -> Answer:
    """The answer with the label and content that its reviewer saw. Raises ``HardlookError`` where these are gone."""
    if answer.example_id not in examples:
        raise HardlookError("the audit has no such example")
    label, fingerprint = (value if isinstance(value, str) else None for value in examples[answer.example_id])
    if answer.fingerprint is not None and answer.fingerprint != fingerprint:
        raise HardlookError("the example changed since the file was written")
    return replace(answer, label=answer.label or label, fingerprint=fingerprint)


def _meaning(answer: Answer, skipped: str) -> Meaning | None:
    if answer.skipped:
        return None if skipped == "ignore" else Meaning(skipped)
    found = meaning(answer.label, answer.chosen, answer.outside)
    if answer.verdict is None or (found is not None and found.verdict == answer.verdict):
        return found
    takes = VERDICTS[answer.verdict].takes
    if takes is not None or found is not None:
        said = ", ".join(map(repr, answer.chosen)) or "no class"
        raise HardlookError(
            f"verdict {answer.verdict!r} contradicts the label, {said} where {answer.label!r} was given"
        )
    return Meaning(answer.verdict)


def _need_classes(found: Meaning, classes: Sequence[str]) -> None:
    for name in (*found.labels, *([found.new_label] if found.new_label else [])):
        if name not in classes:
            raise HardlookError(f"{name!r} is no class of this audit; {close_names(name, classes)}")


# -- writing ----------------------------------------------------------------------------------------


def import_answers(log: ReviewLog, path: Path, decisions: Sequence[tuple[Answer, Meaning]]) -> Imported:
    """Append the decisions that the log does not have yet, all or none."""
    content = hashlib.sha256(path.read_bytes()).hexdigest()
    there, last = _imported_before(log)
    new = []
    for answer, found in decisions:
        who, source = (answer.example_id, answer.reviewer), answer.source or content
        said = (found.verdict, found.new_label, found.labels)
        if (*who, source, said) in there or (answer.source is None and last.get(who) == said):
            continue
        there.add((*who, source, said))
        last[who] = said
        new.append((answer, found, source))
    identity = json.dumps(
        [[answer.example_id, answer.reviewer, source, *said_of(found)] for answer, found, source in new]
    )
    client = f"import-{hashlib.sha256(identity.encode()).hexdigest()[:24]}"
    log.append(
        Event(
            client=client,
            seq=seq,
            example_id=answer.example_id,
            fingerprint=answer.fingerprint,
            label=answer.label,
            reviewer=answer.reviewer,
            action="decide",
            verdict=found.verdict,
            new_label=found.new_label,
            labels=found.labels,
            note=answer.note,
            seconds=answer.seconds,
            evidence={"imported": {"file": path.name, "sha256": content, "source": source}},
        )
        for seq, (answer, found, source) in enumerate(new, 1)
    )
    names = dict.fromkeys(answer.reviewer for answer, _ in decisions)
    return Imported(len(new), len(decisions) - len(new), tuple(names))


def said_of(found: Meaning) -> tuple[str, str | None, list[str]]:
    """A meaning as JSON has it."""
    return found.verdict, found.new_label, list(found.labels)


Said = tuple[str, str | None, tuple[str, ...]]


def _imported_before(log: ReviewLog) -> tuple[set[tuple[str, str, str, Said]], dict[tuple[str, str], Said]]:
    """(example, reviewer, source, answer) of all that was imported, and (example, reviewer) → the last such answer."""
    events = log.events()
    there: set[tuple[str, str, str, Said]] = set()
    last: dict[tuple[str, str], Said] = {}
    for row in events[events["client"].str.startswith("import-") & (events["action"] == "decide")].to_dict("records"):
        evidence = row["evidence"] if isinstance(row["evidence"], dict) else {}
        source = evidence.get("imported", {}).get("source")
        if not isinstance(source, str):
            continue
        new_label = row["new_label"] if isinstance(row["new_label"], str) else None
        said = (row["verdict"], new_label, tuple(row["labels"]))
        there.add((row["example_id"], row["reviewer"], source, said))
        last[row["example_id"], row["reviewer"]] = said
    return there, last
