"""The effect of corrections: measured by refitting the head, and predicted from influence embeddings."""
