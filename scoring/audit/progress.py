"""The progress protocol of long passes: the command line shows a bar; tests and pages show nothing.

    with progress("vog", 60_000, unit="examples") as advance:
        advance(n)          # so many more are done

Inputs → output: what is done, how many there are, and of what → a context manager that gives ``advance``. Cost: none.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

Progress = Callable[..., contextlib.AbstractContextManager[Callable[[int], object]]]
"""``progress(what, total, unit="examples")`` → a context manager that gives ``advance(n)``."""


@contextlib.contextmanager
def silent(what: str, total: int, unit: str = "examples") -> Iterator[Callable[[int], object]]:
    """The progress that shows nothing."""
    yield lambda n: None
