"""The evaluation transform: an example's original → the tensor that the model sees.

audit.toml names it as ``file.py:callable`` or as a table of ``resize``, ``crop``, ``mode``, ``mean``, ``std`` and
``interpolation``, built with torchvision.transforms.v2. Without either, images become float32 (channels, height,
width) in [0, 1] and vectors stay as they are, in float32. ``{ processor = "FOLDER" }`` is the image processor of a
Hugging Face folder, ``{ tokenizer = "FOLDER", length = 128 }`` its tokenizer. Nothing here is random.

Cost: one decode-free pass over a picture. Known limits: other tokenizers need a callable of their own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from scoring.audit.errors import HardlookError
from scoring.audit.user_code import call_named, close_names, load_callable

MOST_PIXELS = 16_384
"""A side longer than this is a slip of the finger, which would fill the memory."""

KEYS = ("resize", "crop", "mode", "mean", "std", "interpolation")
TEXT_KEYS = ("length", "buckets")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")
"""Of Pillow; ``bilinear`` is torchvision's own default."""
PILLOW_ALONE = ("lanczos", "box", "hamming")
"""What torchvision resizes images by, but no tensors."""

READABLE_AS = {
    "1": "L",
    "P": "RGB",
    "PA": "RGB",
    "RGBA": "RGB",
    "RGBX": "RGB",
    "CMYK": "RGB",
    "YCbCr": "RGB",
    "HSV": "RGB",
    "LAB": "RGB",
    "LA": "L",
    "La": "L",
    "RGBa": "RGB",
}
"""PIL modes whose numbers are no grey or RGB values (a palette's are indices) → the mode that has them."""


def load_transform(
    spec: str | Mapping[str, Any] | None, folder: str | Path, media: str = "image"
) -> Callable[[Any], torch.Tensor]:
    """The transform that ``spec`` describes: original (PIL image, array or text) → tensor.

    With ``media`` "vector" arrays keep their shape, whatever it is (series are (channels, steps)); with
    "image" two and three dimensions are a picture. A class is instantiated without arguments. Raises
    `HardlookError` for an unknown key or a value out of range.
    """
    if isinstance(spec, str):
        found = load_callable(spec, folder)
        return call_named(spec, found, {}) if inspect.isclass(found) else found
    given = dict(spec or {})
    if "tokenizer" in given or "processor" in given:
        return _of_folder(given, Path(folder), media)
    return _hashed_words(given) if media == "text" else TableTransform(**_checked(given), pictures=media != "vector")


def _of_folder(spec: dict[str, Any], folder: Path, media: str) -> Callable[[Any], torch.Tensor]:
    """The tokenizer or image processor of a Hugging Face folder."""
    from scoring.models.huggingface import ProcessedImage, Tokens

    keys, wanted = (("tokenizer", "length"), "text") if "tokenizer" in spec else (("processor",), "image")
    for key in spec:
        if key not in keys:
            raise HardlookError(f"transform has the key {key!r} beside {keys[0]!r}; {close_names(key, keys)}")
    if media != wanted:
        raise HardlookError(
            f"transform has a {keys[0]}, which reads {wanted}s, but media = {media!r}; write one of both"
        )
    if not isinstance(spec[keys[0]], str):
        raise HardlookError(f"transform.{keys[0]} = {spec[keys[0]]!r}; needed the path of a folder")
    place = folder / Path(spec[keys[0]]).expanduser()
    if not place.is_dir():
        raise HardlookError(f"transform.{keys[0]} = {spec[keys[0]]!r}: there is no folder {place}; correct the path")
    if wanted == "image":
        return ProcessedImage(place)
    if "length" not in spec:
        raise HardlookError(
            "transform has a tokenizer but no length; write the number of tokens of its training: length = 128"
        )
    return Tokens(place, spec["length"])


def as_given(original: Any) -> torch.Tensor:
    """Returns an example as the tensor that the model takes: nothing is scaled, cropped or moved; floating numbers
    become float32. For datasets whose items are model inputs already."""
    value = original if isinstance(original, torch.Tensor) else torch.from_numpy(_native(np.array(original)))
    return value.to(torch.float32) if value.is_floating_point() else value


def _hashed_words(spec: dict[str, Any]) -> Callable[[str], torch.Tensor]:
    """Text without a tokenizer of its own: hashed words, with the table's ``length`` and ``buckets``."""
    from scoring.models.text import HashedWords

    for key in spec:
        if key not in TEXT_KEYS:
            raise HardlookError(f"transform of text has an unknown key {key!r}; {close_names(key, TEXT_KEYS)}")
    return HashedWords(**spec)


