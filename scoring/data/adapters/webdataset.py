"""WebDataset shards: tar files in which the members of one example share their name up to the first point.

``path`` is one ``.tar``, a folder of them, or a pattern: ``train-{000..003}.tar``, ``train-*.tar``. An example has its
picture (``.jpg``, ``.png``, ``.npy``, …), its label in ``.cls`` (a number or a name) or under ``label`` in ``.json``,
whose other plain values are metadata. The key is the id; where shards repeat keys, the shard's name stands before it.

Members are read by their place in the file, so no shard is unpacked. Inputs → outputs: shards → listing. Cost: one pass
over the headers, one read of labels. Known limits: shards that are compressed as a whole, or elsewhere (``pipe:``,
``https:``), are refused.
"""

from __future__ import annotations

import glob
import json
import os
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

from scoring.audit.errors import HardlookError
from scoring.audit.user_code import close_names
from scoring.data.adapters.base import Listing, Source, nothing_at
from scoring.data.adapters.json_files import Json
from scoring.data.adapters.records import Plain, Record, listing_of
from scoring.data.images import SUFFIXES

MEMBER = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)", re.DOTALL)
"""As the library splits a member's name: key and field, at the first point of its last part."""

FIELDS = {
    "image": (*(suffix.removeprefix(".") for suffix in SUFFIXES), "npy"),
    "vector": ("npy",),
    "text": ("txt", "text", "transcript"),
}
LABELS = ("cls", "cls2", "class", "label")
NOTES = (".json", ".txt", ".md", ".yaml", ".yml")
"""Endings of what may lie beside the shards of a folder."""

BRACES = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"(\d+)\.\.(\d+)")


