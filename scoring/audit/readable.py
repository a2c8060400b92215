"""What a damaged file makes its reader raise, as one clear error.

Input: a path and a block that reads it; output: the block's own result, or ``HardlookError``. Limit: a library that
ends the process raises nothing, which is why the files of an audit are verified first (``scoring.audit.sealed``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from scoring.audit.errors import HardlookError, first_line
from scoring.audit.sealed import damaged


@contextlib.contextmanager
def readable(path: Path | str) -> Iterator[None]:
    """Turn what a damaged file makes its reader raise into one clear error; a missing file stays
    ``FileNotFoundError``."""
    try:
        yield
    except (FileNotFoundError, HardlookError):
        raise
    except (pa.ArrowException, OSError, LookupError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise damaged(path, first_line(error, 200)) from error
