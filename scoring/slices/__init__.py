"""Slices: groups of test examples that fail for the same reason, and the training examples responsible.

Pure functions of embeddings stand here; ``slicing_run`` keeps slices for a run. No torch.
"""

from scoring.slices.infembed import (
    assign_to_slices,
    distances_to_centres,
    find_slices,
    find_slices_by_rule,
    slice_centres,
    slice_ids,
    slice_opponents,
    slice_proponents,
    summed_influence,
)

__all__ = [
    "assign_to_slices",
    "distances_to_centres",
    "find_slices",
    "find_slices_by_rule",
    "slice_centres",
    "slice_ids",
    "slice_opponents",
    "slice_proponents",
    "summed_influence",
]
