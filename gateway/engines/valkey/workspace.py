"""What the rules of one batch have read and written, before it is committed.

A **batch** is the rules that wait at one time. They run together on one workspace: what one has read, the others need
not read again, what they read at the same time is asked for at once, and rules that change the same room are committed
together, so that many users who join one room do not make each other fail.

Rules run as on any store: each reads, then writes. A rule that has finished is checked against those that finished
before it: if one of them has changed a room that it had read, it runs again, now without waiting, as all is here. A
user is changed by one rule of a batch at most: others that need the user wait for the next batch (`PostponedError`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.engines.valkey.records import RoomState, UserState, decode_room, decode_user

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from gateway.engines.transaction import RoomId
    from gateway.engines.valkey.link import Argument


class PostponedError(Exception):
    """A rule needs what another rule of the batch has changed."""


class Read:
    """A script that reads; awaiting it gives its reply, without the position and the running time."""

    __slots__ = ("arguments", "reply", "script")

    def __init__(self, script: str, *arguments: Argument) -> None:
        self.script = script
        self.arguments = arguments
        self.reply: list[Any] | None = None

    def __await__(self) -> Generator[Read, None, list[Any]]:
        if self.reply is None:
            yield self
        assert self.reply is not None  # noqa: S101 - the batch has set it
        return self.reply


class Workspace:
    """The users and rooms that a batch has read."""

    def __init__(self, windows_began: int) -> None:
        """``windows_began``: see `Node.windows_began`."""
        self._windows_began = windows_began
        self.position: int | None = None
        """The newest position when the batch first read something."""
        self.users: dict[str, UserState] = {}
        self.rooms: dict[RoomId, RoomState] = {}
        self._named: dict[tuple[str, str], RoomId | None] = {}
        """Ids of rooms, by their names and by their pairs."""

    async def load_users(self, usernames: Sequence[str]) -> None:
        """Read users and the rooms that they are in. Raises PostponedError."""
        missing = [username for username in dict.fromkeys(usernames) if username not in self.users]
        if missing:
            replies = await Read("users", *missing)
            for username, (fields, rooms) in zip(missing, replies, strict=True):
                self.users.setdefault(username, decode_user(username, fields, self._windows_began))
                for room_id, room in zip(rooms[::2], rooms[1::2], strict=True):
                    self.add_room(int(room_id), room)
        if any(self.users[username].is_written for username in usernames):
            raise PostponedError

    async def find_room(self, index: str, value: str) -> RoomState | None:
        """A room by its name (``names``) or its pair (``pairs``)."""
        if (index, value) not in self._named:
            room_id, fields = await Read("room", index, value)
            found = self.add_room(int(room_id), fields) if room_id else None
            self._named.setdefault((index, value), None if found is None else found.record.id)
        known = self._named[index, value]
        return None if known is None else self.rooms.get(known)

    def add_room(self, room_id: int, fields: list[bytes | None]) -> RoomState | None:
        """Keep a room that was read, unless it is here already."""
        found = decode_room(room_id, fields)
        return None if found is None else self.rooms.setdefault(found.record.id, found)

    def name_room(self, room: RoomState) -> None:
        """A rule has created a room."""
        self.rooms[room.record.id] = room
        self._named["names", room.record.name] = room.record.id
        if room.record.pair is not None:
            self._named["pairs", room.record.pair] = room.record.id

    def unname_room(self, room: RoomState) -> None:
        """A rule has deleted a room."""
        self._named["names", room.record.name] = None
        if room.record.pair is not None:
            self._named["pairs", room.record.pair] = None
