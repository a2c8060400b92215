"""The queue of one reviewer: its frozen ranking, and what is shared with others."""
