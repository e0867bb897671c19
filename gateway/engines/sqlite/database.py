"""Opening the file: what makes it a store of ours, and why it cannot be used.

Write-ahead logging with ``synchronous=FULL``: a commit returns when its log is fsynced. The file is locked as
long as the gateway runs.
"""

from __future__ import annotations

import contextlib
import sqlite3
from importlib import resources
from pathlib import Path

from gateway.errors import StoreError

SCHEMA_VERSION = 4
"""The last of the files in ``schema/``: each takes a store from the version before it to its own."""
APPLICATION_ID = 0x43474157
"""Marks the file as a gateway's (SQLite's ``application_id``)."""


def open_database(path: str) -> sqlite3.Connection:
    """A connection to the store in ``path``, which is created where it is missing.

    Raises:
        StoreError: the file cannot be used, and why.
    """
    try:
        connection = sqlite3.connect(path, timeout=1, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise StoreError(f"The store {path} cannot be opened: {_reason(path, error)}.") from None
    try:
        _prepare(connection, path)
    except sqlite3.Error as error:
        connection.close()
        raise StoreError(f"The store {path} cannot be used: {_reason(path, error)}.") from None
    except StoreError:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: str) -> None:
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
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA wal_autocheckpoint = 4000")  # 16 MB: a page that many commits change is copied once
    # The first write takes the lock for as long as the connection lives, and shows whether writing works at all.
    connection.execute("BEGIN IMMEDIATE")
    for step in range(version + 1, SCHEMA_VERSION + 1):
        script = resources.files(__package__).joinpath("schema", f"{step}.sql").read_text("utf-8")
        for statement in script.split(";\n"):
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")
    damage = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if damage != "ok":
        where = " ".join(str(damage).split())
        raise StoreError(f"The store {path} is damaged ({where}); restore it from a backup or choose another file.")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _reason(path: str, error: sqlite3.Error) -> str:
    name = getattr(error, "sqlite_errorname", "")
    reason = {
        "SQLITE_BUSY": "another gateway is using it",
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
