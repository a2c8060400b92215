"""A digest of the user's code that audit.toml refers to; results depend on it as they depend on the weights.

``file.py:callable`` or ``package.module:callable``, and the audit's folder → a hash of the file and of every module
that it imports, directly or through others, at its top or inside a function, as far as they lie beside it (the standard
library's ``modulefinder``, which reads imports and runs nothing).

Cost: the compilation of these files. Known limits: installed packages and modules imported by a name that is made at
run time are not followed; ``scoring.pipeline.predictions`` compares logits for those.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sysconfig
from collections.abc import Iterator
from modulefinder import ModuleFinder
from pathlib import Path

from scoring.audit.in_process import find_in_process, is_in_process, object_digest
from scoring.audit.real_path import real_path
from scoring.audit.user_code import code_folder

STDLIB, INSTALLED = Path(sysconfig.get_path("stdlib")).resolve(), {"site-packages", "dist-packages"}
"""Where code lies that is no user's own: whoever edits a package installs it from a folder of theirs."""


def code_digest(reference: object, folder: str | Path) -> str | None:
    """The hash of a reference's code, of an ``in-process:`` one that of the object's; None for what is no reference, or
    one to an installed package.

    >>> code_digest("resnet18", ".") is code_digest("torch.nn:Linear", ".") is None
    True
    """
    if not isinstance(reference, str) or ":" not in reference:
        return None
    if is_in_process(reference):
        return object_digest(find_in_process(reference, folder))
    beside, start = code_folder(reference, folder), _file_of(reference, real_path(folder))
    if start is None:
        return None
    root = beside if start.is_relative_to(beside) else start.parent
    digest = hashlib.sha256()
    for file in sorted({start, *_imported(start, root)}):
        digest.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def _file_of(reference: str, folder: Path) -> Path | None:
    """The file that a reference's target is, None where there is none or it is installed."""
    target = reference.rpartition(":")[0]
    if target.endswith(".py"):
        file = real_path(folder / target)
        return file if file.is_file() else None
    parts = folder.joinpath(*target.split("."))
    for file in (parts.with_suffix(".py"), parts / "__init__.py"):
        if file.is_file():
            return file
    try:
        spec = importlib.util.find_spec(target)
    except (ImportError, ValueError):  # not there, which loading it says with close names
        return None
    if spec is None or not spec.origin or not spec.has_location:
        return None
    found = Path(spec.origin).resolve()
    return None if found.is_relative_to(STDLIB) or not INSTALLED.isdisjoint(found.parts) else found


def _imported(start: Path, root: Path) -> Iterator[Path]:
    """The files in ``root`` that ``start`` imports, and those that they import; as far as they can be compiled."""
    finder = ModuleFinder(path=[str(root)])
    try:
        if start.parent != root:  # inside a package: its relative imports need the package's name
            finder.import_hook(".".join(start.relative_to(root).with_suffix("").parts).removesuffix(".__init__"))
        else:
            finder.run_script(str(start))
    except (SyntaxError, ValueError, ImportError):  # loading it says which file and line
        return
    for module in finder.modules.values():
        file = getattr(module, "__file__", None)  # of ``modulefinder``, which has no types
        if file and Path(file).suffix == ".py":
            yield Path(file).resolve()
