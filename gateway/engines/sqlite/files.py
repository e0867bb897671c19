"""The files of a store: their permissions, and the lock that keeps a second gateway out.

SQLite's own locks let several processes read and write, so that a backup can be made while the gateway runs. Against a
second gateway there is a lock of our own, on one byte of the database file far beyond anything that SQLite reads,
writes or locks. The lock is on the file itself, so it holds for every path that leads to it. It is an open file
description lock (fcntl(2), "OFD locks"), because SQLite may release all POSIX locks of the process at once. On systems
without them, all but Linux, SQLite locks out every other process (see ``database``).

The kernel, too, releases all POSIX locks that a process holds on a file as soon as it closes *any* descriptor of the
file. So our descriptor is the only one besides SQLite's, and it is closed after SQLite has closed its own.
"""

from __future__ import annotations

import contextlib
import os
import struct
from pathlib import Path

from gateway.errors import StoreError

try:
    from fcntl import F_OFD_SETLK, F_WRLCK, fcntl
except ImportError:
    CAN_LOCK = False
else:
    CAN_LOCK = True
"""Whether the system can keep a second gateway out without locking out every other process, as Linux can."""

LOCKED_BYTE = 2**62
PRIVATE = 0o600
SIDE_FILES = ("-wal", "-shm")
"""The files that SQLite keeps next to the database: the write-ahead log and its index."""

_locked: set[tuple[int, int]] = set()
"""Device and inode of the stores that this process has locked."""


class StoreFiles:
    """The database file, created if it does not exist, and locked until `release`."""

    def __init__(self, path: str) -> None:
        """``path``: as the operator gave it.

        Raises:
            StoreError: it cannot be opened, or another gateway uses it.
        """
        self.path = path
        self._descriptor = -1
        self.real = os.path.realpath(path)
        """The path of the file itself, without links: SQLite keeps its other files next to it."""
        if _identity(self.real) in _locked:
            raise StoreError(f"The store {path} cannot be used: another gateway is using it.")
        try:
            self._descriptor = os.open(self.real, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), PRIVATE)
        except OSError as error:
            raise StoreError(f"The store {path} cannot be opened: {_why(self.real, error)}.") from None
        self.identity = _identity(self._descriptor)
        try:
            if CAN_LOCK:
                fcntl(self._descriptor, F_OFD_SETLK, struct.pack("hhqqi", F_WRLCK, os.SEEK_SET, LOCKED_BYTE, 1, 0))
        except OSError:
            os.close(self._descriptor)
            raise StoreError(f"The store {path} cannot be used: another gateway is using it.") from None
        if self.identity is not None:
            _locked.add(self.identity)

    def check_no_stale_log(self) -> None:
        """Refuse a backup that was restored next to the write-ahead log of the store that it replaces.

        SQLite would apply that log to it. The header of a backup says that it has no write-ahead log (file format,
        section 1.3.3); that of a store in use, or of one whose gateway was killed, says that it has one.

        Raises:
            StoreError: there is a log next to a file that has none.
        """
        os.lseek(self._descriptor, 18, os.SEEK_SET)
        version = os.read(self._descriptor, 2)
        with contextlib.suppress(OSError):
            if version == b"\x01\x01" and Path(f"{self.real}-wal").stat().st_size:
                raise StoreError(
                    f"The store {self.path} was put in the place of another one, whose {self.real}-wal is still there "
                    "and would spoil it; move that and the file that ends with -shm away, and start again."
                )

    def signature(self) -> tuple[int, bytes]:
        """Size and header of the database file, which differ if another state of it was copied over it."""
        return os.fstat(self._descriptor).st_size, os.pread(self._descriptor, 100, 0)

    def make_private(self) -> None:
        """Make the files accessible to their owner only, whatever umask they were created with."""
        for suffix in ("", *SIDE_FILES):
            with contextlib.suppress(OSError):  # not there, or another owner's
                file = Path(f"{self.real}{suffix}")
                if file.stat().st_mode & 0o777 != PRIVATE:
                    file.chmod(PRIVATE)

    def release(self) -> None:
        """Unlock the store, after the database has been closed."""
        if self._descriptor >= 0:
            if self.identity is not None:
                _locked.discard(self.identity)
            os.close(self._descriptor)
            self._descriptor = -1


def _identity(file: str | int) -> tuple[int, int] | None:
    """Device and inode of a file, or None if it does not exist."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _why(path: str, error: OSError) -> str:
    folder = Path(path).parent
    with contextlib.suppress(OSError):
        if not folder.is_dir():
            return "its folder does not exist"
        if Path(path).is_dir():
            return "it is a folder"
        if isinstance(error, PermissionError):
            return (
                "it is read-only" if os.access(path, os.R_OK) else "this user may not write it, or not into its folder"
            )
    return error.strerror or str(error)
