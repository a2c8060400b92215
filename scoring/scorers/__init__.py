"""Scores of examples, one file each, found by scanning; the contract that each of them keeps stands in
``_contract``."""

from scoring.scorers._contract import Column, Columns, Scorer, Shard, find_scorer, registered, registry

__all__ = ["Column", "Columns", "Scorer", "Shard", "find_scorer", "registered", "registry"]
