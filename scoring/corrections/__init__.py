"""What becomes of decisions: label patches, corrected datasets, corrected metrics, and whether corrections help."""
