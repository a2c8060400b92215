"""Larger parts of a page, each shown by one function."""
