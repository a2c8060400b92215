"""Architectures through the check and every scorer, against naive float64 autograd."""
