"""The geometry of a lasso selection: outlines in an address, and which points lie inside.

Input → output: the selection of a Plotly chart → outlines, their text for an address, and back; points → inside (n,).
A point is inside by the even-odd rule. Cost: n times the corners, 20 ms for 20,000 points. Limit: an outline has at
most ``CORNERS`` corners with four digits, so that it fits an address; points on its very edge may change sides.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

CORNERS = 60
MOST = 8
"""Maximum number of outlines in an address."""

Outline = list[tuple[float, float]]


def selected_outlines(selection: Mapping[str, Any]) -> list[Outline]:
    """Returns the outlines of a chart's selection in Streamlit's format: lassos, and boxes by their corners."""
    found = [list(zip(one["x"], one["y"], strict=True)) for one in selection.get("lasso", ())]
    for one in selection.get("box", ()):
        (left, right), (low, high) = one["x"], one["y"]
        found.append([(left, low), (right, low), (right, high), (left, high)])
    return [_fewer(outline) for outline in found if len(outline) > 2][:MOST]


def _fewer(outline: Outline) -> Outline:
    """Returns at most ``CORNERS`` of the corners, evenly."""
    if len(outline) <= CORNERS:
        return outline
    return [outline[int(at)] for at in np.linspace(0, len(outline) - 1, CORNERS)]


def to_text(outlines: Sequence[Outline]) -> str:
    """Returns outlines as text for an address.

    >>> to_text([[(0.0, 1.23456), (2.0, 0.5), (1.0, -3.0)]])
    '0,1.235;2,0.5;1,-3'
    """
    return "|".join(";".join(f"{x:.4g},{y:.4g}" for x, y in outline) for outline in outlines)


def from_text(text: str) -> list[Outline]:
    """Returns the outlines in an address; an empty list if the text is not valid.

    >>> from_text("0,1.235;2,0.5;1,-3"), from_text("nonsense"), from_text("1,nan;2,2;3,3")
    ([[(0.0, 1.235), (2.0, 0.5), (1.0, -3.0)]], [], [])
    """
    try:
        found = [[_corner(pair) for pair in part.split(";")] for part in text.split("|")[:MOST]]
    except ValueError:
        return []
    return [_fewer(outline) for outline in found if len(outline) > 2]


def _corner(text: str) -> tuple[float, float]:
    x, y = (float(number) for number in text.split(","))
    if not (math.isfinite(x) and math.isfinite(y)):
        raise ValueError(text)
    return x, y


def points_inside(x: np.ndarray, y: np.ndarray, outlines: Sequence[Outline]) -> np.ndarray:
    """Returns which points (n,), (n,) lie in any of the outlines → (n,) bool.

    >>> square = [(0.0, 0.0), (2.0, 0.0), (2.0, 2.0), (0.0, 2.0)]
    >>> points_inside(np.array([1.0, 3.0]), np.array([1.0, 1.0]), [square]).tolist()
    [True, False]
    """
    found = np.zeros(len(x), dtype=bool)
    for outline in outlines:
        found |= _inside_one(np.asarray(x, dtype=float), np.asarray(y, dtype=float), outline)
    return found


def _inside_one(x: np.ndarray, y: np.ndarray, outline: Outline) -> np.ndarray:
    """Returns which points lie inside by the even-odd rule: a ray to the right crosses an odd number of edges."""
    crossings = np.zeros(len(x), dtype=int)
    for (x0, y0), (x1, y1) in zip(outline, outline[1:] + outline[:1], strict=True):
        if y0 != y1:
            between = (y0 > y) != (y1 > y)
            crossings += between & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    return crossings % 2 == 1
