"""Deprecated module names that users' files may import: they redirect to the new module with a warning.

A file at the old place calls ``moved(old, new)``; whoever imports the old name gets the module at the new one, the same
object. Cost: one import.
"""

from __future__ import annotations

import importlib
import sys
import warnings


def moved(old: str, new: str) -> None:
    """Put the module ``new`` in the place of ``old``, with a ``DeprecationWarning`` that names the new place."""
    warnings.warn(f"{old} is now {new}; the old name ends with hardlook 0.4", DeprecationWarning, stacklevel=3)
    sys.modules[old] = importlib.import_module(new)
