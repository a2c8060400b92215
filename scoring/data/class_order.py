"""The suggested line `classes = […]` for an audit.toml without classes, in the order of the data's usual library.

A model's outputs follow the numbering of the library that read its training data, so a suggestion in any other order
would swap classes: names that the data itself lists (``ClassLabel``, torchvision's ``classes``) as they are; folders as
torchvision's ``ImageFolder`` sorts them, as text ("1", "10", "2"); names in a column as pandas, scikit-learn's
``LabelEncoder`` and ``class_encode_column`` of Hugging Face sort them, as text; numbers in a column by their value.

Inputs → outputs: raw labels as found → a line of TOML and the order in words. Cost: one pass over the distinct labels.
Known limits: a training that numbered its classes by hand is not known here, and the sentence asks for that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from scoring.data.labels import is_none, number, plain, toml_text

TEXT = (
    "sorted as text, as torchvision's ImageFolder, scikit-learn's LabelEncoder and Hugging Face's "
    "class_encode_column sort"
)
NUMBERS = "sorted as numbers"
OWN = "in the order of the data's own indices"
GAPS = 10  # times as many numbers as labels were found: then they are ids, not indices


def classes_line(
    found: Iterable[Any],
    order: Sequence[str] | None = None,
    as_text: bool = False,
    renamed: Mapping[str, str] | None = None,
) -> str:
    """The line to paste into audit.toml for labels as they were found.

    ``order``: the dataset's own class names; ``as_text``: whether its library sorts numbers as text too; ``renamed``:
    its ``label_map``.

    >>> classes_line(["dog", "cat", None])
    'classes = ["cat", "dog"]'
    >>> classes_line([0, 2]), classes_line([1, 3])
    ('classes = ["0", "1", "2"]', 'classes = ["1", "2", "3"]')
    """
    names = class_names(found, order, as_text, renamed)
    return "classes = [" + ", ".join(f'"{toml_text(name)}"' for name in names) + "]"


def class_names(
    found: Iterable[Any],
    order: Sequence[str] | None = None,
    as_text: bool = False,
    renamed: Mapping[str, str] | None = None,
) -> list[str]:
    """The names of ``classes_line``, in its order.

    >>> class_names([2, 0]), class_names([2, 0], as_text=True)
    (['0', '1', '2'], ['0', '2'])
    """
    names = list(order) if order else _ordered({value for value in map(plain, found) if not is_none(value)}, as_text)
    return list(dict.fromkeys((renamed or {}).get(name, name) for name in names))


def timm_key(name: str) -> list[int | str]:
    """The key by which timm sorts class folders: numbers by their value, capitals as small letters.

    >>> sorted(["b10", "B2", "ant", "Zebra", "3"], key=timm_key)
    ['3', 'ant', 'B2', 'b10', 'Zebra']
    """
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name.lower())]


def describe_order(found: Iterable[Any], order: Sequence[str] | None = None, as_text: bool = False) -> str:
    """In words, the order of ``classes_line``."""
    if order:
        return OWN
    return NUMBERS if not as_text and _numbers({value for value in map(plain, found) if not is_none(value)}) else TEXT


def _ordered(values: set[Any], as_text: bool) -> list[str]:
    """Distinct plain labels as names, in order; whole numbers stand for all classes up to the largest one, from 0 or
    1."""
    numbers = _numbers(values)
    if as_text or not numbers:
        return sorted(map(str, values))
    by_value = sorted(values, key=numbers.__getitem__)
    first, last = numbers[by_value[0]], numbers[by_value[-1]]
    whole = all(value == int(value) for value in numbers.values())
    if whole and first >= 0 and last < GAPS * len(values) + GAPS:
        return [str(value) for value in range(1 if first == 1 else 0, int(last) + 1)]
    return list(dict.fromkeys(map(str, by_value)))


def _numbers(values: set[Any]) -> dict[Any, Decimal]:
    """The number that each value is; empty where one of them is none."""
    found = {value: number(value) for value in values if not isinstance(value, bool)}
    known = {value: exact for value, exact in found.items() if exact is not None}
    return known if len(known) == len(values) else {}
