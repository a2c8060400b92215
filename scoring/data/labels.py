"""Converts the labels of a dataset to class names: one label per example, or an error.

A label is looked up by name before it is ever an index into ``classes``: as text ("True", "cat"), and as a number among
class names that are numbers (1, 1.0 and "1.0" are the class "1"). Only where it is no name is a whole number, or a
boolean, an index, and only where no class name that is a number stands at another place than its own. Where the data
numbers its labels by a list of classes of its own (``own``: torchvision's ``classes``, an array beside the labels), a
number means that list's name, not a place in ``classes``. Null, empty text, NaN and −1 say "none". ``label_map`` of a
source renames labels first. A column in which some labels are names and others only indices is refused: one of the two
would be a guess.

Cost: a dictionary look-up per example. Known limits: multi-label data is refused; labels 1…K of which K never
occurs are taken as indices where the classes are names (``hardlook check`` tells by the accuracy).
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any
from unicodedata import normalize

from scoring.audit.errors import HardlookError

DELIMITERS = re.compile(r"[|;,\s]+")
NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
"""A number as text: "3", and "3.0", as a column of integers with gaps is written by pandas; not "007"."""

TRUTHS = {"false": 0, "true": 1}
SHOWN = 20


class Labels:
    """Turns raw labels into names of ``classes``.

    ``own``: the classes that the data itself numbers its labels by. Where none of them is a class (or a key of
    ``label_map``), numbers are indices into ``classes``, and ``note`` says so.

    >>> labels = Labels(["cat", "dog"], {"hound": "dog"})
    >>> labels.name("cat"), labels.name("hound"), labels.name(None)
    ('cat', 'dog', None)
    >>> [Labels(["cat", "dog"]).name(raw) for raw in (1, "1", "1.0", True)]
    ['dog', 'dog', 'dog', 'dog']
    >>> Labels(["True", "False"]).name(True), Labels(["dog", "cat"], own=["cat", "dog"]).name(1)
    ('True', 'dog')
    """

    def __init__(
        self, classes: Sequence[str], label_map: Mapping[str, str] | None = None, own: Sequence[str] | None = None
    ):
        self.classes = list(classes)
        self.label_map = dict(label_map or {})
        self._names, self._mapped = Names(self.classes), Names(self.label_map)
        for found, name in self.label_map.items():
            if name not in self._names.exact:
                wrong = self._not_a_class()
                raise HardlookError(f"label_map turns {found!r} into {name!r}, which is {wrong}")
        given = list(own or [])
        shared = any(name in self._names.exact or name in self.label_map for name in given)
        self.own = given if shared else None
        self._strange = [] if shared else given
        self._told = {name for at, name in enumerate(given) if name != str(at)}  # names, whatever number they look like
        self._misplaced = next((name for at, name in enumerate(self.classes) if _place(name) not in (None, at)), None)
        self._known: dict[Any, str | None] = {}
        self._ways: dict[str, Any] = {}

    def name(self, raw: Any) -> str | None:
        """The class name of one raw label, None where it says "no label". Raises ``HardlookError`` with the
        reason."""
        raw = plain(raw)
        key = (type(raw), raw)
        if key not in self._known:
            self._known[key] = self._find(raw)
        return self._known[key]

    @property
    def note(self) -> str | None:
        """The note on the labels found so far, if none of the data's own class names is in ``classes``."""
        if not self._strange or "index" not in self._ways:
            return None
        return (
            f"none of the data's own class names ({_shown(self._strange)}) is in `classes`; its labels are read as "
            "indices into `classes`"
        )

    def _find(self, raw: Any) -> str | None:
        if (mapped := self._mapped.find(raw)) is not None:
            return self.label_map[mapped]
        if self.own and isinstance(raw, int) and raw != -1:
            return self._own_name(raw)
        if (name := self._names.find(raw)) is not None:
            return self._found(raw, name, "name")
        if is_none(raw):
            return None
        index = None if raw in self._told else _whole(raw)
        if index is not None:
            return self._found(raw, self._at(raw, index), "index")
        if not isinstance(raw, str):
            raise HardlookError(
                f"{raw!r} ({type(raw).__name__}) is {self._not_a_class()}; needed a class name or an integer"
            )
        parts = [part.strip("[]'\"{}()") for part in DELIMITERS.split(raw)]
        if len(parts) > 1 and all(part in self._names.exact for part in parts):
            raise multi_label(raw)
        raise HardlookError(f"{raw!r} is {self._not_a_class()}")

    def _own_name(self, raw: int) -> str:
        """Returns what a number means in a list of classes that the data brings."""
        own = self.own or []
        if not 0 <= raw < len(own):
            raise HardlookError(
                f"{raw} is not an index into the data's own {len(own)} classes ({_shown(own)}); correct it, or map "
                f'it: label_map = {{ "{raw}" = "…" }} in its [[data]]'
            )
        name = own[raw]
        name = self.label_map.get(name, name)
        if name not in self._names.exact:
            raise HardlookError(f"{raw} is {name!r} in the data's own list of classes, which is {self._not_a_class()}")
        return name

    def _at(self, raw: Any, index: int) -> str:
        """The class at an index, where an index is what a number can mean."""
        if self._misplaced is not None:
            raise HardlookError(
                f"{raw!r} is not in classes, and read as an index it would contradict the class {self._misplaced!r}, "
                f"which is number {self.classes.index(self._misplaced)} there; map each label with label_map = {{ "
                f'"{raw}" = "…" }} in its [[data]]'
            )
        if 0 <= index < len(self.classes):
            return self.classes[index]
        raise HardlookError(
            f"{raw} is not an index into the {len(self.classes)} classes (0…{len(self.classes) - 1}); "
            + (
                f"labels that start at one need {counted_from_one(self.classes)} in their [[data]]"
                if index == len(self.classes)
                else f'complete `classes` in audit.toml, or map it: label_map = {{ "{raw}" = "…" }} in its [[data]]'
            )
        )

    def _found(self, raw: Any, name: str, way: str) -> str:
        """``name``, unless other labels of the column were found the other way."""
        index = _whole(raw)
        if way == "name" and index is not None and index < len(self.classes) and self.classes[index] == name:
            return name  # its name and its index are the same class
        self._ways.setdefault(way, raw)
        if len(self._ways) == 2:
            raise HardlookError(
                f"{self._ways['name']!r} is the name of a class, but {self._ways['index']!r} in the same column could "
                "only be an index into `classes`; write all labels as names, or map the number with label_map = { "
                f'"{self._ways["index"]}" = "…" }} in its [[data]]'
            )
        return name

    def _not_a_class(self) -> str:
        return (
            f"not in classes ({_shown(self.classes)}); add it to `classes` in audit.toml, or map it to a class with "
            "label_map in its [[data]]"
        )


