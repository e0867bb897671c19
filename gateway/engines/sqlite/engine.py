"""The embedded store as an `Engine`: each call is one operation, committed together with those that wait beside it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, TypeVar

from gateway import events
from gateway.engines.sqlite.commits import GroupCommit
from gateway.engines.sqlite.database import open_database
from gateway.engines.sqlite.tables import Tables
from gateway.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.engines.base import (
        Added,
        HistoryPage,
        MemberPage,
        Opened,
        Policy,
        Receipt,
        ResumePoint,
        Session,
        Subscriber,
        UserPage,
    )
    from gateway.events import Room

T = TypeVar("T")

STORE = ""
"""The client that the store's own operations belong to: no username is empty."""

MAINTENANCE_INTERVAL = 1.0
"""How long the store waits before it looks for deferred work again, in seconds."""


class SQLiteEngine:
    """An `Engine` (see ``engines/base.py``) on SQLite."""

    def __init__(self, path: str, policy: Policy, *, clock: Callable[[], float] = time.time) -> None:
        """``path``: a file, created where it is missing, or ``:memory:``. ``clock`` gives Unix time in seconds."""
        self._path = path
        self._policy = policy
        self._clock = clock
        self._commits: GroupCommit | None = None
        self._maintenance: asyncio.Task[None] | None = None

    async def open(self, subscriber: Subscriber) -> None:
        tables = Tables(open_database(self._path), self._policy, self._clock)
        self._commits = GroupCommit(tables, subscriber.committed)
        await self._run(STORE, lambda tables: tables.sessions.suspend_all_sessions())
        self._maintenance = asyncio.create_task(self._maintain())

    async def close(self) -> None:
        if self._maintenance is not None:
            self._maintenance.cancel()
        if self._commits is not None:
            await self._commits.close()

    def problem(self) -> str | None:
        return None if self._commits is None else self._commits.problem()

    async def _maintain(self) -> None:
        """Do what operations have deferred, one slice at a time."""
        while True:
            try:
                more = await self._run(STORE, Tables.maintain)
            except Unavailable:
                more = False
            await asyncio.sleep(0 if more else MAINTENANCE_INTERVAL)

    def _run(self, client: str, operation: Callable[[Tables], T]) -> asyncio.Future[T]:
        """Run ``operation`` for ``client``, a username or `STORE`: what one client asks for is done in its order."""
        assert self._commits is not None, "open() comes first"  # noqa: S101 - a mistake of the program
        return self._commits.run(operation, client)

    async def attach_session(self, username: str, connection: str, resume: ResumePoint | None) -> Session:
        return await self._run(username, lambda tables: tables.sessions.attach_session(username, connection, resume))

    async def suspend_session(self, session: Session, connection: str) -> None:
        await self._run(session.username, lambda tables: tables.sessions.suspend_session(session, connection))

    async def end_session(self, session: Session, connection: str) -> None:
        await self._run(session.username, lambda tables: tables.sessions.end_session(session, connection))

    async def end_expired_sessions(self) -> int:
        return await self._run(STORE, lambda tables: tables.sessions.end_expired_sessions())

    async def create_room(self, actor: str, room: str, users: tuple[str, ...], history: str = events.ALL) -> Room:
        return await self._run(actor, lambda tables: tables.rooms.create_room(actor, room, users, history))

    async def open_direct(self, actor: str, user: str) -> Opened:
        return await self._run(actor, lambda tables: tables.direct.open(actor, user))

    async def add_members(self, actor: str, room: str, users: tuple[str, ...]) -> Added:
        return await self._run(actor, lambda tables: tables.rooms.add_members(actor, room, users))

    async def remove_member(self, actor: str, room: str) -> None:
        await self._run(actor, lambda tables: tables.rooms.remove_member(actor, room))

    async def list_rooms(self, username: str) -> tuple[Room, ...]:
        return await self._run(username, lambda tables: tables.rooms.list_rooms(username))

    async def list_members(self, actor: str, room: str, after: str, limit: int) -> MemberPage:
        return await self._run(actor, lambda tables: tables.rooms.list_members(actor, room, after, limit))

    async def find_users(self, actor: str, prefix: str, limit: int) -> UserPage:
        return await self._run(actor, lambda tables: tables.sessions.find_users(prefix, limit))

    async def append_message(self, actor: str, room: str, content: str, message_id: str | None) -> Receipt:
        return await self._run(actor, lambda tables: tables.rooms.append_message(actor, room, content, message_id))

    async def publish_typing(self, actor: str, room: str) -> None:
        await self._run(actor, lambda tables: tables.rooms.publish_typing(actor, room))

    async def read_history(self, actor: str, room: str, before: str | None, limit: int) -> HistoryPage:
        return await self._run(actor, lambda tables: tables.rooms.read_history(actor, room, before, limit))
