"""Tasks and annotations in an export of Label Studio: JSON, JSON-MIN or CSV, with choices as answers.

``read_tasks`` reads all three into ``Task``; ``settled`` makes one label of the answers of several annotators. JSON-MIN
and CSV have one row per annotation and leave skipped ones out.

Inputs → outputs: a path → tasks; answers → a label, or why there is none. Cost: one parse of the file. Known limits:
choices alone are answers; boxes, ratings and taxonomies are passed over.
"""

from __future__ import annotations

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scoring.audit.errors import HardlookError
from scoring.data.adapters.json_files import Json, objects, read_json_file, text
from scoring.data.adapters.records import one_label
from scoring.data.adapters.text_tables import read_text_table

FLAT = {"annotator", "annotation_id", "lead_time"}
"""Columns by which JSON-MIN and CSV are known: one row per annotation."""

OF_ANNOTATION = {*FLAT, "id", "created_at", "updated_at", "agreement", "history"}

OF_REGION = {"x", "y", "points", "start", "end", "ranges"}
"""Keys of a choice that is about a part of the example alone."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One annotation of a task: by whom, when, and the choices of each control. ``skipped``: cancelled there."""

    annotator: str
    choices: dict[str, tuple[str, ...]]
    updated: str = ""
    annotation: str | None = None
    ground_truth: bool = False
    skipped: bool = False
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task: its own number, its data, its annotations in the order of their time."""

    number: str | None
    data: dict[str, Json]
    answers: tuple[Answer, ...]
    flat: bool = False
    """Whether it comes from rows of one annotation each, where choices and data stand side by side."""


# ------------------------------------------------------------------------------------------------- answers


def settled(answers: Sequence[tuple[Answer, tuple[str, ...]]], rule: str = "agree") -> tuple[str | None, str | None]:
    """(the label, the problem) of a task whose annotators chose these, one entry per annotator, in the order of time.

    >>> ana, bo = (Answer(annotator=name, choices={}) for name in ("ana", "bo"))
    >>> settled([(ana, ("cat",)), (bo, ("cat",))]), settled([(ana, ("cat",)), (bo, ("dog",))], "last")
    (('cat', None), ('dog', None))
    >>> settled([(ana, ("cat",)), (bo, ("dog",))])[0] is None
    True
    """
    counting = [pair for pair in answers if pair[0].ground_truth] or list(answers)
    if rule == "last":
        counting = counting[-1:]
    several = next((choices for _, choices in counting if len(set(choices)) > 1), None)
    if several is not None:
        return one_label(several)
    votes = Counter(choices[0] for _, choices in counting)
    if len(votes) < 2:
        return next(iter(votes), None), None
    (first, most), (_, second) = votes.most_common(2)
    if rule == "majority" and most > second:
        return first, None
    said = ", ".join(f"{choices[0]!r} ({each.annotator})" for each, choices in counting[:5])
    return None, (
        f"its annotators differ: {said}; mark one annotation as ground truth in Label Studio and export again, or set "
        'several = "last" or "majority"'
    )


def last_of_each(answers: Sequence[Answer]) -> list[Answer]:
    """The last annotation of each annotator; one that is ground truth before others."""
    found: dict[str, Answer] = {}
    for each in sorted(answers, key=lambda answer: answer.ground_truth):  # stable: the order of time stays
        found.pop(each.annotator, None)
        found[each.annotator] = each
    return list(found.values())


# ---------------------------------------------------------------------------------------------------- files


def read_tasks(path: Path) -> list[Task]:
    """The tasks of an export, whichever of the three it is. Raises ``HardlookError`` where it is none."""
    if path.suffix.lower() == ".json":
        rows = objects(read_json_file(path))
        if rows and all("data" in row for row in rows):
            return [_task(row) for row in rows]
        known = bool(rows) and all(row.keys() >= FLAT for row in rows)
    else:
        table = read_text_table(path)
        known = {*table.column_names} >= FLAT
        rows = [{key: value for key, value in row.items() if value != ""} for row in table.to_pylist()]
    if not known:
        raise HardlookError(f"{path} is no export of Label Studio with tasks; needed its JSON, JSON-MIN or CSV")
    return _grouped(rows)


def _task(row: dict[str, Json]) -> Task:
    """A task of the full JSON."""
    data = row.get("data")
    return Task(
        number=text(row.get("id")),
        data=data if isinstance(data, dict) else {},
        answers=_in_time([_answer(each) for each in objects(row.get("annotations", row.get("completions")))]),
    )


def _answer(row: dict[str, Json]) -> Answer:
    choices: dict[str, tuple[str, ...]] = {}
    for result in objects(row.get("result")):
        value, control = result.get("value"), text(result.get("from_name"))
        if result.get("type") != "choices" or not isinstance(value, dict) or control is None:
            continue
        if not value.keys() & OF_REGION:
            choices[control] = (*choices.get(control, ()), *_names(value.get("choices")))
    return Answer(
        annotator=_person(row.get("completed_by")),
        choices=choices,
        updated=text(row.get("updated_at") or row.get("created_at")) or "",
        annotation=text(row.get("id")),
        ground_truth=row.get("ground_truth") is True,
        skipped=True in (row.get("was_cancelled"), row.get("skipped")),
        seconds=_seconds(row.get("lead_time")),
    )


def _grouped(rows: Sequence[dict[str, Json]]) -> list[Task]:
    """Tasks of rows with one annotation each. Such a row does not say which of its cells are choices, so each cell of
    text is one that ``control`` may name."""
    by_task: dict[str, list[dict[str, Json]]] = defaultdict(list)
    for at, row in enumerate(rows):
        by_task[text(row.get("id")) or f"row {at}"].append(row)
    return [
        Task(
            number=text(members[0].get("id")),
            data={key: value for key, value in members[0].items() if key not in OF_ANNOTATION},
            answers=_in_time([_flat_answer(row) for row in members]),
            flat=True,
        )
        for members in by_task.values()
    ]


def _flat_answer(row: dict[str, Json]) -> Answer:
    cells = {key: _cell(value) for key, value in row.items() if key not in OF_ANNOTATION}
    return Answer(
        annotator=_person(row.get("annotator")),
        choices={key: names for key, names in cells.items() if names},
        updated=text(row.get("updated_at") or row.get("created_at")) or "",
        annotation=text(row.get("annotation_id")),
        seconds=_seconds(row.get("lead_time")),
    )


def _cell(value: Json) -> tuple[str, ...]:
    """The choices in a cell: one as it is, several as ``{"choices": […]}``, in a CSV as its JSON."""
    if isinstance(value, dict):
        return _names(value.get("choices"))
    if not isinstance(value, str) or not value:
        return ()
    try:
        found: Json = json.loads(value) if value.startswith('{"choices"') else None
    except ValueError:  # a class may be called so
        found = None
    return _names(found.get("choices")) if isinstance(found, dict) else (value,)


def _names(value: Json) -> tuple[str, ...]:
    return tuple(name for name in value if isinstance(name, str)) if isinstance(value, list) else ()


def _person(value: Json) -> str:
    """Who annotated: the e-mail, else the number that Label Studio gives a user."""
    if isinstance(value, dict):
        value = value.get("email") or value.get("username") or value.get("id")
    return text(value) or "unknown"


def _seconds(value: Json) -> float | None:
    """A duration, in a CSV as text; None for none."""
    try:
        found = float(value) if isinstance(value, (str, int, float)) and value != "" else None
    except ValueError:
        return None
    return found if found is not None and 0 <= found < float("inf") else None


def _in_time(answers: Sequence[Answer]) -> tuple[Answer, ...]:
    return tuple(sorted(answers, key=lambda answer: answer.updated))


def header(path: Path) -> set[str]:
    """The names in the first line of a table; none where it cannot be read."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            return set(next(csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ","), []))
    except (OSError, UnicodeDecodeError, csv.Error):  # no such table: the adapter of its ending says so
        return set()
