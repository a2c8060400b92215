"""Checksums inside Parquet and Arrow IPC files, and reads that verify them before anything is parsed.

Both formats end with a footer of absolute positions, its length and a magic word. What lies before the footer is free,
and so is the end of the footer itself, so a *seal* fits in without another reader noticing it:

    pages or batches · one CRC-32 per block · mark · footer · record · length of footer and record · magic

The record lies at a fixed distance from the end. It holds the file's size, where the checksums and the footer begin,
and the checksums of both and of itself. Mark and record begin alike; a file that has one of them alone is damaged.
Files of other tools and of earlier versions have neither, and open as they are.

``SealedFile`` reads by position, never through a memory map, so a file that is cut under a server is an error of one
read and not a SIGBUS. Each block is verified when it is first read; what was found is kept per process by device,
inode, size and time of change.

Cost: one CRC-32 of what is read, once per process and version of the file, at about 6 GB/s. Known limit: a checksum
tells of damage, not of intent; whoever changes a file on purpose can write its checksum too.
"""

from __future__ import annotations

import os
import struct
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

import numpy as np

from scoring.audit.errors import HardlookError
from scoring.audit.remedies import remedy

BLOCK = 65_536
MAGICS = (b"PAR1", b"ARROW1")
MARK = b"\nhardlook sealed"
RECORD = struct.Struct("<16sQQQIII")
"""Mark, size of the file, where the checksums and the mark begin, checksums of the table, the footer and the record."""

LOOKED_AT = 1 << 20
"""Bytes at the end of a file that are searched for traces of a seal."""

MOST_KNOWN = 4096
"""Versions of files whose verified blocks a process remembers."""

SETTLED = 2_000_000_000
"""Nanoseconds: a file that changed less long ago may change again within the clock's grain, so it is verified again."""

Version = tuple[int, int, int, int]


class Seal:
    """The checksums of one version of a file, and which of its blocks were verified."""

    def __init__(self, size: int, table_at: int, checksums: np.ndarray) -> None:
        self.size, self.table_at = size, table_at
        self.checksums = checksums
        self.verified = np.zeros(len(checksums), bool)


_known: OrderedDict[Version, Seal | None] = OrderedDict()
_lock = threading.Lock()


def damaged(path: Path | str, why: str) -> HardlookError:
    """Returns the error of a damaged file: its name, what was found, and the command that writes it again."""
    return HardlookError(f"{path} cannot be read ({why}); {remedy(Path(path))}")


# -- writing ---------------------------------------------------------------------------------------------------------


def seal(path: Path, magic: bytes) -> None:
    """Add the checksums to a file that a format's writer has closed: before it gets its name."""
    with open(path, "r+b") as file:
        size, length = file.seek(0, os.SEEK_END), len(magic) + 4
        (footer_length,) = struct.unpack("<I", os.pread(file.fileno(), 4, size - length))
        table_at = size - length - footer_length
        footer = MARK + os.pread(file.fileno(), footer_length, table_at)
        starts = range(0, table_at, BLOCK)
        checksums = [crc32(os.pread(file.fileno(), min(BLOCK, table_at - start), start)) for start in starts]
        table = np.array(checksums, "<u4").tobytes()
        footer_at = table_at + len(table)
        end = struct.pack("<I", footer_length + RECORD.size) + magic
        whole = footer_at + len(footer) + RECORD.size + len(end)
        record = RECORD.pack(MARK, whole, table_at, footer_at, crc32(table), crc32(footer + end), 0)
        file.seek(table_at)
        file.write(table + footer + record[:-4] + struct.pack("<I", crc32(record[:-4])) + end)


# -- reading ---------------------------------------------------------------------------------------------------------


