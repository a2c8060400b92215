"""Whether corrections help: a head retrained on corrected labels, and what influence predicts of it."""
