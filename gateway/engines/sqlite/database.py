"""Opening the database file: its schema, its settings, and why it cannot be used.

It uses write-ahead logging with ``synchronous=FULL``: a commit returns once the log is fsynced. Other programs may read
the store while the gateway runs, to back it up (see ``backup``); ``files`` keeps a second gateway out.
"""

from __future__ import annotations

import contextlib
import ctypes
import sqlite3
from importlib import resources
from pathlib import Path

from gateway.engines.sqlite.checkpoints import Checkpoints
from gateway.engines.sqlite.files import CAN_LOCK, StoreFiles
from gateway.engines.sqlite.walindex import WalFile, WalIndex
from gateway.engines.sqlite.watch import FileWatch
from gateway.errors import StoreError
from gateway.tokens import hash_token

SCHEMA_VERSION = 7
"""The newest of the files in ``schema/``, each of which migrates a store from the previous version."""
APPLICATION_ID = 0x43474157
"""Marks the file as a gateway's (SQLite's ``application_id``)."""

OPEN_TIMEOUT = 5.0
"""How long to wait, when the store is opened, for a program that has locked it, in seconds. Later there is no wait:
operations run on the event loop.
"""

MAX_VACUUM_SIZE = 64 * 1_048_576
"""Up to how many bytes a store of an earlier version is rewritten when it is opened (half a second), so that it can
shrink from then on. A larger one is left as it is; a backup of it can shrink.
"""

INCREMENTAL = 2
"""The value of ``auto_vacuum`` that allows free pages to be returned a few at a time."""


class StoreConnection(sqlite3.Connection):
    """A connection to a store, with what guards its files."""

    files: StoreFiles | None = None
    """None for a store in memory."""
    watch: FileWatch | None = None
    _index: WalIndex | None = None
    _log: WalFile | None = None
    _checkpoints: Checkpoints | None = None

    def guard(self) -> None:
        """Begin to watch the files and to run checkpoints, until the connection is closed."""
        if self.files is not None and CAN_LOCK:
            self._index = WalIndex(f"{self.files.real}-shm")
            self._log = WalFile(f"{self.files.real}-wal", self._index)
            self.watch = FileWatch(self.files, self._index, self._log)
            self._checkpoints = Checkpoints(self, self.files, self._index, self.watch)
            self.execute("PRAGMA wal_autocheckpoint = 0")

    def check_files(self) -> None:
        """Check, before a commit, that the files are still there. Called on the event loop and not on the thread that
        commits, which would wait for the GIL after each system call.

        Raises:
            StoreGone: the files are gone, and a commit would be lost with them.
        """
        if self.watch is not None:
            self.watch.check()

    def commit_written(self) -> None:
        """Commit a transaction that has written something, and run a checkpoint if one is due."""
        self.execute("COMMIT")
        if self._checkpoints is not None:
            self._checkpoints.committed()

    def close_in_order(self) -> None:
        """Close, and record that all was well, so that the next start need not check the whole store."""
        if self.watch is not None:
            self.watch.look()
        if self.watch is None or self.watch.problem is None:
            with contextlib.suppress(sqlite3.Error):  # then it is checked
                if self.in_transaction:
                    self.execute("ROLLBACK")
                self.execute("INSERT INTO closed (at) VALUES (strftime('%s'))")
        self.close()

    def close(self) -> None:
        if self._checkpoints is not None:
            self._checkpoints.close()
        if self.watch is not None:
            self.watch.look()
            self.watch.close()
        if self.watch is not None and self.watch.problem is not None:
            self._abandon(self.watch)
            return
        super().close()
        if self._log is not None:
            self._log.close()
            self._log = None
        if self._index is not None:
            self._index.close()
            self._index = None
        if self.files is not None:
            self.files.release()

    def _abandon(self, watch: FileWatch) -> None:
        """Leave the connection open until the process ends: files that are no longer ours stay as they are.

        Closing would make SQLite run a checkpoint, into a database that another program has replaced or from a log that
        it has overwritten. If only the log's name is gone, its content is saved first.
        """
        if watch.holds_database():
            with contextlib.suppress(sqlite3.Error):
                self.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))  # else garbage collection would close it


