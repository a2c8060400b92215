"""The EXIF orientation of an image: reads it, and applies it to images and to arrays over them.

Cameras store a turned picture as the sensor saw it, with a number of 1…8 that says how to turn it (EXIF 2.3, tag
0x0112). Inputs → outputs: Pillow images and arrays → the same, upright. Cost: one copy where something is turned. Known
limits: Pillow itself turns TIFFs when it decodes them, after which they have none.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageOps

ORIENTATION = 0x0112


def turned(values: np.ndarray, orientation: int) -> np.ndarray:
    """(h, w) values of a picture as it is stored → as people see it, for an EXIF orientation of 1…8.

    >>> [turned(np.array([[1, 2], [3, 4]]), n).ravel().tolist() for n in (1, 3, 6, 8)]
    [[1, 2, 3, 4], [4, 3, 2, 1], [3, 1, 4, 2], [2, 4, 1, 3]]
    """
    turns: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: np.transpose,
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).T,
        8: np.rot90,
    }
    return turns[orientation](values) if orientation in turns else values


def upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; an image without one, or with broken EXIF, is given back as it is."""
    return ImageOps.exif_transpose(image) if orientation(image) != 1 else image


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1…8; 1 (upright) where it is missing, broken or something else."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # noqa: BLE001  a damaged EXIF block says nothing about the pixels
        return 1
    return value if value in range(1, 9) else 1
