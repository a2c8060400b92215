"""Images for the browser: decoding, conversion to eight bits, thumbnails.

Everything here is a pure function of bytes, Pillow images and arrays. *Original* = what a source holds (file
bytes, a Pillow image, an array, a tensor, text), before any transform; *picture* = a Pillow image of mode L,
RGB or RGBA, with its EXIF orientation applied.

How values become grey levels: ``uint8`` as they are; booleans 0 and 255; floats within [0, 1] times 255;
everything else (16-bit, 32-bit, floats beyond [0, 1]) is windowed: the picture's own lowest value becomes
black, its highest white. Two such images can therefore not be compared in brightness.

Cost: one decode and one resize; a JPEG is decoded at reduced size. Known limits: colour profiles are not
applied; of an animation or a volume the first frame or the first three channels are shown. Pillow decodes 16-bit
*colour* files to the upper 8 bits of each channel, and has no mode that could hold the rest. They stay so on purpose:
it is what torchvision's ``ImageFolder`` and every other loader on Pillow gave the model in training, so other values
here would be a mistake that nobody sees. ``hardlook check`` tells of such files (``is_deep_colour``); a model that was
trained on 16 bits reads them through ``loader``, for instance by OpenCV's ``imread(path, IMREAD_UNCHANGED)``, which
keeps them (``dashboard/help/own-data.md``).
"""

from __future__ import annotations

import hashlib
import io
import warnings
from functools import cache
from itertools import pairwise
from threading import Lock
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from scoring.audit.errors import HardlookError
from scoring.data.exif_orientation import orientation, upright

SIDE = 256
"""Longest side of a thumbnail, in pixels."""

DECODED = ("PNG", "JPEG", "MPO", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "ICO")
"""Formats that are decoded. Those that start other programs (EPS) or have no signature (TGA) are left out."""

SUFFIXES = [
    ".png",
    ".apng",
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".mpo",
    ".gif",
    ".webp",
    ".bmp",
    ".dib",
    ".tif",
    ".tiff",
    ".pgm",
    ".ppm",
    ".pbm",
    ".pnm",
    ".jp2",
    ".j2k",
    ".avif",
    ".ico",
]
"""File names that promise a picture, in lower case."""

SHOWN = {"PNG": "image/png", "JPEG": "image/jpeg", "GIF": "image/gif", "WEBP": "image/webp"}
"""Formats that every browser shows, with their MIME types."""

_QUIET = Lock()  # Python's filters of warnings belong to the whole process
INK, PAPER = 32, 250


# --------------------------------------------------------------------------------------------------- decoding


@cache
def _formats() -> tuple[str, ...]:
    """Those of ``DECODED`` that this Pillow has."""
    Image.init()
    return tuple(name for name in DECODED if name in Image.OPEN)


def open_picture(data: bytes) -> Image.Image:
    """Open an encoded picture without decoding its pixels yet.

    Raises ``HardlookError`` with the reason where the bytes are empty, no picture, or far too large when
    unpacked.
    """
    if not data:
        raise HardlookError("the file is empty (0 bytes)")
    try:
        with _QUIET, warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # is_huge tells it, with the file's name
            image = Image.open(io.BytesIO(data), formats=_formats())
    except UnidentifiedImageError as error:
        raise HardlookError(f"not an image: it starts with {data[:8]!r}") from error
    except Image.DecompressionBombError as error:
        raise HardlookError(f"too large when decoded ({error}); make it smaller, or read it with a loader") from error
    return image


def decode(data: bytes) -> Image.Image | np.ndarray:
    """Decode a whole file: a picture as Pillow reads it (mode and orientation untouched), or a ``.npy``
    array.

    Nothing is converted, so a transform sees what it saw in training. Raises ``HardlookError`` with the
    reason.
    """
    if is_npy(data):
        return _decode_npy(data)
    image = open_picture(data)
    load(image)
    return image


def load(image: Image.Image) -> None:
    """Decode the pixels; a truncated or broken file is a ``HardlookError`` with the reason."""
    try:
        image.load()
    except Exception as error:  # Pillow's decoders raise whatever a broken file makes them trip over
        raise HardlookError(f"the {image.format} image is damaged: {error}") from error


def is_png(data: bytes) -> bool:
    """Returns whether these are the bytes of a PNG."""
    return data[:4] == b"\x89PNG"


def is_npy(data: bytes) -> bool:
    """Returns whether these are the bytes of a ``.npy`` file."""
    return data[:6] == b"\x93NUMPY"


