"""*Suspicion*, the default ranking of /suspects: its components, and its fit to reviewers' decisions.

``components``: which scores find label errors, one per family, as ranks, and the mean rank of those that have earned
it. ``fitting``: a logistic regression towards that default on what reviewers decided, adopted only where it finds
more. ``versions``: what ranks now, and every fit under its number. A ranking is no probability of error.

Inputs → outputs: score files and decisions → one number per example and ``rankings.json`` of the run. No torch.
"""

from scoring.queue.suspicion.components import EARNED, Component, components, mean_rank, rank_within
from scoring.queue.suspicion.fitted import LEAST, Fit, fit_ranking
from scoring.queue.suspicion.versions import adopted, describe, rank_audit, read_versions, suspicion

__all__ = [
    "EARNED",
    "LEAST",
    "Component",
    "Fit",
    "adopted",
    "components",
    "describe",
    "fit_ranking",
    "mean_rank",
    "rank_audit",
    "rank_within",
    "read_versions",
    "suspicion",
]
