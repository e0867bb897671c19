"""Reading SQLite's index of the write-ahead log: how long the log is, and how much of it is in the database already.

SQLite has no call for it that Python could make, and the file's size does not tell: the log is written again from its
start once all of it was copied. The layout of the ``-shm`` file is documented: https://sqlite.org/walformat.html,
section 2.
"""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass

HEADER = struct.Struct("=16xI12x8s88xI")
"""mxFrame, the salts of the log, and nBackfillAttempted, in the first 132 bytes (native byte order)."""
BACKFILLED = struct.Struct("=96xI")


@dataclass(frozen=True, slots=True)
class LogState:
    """``frames``: pages in the log. ``copied``: how many of them are in the database as well; ``attempted``: how many a
    checkpoint that is under way, or was cut off, may have copied. ``salts`` change when the log begins anew.
    """

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
        frames, salts, attempted = HEADER.unpack_from(self._data)
        (copied,) = BACKFILLED.unpack_from(self._data)
        return LogState(frames, copied, attempted, salts)

    def close(self) -> None:
        self._data.close()
        os.close(self._descriptor)
