"""Duplicates: ``exact`` ones have the same fingerprint, ``near`` ones are other images of the same thing, by
features.

Inputs → outputs: the example table, or features → groups of examples, those with conflicting labels first, then those
across splits. No torch.
"""

from scoring.data.duplicates.exact import COLUMNS, FACTS, count_duplicates, duplicates, grouped
from scoring.data.duplicates.near import NearDuplicates, near_duplicates, near_groups

__all__ = [
    "COLUMNS",
    "FACTS",
    "NearDuplicates",
    "count_duplicates",
    "duplicates",
    "grouped",
    "near_duplicates",
    "near_groups",
]
