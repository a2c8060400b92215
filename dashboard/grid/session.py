"""A session: one example at a time, decided by keys, beside the facts that help to decide.

Python sends a window of the queue (cells of ``dashboard.presenters.cells``). The browser shows one cell large, decides
and advances by itself (``dashboard/grid/session.js``), reads facts ahead from ``dashboard.routes.session_routes``, and
requests the next window long before this one ends. The position in the queue is the address's ``?at=``, an example_id,
written by the browser.

Cost: a window of 240 cells is 100 kB, once per some 150 decisions; no decision runs the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dashboard.grid import show_component

BEFORE, AHEAD = 40, 200
"""Cells that a window holds before the current example, and after it."""


@dataclass(frozen=True)
class Queue:
    """The queue of a session: ids in order, the start and the reason for it, and how many are left to decide."""

    ids: Sequence[str]
    start: int
    reason: str = ""
    left: int | None = None
    scores: Sequence[float | None] = field(default=(), repr=False)
    ahead: int = AHEAD
    skips: bool = False
    """Whether what others have meanwhile decided is passed over."""
    waits: bool = False
    """Whether an example is shown only once it is kept from others."""

    def window(self) -> range:
        """Returns the positions of the cells that are sent."""
        return range(max(0, self.start - BEFORE), min(len(self.ids), self.start + self.ahead))


def review_session(queue: Queue, cells: Sequence[dict[str, Any]], *, key: str, **shared: Any) -> None:
    """Shows the session. ``cells``: of ``queue.window()``; ``shared``: the arguments of every grid (classes, issues,
    …)."""
    window = queue.window()
    here = queue.ids[queue.start]
    more = {
        "kind": "session",
        "first": window.start,
        "of": len(queue.ids),
        "at": here,
        "reason": queue.reason,
        "left": queue.left,
        "skips": queue.skips,
        "waits": queue.waits,
    }
    show_component([{"title": "Session", "cells": cells}], key=key, turns=True, more=more, **shared)
