"""Who is live on a node, and in which rooms, as the effects of an engine have it."""

from __future__ import annotations

from gateway.engines.effects import Attachment, Detachment, Effect, Movement


class LiveMembers:
    """What delivery knows of its connections."""

    def __init__(self) -> None:
        self._connections: dict[str, str] = {}
        """The live connection of each username."""
        self._sids: dict[str, str] = {}
        self._rooms: dict[str, set[str]] = {}

    def connection_of(self, username: str) -> str | None:
        return self._connections.get(username)

    def has_session(self, sid: str, username: str) -> bool:
        return username in self._connections and self._sids[username] == sid

    def of(self, room: str) -> set[str]:
        """The members of a room who are live on this node."""
        return self._rooms.get(room, set())

    def note(self, effect: Effect) -> None:
        match effect:
            case Attachment():
                self._attach(effect)
            case Detachment():
                self.forget(effect.connection)
            case Movement():
                self._move(effect)

    def forget(self, connection: str) -> None:
        """The connection is closed."""
        for username in [name for name, held in self._connections.items() if held == connection]:
            del self._connections[username]
            for members in self._rooms.values():
                members.discard(username)

    def _attach(self, attachment: Attachment) -> None:
        if attachment.replaces is not None:
            self.forget(attachment.replaces.connection)
        username = attachment.session.username
        self._connections[username] = attachment.holder.connection
        self._sids[username] = attachment.session.sid
        for room in attachment.rooms:
            self._rooms.setdefault(room.room, set()).add(username)

    def _move(self, movement: Movement) -> None:
        members = self._rooms.setdefault(movement.room, set())
        members.difference_update(movement.left)
        members.update(name for name in movement.joined if name in self._connections)
