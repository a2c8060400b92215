"""The pixel values of a 16-bit or float image at full depth, for window and level in the browser.

A browser decodes every image to eight bits, so the values are sent as little-endian numbers, row after row, with width,
height and type in the headers. Eight-bit images need none of this.

Input → output: a row of the example table → ``Values`` or None. Limit: greyscale only, since Pillow reads 16-bit colour
at eight bits. For a source that only the user's own loader can read, the copy made by ingest is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.data.exif_orientation import upright
from scoring.data.images import channels_last, open_picture

DEEP = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")


@dataclass(frozen=True)
class Values:
    """A greyscale picture at full depth: (h, w) of uint16 or float32."""

    array: np.ndarray

    @property
    def headers(self) -> dict[str, str]:
        """The HTTP headers that describe the bytes."""
        height, width = self.array.shape
        kind = "uint16" if self.array.dtype == np.uint16 else "float32"
        return {"x-width": str(width), "x-height": str(height), "x-kind": kind}

    def content(self) -> bytes:
        """Returns the values, little-endian, row after row."""
        return self.array.astype(self.array.dtype.newbyteorder("<"), copy=False).tobytes()


def original(audit: Audit, row: Mapping[str, Any]) -> bytes | None:
    """Returns the bytes of an example's original: its file, or the copy made by ingest; None if there is neither."""
    if row.get("kind") != "image" or row.get("problem"):
        return None
    if row.get("reference"):
        path: Path = audit.path(row["reference"])
        return path.read_bytes() if path.is_file() else None
    return audit.originals.get(row["example_id"])


def is_deep(audit: Audit, row: Mapping[str, Any]) -> bool:
    """Returns whether the original has more than eight bits; only its header is read."""
    try:
        data = original(audit, row)
        return data is not None and open_picture(data).mode in DEEP
    except (HardlookError, OSError):
        return False


def values_of(audit: Audit, row: Mapping[str, Any]) -> Values | None:
    """Returns the original's values if it has more than eight bits, else None."""
    try:
        data = original(audit, row)
        image = None if data is None else open_picture(data)
        if image is None or image.mode not in DEEP:
            return None
        array = channels_last(np.asarray(upright(image)))
    except (HardlookError, OSError):
        return None
    if array.ndim != 2:
        return None
    if image.mode.startswith("I;16") or (array.dtype.kind in "iu" and array.min() >= 0 and array.max() <= 65535):
        return Values(array.astype(np.uint16))
    return Values(array.astype(np.float32))
