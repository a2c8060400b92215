"""Review effort and what it found: label errors found, how many remain, and when to stop. The door of its four rooms.

``intervals``: a rate from a random draw, fixed in size. ``sequence``: bounds that may be looked at at any time.
``answers``: what the log says about each control. ``effort``: all of it about one split, for a page or a report.
"""

from scoring.queue.estimates.answered_controls import control_answers, double_reads, readers_table, wrong_labels
from scoring.queue.estimates.confidence_sequence import total_bounds
from scoring.queue.estimates.effort import Effort, effort
from scoring.queue.estimates.intervals import (
    Estimate,
    clopper_pearson,
    rate_by_cluster,
    rate_of_strata,
    rate_ratio,
    rogan_gladen,
)

__all__ = [
    "Effort",
    "Estimate",
    "clopper_pearson",
    "control_answers",
    "double_reads",
    "effort",
    "rate_by_cluster",
    "rate_of_strata",
    "rate_ratio",
    "readers_table",
    "rogan_gladen",
    "total_bounds",
    "wrong_labels",
]
