"""Opening the file: what makes it a store of ours, and why it cannot be used.

Write-ahead logging with ``synchronous=FULL``: a commit returns when its log is fsynced. Other programs may read the
store while the gateway runs, to back it up (see ``backup``); what keeps a second gateway out is in ``files``.
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

SCHEMA_VERSION = 6
"""The last of the files in ``schema/``: each takes a store from the version before it to its own."""
APPLICATION_ID = 0x43474157
"""Marks the file as a gateway's (SQLite's ``application_id``)."""

OPENING_TIMEOUT = 5.0
"""How long to wait, when the store is opened, for a program that has it locked, in seconds. Later
nobody waits: operations run on the event loop.
"""

SMALL = 64 * 1_048_576
"""Bytes up to which a store of an earlier version is rewritten at its start (half a second), so
that it can shrink from then on. A larger one is left as it is; the copy that a backup makes of it can.
"""

INCREMENTAL = 2
"""The value of ``auto_vacuum`` with which free pages can be given back a few at a time."""


class StoreConnection(sqlite3.Connection):
    """A connection to a store, and what looks after its files."""

    files: StoreFiles | None = None
    """None: the store is in memory."""
    watch: FileWatch | None = None
    _index: WalIndex | None = None
    _log: WalFile | None = None
    _checkpoints: Checkpoints | None = None

    def guard(self) -> None:
        """From here on, until it is closed, notice when the files are gone, and keep the log short."""
        if self.files is not None and CAN_LOCK:
            self._index = WalIndex(f"{self.files.real}-shm")
            self._log = WalFile(f"{self.files.real}-wal", self._index)
            self.watch = FileWatch(self.files, self._index, self._log)
            self._checkpoints = Checkpoints(self, self.files, self._index, self.watch)
            self.execute("PRAGMA wal_autocheckpoint = 0")

    def check_files(self) -> None:
        """Before a commit. Not on its thread: each call of the system would have to wait for the interpreter.

        Raises:
            StoreGone: what was written would be lost, for the files are gone.
        """
        if self.watch is not None:
            self.watch.check()

    def commit_written(self) -> None:
        """Commit a transaction that has written something."""
        self.execute("COMMIT")
        if self._checkpoints is not None:
            self._checkpoints.committed()

    def close_in_order(self) -> None:
        """Close, and leave the mark that all was well, so that the next start need not check the whole store."""
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
        """Leave files that are not ours any more as they are, until the process ends.

        Closing would have SQLite copy the log into a file that another program has written over ours, or a log that
        another has written into ours. Where only the log's name is gone, what it has is saved.
        """
        if watch.holds_database():
            with contextlib.suppress(sqlite3.Error):
                self.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))  # SQLite closes what Python collects


def open_database(path: str) -> StoreConnection:
    """A connection to the store in ``path``, which is created where it is missing.

    Raises:
        StoreError: the file cannot be used, and why.
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
            timeout=OPENING_TIMEOUT,
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
    """Bring the schema up to date; whether the store was closed in order. Shows whether writing works at all."""
    connection.create_function("sha256", 1, lambda token: token and hash_token(token), deterministic=True)
    secure_delete = _pragma(connection, "secure_delete")
    connection.execute("PRAGMA secure_delete = ON")  # a secret that is replaced is overwritten
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
    """The scripts that a store of that version needs."""
    folder = resources.files(__package__).joinpath("schema")
    scripts = {int(file.name.removesuffix(".sql")): file for file in folder.iterdir() if file.name.endswith(".sql")}
    return [scripts[step].read_text("utf-8") for step in sorted(scripts) if step > version]


def _check(connection: StoreConnection, path: str) -> None:
    damage = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if damage != "ok":
        where = " ".join(str(damage).split())
        raise StoreError(f"The store {path} is damaged ({where}); restore it from a backup or choose another file.")


def _let_shrink(connection: StoreConnection) -> None:
    """Have free pages of a store of an earlier version given back, where that does not take long."""
    size = _pragma(connection, "page_count") * _pragma(connection, "page_size")
    if connection.files is not None and _pragma(connection, "auto_vacuum") != INCREMENTAL and size <= SMALL:
        connection.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")
        with contextlib.suppress(sqlite3.Error):  # the disk may be too full for a second copy, or a backup under way
            connection.execute("VACUUM")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def reason_for(path: str, error: sqlite3.Error) -> str:
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
