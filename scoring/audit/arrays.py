"""Arrays as users hand them over: tensors of any library, data frames, series, lists.

Inputs → outputs: any of these → a NumPy array or a plain list, or one ``HardlookError`` that names the argument. Cost:
one copy where the values are no array yet. Nothing here imports torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
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


def named_classes(classes: Any) -> list[str] | None:
    """Returns the names of classes. Raises ``HardlookError`` for what is no list of different ones."""
    if classes is None:
        return None
    if isinstance(classes, (set, frozenset)):
        raise HardlookError("classes: found a set, which has no order; needed a list in the order of the outputs")
    names = [str(name) for name in as_list(classes, "classes")]
    if not names or len(set(names)) < len(names):
        raise HardlookError(f"classes: found {len(names)}, {len(set(names))} different; needed one name per class")
    return names


def column_names(value: Any) -> list[str] | None:
    """Returns the names of a data frame's columns; None for what has none, and for columns that are only numbered in
    their order (0, 1, …; column_0, column_1, …)."""
    found = getattr(value, "columns", getattr(value, "column_names", None))
    if found is None or callable(found):
        return None
    names = [str(name) for name in found]
    numbered = [re.fullmatch(r"(.*?)(0|[1-9][0-9]*)", name, re.DOTALL) for name in names]
    if len({each and each[1] for each in numbered}) == 1 and all(
        each and int(each[2]) == at for at, each in enumerate(numbered)
    ):
        return None
    return names


def columns_of_classes(
    columns: list[str], classes: list[str] | None, labels: Iterable[str], name: str
) -> tuple[list[int], list[str] | None]:
    """Returns the columns in the order of the classes, and the classes, where a data frame names its columns.

    ``classes``: as asked for, else None; ``labels``: those that occur. Columns that are the numbers 0 to c − 1 in
    another order are put into that order, and the classes stay without names. Raises ``HardlookError`` where the names
    do not tell which column belongs to which class.

    >>> columns_of_classes(["dog", "cat"], ["cat", "dog"], [], "pred_probs")
    ([1, 0], ['cat', 'dog'])
    """
    if len(set(columns)) < len(columns):
        raise HardlookError(f"{name}: two columns of the data frame have one name; needed one column per class")
    if classes is not None and set(columns) == set(classes):
        return [columns.index(each) for each in classes], classes
    numbers = [str(at) for at in range(len(columns))]
    numbered = set(columns) == set(numbers)
    if numbered and (set(labels) <= set(columns) if classes is None else not set(columns) & set(classes)):
        return [columns.index(number) for number in numbers], classes
    if classes is None and set(labels) <= set(columns):
        return list(range(len(columns))), columns
    unknown = next(iter(sorted((set(labels) if classes is None else set(classes)) - set(columns))), None)
    found = f"no column is named {unknown}" if unknown else "they are more than the classes"
    raise HardlookError(
        f"{name}: the data frame's columns are named {', '.join(columns[:5])}{', …' if len(columns) > 5 else ''}, and "
        f"{found}; name the columns by class, or pass an array and classes= in the order of its columns"
    )


def refuse_other_order(given: Mapping[str, Any]) -> None:
    """Raises ``HardlookError`` where two of pandas' objects hold the same index in another order: whether their rows
    or their index belong together is not known."""
    indices = {
        name: value.index for name, value in given.items() if hasattr(getattr(value, "index", None), "get_indexer")
    }
    for first, (name, one) in enumerate(indices.items()):
        for other_name, other in list(indices.items())[first + 1 :]:
            if len(one) == len(other) and not one.equals(other) and set(one) == set(other):
                raise HardlookError(
                    f"{name} and {other_name} have the same index in different orders; bring them into one order "
                    f"(.loc[…]), or pass {other_name}.to_numpy() where row i of both is the same example"
                )


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
