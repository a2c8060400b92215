"""Plotly figures: pure functions from data frames to figures."""
