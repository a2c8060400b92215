"""Objects that live only in this process: the model, datasets and transform that a notebook handed over.

``audit.toml`` names code as ``file.py:callable``; it names one of these objects as ``in-process:NAME``. The process
that made the audit finds them here, by the audit's folder and the name. Every other process gets one sentence that says
what it lacks.

Inputs → outputs: a folder, a name and an object → a reference, and back. Cost: the object stays in memory. Known
limits: nothing is pickled, so workers of other processes cannot compute with these objects; a change inside a closure
is noticed by ``object_digest`` only as far as its values print themselves.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from scoring.audit.errors import HardlookError
from scoring.audit.real_path import real_path

SCHEME = "in-process"
"""No Python module can have this name, so no reference to a module is taken for one of these."""

_kept: dict[tuple[Path, str], Callable[..., Any]] = {}


def keep_in_process(folder: str | Path, name: str, value: Callable[..., Any]) -> str:
    """Returns the reference under which this process finds ``value`` for the audit in ``folder``; an earlier object of
    that name is replaced.

    >>> keep_in_process("/an/audit", "double", lambda number: 2 * number)
    'in-process:double'
    """
    _kept[real_path(folder), name] = value
    return f"{SCHEME}:{name}"


def is_in_process(reference: object) -> bool:
    """Returns whether a reference of audit.toml names an object of a process."""
    return isinstance(reference, str) and reference.startswith(f"{SCHEME}:")


def find_in_process(reference: str, folder: str | Path) -> Callable[..., Any]:
    """Returns the object that a reference names. Raises ``HardlookError`` in every process but the one that made the
    audit."""
    name = reference.partition(":")[2]
    found = _kept.get((real_path(folder), name))
    if found is None:
        raise HardlookError(
            f"{reference}: this audit's {name} lives in the notebook or script that made the audit with "
            "hardlook.audit(…), and this process does not have it; compute there (audit.score()), or name it in "
            'audit.toml as "file.py:callable"'
        )
    return found


def object_digest(value: object) -> str:
    """Returns a hash of an object's code and of how it prints itself: a model's class and layers, a transform's steps
    and parameters, a function's source and the values that it closes over."""
    return hashlib.sha256("\0".join(_described(value)).encode("utf8", "replace")).hexdigest()


def _described(value: object) -> Iterator[str]:
    kind = value if inspect.isroutine(value) or inspect.isclass(value) else type(value)
    yield f"{kind.__module__}.{kind.__qualname__}"
    try:
        yield inspect.getsource(kind)
    except (OSError, TypeError):  # made at run time, or compiled
        code = getattr(kind, "__code__", None)
        yield repr((code.co_code, code.co_consts, code.co_names)) if code else ""
    for cell in getattr(value, "__closure__", None) or ():
        yield _printed(cell.cell_contents)
    yield _printed(value)


def _printed(value: object) -> str:
    """Returns how an object prints itself, without the address that the plain ``repr`` has."""
    return "" if type(value).__repr__ is object.__repr__ or inspect.isroutine(value) else repr(value)
