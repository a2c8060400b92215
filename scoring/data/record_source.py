"""The base class of adapters whose tool keeps records of examples: one list of them, in subsets of the tool's own.

A subclass gives ``records``; which of them a ``[[data]]`` table means, and under which split, is settled here
(``scoring.data.adapters.records``). ``subset`` names one of the tool's subsets, ``split_map`` says what the others are.

Inputs → outputs: records → a listing. Cost: one pass. Known limits: those of the tool's adapter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from scoring.data.adapters.base import Listing, Source
from scoring.data.adapters.records import Record, chosen, listing_of


@dataclass(kw_only=True)
class RecordSource(Source):
    """A source of records. ``subset``: the tool's subset that is meant; ``split_map``: subset → split."""

    subset: str | None = None
    split_map: dict[str, Any] | None = None

    def records(self) -> Sequence[Record]:
        """Every example that the tool knows, in its order."""
        raise NotImplementedError

    def listing(self) -> Listing:
        """The records that the table means."""
        return listing_of(self, self.chosen, self.split_map)

    @cached_property
    def chosen(self) -> list[Record]:
        """The records that the table means, one per row."""
        return chosen(self, self.records(), self.subset, self.split_map)
