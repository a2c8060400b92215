"""One file per score; adding a score = adding one file (see ``scoring.scorer``)."""
