"""Moved to ``scoring.models.text``."""

from scoring.audit.moved import moved

moved("scoring.text", "scoring.models.text")
