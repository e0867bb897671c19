"""Checkpoints: copying the write-ahead log into the database without making a commit wait for it.

By default SQLite runs a checkpoint within the commit that fills the log. That takes 3 to 40 ms for 16 MB, and far
longer when a backup, which reads an old state for minutes, has let the log grow. So automatic checkpoints are off, and
each one has two steps:

1. **The bulk, on a thread**, through a second connection, while commits continue. When `LONG_LOG` pages have not been
   copied yet, `Checkpoints.committed` wakes the thread, which makes passes until little is left. It can never copy
   everything, since each commit appends more.
2. **The rest, between two commits**, on the thread that commits. It takes about a millisecond. Only then has the
   whole log been copied, so that the next commit restarts it from the beginning of its file.

A pass cannot copy what is newer than the oldest open read transaction. While a backup reads, step 1 is retried, the log
grows, and its file is truncated a little after each commit when it is over.
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

LONG_LOG: Final = 4_000
"""How many pages of the log (16 MB) are left uncopied before a checkpoint begins. The longer the log, the cheaper its
pages: one that many commits have changed is copied only once.
"""

SHORT_REST: Final = 400
"""How many pages may be left to be copied between two commits. It takes about a millisecond."""

MAX_FILE_SIZE: Final = 4_096 * 2 * LONG_LOG
"""Bytes to which the log's file is truncated. It is not made smaller: overwriting a file is cheaper than growing it."""

TRUNCATE_STEP: Final = 8 * 1_048_576
"""By how many bytes a larger file is truncated at a time. It takes about three milliseconds."""

RETRY_INTERVAL: Final = 1.0
"""How long to wait after a pass that could not copy everything, because an old state is being read, in seconds."""

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
        """How many pages may be copied after the next commit. 0: the thread has not copied the bulk yet."""
        self._failing = False
        self._thread = threading.Thread(
            target=self._copy_when_wanted, args=(files.real,), name="gateway-store-checkpoints", daemon=True
        )
        self._thread.start()

    def committed(self) -> None:
        """Copy the rest, or wake the thread that copies the bulk. Called after each commit, on the thread that commits,
        with no transaction open.
        """
        if self._wanted.is_set():
            return
        left = self._index.read().left
        rest, self._rest = self._rest, 0
        if rest and left <= rest:
            self._finish()
        elif rest or left >= LONG_LOG:
            self._wanted.set()

    def _is_whole(self) -> bool:
        """Whether the files are still the store's own, so that a checkpoint copies nothing foreign."""
        self._watch.look()
        return self._watch.problem is None

    def _finish(self) -> None:
        """Copy the rest. The next commit restarts the log, and truncates its file if it has grown."""
        if not self._is_whole():
            return
        size = os.stat(self._log_path).st_size
        with contextlib.suppress(sqlite3.Error):  # the log stays as it is
            self._db.execute(f"PRAGMA journal_size_limit = {max(MAX_FILE_SIZE, size - TRUNCATE_STEP)}").fetchone()
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if size > MAX_FILE_SIZE:
            self._rest = SHORT_REST  # truncate more of it after the next commit

    def close(self) -> None:
        """Stop the thread. To be called before the database is closed."""
        self._closing.set()
        self._wanted.set()
        self._thread.join()

    # --- on the thread

    def _copy_when_wanted(self, path: str) -> None:
        connection = sqlite3.connect(path, timeout=0, isolation_level=None)
        try:
            with contextlib.suppress(sqlite3.Error):
                # Opens the log's file now: later the process may have run out of file descriptors.
                connection.execute("PRAGMA user_version").fetchone()
            while not self._closing.is_set():
                self._wanted.wait()
                self._copy(connection)
                self._wanted.clear()  # before `_closing` is checked, which `close` sets before this one
        finally:
            connection.close()

    def _copy(self, connection: sqlite3.Connection) -> None:
        """Make passes until little is left. Each one finds only what was committed during the previous one, so they
        get shorter. Once they no longer do, as under constant load, what is left is accepted as the rest.
        """
        while not self._closing.is_set() and self._is_whole():
            before = self._index.read()
            try:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            except sqlite3.Error as error:
                self._log_failure(error)
                break
            after = self._index.read()
            if after.copied < before.frames:
                break
            self._failing = False
            if after.left <= SHORT_REST or after.left > before.left // 2:
                self._rest = max(SHORT_REST, 2 * after.left)
                return
        # An open read transaction needs an old state of the store; or the disk fails.
        self._closing.wait(RETRY_INTERVAL)

    def _log_failure(self, error: sqlite3.Error) -> None:
        if not self._failing:
            self._failing = True
            logger.warning("the store's log grows: it cannot be copied into the database", error=str(error))