@dataclass(frozen=True)
class Part:
    """Where a member's bytes lie."""

    shard: str
    offset: int
    size: int

    def read(self) -> bytes:
        """The bytes."""
        with open(self.shard, "rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


@dataclass
class Sample:
    """The members of one example by field, and the shard they are in."""

    key: str
    shard: str
    parts: dict[str, Part] = field(default_factory=dict)


@dataclass(kw_only=True)
class WebDataset(Source):
    """Tar shards. ``input_field``, ``label_field``: the fields with the example and its label, where the usual ones are
    not meant; ``label_key``: the key of the label in a ``.json``."""

    name = "webdataset"
    endings = (".tar",)

    input_field: str | None = None
    label_field: str | None = None
    label_key: str | None = None

    @classmethod
    def recognises(cls, place: Path) -> bool:
        """A folder of shards, with nothing beside them but notes."""
        if not place.is_dir() or not os.access(place, os.R_OK):
            return False
        names = [name for name in os.listdir(place) if not name.startswith(".")]
        endings = {Path(name).suffix.lower() for name in names}
        return ".tar" in endings and endings <= {".tar", *NOTES}

    def listing(self) -> Listing:
        """Labels, ids and metadata of every example, in the order of the shards."""
        twice = Counter(sample.key for sample in self._samples)
        records = [self._record(sample, twice[sample.key] > 1) for sample in self._samples]
        return listing_of(self, records, None, unlabelled=f"has no label: no .{LABELS[0]}, and no label in a .json")

    def stored(self, row: int) -> Any:
        """The bytes of the picture; the text of a text."""
        sample = self._samples[row]
        content = sample.parts[self._input(sample) or ""].read()
        return content.decode("utf8") if self.media == "text" else content

    @property
    def shards(self) -> list[str]:
        """The files that ``path`` means, in order."""
        if not self.path:
            raise self.error(f" needs a path for adapter {self.adapter!r}")
        if self.path.startswith("pipe:") or "://" in self.path:
            raise self.error(f".path = {self.path!r} is not on this machine; download the shards first")
        found: list[str] = []
        for pattern in expanded(self.path):
            place = os.path.normpath(self.root / Path(pattern).expanduser())
            if os.path.isdir(place):
                found += sorted(glob.glob(os.path.join(glob.escape(place), "*.tar")))
            elif os.path.exists(place):
                found.append(place)
            else:
                there = sorted(glob.glob(place))
                if not there:
                    raise self.error(f".path = {self.path!r}: {nothing_at(Path(place))}")
                found += there
        return found

    @cached_property
    def _samples(self) -> list[Sample]:
        found = []
        for shard in self.shards:
            try:
                found += list(samples(shard))
            except (tarfile.TarError, OSError, EOFError) as error:
                raise self.error(
                    f": {shard} is no tar file that can be read in place ({error}); unpack a compression, e.g. gunzip"
                ) from error
            except HardlookError as error:
                raise self.error(f": {error}") from error
        return found

    @cached_property
    def _inputs(self) -> list[str]:
        """The fields that may hold the example; one example has one of them."""
        names = Counter(name for sample in self._samples for name in sample.parts)
        if self.input_field is not None:
            if self.input_field not in names:
                raise self.error(f".input_field = {self.input_field!r}: {close_names(self.input_field, names)}")
            return [self.input_field]
        usual = [name for name in names if name in FIELDS[self.media]]
        if not usual:
            raise self.error(f" needs input_field, the field with the {self.media}; the shards have {', '.join(names)}")
        if any(sum(name in sample.parts for name in usual) > 1 for sample in self._samples):
            raise self.error(f" needs input_field, since one example has several: {', '.join(usual)}")
        return usual

    def _input(self, sample: Sample) -> str | None:
        return next((name for name in self._inputs if name in sample.parts), None)

    def _record(self, sample: Sample, twice: bool) -> Record:
        where = f"{Path(sample.shard).stem}/{sample.key}" if twice else sample.key
        record = Record(name=where, own=where)
        if self._input(sample) is None:
            record.problem = f"has no .{' or .'.join(self._inputs)}, only {', '.join(sample.parts)}"
        told = _object(sample)
        label = next((name for name in (self.label_field, *LABELS) if name in sample.parts), None)
        if self.label_field is not None and label != self.label_field:
            label = None
        if label is not None:
            record.label = sample.parts[label].read().decode("utf8", "replace").strip()
        elif self.label_field is None:
            key = self.label_key or next((name for name in LABELS if name in told), "label")
            value = told.get(key)
            record.label = value if not isinstance(value, (list, dict)) else None
            if isinstance(value, (list, dict)):
                record.problem = f"its {key} in .json is {str(value)!r:.60}; hardlook audits one label per example"
            told = {name: value for name, value in told.items() if name != key}
        plain: dict[str, Plain] = {key: each for key, each in told.items() if not isinstance(each, (list, dict))}
        record.metadata = {key: each for key, each in plain.items() if each is not None}
        return record


def samples(shard: str) -> Iterator[Sample]:
    """The examples of one shard: runs of members with one key. Raises ``HardlookError`` where one has a field twice."""
    sample: Sample | None = None
    with tarfile.open(shard, "r:") as archive:
        for member in archive:
            found = MEMBER.fullmatch(member.name) if member.isfile() else None
            if found is None or Path(member.name).name.startswith(".") or member.name.startswith("__"):
                continue
            key, name = found[1], found[2].lower()
            if sample is None or sample.key != key:
                if sample is not None:
                    yield sample
                sample = Sample(key, shard)
            if name in sample.parts:
                raise HardlookError(f"{shard} has {member.name!r} twice; write the shard again")
            sample.parts[name] = Part(shard, member.offset_data, member.size)
    if sample is not None:
        yield sample


def expanded(pattern: str) -> list[str]:
    """The names that a pattern with braces means, in order.

    >>> expanded("a-{000..002}.tar"), expanded("{x,y}-{1..2}.tar")
    (['a-000.tar', 'a-001.tar', 'a-002.tar'], ['x-1.tar', 'x-2.tar', 'y-1.tar', 'y-2.tar'])
    """
    parts = BRACES.split(pattern)
    choices = [[part] if at % 2 == 0 else _choices(part) for at, part in enumerate(parts)]
    return ["".join(each) for each in product(*choices)]


def _choices(inside: str) -> list[str]:
    found = RANGE.fullmatch(inside)
    if found is None:
        return inside.split(",")
    first, last = int(found[1]), int(found[2])
    width = len(found[1]) if found[1].startswith("0") else 0
    return [str(number).zfill(width) for number in range(first, last + 1)]


def _object(sample: Sample) -> dict[str, Json]:
    """The object in an example's ``.json``; empty where there is none."""
    part = sample.parts.get("json")
    if part is None:
        return {}
    try:
        content: Json = json.loads(part.read())
    except ValueError as error:
        raise HardlookError(f"the .json of {sample.key!r} in {sample.shard} is no JSON ({error})") from error
    return content if isinstance(content, dict) else {}
