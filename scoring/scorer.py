"""Moved to ``scoring.scorers``."""

from scoring.audit.moved import moved

moved("scoring.scorer", "scoring.scorers")
