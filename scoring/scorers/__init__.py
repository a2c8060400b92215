"""The scores, one file each, found by scanning; ``_contract`` defines their interface."""

from scoring.scorers._contract import (
    Column,
    Columns,
    RunContext,
    Scorer,
    Shard,
    State,
    find_scorer,
    needed,
    registered,
    registry,
)

__all__ = [
    "Column",
    "Columns",
    "RunContext",
    "Scorer",
    "Shard",
    "State",
    "find_scorer",
    "needed",
    "registered",
    "registry",
]
