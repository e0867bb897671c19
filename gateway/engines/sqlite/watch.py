"""Noticing that the files of a store were deleted, moved, replaced or overwritten while the gateway has them open.

A file that was deleted or replaced continues to exist for the process that has it open: everything seems to work, and
everything is lost when the process ends. So the store checks before each commit whether its path still leads to its
files, and a thread checks when there are no commits.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from typing import TYPE_CHECKING, Final

from gateway.engines.sqlite.files import SIDE_FILES
from gateway.logs import get_logger

if TYPE_CHECKING:
    from gateway.engines.sqlite.files import StoreFiles
    from gateway.engines.sqlite.walindex import LogState, WalFile, WalIndex

INTERVAL: Final = 0.5
"""How often the thread checks the files, in seconds."""

ADVICE: Final = (
    "Put it back in its place and the gateway recovers. Otherwise restart the gateway: "
    "what was sent since the last commit was refused, not silently lost."
)

logger = get_logger(__name__)


class StoreGone(sqlite3.OperationalError):
    """The path of the store no longer leads to its files."""


class FileWatch:
    """Compares the files that are open with those at the path."""

    def __init__(self, files: StoreFiles, index: WalIndex, log: WalFile) -> None:
        """``index`` and ``log`` are those of ``files``."""
        self._path = files.path
        self._real = files.real
        self._files = files
        self._index = index
        self._log = log
        self._expected = {suffix: _identity(files.real + suffix) for suffix in ("", *SIDE_FILES)}
        self._seen = self._see()
        self._overwritten: str | None = None
        """The file that another program has overwritten. This never becomes None again: the damage is done."""
        self._checking = threading.Lock()
        self._closing = threading.Event()
        self.problem: str | None = None
        """What is wrong with the files, as a phrase for the operator; None if nothing is."""
        self._thread = threading.Thread(target=self._watch, name="gateway-store-watch", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Check the files before a commit.

        Raises:
            StoreGone: a commit would be lost.
        """
        if self.problem is None and not self._find_missing(self._real):
            return
        self.look()  # checks everything, and logs it
        if self.problem is not None:
            raise StoreGone(self.problem)

    def look(self) -> None:
        """Check everything, set `problem`, and log when a problem begins and when it ends."""
        with self._checking:
            if self._closing.is_set():
                return
            found = self._find_problem()
            if found == self.problem:
                return
            before, self.problem = self.problem, found
        if found is not None and before is None:
            logger.error("the store is gone", store=self._path, reason=found, advice=ADVICE)
        elif found is None:
            logger.warning("the store is back", store=self._path)

    def holds_database(self) -> bool:
        """Whether the database and the log are intact, even if the log's name is gone."""
        return _identity(self._real) == self._expected[""] and self._overwritten is None

    def close(self) -> None:
        """Stop checking. If there is a problem, it is logged once more, near the end of the log."""
        with self._checking:
            self._closing.set()
        self._thread.join(timeout=INTERVAL)
        if self.problem is not None:
            logger.error("the store was gone at the end", store=self._path, reason=self.problem)

    def _watch(self) -> None:
        while not self._closing.wait(INTERVAL):
            self.look()

    def _find_problem(self) -> str | None:
        real = os.path.realpath(self._path)
        missing = self._find_missing(real)
        if missing is not None:
            return missing if real == self._real else f"{self._path} leads elsewhere: {missing}"
        self._overwritten = self._overwritten or self._find_overwritten()
        return None if self._overwritten is None else f"{self._overwritten} was overwritten by another program"

    def _find_missing(self, path: str) -> str | None:
        """Which file is missing, or is another one, at ``path`` (without links), as a phrase."""
        for suffix, identity in self._expected.items():
            there = _identity(path + suffix)
            if there != identity:
                return f"{path}{suffix} is gone" if there is None else f"{path}{suffix} is another file"
        return None

    def _find_overwritten(self) -> str | None:
        """Which file another program has written to, if any."""
        if self._log.is_spoiled():
            return f"{self._real}-wal"
        return self._real if self._is_database_changed() else None

    def _is_database_changed(self) -> bool:
        """Whether another program has changed the database: a checkpoint would also have changed the index."""
        before, self._seen = self._seen, self._see()
        if _copied(self._index.read()) != _copied(self._seen[0]):
            return False  # a checkpoint began or ended meanwhile
        (log, content), (log_before, content_before) = self._seen, before
        if content == content_before or _copied(log) != _copied(log_before):
            return False
        return log.attempted <= log.copied  # else a checkpoint is under way, or was interrupted

    def _see(self) -> tuple[LogState, tuple[int, bytes]]:
        return self._index.read(), self._files.signature()


def _copied(log: LogState) -> tuple[bytes, int, int]:
    """The progress of checkpoints. It changes before they write to the database, and after."""
    return log.salts, log.copied, log.attempted


def _identity(path: str) -> tuple[int, int] | None:
    """Device and inode of a file (not of what a link leads to), or None if it does not exist."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
