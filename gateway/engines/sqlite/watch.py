"""Noticing that the files of a store are gone, or others, while the gateway has them open.

What is deleted or replaced lives on for the process that has it open, and with it all that this process writes from
then on: everything works, and nothing of it is there after the end. So the store looks before each commit whether its
path still leads to its files, and a thread looks when nothing is committed.
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
"""How long the thread waits between two looks, in seconds."""

ADVICE: Final = (
    "Put it back where it was and the gateway goes on. Otherwise restart the gateway: "
    "what was sent since the last commit is refused, not lost without a word."
)

logger = get_logger(__name__)


class StoreGone(sqlite3.OperationalError):
    """The path of the store does not lead to its files."""


class FileWatch:
    """Compares the files that are open with those that are there."""

    def __init__(self, files: StoreFiles, index: WalIndex, log: WalFile) -> None:
        """``index`` and ``log`` are of the files that are watched."""
        self._path = files.path
        self._real = files.real
        self._files = files
        self._index = index
        self._log = log
        self._expected = {suffix: _identity(files.real + suffix) for suffix in ("", *SIDE_FILES)}
        self._seen = self._see()
        self._overwritten: str | None = None
        """What another program has written over: for good, whatever is there later."""
        self._looking = threading.Lock()
        self._closing = threading.Event()
        self.problem: str | None = None
        """What is wrong with the files, in a few words for the operator; None while nothing is."""
        self._thread = threading.Thread(target=self._watch, name="gateway-store-watch", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Look before a commit.

        Raises:
            StoreGone: what would be committed now would be lost.
        """
        if self.problem is None and not self._find_missing(self._real):
            return
        self.look()  # at everything, and log what is found
        if self.problem is not None:
            raise StoreGone(self.problem)

    def look(self) -> None:
        """Set `problem`, and log it when it begins and when it ends."""
        with self._looking:
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
        """Whether the database file and all that the log has are ours and whole, though their names may be gone."""
        return _identity(self._real) == self._expected[""] and self._overwritten is None

    def close(self) -> None:
        """Look no more. A problem that there is stays, and is logged again: it is the last that is seen."""
        with self._looking:
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
        """Which of the files is not where the path, without links, leads to now."""
        for suffix, identity in self._expected.items():
            there = _identity(path + suffix)
            if there != identity:
                return f"{path}{suffix} is gone" if there is None else f"{path}{suffix} is another file"
        return None

    def _find_overwritten(self) -> str | None:
        """Which file another program has written to."""
        if self._log.is_spoiled():
            return f"{self._real}-wal"
        return self._real if self._is_database_changed() else None

    def _is_database_changed(self) -> bool:
        """By another program, and not by a checkpoint, of which the index tells."""
        before, self._seen = self._seen, self._see()
        if _copied(self._index.read()) != _copied(self._seen[0]):
            return False  # a checkpoint began, or ended, while we looked
        (log, content), (log_before, content_before) = self._seen, before
        if content == content_before or _copied(log) != _copied(log_before):
            return False
        return log.attempted <= log.copied  # else a checkpoint is under way, or was cut off

    def _see(self) -> tuple[LogState, tuple[int, bytes]]:
        return self._index.read(), self._files.signature()


def _copied(log: LogState) -> tuple[bytes, int, int]:
    """How far checkpoints are; it changes before they write to the database, and after."""
    return log.salts, log.copied, log.attempted


def _identity(path: str) -> tuple[int, int] | None:
    """Device and inode of a file (not of what a link leads to), or None where there is none."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
