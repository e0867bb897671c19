"""The connections of this node, and the native Socket.IO rooms, which contain those of every wire."""

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
    """python-socketio's client manager, in terms of connections and chat rooms instead of sids and native rooms."""

    def __init__(self) -> None:
        super().__init__()
        self._connections: dict[str, Connection] = {}
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def connections(self) -> tuple[Connection, ...]:
        return tuple(self._connections.values())

    async def drained(self, seconds: float) -> bool:
        """Wait until there are no connections, for at most ``seconds``. Returns whether there are none."""
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True

    def connection(self, connection_id: str | None) -> Connection | None:
        return None if connection_id is None else self._connections.get(connection_id)

    def add(self, connection: Connection) -> None:
        """Register a connection, which is in no chat room yet."""
        self._connections[connection.connection_id] = connection
        self._empty.clear()
        if not self.is_sid_room(NAMESPACE, connection.connection_id):
            # Not a Socket.IO client: python-socketio has already entered those into the namespace.
            for room in (None, connection.connection_id):
                self.basic_enter_room(connection.connection_id, NAMESPACE, room, eio_sid=connection.engine_id)

    def remove(self, connection: Connection) -> None:
        """Forget a connection that is closed."""
        self._connections.pop(connection.connection_id, None)
        self.basic_disconnect(connection.connection_id, NAMESPACE)
        if not self._connections:
            self._empty.set()

    def enter(self, connection: Connection, room: str) -> None:
        self.basic_enter_room(connection.connection_id, NAMESPACE, native_room(room))

    def leave(self, connection: Connection, room: str) -> None:
        self.basic_leave_room(connection.connection_id, NAMESPACE, native_room(room))

    def leave_all(self, connection: Connection) -> None:
        for room in self.rooms_of(connection.connection_id, NAMESPACE) - {None, connection.connection_id}:
            self.basic_leave_room(connection.connection_id, NAMESPACE, room)

    def is_in_a_room(self, connection: Connection) -> bool:
        return bool(self.rooms_of(connection.connection_id, NAMESPACE) - {None, connection.connection_id})

    def members(self, room: str) -> list[Connection]:
        """The connections in a chat room."""
        ids = members_of(self, NAMESPACE, native_room(room))
        return [self._connections[connection_id] for connection_id in ids if connection_id in self._connections]


def native_room(room: str) -> str:
    """The native room of a chat room. Its prefix keeps it apart from the native room of each client, which is named by
    the client's ``sid``.
    """
    return f"room:{room}"
