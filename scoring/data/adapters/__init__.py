"""Adapters: how each kind of ``[[data]]`` table becomes examples, whatever it is stored as.

``source`` holds what all share; ``folders`` folders of files, ``arrays`` ``.npz``, ``manifests`` tables of paths,
``datasets`` dataset objects. Here: which one a table of audit.toml means, and its keys checked.

Cost: one walk, or one read of labels; pixels are read one example at a time. Known limits: remote paths are
refused.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.audit.user_code import close_names
from scoring.data.adapters.base import Source

PLACE = ("root", "number", "media", "classes")
MODES = ("L", "RGB", "RGBA", "LA", "1", "I;16", "I", "F", "CMYK", "YCbCr", "HSV", "LAB")
"""Of Pillow, into which pictures can be converted before the transform."""

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
    allowed = {each.name: each.type for each in fields(adapters[name]) if each.name not in PLACE}
    for key, value in config.items():
        if key not in allowed:
            raise HardlookError(f"{where} ({name}) knows no key {key!r}; {close_names(key, allowed)}")
        kinds = tuple(KINDS[kind] for kind in map(str.strip, allowed[key].split("|")) if kind in KINDS)
        if not isinstance(value, kinds):
            needed = " or ".join(NEEDED[kind] for kind in map(str.strip, allowed[key].split("|")) if kind in KINDS)
            raise HardlookError(f"{where}.{key} = {value!r:.80}; needed {needed}")
    _check_values(where, config)
    place = {"root": audit.root, "number": number, "media": audit.media, "classes": audit.classes}
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


def known_adapters() -> dict[str, type[Source]]:
    """Every adapter by the name that audit.toml gives it."""
    from scoring.data.adapters.dataset_objects import HuggingFace, MapStyle
    from scoring.data.adapters.image_folder import Folder
    from scoring.data.adapters.manifest import Manifest
    from scoring.data.adapters.npz import Npz

    return {"folder": Folder, "manifest": Manifest, "npz": Npz, "dataset": MapStyle, "huggingface": HuggingFace}


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
