"""The selection of examples that a page shows, as a value, and the SQL conditions for it.

Names and values are bound as parameters or quoted as identifiers, never pasted, because class names and metadata are
untrusted. A selection is hashable, so it is a key of the caches in ``dashboard.queries.database``.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, replace
from typing import Any

from scoring.audit.storage import verify
from scoring.reviews.verdicts import VERDICTS

META = "meta."


def decision_words() -> dict[str, str]:
    """Returns the choices of the decision filter with their words: every verdict, and the other states in the log."""
    return {
        "undecided": "not decided yet",
        "decided": "decided",
        **{name: kind.words for name, kind in VERDICTS.items()},
        "issue": "has an issue",
        "flagged": "flagged for discussion",
        "disputed": "disputed",
    }


def identifier(name: str) -> str:
    """Returns a column name quoted for SQL.

    >>> identifier('meta.a"b')
    '"meta.a""b"'
    """
    return '"' + name.replace('"', '""') + '"'


def source(path: Any) -> str:
    """Returns ``read_parquet`` of one file for SQL, with special characters of its path escaped.

    DuckDB opens files by itself, so the file is verified here. Raises ``HardlookError`` where it is damaged.

    >>> source("/a[1]/it's.parquet")
    "read_parquet('/a[[]1]/it''s.parquet')"
    """
    with contextlib.suppress(OSError):  # a missing file is DuckDB's to tell
        verify(path)
    literal = re.sub(r"([\[*?])", r"[\1]", str(path)).replace("'", "''")
    return f"read_parquet('{literal}')"


@dataclass(frozen=True)
class MetaFilter:
    """A condition on one metadata column: any of some values (as text; None = nothing recorded), a range (both ends
    in it, ``below`` not), or a part of the text."""

    column: str
    values: tuple[str | None, ...] = ()
    low: float | None = None
    high: float | None = None
    contains: str = ""
    below: float | None = None

    def sql(self, table: str) -> tuple[list[str], list[Any]]:
        """Returns conditions and their parameters; none where the filter is empty."""
        name = f"{table}.{identifier(self.column)}"
        conditions: list[str] = []
        parameters: list[Any] = []
        if self.values:
            some = [value for value in self.values if value is not None]
            either = [f"CAST({name} AS VARCHAR) IN (SELECT unnest(?::VARCHAR[]))"] if some else []
            parameters += [some] if some else []
            either += [f"{name} IS NULL"] if None in self.values else []
            conditions.append(f"({' OR '.join(either)})")
        for bound, sign in ((self.low, ">="), (self.high, "<="), (self.below, "<")):
            if bound is not None:
                conditions.append(f"{name} {sign} ?")
                parameters.append(bound)
        if self.contains:
            conditions.append(f"contains(lower(CAST({name} AS VARCHAR)), lower(?))")
            parameters.append(self.contains)
        return conditions, parameters


@dataclass(frozen=True)
class Selection:
    """The examples of an audit that a view shows.

    ``class_name`` restricts by the label, or by the prediction where ``index`` is "prediction". ``decision``
    is one of ``decision_words``, as the log stood at position ``as_of``. ``decile`` (1 … 10) is of the score among
    the examples that the rest selects and that have a label and a prediction. ``example`` is one example_id.
    ``left_out``: examples excluded from numbers (``dashboard.blinding.model_output.exclude_hidden``).
    """

    split: str | None = None
    class_name: str | None = None
    index: str = "label"
    meta: tuple[MetaFilter, ...] = ()
    decision: str | None = None
    as_of: int = 0
    decile: int | None = None
    example: str | None = None
    left_out: frozenset[str] = frozenset()

    def without_decisions(self) -> Selection:
        """Returns the same selection without decisions, which caches use as their key."""
        return replace(self, decision=None, as_of=0)

    @property
    def needs_predictions(self) -> bool:
        """Returns whether the conditions read the predictions."""
        return self.decile is not None or (self.class_name is not None and self.index == "prediction")

    def sql(self) -> tuple[str, list[Any]]:
        """Returns a condition over examples ``e`` and predictions ``p`` (decisions apart) and its parameters."""
        conditions: list[str] = []
        parameters: list[Any] = []
        if self.split is not None:
            conditions.append("e.split = ?")
            parameters.append(self.split)
        if self.class_name is not None:
            conditions.append("p.prediction = ?" if self.index == "prediction" else "e.label = ?")
            parameters.append(self.class_name)
        if self.decile is not None:
            conditions.append("p.correct IS NOT NULL")
        if self.example is not None:
            conditions.append("e.example_id = ?")
            parameters.append(self.example)
        if self.left_out:
            conditions.append("e.example_id NOT IN (SELECT unnest(?::VARCHAR[]))")
            parameters.append(sorted(self.left_out))
        for meta in self.meta:
            more, values = meta.sql("e")
            conditions += more
            parameters += values
        return " AND ".join(conditions) or "TRUE", parameters
