"""How a dataset's own column of labels writes a class: the inverse of ``scoring.data.labels``.

A class that the column already holds is written as its rows write it ("hound" under ``label_map``, 1.0 in a column of
floats, true, "007"). Another is tried as a name, a key of ``label_map``, and an index, each in the column's own type;
the first that reads back as the class, beside all labels that are there, is taken.

Inputs → outputs: the raw values of a column, its type, classes, ``label_map`` → a raw value per class. Cost: one pass
over the distinct values. Known limits: where a class is written in several ways, the commonest is taken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from scoring.audit.errors import HardlookError
from scoring.data.adapters import hub
from scoring.data.adapters.base import Source
from scoring.data.adapters.columns import value_type
from scoring.data.labels import Labels, number, plain

NUMERALS: tuple[Callable[[int], str], ...] = (str, "{}.0".format)
"""How a text may write an index."""


class WrittenLabels:
    """Class → what a column holds for it. ``values``: the column as plain Python; ``kind``: its Arrow type."""

    def __init__(self, source: Source, values: Sequence[Any], kind: pa.DataType):
        self.source = source
        kind = value_type(kind)
        self.in_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
        self.kind = value_type(kind.value_type) if self.in_list else kind
        self.own = source.names_of_classes() or []
        counts = Counter(_single(value) for value in values)
        self._there = [value for value, _ in counts.most_common()]
        self._found: dict[str, Any] = {}

    def value(self, label: str) -> Any:
        """Returns what the column holds for a class. Raises ``HardlookError`` where nothing in its type reads back as
        this class."""
        if label not in self._found:
            self._found[label] = self._find(label)
        value = self._found[label]
        return [value] if self.in_list else value

    def need_classes(self, path: Path) -> None:
        """Raises ``HardlookError`` where the column holds no names and the names of its classes are not known."""
        if not self._classes and not pa.types.is_string(self.kind):
            raise HardlookError(
                f"the labels of {path} are numbers ({self.kind}); give the class names in order with --classes, or the "
                "audit with --audit"
            )

    def _find(self, label: str) -> Any:
        if not self._classes:
            return label
        if label in self._in_use:
            return self._in_use[label]
        for value in self._candidates(label):
            if self._reads(value, label):
                return value
        raise HardlookError(
            f"no value of type {self.kind} stands for the class {label!r} in this column; add the class to `classes` "
            "in audit.toml, or to the ClassLabel of the file"
        )

    @property
    def _classes(self) -> list[str]:
        return self.source.classes or self.own

    @cached_property
    def _in_use(self) -> dict[str, Any]:
        """Class → its commonest value in the column."""
        known, found = Labels(self._classes, self.source.label_map, self.own or None), dict[str, Any]()
        for value in self._there:
            name = known.name(self._named(value))
            if name is not None:
                found.setdefault(name, value)
        return found

    def _reads(self, value: Any, label: str) -> bool:
        """Returns whether a value, beside those that are there, is read as the class."""
        known = Labels(self._classes, self.source.label_map, self.own or None)
        try:
            return [known.name(self._named(each)) for each in (*self._in_use.values(), value)][-1] == label
        except HardlookError:
            return False

    def _named(self, value: Any) -> Any:
        return hub.named(plain(value), self.own) if self.own and not isinstance(value, str) else value

    def _candidates(self, label: str) -> Iterator[Any]:
        """Values of the column's type that may mean a class, the likeliest first."""
        keys = [key for key, name in (self.source.label_map or {}).items() if name == label]
        filled = [value for value in self._there if value not in (None, "")]
        renamed = bool(filled) and all(str(value).strip() in (self.source.label_map or {}) for value in filled)
        names = [*keys, label] if renamed else [label, *keys]
        places = [order.index(name) for order in (self.own, self.source.classes) for name in names if name in order]
        if pa.types.is_string(self.kind):
            yield from names
            there = set(map(str, filled))
            ways = sorted(NUMERALS, key=lambda way: not there & {way(at) for at in range(len(self._classes))})
            yield from (way(at) for way in ways for at in places)
        else:
            numbers = [number(name) for name in names]
            for value in (*(each for each in numbers if each is not None), *map(Decimal, places)):
                if (typed := self._typed(value)) is not None:
                    yield typed

    def _typed(self, value: Decimal) -> Any:
        """A number as a Python value of the column's type, None where the type cannot hold it."""
        if pa.types.is_boolean(self.kind):
            return bool(value) if value in (0, 1) else None
        given = float(value) if pa.types.is_floating(self.kind) else int(value) if value == int(value) else value
        try:
            return pa.scalar(given, self.kind).as_py()
        except (pa.ArrowException, OverflowError, TypeError, ValueError):
            return None


def _single(value: Any) -> Any:
    """A list of one as what it holds."""
    if isinstance(value, list):
        return value[0] if len(value) == 1 else None
    return value
