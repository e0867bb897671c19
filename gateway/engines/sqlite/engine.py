"""The embedded store as an `Engine`: each call is one operation, committed together with those that wait beside it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, TypeVar

from gateway import events
from gateway.engines.base import Session
from gateway.engines.sqlite.clocks import Clocks
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
        Subscriber,
        UserPage,
    )
    from gateway.engines.sqlite.database import StoreConnection
    from gateway.engines.sqlite.replay import Replay
    from gateway.engines.sqlite.rooms import Rooms
    from gateway.events import Room

T = TypeVar("T")

STORE = ""
"""The client that the store's own operations belong to: no username is empty."""
SLICE_TIME = 0.002
"""How long one piece of longer work may take, in seconds: while it lasts, nobody else is served."""

MAINTENANCE_INTERVAL = 1.0
"""How long the store waits before it looks for deferred work again, in seconds."""


MEMORY = ":memory:"
"""The path of a store that is no file."""

PROBE_INTERVAL = 2.0
"""After how many seconds in which nothing was written the store tries whether it could be. It costs one small fsync,
and only an idle store pays it: a full disk is to be known before the next message comes.
"""


class SQLiteEngine:
    """An `Engine` (see ``engines/base.py``) on SQLite."""

    def __init__(
        self,
        path: str,
        policy: Policy,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        slice_time: float = SLICE_TIME,
    ) -> None:
        """``path``: a file, created where it is missing, or ``:memory:``. ``clock`` gives Unix time, ``monotonic`` the
        time since anything, in seconds.
        """
        self._path = path
        self._policy = policy
        self._clocks = Clocks(clock, monotonic)
        self._slice_time = slice_time
        self._database: StoreConnection | None = None
        self._commits: GroupCommit | None = None
        self._maintenance: asyncio.Task[None] | None = None

    async def open(self, subscriber: Subscriber) -> None:
        self._database = open_database(self._path)
        self._database.guard()
        tables = Tables(self._database, self._policy, self._clocks, self._slice_time)
        self._commits = GroupCommit(tables, subscriber.committed)
        await self._run(STORE, Tables.open)
        self._maintenance = asyncio.create_task(self._maintain())

    async def close(self, timeout: float) -> bool:  # noqa: ASYNC109 - see GroupCommit.close
        if self._maintenance is not None:
            self._maintenance.cancel()
        if self._commits is None:
            return True
        is_kept = await self._commits.close(timeout)
        return is_kept and self._file_problem() is None

    def problem(self) -> str | None:
        return self._file_problem() or (None if self._commits is None else self._commits.problem())

    def _file_problem(self) -> str | None:
        """What has become of the store's files, if they are not where they should be."""
        watch = None if self._database is None else self._database.watch
        return None if watch is None else watch.problem

    async def _maintain(self) -> None:
        """Do what operations have deferred, one slice at a time, and see whether the disk works."""
        assert self._commits is not None, "open() comes first"  # noqa: S101 - a mistake of the program
        while True:
            try:
                more = await self._run(STORE, Tables.maintain)
                if self._commits.idle_time > PROBE_INTERVAL and self._path != MEMORY:
                    await self._run(STORE, Tables.probe)
            except Unavailable:
                more = False
            await asyncio.sleep(0 if more else MAINTENANCE_INTERVAL)

    def _run(self, client: str, operation: Callable[[Tables], T], *, low_priority: bool = False) -> asyncio.Future[T]:
        """Run ``operation`` for ``client``, a username or `STORE`: what one client asks for is done in its order."""
        assert self._commits is not None, "open() comes first"  # noqa: S101 - a mistake of the program
        return self._commits.run(operation, client, low_priority=low_priority)

    async def _depart(self, username: str, operation: Callable[[Tables], None]) -> None:
        """Run an operation for a client that is gone, and may be in a hundred rooms: others need not wait for it."""
        await self._run(username, operation, low_priority=True)

    def _run_in(self, actor: str, room: str, operation: Callable[[Rooms, str], T]) -> asyncio.Future[T]:
        """Run an operation in a room of ``actor``'s, which gets the name that the store has for it."""
        return self._run(actor, lambda tables: operation(tables.rooms, tables.rooms.called(actor, room)))

    async def attach_session(
        self, username: str, connection: str, resume: ResumePoint | None, *, resumable: bool = True
    ) -> Session:
        replay: Replay | None = None

        def attach(tables: Tables) -> Session | Replay:
            return tables.sessions.attach_session(username, connection, resume, replay, resumable=resumable)

        while not isinstance(attached := await self._run(username, attach), Session):
            replay = attached  # as far as it is read
        return attached

    async def suspend_session(self, session: Session, connection: str) -> None:
        await self._depart(session.username, lambda tables: tables.sessions.suspend_session(session, connection))

    async def end_session(self, session: Session, connection: str) -> None:
        await self._depart(session.username, lambda tables: tables.sessions.end_session(session, connection))

    async def abandon_session(self, username: str, connection: str, resume: ResumePoint | None) -> None:
        await self._depart(username, lambda tables: tables.sessions.abandon_session(username, connection, resume))

    async def end_expired_sessions(self) -> int:
        return await self._run(STORE, lambda tables: tables.sessions.end_expired_sessions())

    async def create_room(self, actor: str, room: str, users: tuple[str, ...], history: str = events.ALL) -> Room:
        return await self._run(actor, lambda tables: tables.rooms.create_room(actor, room, users, history))

    async def open_direct(self, actor: str, user: str) -> Opened:
        return await self._run(actor, lambda tables: tables.direct.open(actor, user))

    async def add_members(self, actor: str, room: str, users: tuple[str, ...]) -> Added:
        return await self._run_in(actor, room, lambda rooms, name: rooms.add_members(actor, name, users))

    async def remove_member(self, actor: str, room: str) -> None:
        await self._run_in(actor, room, lambda rooms, name: rooms.remove_member(actor, name))

    async def list_rooms(self, username: str) -> tuple[Room, ...]:
        return await self._run(username, lambda tables: tables.rooms.list_rooms(username))

    async def list_members(self, actor: str, room: str, after: str, limit: int) -> MemberPage:
        return await self._run_in(actor, room, lambda rooms, name: rooms.list_members(actor, name, after, limit))

    async def find_users(self, actor: str, prefix: str, limit: int) -> UserPage:
        return await self._run(actor, lambda tables: tables.find_users(actor, prefix, limit))

    async def append_message(self, actor: str, room: str, content: str, message_id: str | None) -> Receipt:
        return await self._run_in(
            actor,
            room,
            lambda rooms, name: rooms.append_message(actor, name, content, message_id),
        )

    async def publish_typing(self, actor: str, room: str) -> None:
        await self._run_in(actor, room, lambda rooms, name: rooms.publish_typing(actor, name))

    async def read_history(self, actor: str, room: str, before: str | None, limit: int) -> HistoryPage:
        return await self._run_in(actor, room, lambda rooms, name: rooms.read_history(actor, name, before, limit))
