"""Adapters: how each kind of ``[[data]]`` table becomes examples, whatever it is stored as.

``base`` holds what all share. Each kind of source is one file, found by scanning: a subclass of ``Source`` with a
``name``, whose fields are the keys of its table. Here: which adapter a table of audit.toml means, and its keys checked.

Cost: one walk, or one read of labels; pixels are read one example at a time. Known limits: remote paths are
refused.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Iterable
from dataclasses import MISSING, Field, fields
from functools import cache
from pathlib import Path
from typing import Any

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.audit.user_code import close_names
from scoring.data.adapters.base import Source, nothing_at

PLACE = ("root", "number", "media", "classes")
MODES = ("L", "RGB", "RGBA", "LA", "1", "I;16", "I", "F", "CMYK", "YCbCr", "HSV", "LAB")
"""Of Pillow, into which images can be converted before the transform."""

ARGUMENTS = ("arguments",)
"""Tables that are handed to code of the user's: any value is good."""

NUMBERS = ("shape",)
"""Lists of whole numbers; all others are of text."""

KINDS = {"str": str, "list": list, "dict": dict, "bool": bool}
NEEDED = {
    "str": "text in quotes",
    "list": "list, in brackets [ … ]",
    "dict": "table, in braces { … }",
    "bool": "true or false",
}


def open_sources(audit: Audit) -> list[Source]:
    """Every ``[[data]]`` table as a source; an unknown adapter, key or value is an error that names the known
    ones."""
    return [_open(audit, number, config) for number, config in enumerate(audit.sources)]


def _open(audit: Audit, number: int, config: dict[str, Any]) -> Source:
    adapters, where = known_adapters(), f"audit.toml: data[{number}]"
    name = config.get("adapter") or _guess(audit, number, config)
    if name not in adapters:
        raise HardlookError(f"{where}.adapter = {name!r}; {close_names(str(name), adapters)}")
    allowed = {each.name: key_type(each) for each in fields(adapters[name]) if is_key(each.name)}
    for key, value in config.items():
        if key not in allowed:
            raise HardlookError(f"{where} ({name}) knows no key {key!r}; {close_names(key, allowed)}")
        named = [kind.strip().partition("[")[0] for kind in allowed[key].split("|")]
        kinds = [kind for kind in named if kind in KINDS]
        if not isinstance(value, tuple(KINDS[kind] for kind in kinds)):
            needed = " or ".join(NEEDED[kind] for kind in kinds)
            raise HardlookError(f"{where}.{key} = {value!r:.80}; needed {needed}")
    _check_values(where, config)
    place: dict[str, Any] = {"root": audit.root, "number": number, "media": audit.media, "classes": audit.classes}
    return adapters[name](**place, **{**config, "adapter": name})


def _check_values(where: str, config: dict[str, Any]) -> None:
    """Values that would otherwise fail on each example alone."""
    if not all(isinstance(each, str) and each for each in config.get("extensions", [])):
        raise HardlookError(f'{where}.extensions = {config["extensions"]!r}; needed endings such as [".png"]')
    for key, value in config.items():
        inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        kind, needed = (int, "whole numbers") if key in NUMBERS else (str, "text")
        wrong = [each for each in inside if not isinstance(each, kind) or isinstance(each, bool)]
        if wrong and key not in ARGUMENTS:
            raise HardlookError(
                f"{where}.{key} holds {wrong[0]!r:.80}; needed {needed} alone, e.g. "
                + ("[28, 28]" if kind is int else '{ "1" = "cat" }' if isinstance(value, dict) else '["a", "b"]')
            )
    if "mode" in config and config["mode"] not in MODES:
        raise HardlookError(f"{where}.mode = {config['mode']!r}; needed a mode of Pillow: {', '.join(MODES)}")


@cache
def known_adapters() -> dict[str, type[Source]]:
    """Every adapter by the name that audit.toml gives it, found by scanning this folder, in sorted order."""
    found: dict[str, type[Source]] = {}
    for module in sorted(info.name for info in pkgutil.iter_modules(__path__)):
        home = f"{__name__}.{module}"
        for kind in vars(importlib.import_module(home)).values():
            if isinstance(kind, type) and issubclass(kind, Source) and kind.__module__ == home and kind is not Source:
                check_adapter(kind, found.values())
                found[kind.name] = kind
    return dict(sorted(found.items()))


