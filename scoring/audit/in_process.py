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
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType
from typing import Any

from scoring.audit.errors import HardlookError
from scoring.audit.real_path import real_path

SCHEME = "in-process"
"""No Python module can have this name, so no reference to a module is taken for one of these."""

STDLIB = sysconfig.get_path("stdlib")

_kept: dict[tuple[Path, str], Callable[..., Any]] = {}


@contextmanager
def one_process(folder: Path) -> Iterator[None]:
    """Hold an audit that this process makes and scores, so that no other notebook puts other data or weights under it.
    Raises ``HardlookError`` where another holds it."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / ".in-process.lock", timeout=0, is_singleton=True)
    try:
        lock.acquire()
    except Timeout as error:
        raise HardlookError(
            f"another notebook or script is computing the audit in {folder}; wait for it to end, or choose "
            "another folder"
        ) from error
    try:
        yield
    finally:
        lock.release()


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
    """Returns a hash of an object's code and of how it prints itself: a model's layers and their classes, a transform's
    steps and parameters, a function's code and the values that it closes over."""
    return hashlib.sha256("\0".join(_described(value)).encode("utf8", "replace")).hexdigest()


def _described(value: object) -> Iterator[str]:
    modules = getattr(value, "modules", None)
    layers = modules() if callable(modules) and not inspect.isclass(value) else ()
    for kind in dict.fromkeys([_kind(value), *map(type, layers)]):
        yield f"{kind.__module__}.{kind.__qualname__}"
        yield from _code(kind)
    for cell in getattr(value, "__closure__", None) or ():
        yield _printed(cell.cell_contents)
    yield _printed(value)


def _code(kind: Any) -> Iterator[str]:
    """Returns the compiled code of a function, or of a class's methods, its bases' included; not of what is installed.

    The source is no help: a notebook keeps none of its classes, and two functions of one line share theirs.
    """
    if isinstance(getattr(kind, "__code__", None), CodeType):
        yield _compiled(kind.__code__)
    for base in getattr(kind, "__mro__", ()):
        if not _is_installed(base.__module__):
            for name, member in sorted(vars(base).items()):
                code = getattr(getattr(member, "__func__", getattr(member, "fget", member)), "__code__", None)
                yield f"{name} {_compiled(code) if isinstance(code, CodeType) else ''}"


def _compiled(code: CodeType) -> str:
    """Returns a code object's instructions, names and constants, without the lines that they stand on."""
    inner = [_compiled(each) if isinstance(each, CodeType) else repr(each) for each in code.co_consts]
    return repr((code.co_code, code.co_names, code.co_varnames, inner))


def _is_installed(module: str) -> bool:
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        return module != "__main__"
    return file.startswith(STDLIB) or not {"site-packages", "dist-packages"}.isdisjoint(Path(file).parts)


def _kind(value: Any) -> Any:
    """Returns what has the code: a function or class itself, the class of any other object."""
    return value if inspect.isroutine(value) or inspect.isclass(value) else type(value)


def _printed(value: object) -> str:
    """Returns how an object prints itself, without the address that the plain ``repr`` has."""
    return "" if type(value).__repr__ is object.__repr__ or inspect.isroutine(value) else repr(value)
