"""Code of the user's as ``audit.toml`` names it: a reference from the command line, seen from the audit's folder.

``--model train.py:LitClass`` is relative to where the command was typed; in the file it is relative to the audit. A
module that lies there and is not installed becomes the file that it is. Inputs → outputs: text → text. Cost: none.
Known limits: a module that imports its siblings relatively must be installed.
"""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from scoring.audit.errors import HardlookError
from scoring.audit.user_code import close_names
from scoring.setup.places import written

NAMED = ("timm", "huggingface", "fastai", "keras")
"""Beginnings of ``model`` that name a model, not code (``scoring.models.named_models``)."""


def reference(given: str, folder: Path) -> str:
    """The reference for ``audit.toml`` in ``folder``; raises `HardlookError` for a file or module that is not there.

    >>> reference("math:sqrt", Path("my-audit"))
    'math:sqrt'
    """
    target, _, name = given.rpartition(":")
    if not target or not name:
        raise HardlookError(f"{given!r} names no callable; needed file.py:callable or package.module:callable")
    if target.endswith(".py"):
        file = Path(target).expanduser()
        if not file.is_file():
            beside = [each.name for each in file.parent.glob("*.py")] if file.parent.is_dir() else []
            raise HardlookError(f"{given}: there is no file {file}; {close_names(file.name, beside)}")
        return f"{written(file, folder)}:{name}"
    here = Path(*target.split("."))
    for file in (here.with_suffix(".py"), here / "__init__.py"):
        if file.is_file() and not _installed(target):
            return f"{written(file, folder)}:{name}"
    return given


def _installed(target: str) -> bool:
    """Returns whether a Python that was started elsewhere finds a module, as later commands will have to."""
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({target!r}) is None)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=os.path.abspath(os.sep), capture_output=True, check=False
    )
    return done.returncode == 0


def parameters_of(function: Callable[..., Any]) -> tuple[dict[str, Any], bool]:
    """(name → default of the keyword parameters of a function or class, whether it takes any others).

    >>> parameters_of(lambda a, b=2, *c, **d: 0)
    ({'a': <class 'inspect._empty'>, 'b': 2}, True)
    """
    signature = inspect.signature(function)
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    named: Mapping[str, inspect.Parameter] = signature.parameters
    any_other = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in named.values())
    return {name: each.default for name, each in named.items() if each.kind in plain}, any_other