def _checked(spec: dict[str, Any]) -> dict[str, Any]:
    """The table's keys and values as `TableTransform` takes them."""
    for key, value in spec.items():
        if key not in KEYS:
            raise HardlookError(f"transform has an unknown key {key!r}; {close_names(key, KEYS)}")
        if key in ("resize", "crop") and not _is_size(value):
            raise HardlookError(
                f"transform.{key} = {value!r}; needed pixels (1 to {MOST_PIXELS:,}), or [height, width]"
            )
        if key in ("mean", "std") and not _are_numbers(value):
            raise HardlookError(f"transform.{key} = {value!r}; needed a number, or one per channel")
    if np.any(np.asarray(spec.get("std", 1.0)) == 0):
        raise HardlookError(f"transform.std = {spec['std']!r}; needed numbers other than 0")
    if spec.get("interpolation", "bilinear") not in INTERPOLATIONS:
        raise HardlookError(
            f"transform.interpolation = {spec['interpolation']!r}; needed {' or '.join(INTERPOLATIONS)}"
        )
    if spec.get("mode", "L") not in ("L", "RGB"):
        raise HardlookError(f"transform.mode = {spec['mode']!r}; needed 'L' (grey) or 'RGB'")
    return spec


def _is_size(value: Any) -> bool:
    sides = value if isinstance(value, (list, tuple)) else [value]
    whole = all(isinstance(side, int) and not isinstance(side, bool) and 0 < side <= MOST_PIXELS for side in sides)
    return whole and len(sides) in (1, 2)


def _are_numbers(value: Any) -> bool:
    numbers = value if isinstance(value, (list, tuple)) else [value]
    return bool(numbers) and all(isinstance(n, (int, float)) and not isinstance(n, bool) for n in numbers)


class TableTransform:
    """Mode, resize (shorter side, antialiased, by ``interpolation``), centre crop, [0, 1], then (x − mean) / std per
    channel.

    8 and 16 bits are divided by their greatest value; other numbers are taken to be in the model's range
    already.
    """

    def __init__(
        self,
        resize: int | Sequence[int] | None = None,
        crop: int | Sequence[int] | None = None,
        mode: str | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        interpolation: str = "bilinear",
        pictures: bool = True,
    ) -> None:
        from torchvision.transforms import (
            v2,
        )  # imported late: it takes a second, and this module is imported often

        self.mode, self.mean, self.std, self.pictures = mode, mean, std, pictures
        self.resize, self.crop = _sides(resize), _sides(crop)
        by = v2.InterpolationMode(interpolation)
        self.interpolation = interpolation
        self.sizes = [v2.Resize(resize, interpolation=by, antialias=True)] if resize else []
        self.sizes += [v2.CenterCrop(crop)] if crop else []

    def __call__(self, original: Any) -> torch.Tensor:
        """PIL image or (h, w[, c]) array → (c, h, w); (d,) array → (d,); float32."""
        if isinstance(original, Image.Image):
            return self._normalised(_scaled(self._sized(_read_mode(original, self.mode))))
        if isinstance(original, (np.ndarray, torch.Tensor, list, tuple, float, int, np.number)):
            return self._array(_native(np.atleast_1d(np.asarray(original))))
        raise HardlookError(
            f"the transform got {type(original).__name__}; needed an image or an array; for text and other data name "
            'your own transform in audit.toml: transform = "file.py:callable"'
        )

    def window(self, height: int, width: int) -> tuple[float, float, float, float]:
        """Returns which part of a picture of this size the model sees → top, left, height, width, as shares of the
        picture.

        A crop that is larger than the picture pads: the window then reaches over its edges.

        >>> TableTransform(resize=256, crop=224).window(512, 1024)
        (0.0625, 0.28125, 0.875, 0.4375)
        """
        tall, wide = height, width
        if self.resize:
            tall, wide = self.resize if len(self.resize) == 2 else _shorter(self.resize[0], height, width)
        kept_tall, kept_wide = tall, wide
        if self.crop:
            kept_tall, kept_wide = self.crop if len(self.crop) == 2 else self.crop * 2
        top, left = (tall - kept_tall) / 2, (wide - kept_wide) / 2
        return top / tall, left / wide, kept_tall / tall, kept_wide / wide

    def _array(self, values: np.ndarray) -> torch.Tensor:
        """Byte images take the way of files; other arrays with a height and width are cropped as
        tensors."""
        if values.ndim not in (2, 3) or not self.pictures:
            return self._vector(values)
        if values.dtype == np.uint8 and _is_bytes_picture(values):
            return self(Image.fromarray(values.squeeze(-1) if values.ndim == 3 and values.shape[-1] == 1 else values))
        return self._normalised(self._sized(_channelled(_scaled(self._channels_first(values)), self.mode)))

    def picture_size(self, values: np.ndarray) -> tuple[int, int]:
        """Height and width of a picture that is an array, channels first or last."""
        _, height, width = self._channels_first(values).shape
        return height, width

    def _channels_first(self, values: np.ndarray) -> torch.Tensor:
        """(h, w) or (h, w, c) → (c, h, w); what has its channels first already stays."""
        if values.ndim == 2:
            return torch.from_numpy(np.ascontiguousarray(values)).unsqueeze(0)
        first = values.shape[0] in (1, 3, 4) and values.shape[-1] not in (1, 3, 4)
        return torch.from_numpy(np.ascontiguousarray(values if first else np.moveaxis(values, -1, 0)))

    def _vector(self, values: np.ndarray) -> torch.Tensor:
        """Vectors are normalised, and have no size or mode."""
        if self.sizes or self.mode:
            raise HardlookError(
                f"transform has resize, crop or mode, and an example is an array of shape {values.shape}; needed an "
                "image; remove those keys"
            )
        return self._normalised(torch.from_numpy(np.ascontiguousarray(values)).to(torch.float32))

    def _sized(self, picture: Any) -> Any:
        if self.resize and self.interpolation in PILLOW_ALONE and isinstance(picture, torch.Tensor):
            raise HardlookError(
                f"transform.interpolation = {self.interpolation!r} works on images alone, and an example is an array "
                "of numbers other than bytes; use bilinear, bicubic or nearest"
            )
        for step in self.sizes:
            picture = step(picture)
        return picture

    def _normalised(self, values: torch.Tensor) -> torch.Tensor:
        """(x − mean) / std, by channel where there are several numbers."""
        mean, std = self._per_channel(self.mean, 0.0, values), self._per_channel(self.std, 1.0, values)
        return (values - mean) / std if self.mean is not None or self.std is not None else values

    def _per_channel(self, given: Any, default: float, values: torch.Tensor) -> torch.Tensor:
        numbers = torch.as_tensor(default if given is None else given, dtype=torch.float32).reshape(-1)
        if len(numbers) not in (1, len(values)):
            raise HardlookError(
                f"transform.mean and std have {len(numbers)} numbers, an example has {len(values)} channels; add mode "
                '= "RGB" (or "L") to the transform in audit.toml, or give one number per channel'
            )
        return numbers.reshape(-1, *[1] * (values.ndim - 1))


