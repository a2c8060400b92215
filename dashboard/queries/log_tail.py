"""The last position of a review log that this process has read, and the events after it.

Input → output: a review log → its last position and the new events. Cost: the first reading uses the derived tables
instead of the whole log; each later one is one indexed query. Limit: an event is returned as new to one caller only.
"""

from __future__ import annotations

import pandas as pd

from scoring.reviews import ReviewLog


class Tail:
    """The last read position of one log, and the position of the first reading; −1 before it."""

    def __init__(self, log: ReviewLog):
        self.log = log
        self.position = self.began = -1

    def look(self) -> pd.DataFrame:
        """Moves to the end of the log and returns the events since the last call."""
        if self.position < 0:
            self.position = self.began = self._last_derived()
        fresh = self.log.events(after=self.position)
        if len(fresh):
            self.position = int(fresh["position"].iloc[-1])
        return fresh

    def _last_derived(self) -> int:
        """Returns the last position in the derived tables."""
        frames = self.log.decisions(), self.log.flags(), self.log.comments()
        return max((int(frame["position"].max()) for frame in frames if len(frame)), default=0)
