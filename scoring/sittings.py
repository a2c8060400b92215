"""Moved to ``scoring.reviews.sessions``."""

from scoring.audit.moved import moved

moved("scoring.sittings", "scoring.reviews.sessions")
