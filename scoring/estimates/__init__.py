"""Moved to ``scoring.queue.estimates``."""
