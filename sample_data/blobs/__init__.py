"""A sample project about two blobs in the plane: the papers' toy problem; ``hardlook new --sample blobs`` copies it."""
