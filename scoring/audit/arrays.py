"""Arrays as users hand them over: tensors of any library, data frames, series, lists.

Inputs → outputs: any of these → a NumPy array or a plain list, or one ``HardlookError`` that names the argument. Cost:
one copy where the values are no array yet. Nothing here imports torch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from scoring.audit.errors import HardlookError


def as_numbers(value: Any, name: str, *, ndim: int | None = None, rows: int | None = None) -> np.ndarray:
    """Returns numbers or booleans as an array. ``ndim``: the axes that it must have; ``rows``: their first length.

    >>> as_numbers([[1, 2], [3, 4]], "features", ndim=2).shape
    (2, 2)
    >>> as_numbers("abc", "features")
    Traceback (most recent call last):
    scoring.audit.errors.HardlookError: features: found str; needed an array, tensor, data frame or list of numbers
    """
    array = _array(value, name)
    if array.dtype == object:
        array = _of_objects(array, name)
    if array.dtype.kind not in "buif":
        raise HardlookError(
            f"{name}: found {_kind(value, array)}; needed an array, tensor, data frame or list of numbers"
        )
    if ndim is not None and array.ndim != ndim:
        raise HardlookError(f"{name}: found shape {array.shape}; needed {ndim} {'axis' if ndim == 1 else 'axes'}")
    if rows is not None and len(array) != rows:
        raise HardlookError(f"{name}: found {len(array):,} rows; needed {rows:,}, one per example")
    return array


def as_flags(value: Any, name: str, *, ndim: int | None = None) -> np.ndarray:
    """Returns right or wrong as booleans; of numbers, 0 and 1 alone are taken for them.

    >>> as_flags([[1, 0]], "correct").tolist()
    [[True, False]]
    """
    array = as_numbers(value, name, ndim=ndim)
    if array.dtype != bool and not np.isin(array, (0, 1)).all():
        raise HardlookError(f"{name}: found numbers other than 0 and 1; needed true or false")
    return array.astype(bool)


def as_list(value: Any, name: str) -> list[Any]:
    """Returns one plain value per example, numbers as Python's own.

    >>> as_list(np.array(["cat", "dog"]), "labels")
    ['cat', 'dog']
    """
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        raise HardlookError(f"{name}: found {type(value).__name__}; needed a list, array, tensor or column")
    if isinstance(value, (list, tuple, set, frozenset, range)) or not hasattr(value, "shape"):
        found = list(value)
    else:
        array = _array(value, name)
        array = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
        if array.ndim != 1:
            raise HardlookError(f"{name}: found shape {array.shape}; needed (n,), one per example")
        found = array.tolist()
    return [each.item() if hasattr(each, "item") and getattr(each, "ndim", 1) == 0 else each for each in found]


def _array(value: Any, name: str) -> np.ndarray:
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if "bfloat16" in str(value.dtype) else value
    try:
        return np.asarray(value)
    except (ValueError, TypeError) as error:  # rows of different lengths
        raise HardlookError(f"{name}: cannot be read as an array: {error}; needed rows of one length") from error


def _of_objects(array: np.ndarray, name: str) -> np.ndarray:
    """Numbers among missing values, as pandas keeps them."""
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise HardlookError(f"{name}: holds values that are no numbers ({error}); needed numbers alone") from error


def _kind(value: Any, array: np.ndarray) -> str:
    return f"{type(value).__name__} of {array.dtype}" if array.ndim else type(value).__name__
