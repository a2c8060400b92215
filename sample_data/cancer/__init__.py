"""A sample project about tumours: rows of numbers; ``hardlook new --sample cancer`` copies it."""
