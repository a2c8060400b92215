"""The base class of adapters: a source of examples, and its listing before any example is read.

A ``Source`` lists its examples without decoding them (``listing``) and gives one at a time (``content``: what
the fingerprint is taken of; ``original``: what the transform receives). The fields of each adapter are the
keys that its table in ``audit.toml`` may have; their defaults are the only ones.

Originals are given as the library gives them that usually reads such data, since that is what the model was trained on:
Pillow images in their own mode, array rows in their own layout. The EXIF orientation is not applied to files, as
torchvision's ``ImageFolder`` and timm leave it, and is applied to images of Hugging Face, as ``datasets`` decodes them;
``exif = true | false`` says otherwise. ``mode = "RGB"`` converts as ``ImageFolder`` does.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar

import pyarrow as pa
from PIL import Image

from scoring.audit import SPLITS
from scoring.audit.errors import HardlookError
from scoring.audit.user_code import load_callable
from scoring.data.exif_orientation import upright
from scoring.data.images import decode

HUGGING_FACE = "Hugging Face's datasets"


@dataclass(kw_only=True)
class Listing:
    """What a source knows of its n examples before it reads one; every list has n entries.

    ``left_out`` names columns that are no plain values, ``notes`` are sentences about the source that a user should
    read. ``paths`` are absolute files, ``names`` the relative paths that ids are made of, ``ids`` the user's own.
    ``labels`` are raw, None where only reading tells. ``problems`` maps a row to the reason why it cannot be read.
    ``skipped`` names what was left out. ``columns`` names the entries of vectors, ``units`` says in what some of them
    are measured. ``unlabelled`` is the problem of an example that should have a label and has none.
    """

    splits: list[str]
    paths: Sequence[str | None] | None = None
    names: list[str] | None = None
    ids: list[str] | None = None
    labels: list[Any] | None = None
    problems: dict[int, str] = field(default_factory=dict)
    metadata: dict[str, pa.Array] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    columns: list[str] | None = None
    units: dict[str, str] = field(default_factory=dict)
    unlabelled: str = "has no label; add one, or move the example to the pool"

    def __len__(self) -> int:
        return len(self.splits)

    def path(self, row: int) -> str | None:
        """The file of one example, None where it is no file."""
        return self.paths[row] if self.paths else None


@dataclass(kw_only=True)
class Source:
    """One ``[[data]]`` table. Picklable; what it opens stays in the process that opened it."""

    name: ClassVar[str] = ""
    """What ``adapter = "…"`` in audit.toml calls it; a class without a name is no adapter."""

    endings: ClassVar[tuple[str, ...]] = ()
    """The endings of files that it reads, where a table names a path and no adapter."""

    markers: ClassVar[tuple[str, ...]] = ()
    """Files of which one marks a folder as its own."""

    reads_any_folder: ClassVar[bool] = False
    """Whether it reads a folder that no other adapter knows by a marker."""

    reads_code: ClassVar[bool] = False
    """Whether it reads what ``factory = "file.py:callable"`` returns, where a table names no adapter."""

    serial: ClassVar[bool] = False
    """Whether one example at a time is read: code of others may not bear threads."""

    labels_from_items: ClassVar[bool] = False
    """Whether labels come with reading the items."""

    sorts_as_text: ClassVar[bool] = False
    """Whether the library that usually reads such data numbers classes sorted as text, even where they are numbers."""

    turned_by: ClassVar[str] = ""
    """The tool that reads such images with their EXIF orientation applied; empty where none does."""

    starting: ClassVar[str] = ""
    """What a sentence about a missing file adds: where relative paths start, and the key that changes it."""

    @classmethod
    def recognises(cls, place: Path) -> bool:
        """Returns whether what lies at a path is surely of this kind, by a look inside; here, a folder with one of the
        ``markers``. An adapter whose files or folders have the endings or names of others looks further."""
        return place.is_dir() and any(os.path.isfile(place / marker) for marker in cls.markers)

    root: Path
    number: int
    media: str
    classes: list[str]
    adapter: str | None = None
    path: str | None = None
    split: str | None = None
    loader: str | None = None
    label_map: dict[str, Any] | None = None
    id_prefix: str = ""
    mode: str | None = None
    exif: bool | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Fields alone: open handles and locks stay behind."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def error(self, text: str) -> HardlookError:
        """An error that says which table of audit.toml it is about."""
        return HardlookError(f"audit.toml: data[{self.number}]{text}")

    @cached_property
    def place(self) -> Path:
        """Returns where the source lies; symbolic links inside the audit stay as they are written."""
        if not self.path:
            raise self.error(f" needs a path for adapter {self.adapter!r}")
        path = Path(os.path.normpath(self.root / Path(self.path).expanduser()))
        real = Path(os.path.realpath(path))
        if Path(self.path).is_absolute() and real.is_relative_to(self.root):
            path = real
        if not path.exists():
            raise self.error(f".path = {self.path!r}: {nothing_at(path)}")
        return path

    def one_split(self, count: int) -> list[str]:
        """The same split for every example."""
        if self.split is None:
            raise self.error(f" needs split; one of {', '.join(SPLITS)}")
        return [self.split] * count

    def listing(self) -> Listing:
        """List the examples."""
        raise NotImplementedError

    def stored(self, row: int) -> Any:
        """Returns what the source itself holds of a row that is no file: bytes of a file, an array, an image,
        text."""
        raise NotImplementedError

    def item(self, row: int) -> tuple[Any, Any]:
        """Returns (stored, raw label) of a row, for sources whose labels come with the items."""
        return self.stored(row), None

    def names_of_classes(self) -> list[str] | None:
        """The class names that the data itself carries, in its order."""
        return None

    @property
    def image_feature(self) -> Mapping[str, Any] | None:
        """The ``Image`` feature of Hugging Face that the images are of; None where they are of none."""
        return None

    @property
    def turns(self) -> bool:
        """Returns whether images reach the transform with their EXIF orientation applied."""
        turned = bool(self.turned_by) or self.image_feature is not None
        return turned if self.exif is None else self.exif

    def describe_exif(self) -> str | None:
        """Returns how the EXIF orientation of the source's images is treated, and why; None where there are none to
        decode."""
        if self.media != "image" or self.labels_from_items:
            return None
        why = (
            "as set in audit.toml"
            if self.exif is not None
            else f"as in {self.turned_by or HUGGING_FACE}"
            if self.turns
            else "as the loader decides"
            if self.loader
            else "as in torchvision's ImageFolder and timm"
        )
        return (
            f"EXIF orientation is {'applied to' if self.turns else 'ignored in'} images, {why} (exif = "
            f"{str(not self.turns).lower()} in the [[data]] table changes this)"
        )

    def content(self, row: int, path: str | None) -> tuple[Any, Any]:
        """(what the fingerprint is taken of: the bytes of the file or the object, raw label where this tells
        it)."""
        if path is not None:
            return Path(path).read_bytes(), None
        with self._lock:
            return self.item(row)

    def original(self, row: int, path: str | None, content: Any = None) -> Any:
        """One example before any transform: a Pillow image, an array, a tensor or text.

        ``content``, where it is at hand, saves reading it again. Whatever goes wrong raises, with the reason.
        """
        if self.loader and path is not None:
            value = self._load(path)
        else:
            content = self.content(row, path)[0] if content is None else content
            value = self._decoded(content) if isinstance(content, bytes) else content
        if not isinstance(value, Image.Image):
            return value
        value = upright(value) if self.turns else value
        mode = self.mode or (self.image_feature or {}).get("mode")
        return value.convert(mode) if mode and mode != value.mode else value

    def ready(self) -> None:
        """Import the loader, so that one which is not there is one error, not one per example."""
        if self.loader:
            try:
                self._load  # noqa: B018  the property finds the loader, and says where there is none
            except HardlookError as error:
                raise self.error(f".loader = {self.loader!r}: {error}") from error

    def shown(self, original: Any) -> Any:
        """The original as ``scoring.data.images`` takes it: for arrays, with the channels where it looks for
        them."""
        return original

    def _decoded(self, content: bytes) -> Any:
        if self.media == "text":
            return content.decode("utf8")
        return decode(content)

    @cached_property
    def _load(self) -> Any:
        """The user's ``loader``: path (text) → Pillow image or array."""
        return load_callable(self.loader or "", self.root)

    @cached_property
    def _lock(self) -> Any:
        return Lock() if self.serial else _Free()


def nothing_at(path: Path) -> str:
    """Returns why nothing can be read at a path."""
    links = f"the link {path} leads back to itself or to nothing; let it lead to the data"
    return links if os.path.islink(path) else f"there is nothing at {path}"


class _Free:
    """A lock that is never taken, for sources that bear threads."""

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...
