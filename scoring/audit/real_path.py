"""Where a path really leads, for paths that people wrote.

Input: a path; output: the same, absolute and without links. A path that cannot be followed (a link to itself) stays as
it is written, and whoever opens it says that nothing is there; ``Path.resolve`` raises ``RuntimeError`` there.
"""

from __future__ import annotations

import os
from pathlib import Path


def real_path(path: str | Path) -> Path:
    """Returns the absolute path without links, as far as links can be followed.

    >>> real_path("/a/../b/./c").as_posix()
    '/b/c'
    """
    return Path(os.path.realpath(path))
