"""Runs the scorers: check, predictions, scores over shards, VoG maps and retraining, locally or on Ray."""
