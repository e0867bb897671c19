"""The files of a store, apart from what SQLite does with them: who may read them, and that one gateway uses them.

SQLite's own locks let several processes read and write, so that a backup can be made while the gateway runs. Against
a second gateway there is a lock of our own, on one byte of the database file far beyond anything that SQLite reads,
writes or locks. It belongs to the file itself: another path to it, or a new name, finds it locked as well. It is one of
an open file description (fcntl(2), "OFD locks"), for SQLite releases all POSIX locks of its process at once. Where
there are none, on other systems than Linux, SQLite keeps everybody out (see ``database``).

The system, too, takes all POSIX locks of a process from a file as soon as the process closes *any* descriptor of it. So
the file is never opened a second time, and closed only after SQLite has closed it.
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
"""Whether a second gateway can be kept out without keeping everybody out, as Linux can."""

LOCKED_BYTE = 2**62
PRIVATE = 0o600
SIDE_FILES = ("-wal", "-shm")
"""What SQLite keeps beside the database: the write-ahead log and its index."""

_locked: set[tuple[int, int]] = set()
"""Device and inode of the stores that this process has locked."""


class StoreFiles:
    """The database file, created where it is missing, and locked until `release`."""

    def __init__(self, path: str) -> None:
        """``path``: as the operator gave it.

        Raises:
            StoreError: it cannot be opened, or another gateway uses it.
        """
        self.path = path
        self._descriptor = -1
        self.real = os.path.realpath(path)
        """Where the file is. What SQLite keeps beside it is beside this, whatever links lead here."""
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
        """A copy that was put in the place of a store must not be mixed with the log that the former one left.

        Backups say in their header (file format, section 1.3.3) that they have no write-ahead log; a store in use, and
        one that was killed, says that it has one.

        Raises:
            StoreError: there is a log beside a file that has none.
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
        """Size and header of the database file: a copy of another state differs in them."""
        return os.fstat(self._descriptor).st_size, os.pread(self._descriptor, 100, 0)

    def make_private(self) -> None:
        """Take the files from everybody but their owner, whatever umask they were made with."""
        for suffix in ("", *SIDE_FILES):
            with contextlib.suppress(OSError):  # not there, or another owner's
                file = Path(f"{self.real}{suffix}")
                if file.stat().st_mode & 0o777 != PRIVATE:
                    file.chmod(PRIVATE)

    def release(self) -> None:
        """Let another gateway have the store. The database must have been closed before."""
        if self._descriptor >= 0:
            if self.identity is not None:
                _locked.discard(self.identity)
            os.close(self._descriptor)
            self._descriptor = -1


def _identity(file: str | int) -> tuple[int, int] | None:
    """What tells a file from all others, or None where there is none."""
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
