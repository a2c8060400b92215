"""The adapter of arrays in an ``.npz`` file.

Uncompressed arrays (``np.savez``) are memory-mapped, so a file larger than memory can be audited; compressed
ones are read whole. Cost: one read of labels, ids and metadata. Known limits: arrays of Python objects would
need unpickling and are refused.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from scoring.audit.user_code import close_names
from scoring.data.adapters.base import Listing, Source


@dataclass(kw_only=True)
class Npz(Source):
    """Arrays in an ``.npz``: n inputs, and optionally labels, ids and metadata of the same length.

    Images: (n, h, w), (n, h, w, c) or (n, c, h, w) of any number type, or (n, d) with ``shape``. Vectors: (n,
    d). Arrays of objects would need unpickling and are refused.
    """

    name = "npz"
    endings = (".npz",)

    inputs: str | None = None
    labels: str | None = None
    ids: str | None = None
    metadata: list[Any] | None = None
    columns: list[Any] | None = None
    shape: list[Any] | None = None
    layout: str | None = None

    def listing(self) -> Listing:
        """Labels, ids and metadata; the inputs stay on the disk where the file is not compressed."""
        n = len(self._inputs)
        listing = Listing(splits=self.one_split(n), columns=self._columns())
        labels = self._key("labels", ("labels", "label", "targets", "y"))
        if labels and self.split != "pool":
            listing.labels = self._one_per_example(self._aligned(labels, n))
        if self.ids:
            listing.ids = [str(value) for value in self._aligned(self.ids, n).tolist()]
        listing.metadata = {name: pa.array(self._aligned(name, n).tolist()) for name in self.metadata or []}
        return listing

    def stored(self, row: int) -> Any:
        """One row of the inputs, as it is stored."""
        value = self._inputs[row]
        if self._inputs.dtype.kind in "US":
            return str(value)
        value = np.array(value)  # a copy: transforms may write into it
        return value.reshape(self.shape) if self.shape else value

    def shown(self, original: Any) -> Any:
        """With ``layout = "NCHW"``, channels last."""
        if self.layout not in (None, "NHW", "NHWC", "NCHW"):
            raise self.error(f".layout = {self.layout!r}; needed NHW, NHWC or NCHW")
        return np.moveaxis(original, 0, -1) if self.layout == "NCHW" else original

    def names_of_classes(self) -> list[str] | None:
        """An array ``classes``, where there is one."""
        return [str(name) for name in self._array("classes").tolist()] if "classes" in self._keys else None

    def _one_per_example(self, labels: np.ndarray) -> list[Any]:
        """(n,), (n, 1) or one-hot (n, c) labels → n raw labels; several ones in a row are refused as multi-label.

        The columns of one-hot labels are the outputs in their order, so their names are settled here.
        """
        if labels.ndim == 2 and labels.shape[1] == 1:
            labels = labels[:, 0]
        if labels.ndim == 2 and np.isin(labels, (0, 1)).all() and (labels.sum(1) == 1).all():
            names = self.names_of_classes() or self.classes
            if names and len(names) != labels.shape[1]:
                raise self.error(
                    f": one-hot labels of shape {labels.shape} do not fit {len(names)} classes; needed one column per "
                    "class"
                )
            known = self.label_map or {}
            return [at if str(at) in known or not names else names[at] for at in labels.argmax(1).tolist()]
        if labels.ndim != 1:
            raise self.error(
                f": labels of shape {labels.shape} have several classes per example (multi-label); needed one label "
                "per example"
            )
        return labels.tolist()

    def describe_exif(self) -> None:
        """Arrays have no EXIF orientation."""

    @cached_property
    def _keys(self) -> list[str]:
        try:
            with zipfile.ZipFile(self.place) as archive:
                return [name.removesuffix(".npy") for name in archive.namelist()]
        except (zipfile.BadZipFile, OSError) as error:
            raise self.error(f".path = {self.path!r} is not an .npz file: {error}") from error

    def _key(self, what: str, usual: tuple[str, ...]) -> str | None:
        """The name of an array: as configured, else the first usual one that is there."""
        given = getattr(self, what)
        if given is not None and given not in self._keys:
            near = close_names(given, self._keys)
            raise self.error(f".{what} = {given!r}: {self.path} has no such array; {near}")
        return given or next((name for name in usual if name in self._keys), None)

    def _columns(self) -> list[str] | None:
        """The names of a vector's entries: as configured, else an array ``columns`` in the file."""
        if self.media != "vector" or self.columns or "columns" not in self._keys:
            return self.columns
        return [str(name) for name in self._array("columns").tolist()]

    @cached_property
    def _inputs(self) -> np.ndarray:
        name = self._key("inputs", ("inputs", "images", "image", "x", "X", "data", "text"))
        if name is None:
            raise self.error(f" needs inputs, the name of an array; {self.path} has {', '.join(self._keys)}")
        array = self._array(name)
        least = {"image": 2 if self.shape else 3, "vector": 2, "text": 1}[self.media]
        if array.ndim < least or (self.media == "text") != (array.dtype.kind in "US"):
            hint = "; give the shape of one image, e.g. shape = [28, 28]" if array.ndim == 2 else ""
            found = f"{name!r} has shape {array.shape} and type {array.dtype}"
            raise self.error(f": {found}, which is not {self.media} data{hint}")
        if self.shape and np.prod(self.shape) != np.prod(array.shape[1:]):
            raise self.error(f".shape = {self.shape} does not fit rows of shape {array.shape[1:]}")
        return array

    def _aligned(self, name: str, n: int) -> np.ndarray:
        array = self._array(name)
        if len(array) != n:
            raise self.error(f": {name!r} has {len(array)} entries for {n} inputs; needed one per input")
        return array

    def _array(self, name: str) -> np.ndarray:
        if name not in self._keys:
            raise self.error(f": {self.path} has no array {name!r}; {close_names(name, self._keys)}")
        try:
            return mapped_member(self.place, name)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
            raise self.error(
                f": array {name!r} of {self.path} is damaged ({error}); copy or save the file again"
            ) from error
        except ValueError as error:
            raise self.error(
                f": array {name!r} of {self.path} cannot be read ({error}); save numbers or text, e.g. np.savez(..., "
                f"{name}=np.array(values, dtype=str))"
            ) from error


def mapped_member(path: Path, name: str) -> np.ndarray:
    """One array of an ``.npz``: memory-mapped where it is stored uncompressed, else read whole."""
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(f"{name}.npy")
    if info.compress_type != zipfile.ZIP_STORED:
        with np.load(path, allow_pickle=False) as archive:
            return archive[name]
    with open(path, "rb") as file:
        file.seek(info.header_offset + 26)
        file.seek(sum(struct.unpack("<HH", file.read(4))), os.SEEK_CUR)
        version = np.lib.format.read_magic(file)
        of_version = {(1, 0): np.lib.format.read_array_header_1_0}
        shape, fortran, dtype = of_version.get(version, np.lib.format.read_array_header_2_0)(file)
        if dtype.hasobject:
            raise ValueError("it holds Python objects, which are not unpickled for safety")
        if not np.prod(shape):
            return np.empty(shape, dtype)
        return np.memmap(path, dtype, "r", file.tell(), shape, "F" if fortran else "C")