def is_key(field: str) -> bool:
    """Returns whether a field of an adapter is a key of its table in audit.toml, and not its place or its own state."""
    return field not in PLACE and not field.startswith("_")


def key_type(key: Field[Any]) -> str:
    """Returns the type of an adapter's key as it is written, be annotations kept as text or not."""
    return key.type.__name__ if isinstance(key.type, type) else str(key.type)


def check_adapter(kind: type[Source], others: Iterable[type[Source]]) -> None:
    """Raises ``HardlookError`` for a ``Source`` whose declarations are wrong or clash with those of another."""
    who = f"adapter {kind.name!r} ({kind.__module__}.{kind.__qualname__})"
    if not kind.name:
        raise HardlookError(f'{who} has no name; add the one by which audit.toml calls it: name = "…"')
    if "__dataclass_fields__" not in vars(kind):
        raise HardlookError(f"{who} is not a dataclass; put @dataclass(kw_only=True) above the class")
    for attribute in ("endings", "markers"):
        if not isinstance(getattr(kind, attribute), tuple):
            raise HardlookError(f"{who}: {attribute} = {getattr(kind, attribute)!r}; needed a tuple, (…,)")
    for other in others:
        shared = {*kind.endings, *kind.markers} & {*other.endings, *other.markers}
        if kind.name == other.name or shared:
            what = f"the name {kind.name!r}" if kind.name == other.name else f"{sorted(shared)[0]!r}"
            raise HardlookError(
                f"{who} and {other.__module__}.{other.__qualname__} both claim {what}; needed one owner"
            )
    for each in fields(kind):
        named = {part.strip().partition("[")[0] for part in key_type(each).split("|")}
        if not is_key(each.name):
            continue
        if not named & set(KINDS):
            raise HardlookError(
                f"{who}: key {each.name!r} is of type {key_type(each)}; needed {', '.join(KINDS)} (or None)"
            )
        if each.default is MISSING and each.default_factory is MISSING:
            raise HardlookError(f"{who}: key {each.name!r} has no default; needed one, such as None")


def _guess(audit: Audit, number: int, config: dict[str, Any]) -> str:
    """The name of the adapter for a table that names none: by ``factory``, by a look at what is there, by a file's
    ending. An adapter that lacks a key of the table is not meant."""
    path, where = config.get("path"), f"audit.toml: data[{number}]"
    kinds = known_adapters().values()
    if "factory" in config:
        return next(kind.name for kind in kinds if kind.reads_code)
    if not isinstance(path, str) or not path:
        raise HardlookError(f'{where} names no data; add path = "…", or factory = "file.py:callable"')
    place = Path(os.path.realpath(audit.root / Path(path).expanduser()))
    seen = [kind for kind in kinds if kind.recognises(place)]
    others = [kind for kind in kinds if (kind.reads_any_folder if place.is_dir() else _has_ending(kind, place))]
    meant = [kind for kind in seen if _knows(kind, config)]
    if len(meant) > 1:
        names = " or ".join(repr(kind.name) for kind in meant)
        raise HardlookError(f'{where}.path = {path!r} can be {names}; say which: adapter = "{meant[0].name}"')
    for kind in (*meant, *(kind for kind in others if _knows(kind, config)), *seen, *others):
        return kind.name
    if not place.exists():
        raise HardlookError(f"{where}.path = {path!r}: {nothing_at(place)}")
    *endings, last = sorted(ending for kind in kinds for ending in kind.endings)
    raise HardlookError(
        f"{where}.path = {path!r} is of no known kind; needed a folder, {', '.join(endings)} or {last}, or an adapter: "
        f"{', '.join(kind.name for kind in kinds)}"
    )


def _has_ending(kind: type[Source], place: Path) -> bool:
    return place.suffix.lower() in kind.endings


def _knows(kind: type[Source], config: dict[str, Any]) -> bool:
    """Returns whether an adapter knows every key of a table."""
    return set(config) <= {each.name for each in fields(kind) if is_key(each.name)}
