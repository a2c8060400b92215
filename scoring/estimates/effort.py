"""Moved to ``scoring.queue.estimates.effort``."""

from scoring.audit.moved import moved

moved("scoring.estimates.effort", "scoring.queue.estimates.effort")
