"""The error class for invalid input, and exception messages as one sentence.

Everything that a user can mend raises ``HardlookError``: what was found, what was needed, what to do. The command line
prints it without a traceback, pages show it in place of their content.
"""

from __future__ import annotations


class HardlookError(ValueError):
    """Invalid input, in one sentence: what was found, what was needed, what to do."""

    def _render_traceback_(self) -> list[str]:
        """Returns what a notebook shows instead of a traceback: the sentence."""
        return [f"hardlook: {self}"]


def first_line(error: BaseException, longest: int = 300) -> str:
    """Returns what an exception says, as part of a sentence: its first line without the full stop, cut to ``longest``
    characters. An exception may say nothing: ``assert`` and ``raise RuntimeError`` do.

    >>> first_line(ValueError("\\n one row is short.\\n  at line 3")), first_line(AssertionError())
    ('one row is short', 'no reason was given')
    """
    lines = str(error).strip().splitlines()
    return (lines[0].rstrip(" .") if lines else "")[:longest] or "no reason was given"
