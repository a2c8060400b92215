"""Reviews: events and their log, decisions, verdicts, meetings, sessions, agreement."""

from scoring.reviews.event import Event, EventRefused
from scoring.reviews.log_file import LogUnavailable
from scoring.reviews.review_log import ReviewLog

__all__ = ["Event", "EventRefused", "LogUnavailable", "ReviewLog"]
