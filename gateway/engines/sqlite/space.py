"""Keeping the database file within its limit, and returning free pages to the file system."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from gateway.errors import LimitReached
from gateway.logs import get_logger

if TYPE_CHECKING:
    import sqlite3

SLICE_TIME: Final = 0.002
"""How long one slice of returning pages may take, in seconds."""

MIN_FREE_PAGES: Final = 1_024
"""How many pages (4 MB) must be free before any are returned. Fewer are soon used again."""

FREE_SHARE: Final = 4
"""Pages are returned when at least one page of this many is free."""

LOG_INTERVAL: Final = 60.0
"""The minimum time between two warnings that the store is full, in seconds: near the limit, that can change many times
a second.
"""

FAR_BELOW: Final = 65_536
"""How many pages (256 MB) below the limit the store must be for the size not to be checked in every transaction."""

MAX_PAGES_ADDED: Final = 2_048
"""A generous bound on the pages that one transaction adds. It gives the number of transactions without a check."""

logger = get_logger(__name__)


class Space:
    """The pages of a database file."""

    def __init__(self, connection: sqlite3.Connection, limit: int) -> None:
        """``limit``: the largest size of the store, in bytes."""
        self._db = connection
        self._limit = limit
        (page_size,) = connection.execute("PRAGMA page_size").fetchone()
        self._max_pages = limit // page_size
        (auto_vacuum,) = connection.execute("PRAGMA auto_vacuum").fetchone()
        self._can_shrink = auto_vacuum == 2
        self._returning = False
        self.returned = False
        """Whether the transaction under way has returned pages, which has to be committed."""
        self._full = False
        self._unseen = 0
        """For how many more transactions the limit is out of reach."""
        self._quiet_until = 0.0

    def begin(self) -> None:
        """Begin a transaction: check whether the store is full. One transaction may still exceed the limit a little."""
        self.returned = False
        if self._unseen:
            self._unseen -= 1
            return
        (pages,) = self._db.execute("PRAGMA page_count").fetchone()
        if self._max_pages - pages > FAR_BELOW:
            self._unseen = FAR_BELOW // MAX_PAGES_ADDED
        full = pages >= self._max_pages and pages - self._free_pages() >= self._max_pages
        if full and not self._full and time.monotonic() > self._quiet_until:
            self._quiet_until = time.monotonic() + LOG_INTERVAL
            logger.warning("the store is full: nothing can be added", limit=self._limit, setting="--max-store")
        self._full = full

    def check(self) -> None:
        """Check that something may be added.

        Raises:
            LimitReached: the store is full.
        """
        if self._full:
            raise LimitReached.store(self._limit)

    def return_pages(self) -> bool:
        """Return free pages to the file system, for one slice of time. Returns whether there are more to return.

        It begins when many are free and ends when few are, so that pages are not moved around for what comes and goes.
        """
        if not self._can_shrink:
            return False
        free = self._free_pages()
        if not self._returning:
            (pages,) = self._db.execute("PRAGMA page_count").fetchone()
            self._returning = free >= MIN_FREE_PAGES and free * FREE_SHARE >= pages
        end = time.perf_counter() + SLICE_TIME
        while self._returning and time.perf_counter() < end:
            # Python steps this statement only once, which returns one page, whatever number it is given.
            self._db.execute("PRAGMA incremental_vacuum(1)")
            self.returned = True
            free -= 1
            self._returning = free > MIN_FREE_PAGES // 4
        return self._returning

    def _free_pages(self) -> int:
        return int(self._db.execute("PRAGMA freelist_count").fetchone()[0])
