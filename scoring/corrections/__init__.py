"""Corrections that follow from decisions: label patches, corrected datasets, corrected metrics, and their effect."""
