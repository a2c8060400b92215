"""Exports of Label Studio: JSON, JSON-MIN and CSV, with one choice per example.

The label of a task is the choice in its annotations. Skipped annotations, drafts and predictions are no labels. Of one
annotator, the last annotation counts. Where one is marked as ground truth, it settles the label; else all annotators
must agree, and a task on which they differ is listed with that as its problem (``several = "last"`` takes the newest
annotation, ``several = "majority"`` what most say). Each annotator's choice is kept as the metadata column
``annotator_<id>``, and the task's own data beside it.

Label Studio writes addresses, not paths: ``/data/upload/1/ab-cat.png`` lies in its folder ``media/upload``, and
``/data/local-files/?d=set/cat.png`` under its document root. ``folder`` names the folder in which these files are.

Inputs → outputs: an export → listing. Cost: one parse of the file (``label_studio_tasks``). Known limits: choices alone
(no boxes, ratings, taxonomies); the order of the classes is not in an export, so it is the one of ``classes``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from scoring.audit.errors import HardlookError
from scoring.audit.user_code import close_names
from scoring.data.adapters.base import Listing, Source
from scoring.data.adapters.file_names import on_this_system
from scoring.data.adapters.json_files import Json, shape, text
from scoring.data.adapters.label_studio_tasks import FLAT, Task, header, last_of_each, read_tasks, settled
from scoring.data.adapters.records import Plain, Record, listing_of
from scoring.data.images import SUFFIXES

RULES = ("agree", "last", "majority")
USUAL_INPUTS = {"image": ("image", "img", "picture", "photo", "url"), "text": ("text", "sentence", "content")}
USUAL_CONTROLS = ("label", "class", "category", "choice")
NO_ANSWER = "has no annotation with a choice; label it in Label Studio, or move the example to the pool"


@dataclass(kw_only=True)
class LabelStudio(Source):
    """An export of Label Studio. ``data_key``: the key of a task's data that holds the image or text; ``control``: the
    name of the ``Choices`` that hold the label; ``several``: how differing annotators are settled; ``id_key``: the key
    of a task's data that is the id (``example_id``, where all tasks have it)."""

    name = "label-studio"
    starting = '; name the folder with the files of Label Studio as `folder = "…"` in the [[data]] table'

    folder: str | None = None
    data_key: str | None = None
    control: str | None = None
    several: str = "agree"
    id_key: str | None = None

    @classmethod
    def recognises(cls, place: Path) -> bool:
        """A JSON list of tasks or of flat annotations, or a CSV with the columns that Label Studio gives each."""
        if place.suffix.lower() == ".json":
            found = shape(place)
            return found.is_list and (
                found.keys >= FLAT or ("data" in found.keys and bool(found.keys & {"annotations", "completions"}))
            )
        return place.suffix.lower() in (".csv", ".tsv") and place.is_file() and header(place) >= FLAT

    def listing(self) -> Listing:
        """The tasks, in the order of the export."""
        if self.several not in RULES:
            raise self.error(f".several = {self.several!r}; needed one of {', '.join(RULES)}")
        control = self._control
        records = [self._record(task, control) for task in self._tasks]
        return listing_of(self, records, None, unlabelled=NO_ANSWER)

    def stored(self, row: int) -> Any:
        """The text of a task; an image is a file."""
        found = self._tasks[row].data.get(self._input)
        if self.media == "text" and isinstance(found, str):
            return found
        raise HardlookError(f"holds {found!r:.60} under {self._input!r}; needed the address of a file")

    @cached_property
    def _tasks(self) -> list[Task]:
        try:
            return read_tasks(self.place)
        except HardlookError as error:
            raise self.error(f": {error}") from error

    @cached_property
    def _control(self) -> str | None:
        used = {self._input, self._id_key} if any(task.flat for task in self._tasks) else set()
        every = dict.fromkeys(name for task in self._tasks for each in task.answers for name in each.choices)
        names = [name for name in every if name not in used]
        if self.control is not None:
            if names and self.control not in names:
                raise self.error(
                    f".control = {self.control!r}: no annotation has such choices; {close_names(self.control, names)}"
                )
            return self.control
        usual = [name for name in USUAL_CONTROLS if name in names]
        if len(names) > 1 and not usual:
            raise self.error(f" needs control, the Choices that hold the label; {self.path} has {', '.join(names)}")
        return next(iter(usual or names), None)

    @cached_property
    def _input(self) -> str:
        """The key of a task's data that holds the image or text."""
        keys = list(dict.fromkeys(key for task in self._tasks for key in task.data))
        if self.data_key is not None:
            if self.data_key not in keys:
                raise self.error(f".data_key = {self.data_key!r}: no task has it; {close_names(self.data_key, keys)}")
            return self.data_key
        usual = [key for key in USUAL_INPUTS.get(self.media, ()) if key in keys]
        likely = [key for key in keys if all(_is_address(task.data.get(key, "")) for task in self._tasks)]
        found = usual or (likely if self.media == "image" else [])
        if not found or (not usual and len(found) > 1):
            raise self.error(f" needs data_key, the key of a task's data with the {self.media}; {', '.join(keys)}")
        return found[0]

    @cached_property
    def _id_key(self) -> str | None:
        if self.id_key is not None or not self._tasks:
            return self.id_key
        return "example_id" if all(text(task.data.get("example_id")) for task in self._tasks) else None

    def _record(self, task: Task, control: str | None) -> Record:
        given = [replace(each, choices={"": each.choices.get(control or "", ())}) for each in task.answers]
        answers = [each for each in given if not each.skipped and each.choices[""]]
        label, problem = settled([(each, each.choices[""]) for each in last_of_each(answers)], self.several)
        address = text(task.data.get(self._input))
        name, path, trouble = self._place(address) if self.media == "image" else (f"task {task.number}", None, None)
        used = {self._input, self._id_key, *([control] if task.flat else [])}
        own = {key: _plain(value) for key, value in task.data.items() if key not in used}
        metadata: dict[str, Plain] = {key: value for key, value in own.items() if value is not None}
        metadata |= {"task": task.number} if task.number is not None else {}
        metadata |= {f"annotator_{each.annotator}": ", ".join(each.choices[""]) for each in last_of_each(answers)}
        return Record(
            name=name,
            path=path,
            label=label,
            problem=trouble or (problem if self.split != "pool" else None),
            own=text(task.data.get(self._id_key)) or "" if self._id_key else None,
            metadata=metadata,
        )

    def _place(self, address: str | None) -> tuple[str, str | None, str | None]:
        """(name, path, problem) of an image's address."""
        if not address or not address.strip():
            return "without address", None, f"its task has no {self._input!r}"
        inside = local_name(address)
        if inside is None:
            return address, None, f"{address} is not a file of this machine; download it, and name its folder"
        beside = self.root / Path(self.folder).expanduser() if self.folder else self.place.parent
        short = "/".join(inside.split("/")[1:]) if "/" in inside else inside
        ways = dict.fromkeys([inside, short, f"upload/{inside}", f"media/upload/{inside}", f"images/{short}"])
        names = [on_this_system(beside, way) for way in (ways if is_upload(address) else [inside])]
        there = next((name for name in names if os.path.exists(beside / name)), names[0])
        return Path(there).as_posix(), os.path.normpath(beside / there), None


