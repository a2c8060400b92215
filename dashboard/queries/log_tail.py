"""How far a log has come, as this process knows it: one position, moved on by reading what came after it.

Input → output: a review log → its last position, and the events since the one known before. Cost: the first reading
asks the derived tables, which spares reading the whole log with the evidence that events carry; each later one is one
indexed query. Limit: only one caller learns of an event as new.
"""

from __future__ import annotations

import pandas as pd

from scoring.reviews import ReviewLog


class Tail:
    """The last position of one log, and where the first look began: −1 before it."""

    def __init__(self, log: ReviewLog):
        self.log = log
        self.position = self.began = -1

    def look(self) -> pd.DataFrame:
        """Move on to the log's end → the events that came since the last look."""
        if self.position < 0:
            self.position = self.began = self._last_derived()
        fresh = self.log.events(after=self.position)
        if len(fresh):
            self.position = int(fresh["position"].iloc[-1])
        return fresh

    def _last_derived(self) -> int:
        """The last position that the derived tables show."""
        frames = self.log.decisions(), self.log.flags(), self.log.comments()
        return max((int(frame["position"].max()) for frame in frames if len(frame)), default=0)