class Names:
    """Texts by which a label can be found: exactly, without spaces around it, with accents composed otherwise (as old
    macOS writes file names), or as the same number.

    >>> names = Names(["1.0", "True", "cat"])
    >>> names.find(1), names.find("1"), names.find(True), names.find(" cat"), names.find("Cat")
    ('1.0', '1.0', 'True', 'cat', None)
    >>> Names(["caf\u00e9"]).find("cafe\u0301")
    'café'
    """

    def __init__(self, names: Iterable[str]):
        self.exact = set(names)
        self._composed = {normalize("NFC", name): name for name in sorted(self.exact)}
        self._numbers: dict[Decimal, list[str]] = {}
        for name in sorted(self.exact):
            if NUMBER.fullmatch(name):
                self._numbers.setdefault(Decimal(name), []).append(name)

    def find(self, raw: Any) -> str | None:
        """The name that a plain label is, None where it is none; ``HardlookError`` where a number could be two."""
        texts = (
            (raw, raw.strip())
            if isinstance(raw, str)
            else (str(raw), str(raw).lower())
            if isinstance(raw, bool)
            else ()
        )
        for text in texts:
            if text in self.exact:
                return text
        if isinstance(raw, str) and (composed := self._composed.get(normalize("NFC", raw.strip()))) is not None:
            return composed
        value = number(raw)
        same = [] if value is None else self._numbers.get(value, [])
        if len(same) > 1:
            raise HardlookError(
                f"{raw!r} could be the class {same[0]!r} or the class {same[1]!r}; write labels as text"
            )
        return same[0] if same else None


