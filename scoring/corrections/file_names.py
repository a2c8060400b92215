"""File names of exports: portable, distinct, and inside their folder whatever a class or an example is called.

Class names and ids are untrusted text: ``../..``, ``/etc``, ``CON``, two that differ only in case, a thousand letters.
Every export asks ``file_names`` for the names that it writes, so each is one name and no path, is allowed on Linux,
macOS and Windows, and no two of a folder are the same file there. A name that needs no change stays as it is. A text
cannot be read back from its name: a format whose folders are classes gets a table of both beside them.

Inputs → outputs: (n,) texts → (n,) names. Cost: one pass. Known limit: a path of many long folders may still exceed
what Windows allows.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import PurePosixPath

LONGEST = 200
"""Bytes of a name in UTF-8; file systems allow 255, and a temporary name beside it needs some."""
LONGEST_SUFFIX = 16
FORBIDDEN = re.compile(r'[\x00-\x1f\x7f-\x9f<>:"/\\|?*\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]')
RESERVED = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])(?:\.|$)", re.IGNORECASE)


def file_names(texts: Sequence[str]) -> list[str]:
    """Returns a file name for each text, distinct also where a file system ignores case and composition.

    >>> file_names(["cat", "Cat", "../..", "/etc", "CON", "a.png", "A.png", ""])
    ['cat', 'Cat-2', '_._', '_etc', '_CON', 'a.png', 'A-2.png', '_']
    """
    wanted = [_portable(text) for text in texts]
    found, taken = dict.fromkeys(range(len(texts)), ""), set[str]()
    unchanged = [at for at, text in enumerate(texts) if wanted[at] == text]
    changed = [at for at, text in enumerate(texts) if wanted[at] != text]
    for at in unchanged + changed:  # a name that needs no change is not pushed aside by one that does
        name, number = wanted[at], 1
        while _folded(name) in taken:
            number += 1
            name = _numbered(wanted[at], number)
        taken.add(_folded(name))
        found[at] = name
    return list(found.values())


def _portable(text: str) -> str:
    """One name that each system allows: no separators, no control or reserved words, not too long."""
    name = FORBIDDEN.sub("_", text).rstrip(". ")
    name = f"_{name[1:]}" if name[:1] in (".", " ", "~", "-") else name
    name = f"_{name}" if not name or RESERVED.match(name) else name
    return _numbered(name, 1)


def _numbered(name: str, number: int) -> str:
    """The name with a number before its ending, cut to the length that is allowed."""
    suffix = PurePosixPath(name).suffix
    suffix = suffix if len(suffix.encode()) <= LONGEST_SUFFIX else ""
    end = (f"-{number}" if number > 1 else "") + suffix
    stem = name.removesuffix(suffix).encode()[: LONGEST - len(end.encode())].decode(errors="ignore")
    return (stem if end else stem.rstrip(". ")) + end


def _folded(name: str) -> str:
    """Returns what a file system that ignores case and composition compares."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())
