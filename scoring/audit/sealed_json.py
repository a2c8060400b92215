r"""JSON with its checksum: 32 blanks and tabs after the value.

JSON has no room for a comment, and a key would be part of the value. White space after the value is the one place that
every reader skips, so the CRC-32 of what comes before stands there in a line of its own, most significant bit first: a
blank is 0, a tab is 1. A file without that line, from an earlier version or from an editor that removes it, is read as
it is.

Inputs → outputs: a value ↔ its bytes. Cost: one CRC-32 of the bytes.
"""

from __future__ import annotations

import json
import re
from typing import Any
from zlib import crc32

BITS = 32
SEAL = re.compile(rb"\n([ \t]{32})\n\Z")
SPOILT = re.compile(rb"[ \t\r]{4,}\s*\Z")
"""White space that nobody writes after a value: what a damaged or cut checksum looks like."""


def json_bytes(value: Any) -> bytes:
    r"""Returns ``value`` as indented JSON, and its checksum.

    >>> json_bytes([1])[:8], len(json_bytes([1])), json_value(json_bytes({"a": "ü"}))
    (b'[\n  1\n]\n', 41, {'a': 'ü'})
    """
    content = (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode("utf8")
    return content + _line(content)


def json_value(content: bytes) -> Any:
    """Returns the value that JSON bytes hold. Raises ``ValueError`` where the checksum is wrong or it is no JSON."""
    seal = SEAL.search(content)
    if seal and content[seal.start(1) :] != _line(content[: seal.start(1)]):
        raise ValueError("its checksum is wrong")
    if not seal and SPOILT.search(content[-2 * BITS :]):
        raise ValueError("the checksum at its end is damaged")
    return json.loads(content)


def _line(content: bytes) -> bytes:
    """The checksum of some bytes, as the line that follows them."""
    return f"{crc32(content):0{BITS}b}\n".replace("0", " ").replace("1", "\t").encode()