def _sides(value: Any) -> list[int]:
    """A size as a list: one side, two, or none."""
    return [] if not value else list(value) if isinstance(value, (list, tuple)) else [value]


def _shorter(side: int, height: int, width: int) -> tuple[int, int]:
    """A picture's height and width once its shorter side is ``side``, as torchvision's ``Resize`` rounds them."""
    short, long = sorted((height, width))
    other = int(side * long / short)
    return (side, other) if height <= width else (other, side)


def _native(values: np.ndarray) -> np.ndarray:
    """The same numbers in this machine's byte order, which is the one that torch reads."""
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _is_bytes_picture(values: np.ndarray) -> bool:
    """Bytes in the shape that PIL reads: grey, or channels last."""
    return values.ndim == 2 or (values.ndim == 3 and values.shape[-1] in (1, 3, 4))


def _read_mode(picture: Image.Image, mode: str | None) -> Image.Image:
    """Returns the image in the requested mode; without one, in grey or RGB as stored."""
    if picture.mode.startswith(("I", "F")):  # 16 and 32 bits have no RGB, and converting them to L clips
        return _deep(picture, mode)
    wanted = mode or READABLE_AS.get(picture.mode, picture.mode)
    return picture if picture.mode == wanted else picture.convert(wanted)


def _deep(picture: Image.Image, mode: str | None) -> Any:
    """A 16- or 32-bit grey picture as a tensor, its greys repeated for RGB."""
    values = torch.from_numpy(np.array(picture).astype(np.float32)).unsqueeze(0)
    return _channelled(values / (1.0 if picture.mode.startswith("F") else 65535.0), mode)


def _channelled(values: torch.Tensor, mode: str | None) -> torch.Tensor:
    """Grey repeated to three channels, or colour weighted to one, as PIL weighs it."""
    if mode == "RGB":
        return values.expand(3, -1, -1) if len(values) == 1 else values[:3]
    if mode == "L" and len(values) >= 3:
        weights = torch.tensor([0.299, 0.587, 0.114]).reshape(3, 1, 1)
        return (values[:3] * weights).sum(0, keepdim=True).to(values.dtype)
    return values


def _scaled(picture: Any) -> torch.Tensor:
    """A picture or tensor → float32; 8 and 16 bits are divided by their greatest value."""
    if isinstance(picture, Image.Image):
        values = np.asarray(picture)
        picture = torch.from_numpy(np.moveaxis(np.atleast_3d(values), -1, 0).copy())
    greatest = {torch.uint8: 255.0, torch.uint16: 65535.0}.get(picture.dtype, 1.0)
    return picture.to(torch.float32) / greatest
