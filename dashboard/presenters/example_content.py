"""The content of an example that is not an image: rows of numbers, or a text.

*Rows*: the columns of a vector, those that deviate most from the example's class first
(``scoring.data.column_statistics``), each {name, value, unit, z, odd}. *Text*: its beginning in a cell; up to 20,000
characters in an opened example, cut into *pieces* [text, strength] if a VoG map of its tokens exists. The browser gets
JSON and makes text nodes of it. Control characters are replaced by visible signs, one for one.

Inputs → outputs: example_ids and their classes → dicts for JSON. Cost: one look-up in a memory-mapped file per
example. Limits: longer texts, and vectors of more than 400 columns, are cut, and the page says so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from dashboard.queries import database
from dashboard.style.formatting import number
from scoring.audit import Audit, Run
from scoring.audit.errors import HardlookError
from scoring.audit.storage import BlobStore
from scoring.data.column_statistics import Deviations, name_and_unit
from scoring.data.examples import original_text, original_vector

IN_CELL = 10
"""Columns of a vector in a cell of the grid."""

IN_FULL = 400
"""Columns of a vector in an opened example."""

LONGEST = 20_000
STRONG = 2.5
"""|z| from which a column is marked as unusual."""

HIDDEN = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"} | {0x7F: 0x2421, 0xFEFF: 0x2420}
"""NUL and other control characters → their visible signs, one for one."""


def shown_text(text: str) -> str:
    r"""Returns a text as a page shows it: control characters as visible signs, line ends as they are.

    >>> shown_text("a\0b\r\n")
    'a␀b␍\n'
    """
    return text.translate(HIDDEN)


# -- in a cell of the grid ---------------------------------------------------------------------------------------------


def cell_contents(audit: Audit, ids: Sequence[str], classes: Sequence[str | None]) -> list[dict[str, Any]]:
    """Returns {"text": …} or {"rows": …} for each example; {} for images, and if nothing is stored."""
    if audit.media == "image":
        return [{} for _ in ids]
    of_one = _text_in_cell if audit.media == "text" else _rows_in_cell
    return [of_one(audit, example_id, name) for example_id, name in zip(ids, classes, strict=True)]


def _text_in_cell(audit: Audit, example_id: str, _class: str | None) -> dict[str, Any]:
    data = _stores(audit.root)[0].get(example_id)
    if data is None:
        return {}
    try:
        return {"text": shown_text(str(json.loads(data)["text"]))}
    except (TypeError, ValueError, KeyError):  # nothing stored, or an image stored by an older version
        return {}


def _rows_in_cell(audit: Audit, example_id: str, class_name: str | None) -> dict[str, Any]:
    data = _stores(audit.root)[1].get(example_id)
    if data is None:
        return {}
    return {"rows": _rows(audit, np.frombuffer(data, dtype="<f4"), class_name, most=IN_CELL)}


@lru_cache(maxsize=2)
def _stores(root: Path) -> tuple[BlobStore, BlobStore]:
    """Returns thumbnails and originals, open."""
    audit = database.audit_at(root)
    return audit.thumbnails, audit.originals


# -- an opened example -------------------------------------------------------------------------------------------------


def full_content(audit: Audit, run: Run | None, row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns the whole example: {"kind": "text", "pieces", "left", "tokens"} or {"kind": "vector", "rows", …}; None
    for images and for unreadable examples."""
    if audit.media == "image" or row.get("problem"):
        return None
    map_bytes = run.maps.get(row["example_id"]) if run else None
    found = _map_of(map_bytes)
    try:
        if audit.media == "text":
            return _whole_text(original_text(audit, row, _stores(audit.root)[1]), found)
        values = original_vector(audit, row, _stores(audit.root)[1])
    except (HardlookError, UnicodeDecodeError):
        return None
    label = row.get("label")
    weights = found.get("values") if found else None
    rows = _rows(audit, values, label, weights)
    return {
        "kind": "vector",
        "compared": _compared(audit, label),
        "map": any("vog" in row for row in rows),
        "rows": rows,
        "left": len(values) - len(rows),
    }


