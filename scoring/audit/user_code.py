"""Imports the user's code that audit.toml names: ``file.py:callable`` or ``package.module:callable``; finds what a
notebook handed over (``in-process:NAME``, ``scoring.audit.in_process``).

A reference → the callable. A file is imported as Python would import it when run in its own folder: it finds
the modules beside it, under their plain names, so what it defines can be sent to worker processes. Two audits
may both have a ``model.py`` and a ``helpers.py``: whatever an earlier folder put into ``sys.modules`` steps
aside while another folder's code is imported, and an installed package that a file beside it shadows is put
back afterwards.

Cost: one import per file and version of the file. Known limits: editing a *sibling* of a loaded file takes a
new process; a function-level ``import`` of a sibling finds the folder that was used last; and no other thread
may import while a reference is being loaded, since ``sys.path`` belongs to the whole process.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import importlib
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from scoring.audit.errors import HardlookError
from scoring.audit.in_process import find_in_process, is_in_process
from scoring.audit.real_path import real_path

NEEDED = "needed file.py:callable or package.module:callable"

_modules: dict[Path, dict[str, ModuleType]] = {}
"""What each folder's own code put into ``sys.modules``: folder → plain name → module."""

_left: set[str] = set()
"""The folder that was left at the end of ``sys.path`` by the last import; one entry at most."""

_versions: dict[Path, tuple[int, int]] = {}
"""(size, modification time) of each file when it was imported."""


def load_callable(reference: str, folder: str | Path) -> Callable[..., Any]:
    """The callable that ``reference`` names; a file is looked up relative to ``folder``.

    Used for models, transforms, loaders, dataset factories and training functions alike. It raises
    `HardlookError`, always naming the reference, where there is no such file, module or attribute (with close
    names) or where the code itself raises.

    >>> load_callable("math:sqrt", ".")(9.0)
    3.0
    """
    if is_in_process(reference):
        return find_in_process(reference, folder)
    target, _, attribute = str(reference).rpartition(":")
    if not target or not attribute:
        raise HardlookError(f"{reference!r} names no callable; {NEEDED}")
    folder = real_path(folder)
    if target.endswith(".py"):
        module = _import_file(_existing(reference, folder / target), reference)
    else:
        module = _import_module(target, folder, reference)
    return _attribute(module, attribute, reference)


def call_reference(reference: str, folder: str | Path, arguments: dict[str, Any] | None = None) -> Any:
    """Load ``reference`` and call it with keyword ``arguments``, with the code beside it importable
    meanwhile.

    Whatever the code raises becomes a `HardlookError` that names the reference, the arguments and the line.
    """
    function = load_callable(reference, folder)
    with importing_from(code_folder(reference, folder)):
        return call_named(reference, function, arguments or {})


