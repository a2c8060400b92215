"""Numbers about scores: how hard their ends are, how they agree, how steady they are, how well they find errors.

A door with one room per question: ``ranking`` (class normalisation, error per decile, the measured hard end),
``agreement`` (rank correlation, overlap, disagreement), ``stability`` (run against run) and ``detection`` (where the
truth is known). Plain arrays and data frames by example_id go in; small tables with intervals come out. No torch.
"""

from scoring.evaluation.detection import found_within
from scoring.evaluation.ranking import (
    DECILES,
    HARD_RHO,
    accuracy_table,
    deciles,
    error_by_decile,
    measured_direction,
    normalize_by_class,
    wilson,
)

__all__ = ["DECILES", "HARD_RHO", "accuracy_table", "deciles", "error_by_decile", "found_within", "measured_direction",
           "normalize_by_class", "wilson"]
