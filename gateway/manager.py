"""This node's connections, and the native Socket.IO rooms, which hold those of every wire."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from gateway.servers.hooks import members_of
from gateway.servers.socketio.manager import Manager

if TYPE_CHECKING:
    from gateway.connections import Connection

NAMESPACE: Final = "/"
"""The namespace of all connections."""


class ChatManager(Manager):
    """python-socketio's client manager, for connections and chat rooms in place of sids and native rooms."""

    def __init__(self) -> None:
        super().__init__()
        self._connections: dict[str, Connection] = {}
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def connections(self) -> tuple[Connection, ...]:
        return tuple(self._connections.values())

    async def drained(self, seconds: float) -> bool:
        """Wait until the last connection is gone, for ``seconds`` at most; whether it is."""
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True

    def connection(self, cid: str | None) -> Connection | None:
        return None if cid is None else self._connections.get(cid)

    def add(self, connection: Connection) -> None:
        """Register a connection, which is in no chat room."""
        self._connections[connection.cid] = connection
        self._empty.clear()
        if not self.is_sid_room(NAMESPACE, connection.cid):
            # Not Socket.IO: python-socketio has entered its own into the namespace before.
            self.basic_enter_room(connection.cid, NAMESPACE, None, eio_sid=connection.engine_id)
            self.basic_enter_room(connection.cid, NAMESPACE, connection.cid, eio_sid=connection.engine_id)

    def remove(self, connection: Connection) -> None:
        """Forget a connection that is closed."""
        self._connections.pop(connection.cid, None)
        self.basic_disconnect(connection.cid, NAMESPACE)
        if not self._connections:
            self._empty.set()

    def enter(self, connection: Connection, room: str) -> None:
        self.basic_enter_room(connection.cid, NAMESPACE, native_room(room))

    def leave(self, connection: Connection, room: str) -> None:
        self.basic_leave_room(connection.cid, NAMESPACE, native_room(room))

    def leave_all(self, connection: Connection) -> None:
        for room in self.rooms_of(connection.cid, NAMESPACE) - {None, connection.cid}:
            self.basic_leave_room(connection.cid, NAMESPACE, room)

    def is_in_a_room(self, connection: Connection) -> bool:
        return bool(self.rooms_of(connection.cid, NAMESPACE) - {None, connection.cid})

    def members(self, room: str) -> list[Connection]:
        """The connections in a chat room."""
        cids = members_of(self, NAMESPACE, native_room(room))
        return [self._connections[cid] for cid in cids if cid in self._connections]


def native_room(room: str) -> str:
    """The native room of a chat room. Native rooms are also named by every ``sid``, which a chat room could be
    named like.
    """
    return f"room:{room}"