def _decode_npy(data: bytes) -> np.ndarray:
    """An array from a ``.npy`` file; object arrays would need unpickling and are refused."""
    try:
        return np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise HardlookError(f"the .npy file cannot be read: {error}") from error


# ----------------------------------------------------------------------------------------- eight-bit pictures


def rgb8(image: Image.Image) -> Image.Image:
    """Convert any Pillow mode to L, RGB or RGBA, eight bits; transparency is kept.

    >>> [rgb8(Image.new(mode, (2, 2))).mode for mode in ("CMYK", "1", "LA")]
    ['RGB', 'L', 'RGBA']
    """
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(window(np.asarray(image)))
    if image.mode in ("LA", "PA", "La", "RGBa") or "transparency" in image.info:
        return image.convert("RGBA")
    if image.mode in ("L", "RGB", "RGBA"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def window(values: np.ndarray) -> np.ndarray:
    """Values of any number type → uint8 of the same shape, as the module says; not-a-number becomes black.

    >>> window(np.array([1000, 1500, 2000], dtype=np.uint16)).tolist()
    [0, 128, 255]
    >>> window(np.array([0.0, 0.5, 0.5])).tolist(), window(np.array([True, False])).tolist()
    ([0, 128, 128], [255, 0])
    """
    if values.dtype == np.uint8:
        return values
    if values.dtype == bool:
        return values.astype(np.uint8) * np.uint8(255)
    kind = values.dtype.kind
    values = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if kind != "f" or low < 0 or high > 1:
        values = (values - low) / max(high - low, 1e-12)
    return np.round(values * 255).astype(np.uint8)


def channels_last(array: np.ndarray) -> np.ndarray:
    """(h, w), (h, w, c) or (c, h, w) → (h, w) or (h, w, c).

    Three axes: the last is the channels where it has 1, 3 or 4 entries, else the first where it has, else the
    shortest of the two.

    >>> channels_last(np.zeros((3, 8, 9))).shape, channels_last(np.zeros((8, 9, 1))).shape
    ((8, 9, 3), (8, 9))
    """
    if array.ndim == 2:
        return array
    if array.ndim != 3:
        needed = "(h, w), (h, w, c) or (c, h, w)"
        raise HardlookError(f"an array of shape {array.shape} is not an image; needed {needed}")
    first, _, last = array.shape
    if last not in (1, 3, 4) and (first in (1, 3, 4) or first < last):
        array = np.moveaxis(array, 0, -1)
    return array[..., 0] if array.shape[-1] == 1 else array


def array_picture(array: np.ndarray) -> Image.Image:
    """An array of one example → a picture; of two channels the first is shown, of more than four the first
    three."""
    array = channels_last(array)
    if array.ndim == 3 and array.shape[-1] not in (3, 4):
        array = array[..., 0] if array.shape[-1] == 2 else array[..., :3]
    return Image.fromarray(np.ascontiguousarray(window(array)))


def picture(original: Any) -> Image.Image:
    """Any original image → a picture (L, RGB or RGBA, upright)."""
    if isinstance(original, Image.Image):
        return rgb8(upright(original))
    return array_picture(as_array(original))


def as_array(value: Any) -> np.ndarray:
    """A tensor of any library, a list of numbers or an array → an array of numbers; anything else is an
    error."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if "bfloat16" in str(value.dtype) else value
    array = np.asarray(value)
    if array.dtype.kind not in "buif":
        found = f"{type(value).__name__} of {array.dtype}"
        raise HardlookError(f"{found} is not an example; needed an image or numbers")
    return array


def fingerprint(content: Any) -> str:
    """sha256 of a file's bytes or a text's UTF-8, or of dtype, shape and values of an array, a tensor or an
    image.

    >>> fingerprint(np.arange(3, dtype="<i4")) == fingerprint(np.arange(3, dtype=">i4"))
    True
    """
    if isinstance(content, str):
        content = content.encode("utf8", "surrogatepass")
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    if isinstance(content, Image.Image):
        content = np.asarray(content.convert("RGBA") if content.mode in ("P", "PA") else content)
    array = as_array(content)
    array = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).reshape(array.shape)
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape}\n".encode())
    digest.update(array.tobytes())
    return digest.hexdigest()


# --------------------------------------------------------------------------------------------------- encoding


def thumbnail(original: Any, side: int = SIDE) -> bytes:
    """A picture of at most ``side`` pixels: small ones as lossless PNG, reduced ones as JPEG (WebP if
    transparent).

    ``original``: anything that ``picture`` takes, or the bytes of an encoded picture, which is the quick way
    for large JPEGs.
    """
    shown = picture(_decode_reduced(original, 2 * side) if isinstance(original, bytes) else original)
    if max(shown.size) <= side:
        return png(shown)
    shown = shown.copy()
    shown.thumbnail((side, side), reducing_gap=3.0)
    return _encode_reduced(shown)


def _decode_reduced(data: bytes, least: int) -> Image.Image:
    """Decode at a scale that still holds ``least`` pixels, where the format can (JPEG): several times
    faster."""
    image = open_picture(data)
    image.draft(None, (least, least))
    load(image)
    return image


def _encode_reduced(image: Image.Image) -> bytes:
    format, quality = ("WEBP", 80) if image.mode == "RGBA" else ("JPEG", 85)
    return _encode(image, format=format, quality=quality)


def png(image: Image.Image) -> bytes:
    """Lossless PNG of a Pillow image (L, LA, P, RGB, RGBA, 1 or I;16), without its metadata."""
    return _encode(image, format="PNG", compress_level=4)


def _encode(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, exif=b"", icc_profile=None, **options)
    return buffer.getvalue()


def lossless(original: Any) -> bytes:
    """Returns what ``media.arrow`` keeps of an image that is no file: PNG, 16-bit greyscale included.

    Floats and 16-bit colour have no PNG; of them the windowed picture is kept (the values stay in the
    source).
    """
    if not is_deep(original):
        return png(picture(original))
    if not isinstance(original, Image.Image):
        original = Image.fromarray(np.ascontiguousarray(channels_last(as_array(original))))
    return png(upright(original))


def is_deep(original: Any) -> bool:
    """Returns whether an image is 16-bit greyscale, of which a picture shows less than there is and PNG can keep
    all."""
    if isinstance(original, Image.Image):
        return original.mode.startswith("I;16")
    array = as_array(original)
    return array.dtype.name == "uint16" and channels_last(array).ndim == 2


def is_deep_colour(data: bytes) -> bool:
    """Returns whether an encoded picture holds 16 bits per colour, of which Pillow decodes the upper eight."""
    image = open_picture(data)
    return image.mode in ("RGB", "RGBA") and any("16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def is_huge(data: bytes) -> bool:
    """Returns whether an encoded picture unpacks to more pixels than Pillow takes for harmless
    (``Image.MAX_IMAGE_PIXELS``)."""
    width, height = open_picture(data).size
    return Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS


def browser_picture(data: bytes) -> tuple[bytes, str]:
    """Encoded picture → (bytes, MIME type) that a browser shows upright and in its right colours.

    What a browser shows by itself passes untouched; CMYK, 16-bit, TIFF and rotated images become PNG.
    """
    image = open_picture(data)
    kind = SHOWN.get(image.format or "")
    if kind and image.mode in ("1", "L", "LA", "P", "PA", "RGB", "RGBA") and orientation(image) == 1:
        return data, kind
    load(image)
    return png(picture(image)), "image/png"


# ------------------------------------------------------------------------------- what is no picture by itself


def vector_picture(values: np.ndarray, width: int = SIDE, height: int = SIDE // 2) -> Image.Image:
    """(d,) numbers → bars around zero, in the order of the columns; neighbours are averaged where d > width /
    2."""
    values = np.nan_to_num(np.asarray(values, dtype=np.float64).reshape(-1), posinf=0.0, neginf=0.0)
    count = max(min(len(values), width // 2), 1)
    ends = np.linspace(0, len(values), count + 1).astype(int)
    bars = np.array([values[a:b].mean() for a, b in pairwise(ends) if b > a] or [0.0])
    at = np.arange(width) * len(bars) // width
    reach = (bars / max(np.abs(bars).max(), 1e-12) * (height // 2 - 2)).round()[at]
    gap = np.append(at[1:] != at[:-1], False) & (len(bars) <= width // 4)
    above = height // 2 - np.arange(height)[:, None]
    inked = (above * np.sign(reach) >= 0) & (np.abs(above) <= np.abs(reach)) & (reach != 0) & ~gap
    pixels = np.full((height, width), PAPER, dtype=np.uint8)
    pixels[height // 2] = 190
    pixels[inked] = INK
    return Image.fromarray(pixels)
