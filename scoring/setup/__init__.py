"""From what a user has to a finished ``audit.toml``: datasets as they are handed over, and the file that names them."""
