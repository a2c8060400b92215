"""JSON files of other tools: read whole, and recognised by the keys that they begin with.

``shape`` tells the keys of the object, or of the first object of a list; by them an adapter knows a file of its own,
since ``.json`` is the ending of many kinds.

Inputs → outputs: a path → what it holds, or its kind and keys. Cost: one parse; for the shape, one look at the first
megabyte, remembered until the file changes. Known limits: the whole file is in memory while it is parsed; a key that
comes after the first megabyte is not seen.
"""

from __future__ import annotations

import json
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, TypeAlias

from scoring.audit.errors import HardlookError

HEAD = 1 << 20
"""Bytes of which a file's kind is told."""

TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:,]', re.DOTALL)
"""A whole string, a bracket, a colon or a comma."""

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"


class Shape(NamedTuple):
    """What a JSON file begins with: whether it is a list, and the keys of its (first) object."""

    is_list: bool = False
    keys: frozenset[str] = frozenset()


def read_json_file(path: Path) -> Json:
    """Returns what a JSON file holds; a byte order mark is dropped. Raises ``HardlookError`` where it is no JSON."""
    try:
        found: Json = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise HardlookError(f"{path} is not JSON ({error}); export it again") from error
    return found


def shape(path: Path) -> Shape:
    """Returns what a JSON file begins with; an empty shape for what is no readable JSON file.

    >>> shape(Path("nothing.json"))
    Shape(is_list=False, keys=frozenset())
    """
    try:
        found = os.stat(path)
    except OSError:
        return Shape()
    return _shape(str(path), found.st_size, found.st_mtime_ns) if os.path.isfile(path) else Shape()


@lru_cache(maxsize=64)
def _shape(path: str, size: int, modified: int) -> Shape:
    try:
        with open(path, "rb") as file:
            return head_shape(file.read(HEAD).decode("utf-8-sig", "ignore"))
    except OSError:  # closed: another adapter, or the one that is named, says so
        return Shape()


def head_shape(head: str) -> Shape:
    """What JSON begins with, from the beginning of its text alone.

    >>> found = head_shape('[{"a": {"b": "}"}, "c": [1, {"d": 2}]}, {"e": 1}]')
    >>> found.is_list, sorted(found.keys)
    (True, ['a', 'c'])
    >>> head_shape('{"items": [{"id": "cut of')
    Shape(is_list=False, keys=frozenset({'items'}))
    """
    depth, is_list, last, keys = 0, False, "", set[str]()
    for found in TOKEN.finditer(head):
        token = found[0]
        if token in "{[":
            depth += 1
            is_list = token == "[" if depth == 1 else is_list
            if is_list and depth == 2 and token == "[":
                break
        elif token in "}]":
            depth -= 1
            if depth == 0 or (is_list and depth == 1):
                break
        elif token == ",":
            if is_list and depth == 1:
                break
        elif token != ":":
            last = token
        elif depth == 1 + is_list:
            keys.add(str(json.loads(last)))
    return Shape(is_list, frozenset(keys))


def objects(value: Json) -> list[dict[str, Json]]:
    """The objects of a list; nothing for what is none.

    >>> objects([{"a": 1}, 2]), objects(None)
    ([{'a': 1}], [])
    """
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def text(value: Json) -> str | None:
    """A plain value as text, whole numbers without a point; None for null, lists and objects.

    >>> text(3), text("a"), text(None), text([1])
    ('3', 'a', None, None)
    """
    return None if value is None or isinstance(value, (list, dict)) else str(value)
