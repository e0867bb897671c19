"""Reading SQLite's write-ahead log: how long it is, how much of it has been copied into the database, and whether its
file is intact.

Python's sqlite3 has no call that returns this, and the size of the file does not show it: once all of the log has been
copied, it *restarts*: the next commit writes to the beginning of the file again, with new salts, and old frames remain
after the new ones. The layout of the ``-wal`` file and of its index, the ``-shm`` file, is documented in
https://sqlite.org/walformat.html, sections 1 and 2.

The index is shared memory. It is changed before the log's file is, and its header is written twice, so that a reader
can tell whether it has read in the middle of a change.
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
"""Bytes of the header that are stored twice: while the copies differ, they are being written."""

FILE_HEADER = struct.Struct("16x8s8x")
"""The salts in the header of the log's file."""
FRAME_HEADER = struct.Struct("8x8s8x")
"""The salts in the header of each frame, which precedes its page."""


@dataclass(frozen=True, slots=True)
class LogState:
    """``frames``: the number of pages in the log, each of ``page_size`` bytes. ``copied``: how many of them have been
    copied into the database; ``attempted``: how many a checkpoint that is under way, or was interrupted, may have
    copied. ``salts`` change when the log restarts.
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
            # Mapped, as SQLite does: a system call after each commit would release the GIL and wait for it.
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
        """Whether the index is not being changed right now."""
        return self._data[:COPY] == self._data[COPY : 2 * COPY]

    def close(self) -> None:
        self._data.close()
        os.close(self._descriptor)


class WalFile:
    """The file of one open log, to notice that another program has truncated or overwritten it."""

    def __init__(self, path: str, index: WalIndex) -> None:
        self._index = index
        self._descriptor = os.open(path, os.O_RDONLY)
        self._last = index.read()

    def is_spoiled(self) -> bool:
        """Whether frames are missing from the file that have not been copied into the database yet.

        Two frames are checked: the newest, and the one that was the newest at the last call. If the file was truncated
        and then commits made it as long as before, only the latter is missing.
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
        # The index is changed before the file is: the log may have restarted meanwhile.
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
