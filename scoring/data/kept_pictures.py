"""What is kept of an example when it is read: its thumbnail, and a copy of what is no file.

Inputs → outputs: one row of a source and its content → a ``Reading`` with ``thumbnail`` and ``kept`` filled in, and the
original as the transform receives it. Cost: one decode. Limits: of what a page cannot show (floats, 16-bit colour) the
windowed picture is kept; the values stay in the source.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from scoring.audit.errors import HardlookError
from scoring.data.adapters.base import Source
from scoring.data.images import (
    as_array,
    decode,
    is_deep,
    is_huge,
    is_npy,
    is_png,
    lossless,
    png,
    thumbnail,
    vector_picture,
)

if TYPE_CHECKING:
    from scoring.data.example_reader import Reading

HEAD = 600
"""Characters of a text in a cell of the grid."""

# Each returns the original as the transform receives it; an encoded picture only where it is ``wanted``, since its
# thumbnail alone needs no more than a reduced decoding.


def _keep_image(reading: Reading, source: Source, row: int, path: str | None, content: Any, wanted: bool) -> Any:
    """A thumbnail, and for what is no file, or needs a loader, a lossless copy."""
    if isinstance(content, bytes) and not source.loader and not is_npy(content):
        reading.huge = is_huge(content)
        decoded = decode(content) if wanted else None
        reading.thumbnail = thumbnail(content if decoded is None else decoded)
        reading.kept = content if path is None else None
        return source.original(row, path, decoded) if wanted else None
    original = source.original(row, path, content)
    shown = source.shown(original)
    _refuse_non_finite(shown)
    reading.thumbnail = thumbnail(shown)
    whole = is_png(reading.thumbnail) and not is_deep(shown)
    reading.kept = reading.thumbnail if whole else lossless(shown)
    return original


def _keep_vector(reading: Reading, source: Source, row: int, path: str | None, content: Any, wanted: bool) -> Any:
    """A picture of bars, and the numbers as float32."""
    original = source.original(row, path, content)
    values = as_array(original)
    _refuse_non_finite(values)
    reading.thumbnail = png(vector_picture(values))
    reading.kept = np.ascontiguousarray(values, dtype="<f4").tobytes()
    return original


def _keep_text(reading: Reading, source: Source, row: int, path: str | None, content: Any, wanted: bool) -> Any:
    """The beginning as JSON, which a page draws as text, and for what is no file the text as UTF-8."""
    text = source.original(row, path, content)
    if not isinstance(text, str) or not text.strip():
        raise HardlookError(f"contains {text!r:.40} instead of text")
    reading.thumbnail = json.dumps({"text": text[:HEAD]}).encode()
    reading.kept = text.encode("utf8") if path is None or source.loader else None
    return text


PICTURES = {"image": _keep_image, "vector": _keep_vector, "text": _keep_text}


def _refuse_non_finite(original: Any) -> None:
    """Not-a-number in the input would become not-a-number in every score."""
    dtype = getattr(original, "dtype", None)
    if dtype is None or "float" not in str(dtype):
        return
    wrong = int((~np.isfinite(as_array(original))).sum())
    if wrong:
        raise HardlookError(f"{wrong} of its values are missing or not finite")