def open_database(path: str) -> StoreConnection:
    """A connection to the store in ``path``, which is created if it does not exist.

    Raises:
        StoreError: the file cannot be used; the message says why.
    """
    files = None if path == ":memory:" else StoreFiles(path)
    try:
        if files is not None:
            files.check_no_stale_log()
        connection = _connect(path, files)
    except BaseException:
        if files is not None:
            files.release()
        raise
    try:
        _prepare(connection, path)
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.Error):
            raise StoreError(f"The store {path} cannot be used: {reason_for(path, error)}.") from None
        raise
    return connection


def _connect(path: str, files: StoreFiles | None) -> StoreConnection:
    try:
        connection = sqlite3.connect(
            path if files is None else files.real,
            timeout=OPEN_TIMEOUT,
            isolation_level=None,
            check_same_thread=False,
            factory=StoreConnection,
        )
    except sqlite3.Error as error:
        raise StoreError(f"The store {path} cannot be opened: {reason_for(path, error)}.") from None
    connection.files = files
    return connection


def _prepare(connection: StoreConnection, path: str) -> None:
    version = _pragma(connection, "user_version")
    application = _pragma(connection, "application_id")
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if tables and application != APPLICATION_ID:
        raise StoreError(f"The store {path} is a database of another program; choose another file with --store.")
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"The store {path} was written by a newer gateway (schema {version}; this one knows {SCHEMA_VERSION}); "
            "upgrade the gateway or choose another file with --store."
        )
    if connection.files is not None:
        connection.files.make_private()
    if not tables:
        connection.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")
    if not CAN_LOCK:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA wal_autocheckpoint = 4000")  # until `guard`
    in_order = _migrate(connection, version)
    if not in_order:
        _check(connection, path)
    _let_shrink(connection)
    connection.execute("PRAGMA busy_timeout = 0")


def _migrate(connection: StoreConnection, version: int) -> bool:
    """Bring the schema up to date. Returns whether the store was closed in order.

    This always writes, so that a store that cannot be written to is noticed now.
    """
    connection.create_function("sha256", 1, lambda token: token and hash_token(token), deterministic=True)
    secure_delete = _pragma(connection, "secure_delete")
    connection.execute("PRAGMA secure_delete = ON")  # so that secrets which a migration replaces are overwritten
    connection.execute("BEGIN IMMEDIATE")
    for script in _steps(version):
        for statement in script.split(";\n"):
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    in_order = connection.execute("DELETE FROM closed").rowcount > 0
    connection.execute("COMMIT")
    connection.execute(f"PRAGMA secure_delete = {secure_delete}")
    return in_order


def _steps(version: int) -> list[str]:
    """The scripts that bring a store of that version up to date."""
    folder = resources.files(__package__).joinpath("schema")
    scripts = {int(file.name.removesuffix(".sql")): file for file in folder.iterdir() if file.name.endswith(".sql")}
    return [scripts[step].read_text("utf-8") for step in sorted(scripts) if step > version]


def _check(connection: StoreConnection, path: str) -> None:
    damage = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if damage != "ok":
        where = " ".join(str(damage).split())
        raise StoreError(f"The store {path} is damaged ({where}); restore it from a backup or choose another file.")


def _let_shrink(connection: StoreConnection) -> None:
    """Make a store of an earlier version able to shrink, if that does not take long."""
    size = _pragma(connection, "page_count") * _pragma(connection, "page_size")
    if connection.files is not None and _pragma(connection, "auto_vacuum") != INCREMENTAL and size <= MAX_VACUUM_SIZE:
        connection.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")
        with contextlib.suppress(sqlite3.Error):  # the disk may be too full for a second copy, or a backup under way
            connection.execute("VACUUM")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def reason_for(path: str, error: sqlite3.Error) -> str:
    """Why the store cannot be used, as a phrase for the operator."""
    name = getattr(error, "sqlite_errorname", "")
    reason = {
        "SQLITE_BUSY": "another program, or a gateway of an earlier version, has locked it",
        "SQLITE_NOTADB": "it is not an SQLite database",
        "SQLITE_CORRUPT": "it is damaged; restore it from a backup or choose another file",
        "SQLITE_FULL": "the disk is full",
    }.get(name)
    if reason is None and name.startswith("SQLITE_READONLY"):
        reason = "it is read-only"
    if reason is None and name.startswith("SQLITE_IOERR"):
        reason = f"the disk fails or is full ({error})"
    if reason is None and name == "SQLITE_CANTOPEN":
        with contextlib.suppress(OSError):
            if not Path(path).parent.is_dir():
                reason = "its folder does not exist"
            elif Path(path).is_dir():
                reason = "it is a folder"
    return reason or str(error)