class SealedFile:
    """A file that is read by position, each block verified when it is first read.

    It stays open until nothing refers to it, so that a file which takes its name does not change what is read.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.handle = os.open(self.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        weakref.finalize(self, os.close, self.handle)
        self._version: Version | None = None
        self._seal: Seal | None = None
        self.size = 0
        self.look()

    def look(self) -> None:
        """Read the seal again where the file has changed since. Raises ``HardlookError`` where the seal is broken."""
        found = os.fstat(self.handle)
        version = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        settled = time.time_ns() - found.st_mtime_ns > SETTLED
        if version == self._version and settled:
            return
        with _lock:
            there, seal = version in _known, _known.get(version)
        if not there:
            seal = _read_seal(self.handle, found.st_size, self.path)
        if not there and settled:
            with _lock:
                _known[version] = seal
                while len(_known) > MOST_KNOWN:
                    _known.popitem(last=False)
        self._seal, self._version, self.size = seal, version, found.st_size

    @property
    def is_sealed(self) -> bool:
        """Returns whether the file carries checksums."""
        return self._seal is not None

    def read_at(self, start: int, length: int) -> bytes:
        """Returns these bytes, verified. Raises ``HardlookError`` where the file ends before them or is damaged."""
        self.look()
        if start < 0 or length < 0 or start + length > self.size:
            raise damaged(self.path, f"it ends at byte {self.size:,}, before the {start + length:,} that it announces")
        seal, stop = self._seal, start + length
        if seal is None or start >= seal.table_at:
            return self._read(start, length)
        first, last = start // BLOCK, -(-min(stop, seal.table_at) // BLOCK)
        if seal.verified[first:last].all():
            return self._read(start, length)
        begin, end = first * BLOCK, min(last * BLOCK, seal.table_at)
        whole = self._read(begin, max(end, stop) - begin)
        view = memoryview(whole)[: end - begin]
        self._verify(seal, first, [view[at : at + BLOCK] for at in range(0, end - begin, BLOCK)])
        return whole[start - begin : stop - begin]

    def verify(self) -> None:
        """Verify whatever was not read yet. Raises ``HardlookError`` where the file is damaged."""
        self.look()
        seal = self._seal
        if seal is None or seal.verified.all():
            return
        for at in np.flatnonzero(~seal.verified).tolist():
            start = at * BLOCK
            self._verify(seal, at, [self._read(start, min(BLOCK, seal.table_at - start))])

    def _verify(self, seal: Seal, first: int, blocks: Sequence[bytes | memoryview]) -> None:
        for at, block in enumerate(blocks, first):
            if crc32(block) != seal.checksums[at]:
                where = at * BLOCK
                raise damaged(self.path, f"its checksum is wrong within the bytes {where:,} to {where + BLOCK:,}")
            seal.verified[at] = True

    def _read(self, start: int, length: int) -> bytes:
        parts: list[bytes] = []
        while length > 0:
            part = os.pread(self.handle, length, start)
            if not part:
                raise damaged(self.path, f"it was cut to {start:,} bytes while it was read")
            parts.append(part)
            start, length = start + len(part), length - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


def verify(path: Path | str) -> None:
    """Verify a file whole, once per process and version. Raises ``HardlookError`` where it is damaged, and
    ``FileNotFoundError`` where there is none; a file without a seal passes."""
    SealedFile(path).verify()


def _read_seal(handle: int, size: int, path: Path) -> Seal | None:
    """The seal of a file, its record, table and footer verified; None where it was never sealed."""
    start = max(0, size - LOOKED_AT)
    tail = os.pread(handle, size - start, start)
    for magic in MAGICS:
        at = len(tail) - len(magic) - 4 - RECORD.size
        if tail.endswith(magic) and at >= 0 and tail.startswith(MARK, at):
            return _checked(handle, size, path, start + at)
    if MARK in tail:
        raise damaged(path, "its end is cut or overwritten")
    return None


def _checked(handle: int, size: int, path: Path, at: int) -> Seal:
    record, end_at = os.pread(handle, RECORD.size, at), at + RECORD.size
    _, whole, table_at, footer_at, table_sum, footer_sum, own_sum = RECORD.unpack(record)
    if crc32(record[:-4]) != own_sum:
        raise damaged(path, f"its checksum is wrong within the bytes {at:,} to {end_at:,}")
    if size != whole:
        raise damaged(path, f"it has {size:,} bytes instead of {whole:,}")
    table = os.pread(handle, footer_at - table_at, table_at)
    footer = os.pread(handle, at - footer_at, footer_at) + os.pread(handle, size - end_at, end_at)
    if crc32(table) != table_sum or crc32(footer) != footer_sum:
        raise damaged(path, f"its checksum is wrong within the bytes {table_at:,} to {size:,}")
    return Seal(size, table_at, np.frombuffer(table, "<u4"))
