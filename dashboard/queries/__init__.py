"""Every read: DuckDB over the audit's files, the log's state, score columns. Cached by the files' stamps."""
