"""A VoG map as an overlay for the image: colour for strength, transparency where it is weak.

Input → output: the grey PNG of ``scoring.pipeline.vog_maps`` → an RGBA PNG. The lightness of the colours rises
(inferno), so they can be told apart in grey too. Limit: how a user's own transform crops is not known, so the map is
stretched over the whole image.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from scoring.audit.errors import HardlookError, first_line

# matplotlib's inferno at 0, 1/6 … 1 (Smith and van der Walt, CC0)
ANCHORS = ((0, 0, 4), (60, 9, 101), (120, 28, 109), (181, 52, 85), (230, 92, 48), (251, 155, 6), (252, 255, 164))
FAINTEST, STRONGEST = 0.1, 0.85  # opacity


def overlay(grey_png: bytes | None) -> bytes | None:
    """Returns a grey PNG as a coloured one with transparency; None for None. Raises ``HardlookError`` for
    what is no picture."""
    if grey_png is None:
        return None
    try:
        values = np.asarray(Image.open(io.BytesIO(grey_png)).convert("L"))
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises; a map of a text or a row is no picture
        raise HardlookError(
            f"the VoG map of this example is no picture ({first_line(error)}); if it is damaged, run "
            "`hardlook score` again"
        ) from error
    buffer = io.BytesIO()
    Image.fromarray(_palette()[values]).save(buffer, format="PNG")
    return buffer.getvalue()


def _palette() -> np.ndarray:
    """Returns (256, 4) uint8: colour and opacity of each grey level."""
    levels = np.linspace(0, 1, 256)
    stops = np.linspace(0, 1, len(ANCHORS))
    colours = [np.interp(levels, stops, channel) for channel in np.array(ANCHORS, dtype=float).T]
    opacity = 255 * (FAINTEST + (STRONGEST - FAINTEST) * levels)
    return np.stack([*colours, opacity], axis=1).round().astype(np.uint8)
