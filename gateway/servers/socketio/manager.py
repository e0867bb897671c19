"""The native rooms of Socket.IO: who is in which, by namespace."""

from __future__ import annotations

from typing import Any

import socketio

from gateway.servers.hooks import drop_client


class Manager(socketio.AsyncManager):  # type: ignore[misc]
    """As python-socketio's, but a client that leaves is not searched for in all rooms of its namespace."""

    def __init__(self) -> None:
        super().__init__()
        self._rooms_of: dict[tuple[str, str], set[str | None]] = {}
        """By namespace and sid."""

    def rooms_of(self, sid: str, namespace: str) -> frozenset[str | None]:
        """The rooms that a client is in; among them None and its own sid, which all in a namespace are in."""
        return frozenset(self._rooms_of.get((namespace, sid), ()))

    def basic_enter_room(self, sid: str, namespace: str, room: str | None, eio_sid: str | None = None) -> None:
        super().basic_enter_room(sid, namespace, room, eio_sid=eio_sid)
        self._rooms_of.setdefault((namespace, sid), set()).add(room)

    def basic_leave_room(self, sid: str, namespace: str, room: str | None) -> None:
        super().basic_leave_room(sid, namespace, room)
        if (rooms := self._rooms_of.get((namespace, sid))) is not None:
            rooms.discard(room)
            if not rooms:
                del self._rooms_of[namespace, sid]

    def basic_disconnect(self, sid: str, namespace: str, **_: Any) -> None:
        for room in self.rooms_of(sid, namespace):
            self.basic_leave_room(sid, namespace, room)
        drop_client(self, sid, namespace)

    def get_rooms(self, sid: str, namespace: str) -> list[str]:
        return [room for room in self._rooms_of.get((namespace, sid), ()) if room is not None]
