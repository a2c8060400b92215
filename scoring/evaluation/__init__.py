"""Evaluation of scores: error per decile, correlation, stability, and detection of label errors.

A door with one room per question: ``ranking`` (class normalisation, error per decile, the measured hard end),
``agreement`` (rank correlation, overlap, disagreement), ``stability`` (run against run), ``detection``
(where the truth is known) and ``out_of_distribution``. Plain arrays and data frames by example_id go in; small tables
with intervals come out. No torch.
"""

from scoring.evaluation.detection import (
    detection_report,
    found_within,
    inspections_to_find,
    recall_curve,
    roc_over_runs,
    welch,
)
from scoring.evaluation.error_deciles import (
    DECILES,
    HARD_RHO,
    accuracy_table,
    deciles,
    error_by_decile,
    measured_direction,
    normalize_by_class,
    wilson,
)
from scoring.evaluation.out_of_distribution import ood_curves, ood_report
from scoring.evaluation.score_correlation import (
    SHARES,
    between_groups,
    clustered_order,
    correlation_by_group,
    disagreement,
    rank_correlation,
    sampled,
    top_overlap,
    turned,
)
from scoring.evaluation.stability import (
    decile_band,
    decile_errors_by_run,
    deviation_per_example,
    places,
    run_agreement,
)

__all__ = [
    "DECILES",
    "HARD_RHO",
    "SHARES",
    "accuracy_table",
    "between_groups",
    "clustered_order",
    "correlation_by_group",
    "decile_band",
    "decile_errors_by_run",
    "deciles",
    "detection_report",
    "deviation_per_example",
    "disagreement",
    "error_by_decile",
    "found_within",
    "inspections_to_find",
    "measured_direction",
    "normalize_by_class",
    "ood_curves",
    "ood_report",
    "places",
    "rank_correlation",
    "recall_curve",
    "roc_over_runs",
    "run_agreement",
    "sampled",
    "top_overlap",
    "turned",
    "welch",
    "wilson",
]
