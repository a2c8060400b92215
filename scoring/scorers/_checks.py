"""Checks of scorers against ``scoring.scorers._contract``: at registration, and on what they return.

    at registration:   name, needs, least, columns, vectors and settings mean something and do not clash
    after each shard:  ``score`` returns its declared columns and vectors, as numbers, one row per example
    at the end:        every declared column is there, be it from ``score`` or from ``finish``

A slip of the pen in a new score would otherwise be a column of nulls, or one that is dropped without a word. Inputs:
the class of a scorer, or what its methods returned → nothing, or a ``HardlookError`` that names the scorer, what was
found and the close name. Cost: some comparisons of names per shard. Limit: what the numbers mean is not looked at.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from scoring.audit.errors import HardlookError

if TYPE_CHECKING:
    from scoring.scorers._contract import Scorer

NEEDS = (
    "labels",
    "checkpoints",
    "predictions",
    "features",
    "neighbours",
    "dynamics",
    "influence",
    "training",
    "scores",
    "head",
)
"""What a scorer can need. ``head``: that logits are the model's own, of a linear layer on the features; those of an
imported table are not."""
SETTINGS = (bool, int, float, str, tuple)
"""The types of a setting's default: the command line and audit.toml can write these; a tuple holds texts."""
OWN_COLUMNS = ("example_id", "fingerprint", "label")
"""The first columns of every score's file."""
OWN_VECTORS = ("logits", "features", "out_of_fold", "maps")
"""Files of a run that no scorer writes."""