def number(raw: Any) -> Decimal | None:
    """The exact value of a number, a boolean or a number written as text; None for anything else.

    >>> number(1.0) == number("1.00") == number(True), number("007"), number(float("nan"))
    (True, None, None)
    """
    if isinstance(raw, str):
        return Decimal(raw.strip()) if NUMBER.fullmatch(raw.strip()) else None
    if isinstance(raw, int):
        return Decimal(int(raw))
    return Decimal(repr(raw)) if isinstance(raw, float) and math.isfinite(raw) else None


def _whole(raw: Any) -> int | None:
    """The whole number from 0 that a plain label is, None for anything else; any integer that is no text."""
    value = number(raw)
    if value is None or value != int(value) or (isinstance(raw, str) and value < 0):
        return None
    return int(value)


def _place(name: str) -> Decimal | int | None:
    """The number that a class name is: "0", "007", "2.5", "True"; None for other names."""
    is_number = re.fullmatch(r"[+-]?[0-9]+(?:\.[0-9]+)?", name.strip())
    return Decimal(name.strip()) if is_number else TRUTHS.get(name.strip().lower())


def plain(raw: Any) -> Any:
    """A label of NumPy, torch or pandas as plain Python; several values at once are refused as multi-label.

    >>> plain(3.0), plain(True), plain([3]), plain([])
    (3, True, 3, None)
    """
    if hasattr(raw, "item"):
        raw = _single(raw)
    if isinstance(raw, bytes):
        raw = raw.decode("utf8", "replace")
    if isinstance(raw, Decimal) and raw.is_finite():
        raw = int(raw) if raw == int(raw) else float(raw)
    if isinstance(raw, float) and raw.is_integer():
        return int(raw)
    if isinstance(raw, (list, tuple)) and len(raw) < 2:
        return plain(raw[0]) if raw else None
    if isinstance(raw, (list, tuple, set, dict)):
        raise multi_label(raw)
    return raw


def _single(raw: Any) -> Any:
    """The one value of a scalar, of a 0-d array or tensor, or of one of shape (1,)."""
    try:
        return raw.item()
    except (ValueError, RuntimeError) as error:
        raise multi_label(raw) from error


def is_none(raw: Any) -> bool:
    """Returns whether a plain label says "no label".

    >>> [is_none(raw) for raw in (None, "", " ", float("nan"), -1, 0, "none")]
    [True, True, True, True, True, False, False]
    """
    if raw is None or type(raw).__name__ in ("NAType", "NaTType") or raw == -1:
        return True
    return not raw.strip() if isinstance(raw, str) else isinstance(raw, float) and math.isnan(raw)


def multi_label(raw: Any) -> HardlookError:
    """The one refusal of labels that hold several classes."""
    return HardlookError(
        f"the label {str(raw)!r:.80} holds several classes; hardlook audits one label per example (multi-class); "
        "split the data into one audit per class, or keep one label"
    )


def counted_from_one(classes: Sequence[str]) -> str:
    """The line of audit.toml for labels 1…K.

    >>> counted_from_one(["cat", "dog"])
    'label_map = { "1" = "cat", "2" = "dog" }'
    """
    pairs = [f'"{number}" = "{toml_text(name)}"' for number, name in enumerate(classes, 1)]
    return "label_map = { " + ", ".join(pairs if len(pairs) <= SHOWN else [pairs[0], pairs[1], "…", pairs[-1]]) + " }"


def toml_text(text: str) -> str:
    """Text as it stands between the double quotes of TOML."""
    return "".join(f"\\{c}" if c in '"\\' else c if c.isprintable() else f"\\U{ord(c):08X}" for c in text)


def natural(text: str) -> tuple[Any, ...]:
    """Sort key under which img2 comes before img10.

    >>> sorted(["img10", "img2", "img"], key=natural)
    ['img', 'img2', 'img10']
    """
    parts = [part for part in re.split(r"(\d+)", text) if part]
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts], text


def _shown(names: Collection[str]) -> str:
    """The first names, for a sentence."""
    return ", ".join(map(repr, list(names)[:SHOWN])) + (", …" if len(names) > SHOWN else "")
