"""A small example project as a user would write one; ``hardlook demo`` and ``hardlook new`` start from it."""
