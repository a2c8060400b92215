"""Labels as datasets write them → class names: one label per example, or a clear refusal.

A label is a class name, an integer index into ``classes`` (NumPy's included), or one of the ways to say
"none": null, empty text, NaN, −1. ``label_map`` of a source renames labels first. Two numbering traps are
errors, not guesses: a number that is at once a class's name and another class's index, and a number outside
``classes``.

Cost: a dictionary look-up per example. Known limits: multi-label data is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from scoring.tables import HardlookError

DELIMITERS = re.compile(r"[|;,\s]+")
WHOLE = re.compile(r"([0-9]+)(?:\.0+)?")
"""A whole number as text: "3", and "3.0", as a column of integers with gaps is written by pandas."""


class Labels:
    """Turns raw labels into names of ``classes``.

    >>> labels = Labels(["cat", "dog"], {"hound": "dog"})
    >>> labels.name("cat"), labels.name(1), labels.name("1"), labels.name("1.0"), labels.name("hound"), labels.name(None)
    ('cat', 'dog', 'dog', 'dog', 'dog', None)
    """

    def __init__(self, classes: Sequence[str], label_map: Mapping[str, str] | None = None):
        self.classes = list(classes)
        self.label_map = dict(label_map or {})
        self._names = set(self.classes)
        self._numeric = any(_is_number(name) for name in self.classes)
        self._known: dict[Any, str | None] = {}
        for found, name in self.label_map.items():
            if name not in self._names:
                wrong = self._not_a_class()
                raise HardlookError(f"label_map turns {found!r} into {name!r}, which is {wrong}")

    def name(self, raw: Any) -> str | None:
        """The class name of one raw label, None where it says "no label". Raises ``HardlookError`` with the
        reason."""
        raw = plain(raw)
        key = (type(raw), raw)
        if key not in self._known:
            self._known[key] = self._find(raw)
        return self._known[key]

    def _find(self, raw: Any) -> str | None:
        if is_none(raw):
            return None
        if str(raw) in self.label_map:
            return self.label_map[str(raw)]
        if isinstance(raw, str):
            return self._find_text(raw)
        if isinstance(raw, int):
            return self._find_number(raw)
        raise HardlookError(f"{raw!r} ({type(raw).__name__}) is no label; needed a class name or an integer")

    def _find_text(self, raw: str) -> str:
        if raw in self._names:
            return raw
        if raw.strip() in self._names:
            return raw.strip()
        whole = WHOLE.fullmatch(raw.strip())
        if whole and whole[1] in self._names:
            return whole[1]
        if whole and not self._numeric:
            return self._find_number(int(whole[1]))
        parts = [part.strip("[]'\"{}()") for part in DELIMITERS.split(raw)]
        if len(parts) > 1 and all(part in self._names for part in parts):
            raise multi_label(raw)
        raise HardlookError(f"{raw!r} is {self._not_a_class()}")

    def _find_number(self, raw: int) -> str:
        if not 0 <= raw < len(self.classes):
            raise HardlookError(
                f"{raw} is no index into the {len(self.classes)} classes (0…{len(self.classes) - 1}); "
                f'complete `classes` in audit.toml, or name it: label_map = {{ "{raw}" = "…" }} in its [[data]]'
            )
        indexed = self.classes[raw]
        if str(raw) in self._names and indexed != str(raw):
            raise HardlookError(
                f"{raw} could be the class named {str(raw)!r} or class number {raw}, {indexed!r}; say which "
                f'with label_map = {{ "{raw}" = "{raw}" }} for every class'
            )
        return indexed

    def _not_a_class(self) -> str:
        shown = ", ".join(map(repr, self.classes[:20])) + (", …" if len(self.classes) > 20 else "")
        return f"not in classes ({shown}); add it to `classes` in audit.toml, or rename it by label_map in its [[data]]"


def plain(raw: Any) -> Any:
    """A label of NumPy, torch or pandas as plain Python; several values at once are refused as multi-label.

    >>> plain(3.0), plain(True)
    (3, 1)
    """
    if hasattr(raw, "item"):
        raw = _single(raw)
    if isinstance(raw, bytes):
        raw = raw.decode("utf8", "replace")
    if isinstance(raw, bool):
        return int(raw)
    if isinstance(raw, float) and raw.is_integer():
        return int(raw)
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
    """Whether a plain label says "no label".

    >>> [is_none(raw) for raw in (None, "", " ", float("nan"), -1, 0, "none")]
    [True, True, True, True, True, False, False]
    """
    if raw is None or type(raw).__name__ in ("NAType", "NaTType") or raw == -1:
        return True
    return not raw.strip() if isinstance(raw, str) else isinstance(raw, float) and math.isnan(raw)


def multi_label(raw: Any) -> HardlookError:
    """The one refusal of labels that hold several classes."""
    return HardlookError(
        f"the label {str(raw)!r:.80} holds several classes; hardlook audits one label per example "
        "(multi-class); split the data into one audit per class, or keep one label"
    )


def classes_line(found: Iterable[Any], order: Sequence[str] | None = None) -> str:
    """The line to paste into audit.toml for labels as they were found; ``order``: the dataset's own class
    names.

    Integers stand for all classes up to the largest one.

    >>> classes_line(["dog", "cat", None])
    'classes = ["cat", "dog"]'
    >>> classes_line([0, 2])
    'classes = ["0", "1", "2"]'
    """
    values = {value for value in map(plain, found) if not is_none(value)}
    if order:
        names = list(order)
    elif values and all(isinstance(value, int) for value in values):
        names = [str(number) for number in range(max(values) + 1)]
    else:
        names = sorted(map(str, values), key=natural)
    return "classes = [" + ", ".join(f'"{toml_text(name)}"' for name in names) + "]"


def toml_text(text: str) -> str:
    """Text as it stands between the double quotes of TOML."""
    return "".join(f"\\{c}" if c in '"\\' else c if c.isprintable() else f"\\u{ord(c):04X}" for c in text)


def natural(text: str) -> tuple:
    """Sort key under which img2 comes before img10.

    >>> sorted(["img10", "img2", "img"], key=natural)
    ['img', 'img2', 'img10']
    """
    parts = [part for part in re.split(r"(\d+)", text) if part]
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts], text


def _is_number(text: str) -> bool:
    """Whether text is a whole number as written in ASCII digits."""
    return text.strip().isascii() and text.strip().isdigit()
