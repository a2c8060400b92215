"""A companion of a reading: what else is made of each original while it is decoded, so that nothing is decoded twice.

``scoring.data.ingest`` decodes an example for its fingerprint and its thumbnail. A companion is shown the decoded
original in the same thread (``look``), and then the examples one by one in the table's order (``take``).

Inputs → outputs: originals → whatever the companion keeps. Cost: its own; memory holds what ``look`` returned of the
examples that wait for their turn, at most ``WAITING`` bytes or one chunk per thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from scoring.data.listed_sources import ListedSource

WAITING = 256 << 20
"""Bytes of what ``look`` made that may wait to be taken."""


class Companion(Protocol):
    """What rides along with a reading of the data."""

    bytes_each: int
    """How many bytes ``look`` makes of one example."""

    def look(self, original: Any, example: str) -> Any:
        """Returns what is made of one original; called in threads. Whatever goes wrong is returned, not raised."""

    def take(self, example_id: str, fingerprint: str, made: Any) -> None:
        """Takes the next usable example in the table's order; ``made`` is None where it was not decoded this time."""

    def end(self) -> None:
        """Every example was taken."""


Meet = Callable[[Sequence[ListedSource], bool], Companion | None]
"""``meet(sources, anew)``: the companion for these sources, before one example is read; None: none. ``anew``: no
example is known from an earlier reading. What it raises ends the reading before it begins."""


def pace(companion: Companion | None, chunk: int, under_way: int) -> tuple[int, int]:
    """Returns examples per task, and tasks that may wait: fewer where a companion makes much of each.

    >>> pace(None, 64, 16)
    (64, 16)
    """
    if companion is None:
        return chunk, under_way
    chunk = max(1, min(chunk, WAITING // 4 // max(companion.bytes_each, 1)))
    return chunk, max(2, min(under_way, WAITING // (chunk * max(companion.bytes_each, 1))))
