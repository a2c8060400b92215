"""The grid's script modules as the browser loads them: under an address that changes with any of them."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources


@cache
def scripts() -> dict[str, bytes]:
    """Returns the grid's script modules by name."""
    files = resources.files("dashboard.grid").iterdir()
    return {file.name: file.read_bytes() for file in files if file.name.endswith(".js")}


@cache
def scripts_version() -> str:
    """Returns a hash of all scripts, so that browsers can cache them for ever."""
    digest = hashlib.sha256()
    for name, data in sorted(scripts().items()):
        digest.update(name.encode() + data)
    return digest.hexdigest()[:16]