# ------------------------------------------------------------------------------------------------ addresses


def is_upload(address: str) -> bool:
    """Returns whether an address is one of a file that was uploaded into Label Studio."""
    return urlsplit(address).path.startswith(("/data/upload/", "upload/"))


def local_name(address: str) -> str | None:
    """An address of Label Studio as the relative path of a file; None where it is on another machine.

    >>> local_name("/data/upload/1/ab-cat.png"), local_name("/data/local-files/?d=set/a%20b.png")
    ('1/ab-cat.png', 'set/a b.png')
    >>> local_name("s3://bucket/a.png") is None, local_name("pictures/a#1.png")
    (True, 'pictures/a#1.png')
    """
    parts = urlsplit(address)
    if parts.path.startswith("/data/local-files"):
        return parse_qs(parts.query).get("d", [""])[0] or None
    if parts.path.startswith(("/data/upload/", "upload/")):
        return unquote(parts.path.removeprefix("/data/").removeprefix("upload/"))
    return None if "://" in address or address.startswith("data:") else address


def _is_address(value: Json) -> bool:
    """Returns whether a cell holds the address of a picture."""
    if not isinstance(value, str):
        return False
    inside = local_name(value) or urlsplit(value).path
    return value.startswith("/data/") or inside.lower().endswith(tuple(SUFFIXES))


def _plain(value: Json) -> Plain:
    return None if isinstance(value, (list, dict)) else value
