"""What was found at the paths of an audit to be: lines of ``audit.toml`` with their reasons, and questions.

A ``Line`` is a key with its value and where that came from; one with ``asked`` is a question: it is written commented
out, and says what to write. ``FoundData`` and ``FoundModel`` hold the lines of the two halves of the file, and
sentences to print. Inputs → outputs: plain values. Cost: none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Value = str | int | float | bool | Sequence["Value"] | Mapping[str, "Value"]
"""What a line of TOML can hold; it has no null."""


@dataclass(frozen=True)
class Line:
    """``key = value  # reason``. ``asked``: a question, which is written commented out."""

    key: str
    value: Value
    reason: str = ""
    asked: bool = False


@dataclass(frozen=True, kw_only=True)
class FoundData:
    """The ``[[data]]`` tables, the kind of examples, and the classes in the order in which their library numbers them.

    ``labels``: the distinct class names that occur; ``order``: how ``classes`` are sorted, in words. ``said`` and
    ``asked``: sentences on what was found, and on what could not be decided; ``exif``: on how the EXIF orientation of
    images is treated; ``readers``: the adapter that reads each table.
    """

    media: str
    tables: tuple[tuple[Line, ...], ...]
    classes: tuple[str, ...] = ()
    order: str = ""
    said: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    exif: tuple[str, ...] = ()
    readers: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FoundModel:
    """The lines of ``[run.main]``, its tables, and what the checkpoints say about the data.

    ``classes``: the names in the order of the outputs, where a file states them, with ``classes_from``; ``outputs``:
    their number, where only that is known. ``natural``: the training numbered classes in natural order (timm).
    ``exif``: whether the training read images with their EXIF orientation applied; None where nothing tells.
    ``media``: what the model takes, where that is known. ``complete``: whether a model can be built and its weights
    loaded, so that a first look makes sense.
    """

    kind: str
    model: Line
    arguments: tuple[Line, ...] = ()
    checkpoints: Line | None
    transform: tuple[Line, ...] | Line = ()
    settings: tuple[Line, ...] = ()
    classes: tuple[str, ...] = ()
    classes_from: str = ""
    outputs: int | None = None
    natural: bool = False
    exif: bool | None = None
    media: str | None = None
    said: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Returns whether no line that the model needs is a question."""
        needed = (self.model, self.checkpoints, *self.arguments)
        return not any(line is None or line.asked for line in needed)


def as_value(given: object) -> Value | None:
    """A plain Python value as TOML can hold it: None where it, or anything in it, is an object, null or not finite.

    >>> as_value({"a": (1, 2.5)}), as_value({"a": None}), as_value({1, 2}), as_value(float("nan"))
    ({'a': [1, 2.5]}, None, None, None)
    """
    if isinstance(given, (str, bool)):
        return given
    if isinstance(given, int):
        return int(given) if abs(given) < 2**63 else None
    if isinstance(given, float):
        return float(given) if abs(given) < float("inf") else None
    if isinstance(given, Mapping):
        values = {str(key): as_value(value) for key, value in given.items()}
        kept = {key: value for key, value in values.items() if value is not None}
        return kept if len(kept) == len(given) and all(isinstance(key, str) for key in given) else None
    if isinstance(given, (list, tuple)):
        items = [as_value(value) for value in given]
        known = [value for value in items if value is not None]
        return known if len(known) == len(items) else None
    return None
