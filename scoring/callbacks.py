"""Moved to ``scoring.training.callbacks``."""

from scoring.audit.moved import moved

moved("scoring.callbacks", "scoring.training.callbacks")
