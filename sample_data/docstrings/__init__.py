"""A sample project about docstrings: texts; ``hardlook new --sample docstrings`` copies it."""
