"""How much the store takes of the disk: at most so much, and no more than it needs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from gateway.errors import LimitReached
from gateway.logs import get_logger

if TYPE_CHECKING:
    import sqlite3

SLICE: Final = 0.002
"""How long pages may be given back in one go, in seconds."""

WORTH: Final = 1_024
"""Free pages (4 MB) below which the file is left as it is: what is written next uses them again."""

SHARE: Final = 4
"""Of the file's pages one in so many may be free before any are given back."""

QUIET: Final = 60.0
"""Seconds between two log lines that say that the store is full: at its limit it may be so many times a second."""

FAR: Final = 65_536
"""Pages (256 MB) below the limit: then it need not be looked at for each transaction."""

LARGEST: Final = 2_048
"""Pages that one transaction may add, by far."""

logger = get_logger(__name__)


class Space:
    """The pages of a database file."""

    def __init__(self, connection: sqlite3.Connection, limit: int) -> None:
        """``limit``: bytes that the store may use."""
        self._db = connection
        self._limit = limit
        (page_size,) = connection.execute("PRAGMA page_size").fetchone()
        self._max_pages = limit // page_size
        (auto_vacuum,) = connection.execute("PRAGMA auto_vacuum").fetchone()
        self._can_shrink = auto_vacuum == 2
        self._giving = False
        self.given = False
        """Whether the current transaction gives pages back."""
        self._full = False
        self._unseen = 0
        """Transactions for which the limit is out of reach."""
        self._quiet_until = 0.0

    def begin(self) -> None:
        """A transaction begins: see how full the store is. What one transaction writes may go beyond the limit."""
        self.given = False
        if self._unseen:
            self._unseen -= 1
            return
        (pages,) = self._db.execute("PRAGMA page_count").fetchone()
        if self._max_pages - pages > FAR:
            self._unseen = FAR // LARGEST
        full = pages >= self._max_pages and pages - self._free_pages() >= self._max_pages
        if full and not self._full and time.monotonic() > self._quiet_until:
            self._quiet_until = time.monotonic() + QUIET
            logger.warning("the store is full: nothing can be added", limit=self._limit, setting="--max-store")
        self._full = full

    def check(self) -> None:
        """Before something is added.

        Raises:
            LimitReached: the store is full.
        """
        if self._full:
            raise LimitReached.store(self._limit)

    def give_back(self) -> bool:
        """Return free pages to the system, for a few milliseconds. Whether to go on.

        It begins when they are many and ends when they are few, so that what comes and goes does not move pages about.
        """
        if not self._can_shrink:
            return False
        free = self._free_pages()
        if not self._giving:
            (pages,) = self._db.execute("PRAGMA page_count").fetchone()
            self._giving = free >= WORTH and free * SHARE >= pages
        end = time.perf_counter() + SLICE
        while self._giving and time.perf_counter() < end:
            # Python steps such a statement once, which is one page, whatever number it names.
            self._db.execute("PRAGMA incremental_vacuum(1)")
            self.given = True
            free -= 1
            self._giving = free > WORTH // 4
        return self._giving

    def _free_pages(self) -> int:
        return int(self._db.execute("PRAGMA freelist_count").fetchone()[0])
