"""Scorers run over shards: check, predictions, scores, VoG maps, trainings on parts, here or on Ray workers."""
