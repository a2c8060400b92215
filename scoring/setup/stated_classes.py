"""The class names that a checkpoint of one's own training states, in the order of the outputs.

Trainings keep them beside the weights as a list (``classes``, ``class_names``) or as numbers (``class_to_idx`` of
torchvision's ``ImageFolder``, ``idx_to_class``, ``id2label``), at the top or among the settings. Such an order is the
training's own, and goes before any order in which data can be sorted.

Inputs → outputs: `Facts` and the number of outputs → names and their place. Cost: none. Known limits: numbers that are
not 0 … n - 1, or names of another number than the outputs, state nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from scoring.audit.errors import HardlookError
from scoring.models.checkpoint_facts import CLASSES, SETTINGS, Facts


def stated_classes(facts: Facts, outputs: int | None, file: str, named: bool = False) -> tuple[tuple[str, ...], str]:
    """(names, where they are from) of a checkpoint ``file`` with that many ``outputs``; nothing where it has none.

    Raises `HardlookError` where it states two orders, unless the order is ``named`` by the user.

    >>> stated_classes(Facts((), {"class_to_idx": {"dog": 0, "cat": 1}}), 2, "a.pt")
    (('dog', 'cat'), 'class_to_idx in a.pt')
    """
    width = 2 if outputs == 1 else outputs
    found = [(names, key) for key, names in _all(facts.stated, "") if width in (None, len(names))]
    if len({names for names, _ in found}) > 1 and not named:
        first, other = found[0], next(each for each in found if each[0] != found[0][0])
        raise HardlookError(
            f"{file} states two orders of its classes, {first[1]} = {', '.join(first[0][:4])} and {other[1]} = "
            f"{', '.join(other[0][:4])}; name the one of the outputs with --classes a,b,c"
        )
    return (found[0][0], f"{found[0][1]} in {file}") if found else ((), "")


def _all(stated: Mapping[str, Any], above: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(key, names) of every statement, at the top and among the settings."""
    for key, value in stated.items():
        if key in CLASSES and (names := _names(value)):
            yield above + key, names
        elif key in SETTINGS and isinstance(value, Mapping):
            yield from _all(value, f"{above}{key}.")


def _names(value: object) -> tuple[str, ...]:
    """The names in order of a list of texts, or of a mapping between names and the numbers from 0; else none."""
    if isinstance(value, (list, tuple)):
        names = [each for each in value if isinstance(each, str)]
        return tuple(names) if len(names) == len(value) == len(set(names)) and len(names) > 1 else ()
    if not isinstance(value, Mapping):
        return ()
    pairs = [(_index(number), name) for name, number in value.items()]
    if any(number is None for number, _ in pairs):
        pairs = [(_index(number), name) for number, name in value.items()]
    named = {number: str(name) for number, name in pairs if number is not None and isinstance(name, str)}
    whole = len(named) == len(value) > 1 and sorted(named) == list(range(len(named)))
    return tuple(named[number] for number in sorted(named)) if whole else ()


def _index(value: object) -> int | None:
    """A whole number, also one that JSON made a text of."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return int(value) if isinstance(value, str) and value.isdecimal() else None
