"""Reading SQLite's write-ahead log: how long it is, how much of it is in the database already, and whether its file has
it.

SQLite has no call for it that Python could make, and the file's size does not tell: the log is written again from its
start once all of it was copied. The layout of the ``-wal`` file and of its index, the ``-shm`` file, is documented:
https://sqlite.org/walformat.html, sections 1 and 2.
"""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass

HEADER = struct.Struct("=14xHI12x8s88xI")
"""The size of a page, mxFrame, the salts of the log, and nBackfillAttempted, in the first 132 bytes (native order)."""
BACKFILLED = struct.Struct("=96xI")
COPY = 48
"""Bytes of the header that are there twice: while the two differ, they are being written."""

FILE_HEADER = struct.Struct("16x8s8x")
"""The salts in the header of the log's file."""
FRAME_HEADER = struct.Struct("8x8s8x")
"""The salts in the header of each frame, which is before its page."""


@dataclass(frozen=True, slots=True)
class LogState:
    """``frames``: pages in the log, of ``page_size`` bytes. ``copied``: how many of them are in the database as well;
    ``attempted``: how many a checkpoint that is under way, or was cut off, may have copied. ``salts`` change when the
    log begins anew.
    """

    page_size: int
    frames: int
    copied: int
    attempted: int
    salts: bytes

    @property
    def left(self) -> int:
        """Pages that the next checkpoint has to copy."""
        return self.frames - self.copied


class WalIndex:
    """The index of one open store. Close it after the database: see ``files`` for why."""

    def __init__(self, path: str) -> None:
        """``path``: of the ``-shm`` file, which SQLite must have made already."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            # Mapped, as SQLite has it: a system call after each commit would wait for the interpreter.
            self._data = mmap.mmap(descriptor, HEADER.size, access=mmap.ACCESS_READ)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def read(self) -> LogState:
        page_size, frames, salts, attempted = HEADER.unpack_from(self._data)
        (copied,) = BACKFILLED.unpack_from(self._data)
        return LogState(65_536 if page_size == 1 else page_size, frames, copied, attempted, salts)

    @property
    def is_steady(self) -> bool:
        """Whether nobody is writing what `read` reads."""
        return self._data[:COPY] == self._data[COPY : 2 * COPY]

    def close(self) -> None:
        self._data.close()
        os.close(self._descriptor)


class WalFile:
    """The file of one open log, for noticing that another program has cut it or written over it."""

    def __init__(self, path: str, index: WalIndex) -> None:
        self._index = index
        self._descriptor = os.open(path, os.O_RDONLY)
        self._last = index.read()

    def is_spoiled(self) -> bool:
        """Whether frames are missing that the database does not have yet. The last one is looked at, and the one that
        was the last before: what was committed since may have made the file as long as it was.
        """
        before, state = self._last, self._index.read()
        if not self._index.is_steady:
            return False
        self._last = state
        if not state.left:
            return False
        numbers = {state.frames}
        if before.frames and before.salts == state.salts:
            numbers.add(before.frames)
        if self._header() == state.salts and all(self._frame(number, state) == state.salts for number in numbers):
            return False
        # The index is changed before the file is: the log may have begun anew meanwhile.
        after = self._index.read()
        return (after.salts, after.frames) == (state.salts, state.frames)

    def close(self) -> None:
        os.close(self._descriptor)

    def _header(self) -> bytes | None:
        return self._salts(FILE_HEADER, 0)

    def _frame(self, number: int, state: LogState) -> bytes | None:
        return self._salts(FRAME_HEADER, FILE_HEADER.size + (number - 1) * (FRAME_HEADER.size + state.page_size))

    def _salts(self, header: struct.Struct, offset: int) -> bytes | None:
        data = os.pread(self._descriptor, header.size, offset)
        return bytes(header.unpack(data)[0]) if len(data) == header.size else None
