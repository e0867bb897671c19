"""The embedded store: one SQLite file, or memory.

Write-ahead logging with ``synchronous=FULL``: a commit returns when its log is fsynced. The file is locked as
long as the gateway runs.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from gateway.engines.base import Attachment
from gateway.engines.commits import GroupCommit
from gateway.engines.tables import Tables
from gateway.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.engines.base import (
        Added,
        HistoryPage,
        MemberPage,
        Policy,
        Publication,
        Receipt,
        ResumePoint,
        Session,
        Subscriber,
        UserPage,
    )
    from gateway.events import Room

SCHEMA_VERSION = 1
APPLICATION_ID = 0x43474157
"""Marks the file as a gateway's (SQLite's ``application_id``)."""

T = TypeVar("T")


class SQLiteEngine:
    """An `Engine` (see ``engines/base.py``) on SQLite."""

    def __init__(self, path: str, policy: Policy, *, clock: Callable[[], float] = time.time) -> None:
        """``path``: a file, created where it is missing, or ``:memory:``. ``clock`` gives Unix time in seconds."""
        self._path = path
        self._policy = policy
        self._clock = clock
        self._commits: GroupCommit | None = None

    async def open(self, subscriber: Subscriber) -> None:
        def deliver(effect: Attachment | Publication) -> None:
            if isinstance(effect, Attachment):
                subscriber.attached(effect)
            else:
                subscriber.published(effect)

        tables = Tables(open_database(self._path), self._policy, self._clock)
        self._commits = GroupCommit(tables, deliver)
        await self._run(Tables.suspend_all_sessions)

    async def close(self) -> None:
        if self._commits is not None:
            await self._commits.close()

    async def _run(self, operation: Callable[[Tables], T]) -> T:
        assert self._commits is not None, "open() comes first"  # noqa: S101 - a mistake of the program
        return await self._commits.run(operation)

    async def attach_session(self, username: str, connection: str, resume: ResumePoint | None) -> Session:
        return await self._run(lambda tables: tables.attach_session(username, connection, resume))

    async def suspend_session(self, session: Session, connection: str) -> None:
        await self._run(lambda tables: tables.suspend_session(session, connection))

    async def end_session(self, session: Session, connection: str) -> None:
        await self._run(lambda tables: tables.end_session(session, connection))

    async def end_expired_sessions(self) -> int:
        return await self._run(Tables.end_expired_sessions)

    async def create_room(self, actor: str, room: str, users: tuple[str, ...]) -> Room:
        return await self._run(lambda tables: tables.create_room(actor, room, users))

    async def add_members(self, actor: str, room: str, users: tuple[str, ...]) -> Added:
        return await self._run(lambda tables: tables.add_members(actor, room, users))

    async def remove_member(self, actor: str, room: str) -> None:
        await self._run(lambda tables: tables.remove_member(actor, room))

    async def list_rooms(self, username: str) -> tuple[Room, ...]:
        return await self._run(lambda tables: tables.list_rooms(username))

    async def list_members(self, actor: str, room: str, after: str, limit: int) -> MemberPage:
        return await self._run(lambda tables: tables.list_members(actor, room, after, limit))

    async def find_users(self, prefix: str, limit: int) -> UserPage:
        return await self._run(lambda tables: tables.find_users(prefix, limit))

    async def append_message(self, actor: str, room: str, content: str, message_id: str | None) -> Receipt:
        return await self._run(lambda tables: tables.append_message(actor, room, content, message_id))

    async def publish_typing(self, actor: str, room: str) -> None:
        await self._run(lambda tables: tables.publish_typing(actor, room))

    async def read_history(self, actor: str, room: str, before: str | None, limit: int) -> HistoryPage:
        return await self._run(lambda tables: tables.read_history(actor, room, before, limit))


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
    # The first write takes the lock for as long as the connection lives, and shows whether writing works at all.
    connection.execute("BEGIN IMMEDIATE")
    if not tables:
        schema = resources.files(__package__).joinpath("schema.sql").read_text("utf-8")
        for statement in schema.split(";\n"):
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
