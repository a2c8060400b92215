"""Adapters: how each kind of ``[[data]]`` table becomes examples, whatever it is stored as.

A ``Source`` lists its examples without decoding them (``listing``) and gives one at a time (``content``: what
the fingerprint is taken of; ``original``: what the transform receives). The fields of each adapter are the
keys that its table in ``audit.toml`` may have; their defaults are the only ones. Here: what all share, and
image folders; ``scoring.arrays`` holds ``.npz``, ``scoring.manifests`` tables of paths, ``scoring.datasets``
dataset objects.

Originals are given as they are stored: Pillow images in their own mode with the EXIF orientation *not*
applied, array rows in their own layout, since that is what the model was trained on. ``mode = "RGB"``
converts as torchvision's ``ImageFolder`` does.

Cost: one walk, or one read of labels; pixels are read one example at a time. Known limits: remote paths are
refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar

import pyarrow as pa
from PIL import Image

from scoring.audit import SPLITS, Audit
from scoring.labels import natural
from scoring.pictures import SUFFIXES, decode
from scoring.references import close_names, load_callable
from scoring.tables import HardlookError

PLACE = ("root", "number", "media", "classes")
MODES = ("L", "RGB", "RGBA", "LA", "1", "I;16", "I", "F", "CMYK", "YCbCr", "HSV", "LAB")
"""Of Pillow, into which pictures can be converted before the transform."""

KINDS = {"str": str, "list": list, "dict": dict, "bool": bool}
SUFFIXES_OF = {"image": (*SUFFIXES, ".npy"), "vector": (".npy",), "text": (".txt", ".md")}


@dataclass(kw_only=True)
class Listing:
    """What a source knows of its n examples before it reads one; every list has n entries.

    ``paths`` are absolute files, ``names`` the relative paths that ids are made of, ``ids`` the user's own.
    ``labels`` are raw, None where only reading tells. ``problems`` maps a row to the reason why it cannot be
    read. ``skipped`` names what was left out. ``columns`` names the entries of vectors, ``units`` says in what some of them
    are measured. ``unlabelled`` is the
    problem of an example that should have a label and has none.
    """

    splits: list[str]
    paths: list[str | None] | None = None
    names: list[str] | None = None
    ids: list[str] | None = None
    labels: list[Any] | None = None
    problems: dict[int, str] = field(default_factory=dict)
    metadata: dict[str, pa.Array] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    columns: list[str] | None = None
    units: dict[str, str] = field(default_factory=dict)
    unlabelled: str = "has no label; give it one, or move it to the pool"

    def __len__(self) -> int:
        return len(self.splits)

    def path(self, row: int) -> str | None:
        """The file of one example, None where it is no file."""
        return self.paths[row] if self.paths else None


@dataclass(kw_only=True)
class Source:
    """One ``[[data]]`` table. Picklable; what it opens stays in the process that opened it."""

    serial: ClassVar[bool] = False
    """Whether one example at a time is read: code of others may not bear threads."""

    root: Path
    number: int
    media: str
    classes: list[str]
    adapter: str | None = None
    path: str | None = None
    split: str | None = None
    loader: str | None = None
    label_map: dict | None = None
    id_prefix: str = ""
    mode: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Fields alone: open handles and locks stay behind."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def error(self, text: str) -> HardlookError:
        """An error that says which table of audit.toml it is about."""
        return HardlookError(f"audit.toml: data[{self.number}]{text}")

    @cached_property
    def place(self) -> Path:
        """Where the source lies; symbolic links inside the audit stay as they are written."""
        if not self.path:
            raise self.error(f" needs a path for adapter {self.adapter!r}")
        path = Path(os.path.normpath(self.root / Path(self.path).expanduser()))
        if Path(self.path).is_absolute() and path.resolve().is_relative_to(self.root):
            path = path.resolve()
        if not path.exists():
            raise self.error(f".path = {self.path!r}: there is nothing at {path}")
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
        """What the source itself holds of a row that is no file: bytes of a file, an array, an image,
        text."""
        raise NotImplementedError

    def item(self, row: int) -> tuple[Any, Any]:
        """(stored, raw label), for sources that only reading tells the label of."""
        return self.stored(row), None

    def names_of_classes(self) -> list[str] | None:
        """The class names that the data itself carries, in its order."""
        return None

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
        return value.convert(self.mode) if self.mode and isinstance(value, Image.Image) else value

    def ready(self) -> None:
        """Import the loader, so that one which is not there is one error, not one per example."""
        if self.loader:
            try:
                self._load  # noqa: B018
            except HardlookError as error:
                raise self.error(f".loader = {self.loader!r}: {error}") from error

    def shown(self, original: Any) -> Any:
        """The original as ``scoring.pictures`` takes it: for arrays, with the channels where it looks for
        them."""
        return original

    def _decoded(self, content: bytes) -> Any:
        if self.media == "text":
            return content.decode("utf8")
        return decode(content)

    @cached_property
    def _load(self) -> Any:
        """The user's ``loader``: path (text) → Pillow image or array."""
        return load_callable(self.loader, self.root)

    @cached_property
    def _lock(self) -> Any:
        return Lock() if self.serial else _Free()


class _Free:
    """A lock that is never taken, for sources that bear threads."""

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...


# ---------------------------------------------------------------------------------------------- image folders


