"""Copying the write-ahead log into the database, so that nobody waits for it.

SQLite would do it in the commit that fills the log. That is 3 to 40 ms for 16 MB, and whatever a backup's long look at
the store has let the log grow to, in one piece. Here a second connection copies, on a thread of its own, while commits
go on behind it. It never reaches their end, and the log begins anew only when all of it is copied; so the rest, which
is short, is copied between two commits.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from typing import TYPE_CHECKING, Final

from gateway.logs import get_logger

if TYPE_CHECKING:
    from gateway.engines.sqlite.files import StoreFiles
    from gateway.engines.sqlite.walindex import WalIndex
    from gateway.engines.sqlite.watch import FileWatch

LONG: Final = 4_000
"""Pages of the log that are worth copying (16 MB). A page that many commits change is copied once."""

SHORT: Final = 400
"""Pages that are copied between two commits: about a millisecond."""

KEPT_SIZE: Final = 4_096 * 2 * LONG
"""Bytes of the log's file that are kept: overwriting is cheaper than growing."""

CUT: Final = 8 * 1_048_576
"""Bytes by which a file that has grown is cut at a time: about three milliseconds."""

RETRY_INTERVAL: Final = 1.0
"""How long to wait after a pass that could not copy everything, because somebody reads an old state, in seconds."""

logger = get_logger(__name__)


class Checkpoints:
    """Keeps the log of one database short."""

    def __init__(self, connection: sqlite3.Connection, files: StoreFiles, index: WalIndex, watch: FileWatch) -> None:
        """``connection``: the one that commits."""
        self._db = connection
        self._log_path = f"{files.real}-wal"
        self._index = index
        self._watch = watch
        self._wanted = threading.Event()
        self._closing = threading.Event()
        self._rest = 0
        """How many pages may be copied between two commits, now that the thread has copied the bulk; 0 before that."""
        self._failing = False
        self._thread = threading.Thread(
            target=self._copy_when_wanted, args=(files.real,), name="gateway-store-checkpoints", daemon=True
        )
        self._thread.start()

    def committed(self) -> None:
        """After a commit, on its thread, with no transaction open: copy the rest, or have the bulk copied."""
        if self._wanted.is_set():
            return
        left = self._index.read().left
        rest, self._rest = self._rest, 0
        if rest and left <= rest:
            self._finish()
        elif rest or left >= LONG:
            self._wanted.set()

    def _is_whole(self) -> bool:
        """Whether nothing but what was committed would be copied."""
        self._watch.look()
        return self._watch.problem is None

    def _finish(self) -> None:
        """Copy the rest. The next commit begins the log anew, and cuts its file where it has grown."""
        if not self._is_whole():
            return
        size = os.stat(self._log_path).st_size
        with contextlib.suppress(sqlite3.Error):  # the log only stays as it is
            self._db.execute(f"PRAGMA journal_size_limit = {max(KEPT_SIZE, size - CUT)}").fetchone()
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if size > KEPT_SIZE:
            self._rest = SHORT  # cut more of it after the next commit

    def close(self) -> None:
        """Before the database is closed."""
        self._closing.set()
        self._wanted.set()
        self._thread.join()

    # --- on the thread

    def _copy_when_wanted(self, path: str) -> None:
        connection = sqlite3.connect(path, timeout=0, isolation_level=None)
        try:
            with contextlib.suppress(sqlite3.Error):
                # Opens the log now: when it is needed, there may be no file left for it.
                connection.execute("PRAGMA user_version").fetchone()
            while not self._closing.is_set():
                self._wanted.wait()
                self._copy(connection)
                self._wanted.clear()  # before the next look at `closing`, which is set before this is
        finally:
            connection.close()

    def _copy(self, connection: sqlite3.Connection) -> None:
        """Copy until what is left, of what is being written meanwhile, is short. Each pass finds less than the last."""
        while not self._closing.is_set() and self._is_whole():
            before = self._index.read()
            try:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            except sqlite3.Error as error:
                self._say(error)
                break
            after = self._index.read()
            if after.copied < before.frames:
                break
            self._failing = False
            if after.left <= SHORT or after.left > before.left // 2:
                self._rest = max(SHORT, 2 * after.left)
                return
        # Somebody reads an old state of the store, which has to be kept for that long; or the disk fails.
        self._closing.wait(RETRY_INTERVAL)

    def _say(self, error: sqlite3.Error) -> None:
        if not self._failing:
            self._failing = True
            logger.warning("the store's log grows: it cannot be copied into the database", error=str(error))
