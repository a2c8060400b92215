"""Scores of examples, one file each, found by scanning; the contract that each of them keeps stands in
``_contract``.
"""

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
