"""A VoG map as something to lay over the picture: colour for how much, transparency where it is little.

Input → output: the grey PNG that ``scoring.pipeline.vog_maps`` keeps → an RGBA PNG. The colours rise in lightness
(inferno's), so they can be told apart in grey too. Limit: how a transform of the user's own crops is not known; its map
is stretched over the whole picture.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

# matplotlib's inferno at 0, 1/6 … 1 (Smith and van der Walt, CC0)
ANCHORS = ((0, 0, 4), (60, 9, 101), (120, 28, 109), (181, 52, 85), (230, 92, 48), (251, 155, 6), (252, 255, 164))
FAINTEST, STRONGEST = 0.1, 0.85  # opacity


def overlay(grey_png: bytes | None) -> bytes | None:
    """Grey PNG → coloured PNG with transparency; None for None."""
    if grey_png is None:
        return None
    values = np.asarray(Image.open(io.BytesIO(grey_png)).convert("L"))
    buffer = io.BytesIO()
    Image.fromarray(_palette()[values]).save(buffer, format="PNG")
    return buffer.getvalue()


def _palette() -> np.ndarray:
    """(256, 4) uint8: colour and opacity of each grey level."""
    levels = np.linspace(0, 1, 256)
    stops = np.linspace(0, 1, len(ANCHORS))
    colours = [np.interp(levels, stops, channel) for channel in np.array(ANCHORS, dtype=float).T]
    opacity = 255 * (FAINTEST + (STRONGEST - FAINTEST) * levels)
    return np.stack([*colours, opacity], axis=1).round().astype(np.uint8)
