"""The checksum of a safetensors file, kept in its own metadata.

A safetensors file is the length of its header, the header (JSON) and the tensors, and nothing else fits in. So the
CRC-32 of the whole file, computed with zeros in its place, stands under ``checksum`` in the metadata. A file without
it, from an earlier version or another tool, passes.

Inputs → outputs: a path → the sealed or the verified file. Cost: one read of the file.
"""

from __future__ import annotations

import re
from pathlib import Path
from zlib import crc32

from scoring.audit.sealed import damaged

PLACE = "0" * 8
"""What a writer puts under ``checksum`` before the file is sealed."""
FOUND = re.compile(rb'"checksum":"([0-9a-f]{8})"')
STEP = 1 << 20
LONGEST_HEADER = 100_000_000


def seal_tensors(path: Path) -> None:
    """Put the checksum into a file that was written with ``checksum`` = ``PLACE`` in its metadata."""
    at, found = _place(path)
    if found != PLACE.encode():
        raise ValueError(f"{path} has no place for a checksum")
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(_checksum(path, at))


def verify_tensors(path: Path | str) -> None:
    """Raises ``HardlookError`` where a file does not have the checksum that it states."""
    at, found = _place(Path(path))
    if found and found != _checksum(Path(path), at):
        raise damaged(path, "its checksum is wrong")


def _place(path: Path) -> tuple[int, bytes]:
    """Returns where the checksum stands in a file, and what it says; empty where there is none."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        match = FOUND.search(file.read(min(length, LONGEST_HEADER)))
    return (8 + match.start(1), match[1]) if match else (0, b"")


def _checksum(path: Path, at: int) -> bytes:
    """The checksum of a file, its own place counted as zeros."""
    with open(path, "rb") as file:
        total = crc32(PLACE.encode(), crc32(file.read(at)))
        file.seek(len(PLACE), 1)
        while part := file.read(STEP):
            total = crc32(part, total)
    return f"{total:08x}".encode()