@dataclass(kw_only=True)
class Folder(Source):
    """An image folder: one folder per class, deeper folders belong to their class; the pool needs no classes.

    The class is the longest beginning of the relative folder that is a class name ("animals/cat"), else the
    first folder. Hidden files are passed over in silence; files of other kinds are listed as skipped.
    """

    extensions: list | None = None

    def listing(self) -> Listing:
        """Walk the folder in natural order (img2 before img10), following links, entering no folder twice."""
        if not self.place.is_dir():
            raise self.error(f".path = {self.path!r} is no folder; name another adapter")
        skipped: list[str] = []
        names = list(self._walk(skipped))
        paths = [str(self.place / name) for name in names]
        listing = Listing(splits=self.one_split(len(names)), names=names, paths=paths, skipped=skipped,
                          unlabelled="lies in no class folder")
        if self.split != "pool":
            listing.labels = [self._class_of(name) for name in names]
        for row in (row for row, name in enumerate(names) if not _is_utf8(name)):
            listing.problems[row] = "its file name is not UTF-8; rename it"
        return listing

    def _walk(self, skipped: list[str]) -> Iterator[str]:
        """Relative names of the wanted files; folders that are named like a picture are given too."""
        seen: set[str] = set()

        def closed(error: OSError) -> None:
            skipped.append(f"{os.path.relpath(error.filename, self.place)}: {error.strerror}")

        for folder, folders, files in os.walk(self.place, followlinks=True, onerror=closed):
            real = os.path.realpath(folder)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            inside = os.path.relpath(folder, self.place)
            pretending = [name for name in folders if inside != "." and self._promises(name)]
            folders[:] = sorted(filter(_visible, set(folders) - set(pretending)), key=natural)
            for name in sorted(filter(_visible, files + pretending), key=natural):
                relative = name if inside == "." else f"{Path(inside).as_posix()}/{name}"
                if self._wanted(name):
                    yield relative
                else:
                    skipped.append(relative)

    def _wanted(self, name: str) -> bool:
        return bool(self.loader and self.extensions is None) or self._promises(name)

    def _promises(self, name: str) -> bool:
        """Whether the name ends like a file of the wanted kind."""
        return name.lower().endswith(tuple(map(str.lower, self.extensions or SUFFIXES_OF[self.media])))

    def _class_of(self, name: str) -> str | None:
        folders = name.split("/")[:-1]
        known = {*self.classes, *(self.label_map or {})}
        beginnings = ["/".join(folders[:depth]) for depth in range(len(folders), 0, -1)]
        return next((part for part in beginnings if part in known), folders[0] if folders else None)


def _is_utf8(name: str) -> bool:
    """Whether a file's name is text; Python keeps other bytes as surrogates."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def _visible(name: str) -> bool:
    """Whether a file is one of the user's: not hidden, not left by an operating system."""
    return not name.startswith(".") and name not in ("__MACOSX", "Thumbs.db", "desktop.ini")


# ---------------------------------------------------------------------------------------------------- opening


def open_sources(audit: Audit) -> list[Source]:
    """Every ``[[data]]`` table as a source; an unknown adapter, key or value is an error that names the known
    ones."""
    return [_open(audit, number, config) for number, config in enumerate(audit.sources)]


def _open(audit: Audit, number: int, config: dict[str, Any]) -> Source:
    adapters, where = known_adapters(), f"audit.toml: data[{number}]"
    name = config.get("adapter") or _guess(audit, number, config)
    if name not in adapters:
        raise HardlookError(f"{where}.adapter = {name!r}; {close_names(str(name), adapters)}")
    allowed = {each.name: each.type for each in fields(adapters[name]) if each.name not in PLACE}
    for key, value in config.items():
        if key not in allowed:
            raise HardlookError(f"{where} ({name}) knows no key {key!r}; {close_names(key, allowed)}")
        kinds = tuple(KINDS[kind] for kind in map(str.strip, allowed[key].split("|")) if kind in KINDS)
        if not isinstance(value, kinds):
            raise HardlookError(f"{where}.{key} = {value!r}; needed {allowed[key].split(' | None')[0]}")
    _check_values(where, config)
    place = {"root": audit.root, "number": number, "media": audit.media, "classes": audit.classes}
    return adapters[name](**place, **{**config, "adapter": name})


def _check_values(where: str, config: dict[str, Any]) -> None:
    """Values that would otherwise fail on each example alone."""
    if not all(isinstance(each, str) and each for each in config.get("extensions", [])):
        raise HardlookError(f'{where}.extensions = {config["extensions"]!r}; needed endings such as [".png"]')
    if "mode" in config and config["mode"] not in MODES:
        raise HardlookError(f"{where}.mode = {config['mode']!r}; needed a mode of Pillow: {', '.join(MODES)}")


def known_adapters() -> dict[str, type[Source]]:
    """Every adapter by the name that audit.toml gives it."""
    from scoring.arrays import Npz
    from scoring.datasets import HuggingFace, MapStyle
    from scoring.manifests import Manifest

    return {"folder": Folder, "manifest": Manifest, "npz": Npz, "dataset": MapStyle,
            "huggingface": HuggingFace}


def _guess(audit: Audit, number: int, config: dict[str, Any]) -> str:
    """The adapter that a table means without saying so."""
    path, where = config.get("path"), f"audit.toml: data[{number}]"
    if "factory" in config:
        return "dataset"
    if not isinstance(path, str) or not path:
        raise HardlookError(f'{where} names no data; add path = "…", or factory = "file.py:callable"')
    place = audit.path(path)
    if place.is_dir():
        saved = ("dataset_info.json", "dataset_dict.json")
        return "huggingface" if any((place / name).is_file() for name in saved) else "folder"
    if place.suffix.lower() in (".csv", ".tsv", ".parquet"):
        return "manifest"
    if place.suffix.lower() == ".npz":
        return "npz"
    if not place.exists():
        raise HardlookError(f"{where}.path = {path!r}: there is nothing at {place}")
    raise HardlookError(
        f"{where}.path = {path!r} is of no known kind; needed a folder, .csv, .tsv, .parquet or .npz, or an adapter"
    )
