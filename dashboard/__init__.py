"""Everything that a browser shows. Torch is never imported here; numbers are read, not computed."""
