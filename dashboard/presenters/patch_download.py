"""The download of corrected labels: the patches of all splits as one zip file.

The content equals `hardlook export` without what the visitor must not see yet (``dashboard.blinding``). It is made when
the button is pressed, in a temporary folder.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path

from dashboard.auth.serving import serving
from dashboard.blinding import second_reader
from dashboard.queries import database
from scoring.audit import Audit
from scoring.corrections.label_patch import export_patches
from scoring.reviews import ReviewLog


def packed_patches(audit: Audit, log: ReviewLog, fmt: str) -> bytes:
    """Returns one patch per split (``fmt``: csv or parquet), zipped."""
    buffer, hidden = io.BytesIO(), second_reader.hidden_from(audit, serving().identity.reviewer)
    examples = database.labels(audit)
    examples = examples[~examples["example_id"].isin(list(hidden))]
    with (
        tempfile.TemporaryDirectory() as folder,
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for path in export_patches(examples, log, Path(folder), fmt=fmt, policy=audit.policy):
            packed.write(path, path.name)
    return buffer.getvalue()