def call_named(reference: str, function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """``function(**arguments)``; what it raises becomes a `HardlookError` that says which call it was."""
    try:
        return function(**arguments)
    except (Exception, SystemExit) as error:
        shown = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        raise HardlookError(f"{reference}({shown}) failed: {_error_text(error)}") from error


def code_folder(reference: str, folder: str | Path) -> Path:
    """The folder whose modules a reference can import: the file's own, or the audit's for a module."""
    target = str(reference).rpartition(":")[0]
    path = real_path(Path(folder) / target)
    return path.parent if target.endswith(".py") else real_path(folder)


def close_names(name: str, known: Iterable[str], shown: int = 5) -> str:
    """The known names nearest to ``name``, as the end of an error message.

    >>> close_names("smal_cnn", ["small_cnn", "transform"])
    'did you mean small_cnn?'
    >>> close_names("x", ["b", "a"])
    'available: a, b'
    """
    known = sorted(set(known))
    near = difflib.get_close_matches(name, known, n=shown)
    if near:
        return f"did you mean {' or '.join(near)}?"
    more = ", …" if len(known) > 2 * shown else ""
    return f"available: {', '.join(known[: 2 * shown]) or 'nothing'}{more}"


# -- importing -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def importing_from(folder: Path) -> Iterator[None]:
    """Put the modules of ``folder`` first, as for a script in it; afterwards installed packages come first
    again."""
    hidden = _step_aside(folder)
    installed = str(folder) in sys.path and str(folder) not in _left
    sys.modules.update(_modules.setdefault(folder, {}))
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        names = set() if installed else _own_names(folder)  # what is installed belongs to no audit
        _modules[folder].update({name: sys.modules[name] for name in set(sys.modules) - before if _top(name) in names})
        _leave_importable(folder)
        _withdraw(folder)
        sys.modules.update(hidden)


def _own_names(folder: Path) -> set[str]:
    """Names of the modules and packages in a folder, without those of the standard library."""
    files = {path.stem for path in folder.glob("*.py")}
    packages = {path.parent.name for path in folder.glob("*/__init__.py")}
    return {name for name in files | packages if name.isidentifier()} - set(sys.stdlib_module_names)


def _step_aside(folder: Path) -> dict[str, ModuleType]:
    """Take other folders' code out of ``sys.modules``, and what the folder shadows; return the latter."""
    for other, mine in _modules.items():
        for name, module in mine.items():
            if other != folder and sys.modules.get(name) is module:
                del sys.modules[name]
    names, own = _own_names(folder), _modules.get(folder, {})
    foreign = [name for name in sys.modules if _top(name) in names and name not in own]
    return {name: sys.modules.pop(name) for name in foreign if not _lies_in(sys.modules.get(_top(name)), folder)}


def _withdraw(folder: Path) -> None:
    """Take those of the folder's modules out again that hide an installed package of the same name."""
    elsewhere = [entry for entry in sys.path if Path(entry or ".").resolve() != folder]
    specs = {name: importlib.machinery.PathFinder.find_spec(name, elsewhere) for name in map(_top, _modules[folder])}
    hiding = {name for name, spec in specs.items() if spec is not None and spec.origin is not None}
    for name in _modules[folder]:
        if _top(name) in hiding:
            sys.modules.pop(name, None)


def _lies_in(module: ModuleType | None, folder: Path) -> bool:
    """Returns whether a module was imported, by whomever, from this very folder: then it shadows nothing."""
    origin = getattr(module, "__file__", None)
    return origin is not None and Path(origin).resolve().is_relative_to(folder)


def _leave_importable(folder: Path) -> None:
    """Keep the folder at the end of the path, for imports inside functions and for spawned worker processes.

    Only what was left there before is taken away: another folder may be on the path for reasons of its own, as
    site-packages is where an installed audit's reference was loaded from.
    """
    for entry in _left - {str(folder)}:
        if entry in sys.path:
            sys.path.remove(entry)
        _left.discard(entry)
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
        _left.add(str(folder))


def _import_file(path: Path, reference: str) -> ModuleType:
    """The module of a file, imported once per version of the file."""
    folder, name = path.parent, _module_name(path)
    stat = path.stat()
    version = (stat.st_size, stat.st_mtime_ns)
    known = _modules.get(folder, {}).get(name)
    if known is not None and _versions.get(path) in (None, version):
        _versions[path] = version
        with importing_from(folder):  # make it the folder that later imports inside functions find
            return known
    with importing_from(folder):
        module = _execute(path, name, reference)
        _versions[path] = version
    _modules[folder][name] = module
    return module


def _execute(path: Path, name: str, reference: str) -> ModuleType:
    """Run a file as the module ``name``; nothing stays behind where it raises."""
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise HardlookError(f"{reference!r}: {path} cannot be imported; needed a file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with _naming(reference, path), _forgetting(name):
        spec.loader.exec_module(module)
    return module


def _import_module(target: str, folder: Path, reference: str) -> ModuleType:
    """A module by its dotted name, from the audit folder or from what is installed."""
    with importing_from(folder), _naming(reference, target):
        return importlib.import_module(target)


@contextlib.contextmanager
def _naming(reference: str, what: str | Path) -> Iterator[None]:
    """Turn whatever user code raises while it is imported, ``sys.exit`` included, into one error that names
    it."""
    try:
        yield
    except (Exception, SystemExit) as error:
        hint = ""
        if isinstance(error, ModuleNotFoundError):
            hint = f"; install {error.name!r}, or put its file into the folder of the code that imports it"
        elif isinstance(error, SystemExit):
            hint = "; put code that should run only as a script under  if __name__ == '__main__':"
        raise HardlookError(f"{reference}: importing {what} failed: {_error_text(error)}{hint}") from error


@contextlib.contextmanager
def _forgetting(name: str) -> Iterator[None]:
    """Remove a half-imported module again."""
    try:
        yield
    except BaseException:
        sys.modules.pop(name, None)
        raise


def _error_text(error: BaseException) -> str:
    """``TypeError: message (model.py, line 3)``: the error and the innermost line of the user's code."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        code = trace.tb_frame.f_code
        own = code.co_filename.endswith(".py") and "site-packages" not in code.co_filename
        if own and Path(code.co_filename).resolve() != Path(__file__).resolve():
            place = f" ({Path(code.co_filename).name}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return f"{type(error).__name__}: {error}{place}"


# -- looking up ----------------------------------------------------------------------------------------------


def _existing(reference: str, path: Path) -> Path:
    """The file, or an error that lists the Python files of its folder."""
    if path.is_file():
        return path.resolve()
    beside = [file.name for file in path.parent.glob("*.py")] if path.parent.is_dir() else []
    raise HardlookError(f"{reference}: there is no file {path}; {close_names(path.name, beside)}")


def _attribute(module: ModuleType, dotted: str, reference: str) -> Callable[..., Any]:
    """``a.b`` of a module, which must be callable."""
    value: Any = module
    for name in dotted.split("."):
        if not hasattr(value, name):
            raise HardlookError(f"{reference}: no {name!r} in it; {close_names(name, _callables(value))}")
        value = getattr(value, name)
    if not callable(value):
        raise HardlookError(f"{reference} is {type(value).__name__} {value!r:.60}, which cannot be called; {NEEDED}")
    return value


def _callables(module: Any) -> list[str]:
    """Public callables of a module, its own ones alone where it has any."""
    public = {name: value for name, value in vars(module).items() if not name.startswith("_") and callable(value)}
    here = [name for name, value in public.items() if getattr(value, "__module__", "") == module.__name__]
    return here or list(public)


def _module_name(path: Path) -> str:
    """The plain name of a file where Python could import it so, else one made from its path."""
    if path.stem.isidentifier() and path.stem not in sys.stdlib_module_names:
        return path.stem
    return f"hardlook_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"


def _top(name: str) -> str:
    return name.partition(".")[0]
