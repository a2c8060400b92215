"""Colours and formatting."""