def _map_of(data: bytes | None) -> dict[str, Any]:
    """Returns a stored map of numbers: {"values": […]} and for text {"spans": [[start, end], …]}; {} if there is
    none."""
    try:
        found = json.loads(data) if data else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _whole_text(text: str, found: Mapping[str, Any]) -> dict[str, Any]:
    shown = text[:LONGEST]
    pieces = pieces_of(shown, found.get("spans", []), found.get("values", []))
    return {
        "kind": "text",
        "pieces": pieces,
        "left": len(text) - len(shown),
        "map": bool(found.get("values")),
        "spans": bool(found.get("spans")),
    }


def pieces_of(text: str, spans: Sequence[Sequence[int]], values: Sequence[float]) -> list[list[Any]]:
    """Returns a text cut at its tokens → [[text, strength or None], …]; strength is the share of the largest, 0 to 1.

    >>> pieces_of("a cat!", [(2, 5), (5, 6)], [4.0, 1.0])
    [['a ', None], ['cat', 1.0], ['!', 0.25]]
    """
    largest = max(values, default=0.0) or 1.0
    pieces: list[list[Any]] = []
    at = 0
    for (start, end), value in sorted(zip(spans, values, strict=False)):
        if start < at or end <= start or end > len(text):
            continue
        if start > at:
            pieces.append([shown_text(text[at:start]), None])
        pieces.append([shown_text(text[start:end]), round(value / largest, 4)])
        at = end
    if at < len(text):
        pieces.append([shown_text(text[at:]), None])
    return pieces


# -- rows of a vector --------------------------------------------------------------------------------------------------


def _rows(
    audit: Audit,
    values: np.ndarray,
    class_name: str | None,
    weights: Sequence[float] | None = None,
    most: int = IN_FULL,
) -> list[dict[str, Any]]:
    """Returns the columns of one vector, the most deviating first, at most ``most``."""
    known = _deviations(database.stamp(audit.columns_path))
    z = known.of(values, class_name) if known else None
    names = known.columns if known and len(known.columns) == len(values) else [str(j) for j in range(len(values))]
    order = np.argsort(-np.abs(z), kind="stable") if z is not None else np.arange(len(values))
    largest = max(weights, default=0.0) or 1.0 if weights else 1.0
    rows = []
    for j in order[:most]:
        name, unit = name_and_unit(names[j], known.units if known else None)
        row = {
            "name": shown_text(name),
            "column": names[j],
            "place": int(j),
            "value": number(float(values[j])),
            "unit": unit,
        }
        if z is not None:
            row |= {"z": deviation(float(z[j])), "odd": bool(abs(z[j]) >= STRONG)}
        if weights and len(weights) == len(values):
            row["vog"] = round(weights[j] / largest, 4)
        rows.append(row)
    return rows


def deviation(z: float) -> str:
    """Returns a robust z-score with its sign as an arrow and one decimal.

    >>> deviation(3.21), deviation(-0.04), deviation(99.0)
    ('↑ 3.2', '0.0', '↑ >99')
    """
    if abs(z) < 0.05:
        return "0.0"
    return f"{'↑' if z > 0 else '↓'} {f'{abs(z):.1f}' if abs(z) < 99 else '>99'}"


def _compared(audit: Audit, label: str | None) -> str:
    """Returns what the columns are compared with."""
    known = _deviations(database.stamp(audit.columns_path))
    if known is None:
        return (
            "Columns are in the order of the data. `hardlook score` computes how much each value deviates from "
            "its class."
        )
    who = f"class {label}" if label in known.groups and label else "all examples"
    return (
        f"Robust z-score: how many deviations a value is above (↑) or below (↓) the median of {who} in train. "
        "The largest deviations come first."
    )


@lru_cache(maxsize=4)
def _deviations(at: database.Stamp | None) -> Deviations | None:
    return None if at is None else Deviations.read(database.audit_at(Path(at[0]).parent))