def meant(name: object, known: Iterable[str]) -> str:
    """The known name that was probably meant, as the end of a sentence; else all known names.

    >>> meant("prediction", ["labels", "predictions"]), meant("x", ["labels", "predictions"]), meant("x", [])
    ('; did you mean predictions?', '; available: labels, predictions', '; available: none')
    """
    known = list(known)
    close = difflib.get_close_matches(str(name), known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; available: {', '.join(known) or 'none'}"


def check_scorer(kind: type[Scorer]) -> None:
    """Refuse a ``Scorer`` subclass whose declarations contradict themselves, with ``HardlookError``."""
    who = f"scorer {kind.name!r} ({kind.__module__}.{kind.__qualname__})"
    if not kind.name.isidentifier():
        raise HardlookError(f"{who}: the name becomes a file's and an option's; needed letters, digits and _ alone")
    for attribute in ("needs", "columns", "vectors"):
        if isinstance(getattr(kind, attribute), str) or not isinstance(getattr(kind, attribute), tuple | list):
            raise HardlookError(f"{who}: {attribute} = {getattr(kind, attribute)!r}; needed a tuple, (…,)")
    for need in kind.needs:
        if need not in NEEDS:
            raise HardlookError(f"{who} needs {need!r}, which is not a known need{meant(need, NEEDS)}")
    for need, least in kind.least.items():
        if need not in kind.needs:
            raise HardlookError(f"{who}: least names {need!r}, which is not among its needs{meant(need, kind.needs)}")
        if isinstance(least, bool) or not isinstance(least, int) or least < 1:
            raise HardlookError(f"{who}: least of {need} is {least!r}; needed a whole number of at least 1")
    _check_outputs(who, kind)
    _check_settings(who, kind)


def _check_outputs(who: str, kind: type[Scorer]) -> None:
    """Names of columns and vectors are each there once, and none is taken."""
    names = [column.name for column in kind.columns]
    if not names:
        raise HardlookError(f"{who} declares no column; needed at least one Column")
    for name, times in Counter([*names, *kind.vectors]).items():
        if not name:
            raise HardlookError(f"{who} declares a column or vector without a name")
        if times > 1:
            both = name in names and name in kind.vectors
            raise HardlookError(
                f"{who} declares {name!r} {'as a column and as a vector' if both else f'{times} times'}; needed one "
                "declaration per output"
            )
    for name in names:
        if name in OWN_COLUMNS:
            raise HardlookError(f"{who}: column {name!r} is one that every score's file has; needed another name")
    for name in kind.vectors:
        if name in OWN_VECTORS:
            raise HardlookError(
                f"{who}: vector {name!r} would overwrite the run's own {name}.arrow; needed another name"
            )


def _check_settings(who: str, kind: type[Scorer]) -> None:
    """Every setting is a field with a default that an option can be made of."""
    if "__dataclass_fields__" not in vars(kind):
        raise HardlookError(
            f"{who} is not a dataclass, so it has no settings; put @dataclass(frozen=True, kw_only=True) above the "
            "class"
        )
    for setting in fields(kind):
        default = setting.default
        texts = not isinstance(default, tuple) or all(isinstance(part, str) for part in default)
        if not isinstance(default, SETTINGS) or not texts:
            found = "no plain default" if default is MISSING else f"the default {default!r}"
            raise HardlookError(
                f"{who}: setting {setting.name!r} has {found}; needed a bool, an int, a float, a text or a tuple of "
                "texts, which becomes a command-line option"
            )


def check_setting(scorer: str, name: str, default: Any, value: Any) -> None:
    """Refuse a setting of another type than its default; a whole number is a float too.

    >>> check_setting("vog", "batch_size", 64, "32")
    Traceback (most recent call last):
    scoring.audit.errors.HardlookError: vog: batch_size = '32' is a str; needed an int, as its default 64 is
    """
    kinds = (int, float) if type(default) is float else (tuple, list) if type(default) is tuple else (type(default),)
    if type(value) not in kinds:
        article = "an" if type(default).__name__[0] in "aeiou" else "a"
        raise HardlookError(
            f"{scorer}: {name} = {value!r} is a {type(value).__name__}; needed {article} {type(default).__name__}, as "
            f"its default {default!r} is"
        )


def check_scored(scorer: Scorer, scored: Any, n: int, *, finishes: bool) -> dict[str, np.ndarray]:
    """Returns what ``score`` returned for n examples, as float32: (n,) per column, (n, r) per vector.

    ``finishes``: whether the scorer has a ``finish`` of its own, which may add the declared columns that lack here.
    """
    where = f"{scorer.name}.score"
    numbers = _numbers(where, scorer, scored, n, vectors=tuple(scorer.vectors))
    needed = [*([] if finishes else [column.name for column in scorer.columns]), *scorer.vectors]
    _check_there(where, needed, numbers)
    return numbers


def check_finished(scorer: Scorer, finished: Any, n: int) -> dict[str, np.ndarray]:
    """Returns what ``finish`` returned for all n examples, as float32 (n,) per declared column, none of them
    missing."""
    numbers = _numbers(f"{scorer.name}.finish", scorer, finished, n, vectors=())
    _check_there(f"{scorer.name}.finish", [column.name for column in scorer.columns], numbers)
    return numbers


def _numbers(where: str, scorer: Scorer, found: Any, n: int, vectors: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The outputs as float32, each declared and of its shape."""
    if not isinstance(found, Mapping):
        raise HardlookError(f"{where} returned a {type(found).__name__}; needed a dict of columns, name → array")
    declared = [*(column.name for column in scorer.columns), *vectors]
    numbers = {}
    for name, given in found.items():
        if name not in declared:
            raise HardlookError(
                f"{where} returned {name!r}, which {scorer.name} does not declare{meant(name, declared)}"
            )
        try:
            values = np.asarray(given)
        except (RuntimeError, TypeError, ValueError) as error:  # ragged rows; a tensor of a device or with its gradient
            raise HardlookError(
                f"{where}: {name}, a {type(given).__name__}, cannot become an array: {error}"
            ) from error
        if values.dtype.kind not in "biuf":
            raise HardlookError(f"{where}: {name} holds {values.dtype}; needed numbers, with NaN for missing values")
        rows = f"({n}, r)" if name in vectors else f"({n},)"
        if values.shape[:1] != (n,) or values.ndim != (2 if name in vectors else 1):
            raise HardlookError(f"{where}: {name} has shape {values.shape}; needed {rows}, one row per example")
        numbers[name] = values.astype(np.float32)
    return numbers


def _check_there(where: str, needed: list[str], found: Mapping[str, Any]) -> None:
    for name in needed:
        if name not in found:
            raise HardlookError(f"{where} did not return {name!r}, which is declared{meant(name, found)}")


def infinite(columns: Mapping[str, np.ndarray]) -> list[str]:
    """A sentence per column with infinite values, which a file keeps as null.

    >>> infinite({"a": np.array([1.0, np.inf]), "b": np.array([1.0, np.nan])})
    ['a is infinite for some examples, and stored as null there']
    """
    return [
        f"{name} is infinite for some examples, and stored as null there"
        for name, values in columns.items()
        if np.isinf(values).any()
    ]
