"""Copying a store, whether or not a gateway is running on it.

The copy is a consistent snapshot: it is read in one read transaction, which sees the store as it was when it began and
delays no commit of the gateway. But SQLite cannot restart the write-ahead log while such a transaction is open, so the
log grows until it ends; it ends as soon as the last page has been read. (Without it, SQLite's backup API would start
over at every commit of the gateway.)
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gateway.engines.sqlite.database import APPLICATION_ID, INCREMENTAL, reason_for
from gateway.engines.sqlite.files import PRIVATE, SIDE_FILES
from gateway.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGES_AT_ONCE: Final = 256
"""How many pages (1 MB) are copied before the next sync. A sync of the gateway waits for what the backup has written
so far, so that must not be much.
"""

OPEN_TIMEOUT: Final = 5.0
"""How long to wait for a program that has locked the store, in seconds."""


@dataclass(frozen=True, slots=True)
class Backup:
    """The file that was written, and its size in bytes."""

    path: Path
    size: int


def back_up(store: str, target: Path, *, replace: bool) -> Backup:
    """Write a copy of the store in the file ``store`` to ``target``: complete, synced and checked, or not at all.

    ``replace``: whether an existing file may be replaced.

    Raises:
        StoreError: no copy was made; the message says why.
    """
    _check_target(Path(store), target, replace=replace)
    try:
        with _source(store) as source, _temporary_file(target) as (descriptor, temporary):
            _copy(source, temporary, descriptor)
            source.close()  # so that the gateway's log can restart
            _finish(temporary)
            os.fsync(descriptor)
            size = os.fstat(descriptor).st_size
            _check_target(Path(store), target, replace=replace)
            temporary.replace(target)
            _sync_folder(target.parent)
    except sqlite3.Error as error:
        raise StoreError(f"The store {store} cannot be backed up: {reason_for(store, error)}.") from None
    except OSError as error:
        raise StoreError(f"The backup {target} cannot be written: {error.strerror or error}.") from None
    return Backup(target, size)


def _check_target(store: Path, target: Path, *, replace: bool) -> None:
    if not store.exists():
        raise StoreError(f"There is no store {store}; name one with --store.")
    if not target.parent.is_dir():
        raise StoreError(f"The folder of the backup {target} does not exist.")
    if target.is_dir():
        raise StoreError(f"The backup {target} is a folder; name a file in it.")
    if target.exists() and not target.is_file():
        raise StoreError(f"The backup {target} is not a file; name one.")
    real = os.path.realpath(store)
    if os.path.realpath(target) in {real, *(real + suffix for suffix in SIDE_FILES)}:
        raise StoreError(f"The backup {target} is the store itself; name another file.")
    if os.path.lexists(target) and not replace:
        raise StoreError(f"There is already a file {target}; name another one, or give --replace.")
    for suffix in SIDE_FILES:
        beside = Path(f"{target}{suffix}")
        if beside.exists():
            raise StoreError(f"There is a file {beside}, which would be taken for a part of the backup; remove it.")


@contextlib.contextmanager
def _source(store: str) -> Iterator[sqlite3.Connection]:
    """A connection with an open read transaction: it sees the store as it is now."""
    uri = Path(os.path.realpath(store)).as_uri()
    connection = sqlite3.connect(f"{uri}?mode=rw", uri=True, timeout=OPEN_TIMEOUT, isolation_level=None)
    try:
        if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise StoreError(f"{store} is not a gateway's store.")
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        yield connection
    finally:
        connection.close()


@contextlib.contextmanager
def _temporary_file(target: Path) -> Iterator[tuple[int, Path]]:
    """A new file next to ``target``, which is deleted at the end unless it was renamed."""
    temporary = target.parent / f".{target.name}.{secrets.token_hex(4)}.tmp"
    descriptor = None
    try:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), PRIVATE)
        yield descriptor, temporary
    finally:
        for suffix in ("", "-journal", *SIDE_FILES):
            with contextlib.suppress(OSError):
                os.unlink(f"{temporary}{suffix}")
        if descriptor is not None:
            os.close(descriptor)


def _copy(source: sqlite3.Connection, temporary: Path, descriptor: int) -> None:
    copy = sqlite3.connect(temporary, isolation_level=None)
    try:
        copy.execute("PRAGMA synchronous = OFF")  # we sync it ourselves, and nothing uses the file yet
        copy.execute("PRAGMA journal_mode = OFF")
        source.backup(copy, pages=PAGES_AT_ONCE, progress=lambda *_: os.fsync(descriptor), sleep=0)
    finally:
        copy.close()


def _finish(temporary: Path) -> None:
    """Make the copy a file of its own: without a log, able to shrink, and to be checked when a gateway opens it (as it
    has no mark that it was closed in order).
    """
    copy = sqlite3.connect(temporary, isolation_level=None)
    try:
        copy.execute("PRAGMA synchronous = OFF")
        copy.execute("PRAGMA journal_mode = DELETE")
        if copy.execute("SELECT 1 FROM sqlite_schema WHERE name = 'closed'").fetchone() is not None:
            copy.execute("DELETE FROM closed")
        if copy.execute("PRAGMA auto_vacuum").fetchone()[0] != INCREMENTAL:
            copy.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")
            copy.execute("VACUUM")
        damage = " ".join(str(copy.execute("PRAGMA quick_check(1)").fetchone()[0]).split())
        if damage != "ok":
            raise StoreError(f"The store is damaged, and so would its backup be: {damage}.")
    finally:
        copy.close()


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
