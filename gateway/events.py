"""Encoding events. `gateway.protocol.events` declares their fields and when they are sent.

Every body is encoded once, here; the store keeps these bytes, and the wires copy them into their frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from gateway.protocol import events, fields
from gateway.protocol.shapes import HISTORIES, KINDS

if TYPE_CHECKING:
    from collections.abc import Sequence

WELCOME: Final = events.WELCOME.name
MESSAGE: Final = events.MESSAGE.name
ROOM_JOINED: Final = events.ROOM_JOINED.name
USER_JOINED: Final = events.USER_JOINED.name
USER_LEFT: Final = events.USER_LEFT.name
PRESENCE: Final = events.PRESENCE.name
TYPING: Final = events.TYPING.name
ERROR: Final = events.ERROR.name

GROUP, DIRECT = KINDS
ALL, JOINED = HISTORIES

DIRECT_MARK: Final = fields.DIRECT_MARK
"""The first character of the names of direct rooms, and of no room that a client creates."""

SHOWN_MEMBERS = 10
"""How many members a `Room` shows. A user may be in two hundred rooms, all of which ``welcome`` contains;
``list-members`` pages through all members.
"""


@dataclass(frozen=True, slots=True)
class Member:
    username: str
    online: bool


@dataclass(frozen=True, slots=True)
class Room:
    """A room in replies and events, with the first of its members in order of name, and their number.

    ``kind`` is `GROUP` or `DIRECT`, ``history`` `ALL` or `JOINED`. ``members`` is JSON, an array of
    ``{username, online}`` that is inserted as it is. ``user``: the other user of a direct room.
    """

    room: str
    kind: str
    history: str
    members: str
    member_count: int
    user: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """``{room, kind, history, members, member_count, user?}``."""
        shape: dict[str, Any] = {
            "room": self.room,
            "kind": self.kind,
            "history": self.history,
            "members": orjson.Fragment(self.members),
            "member_count": self.member_count,
        }
        if self.user is not None:
            shape["user"] = self.user
        return shape


def encode(**fields: Any) -> bytes:
    """A JSON object. Dataclasses become objects, tuples arrays."""
    return orjson.dumps(fields)


def message(id_: str, room: str, sender: str, content: str, ts: int) -> bytes:
    """``ts`` is Unix time in milliseconds."""
    return orjson.dumps({"id": id_, "room": room, "from": sender, "content": content, "ts": ts})


def room_joined(room: Room, by: str) -> bytes:
    return encode(**room.as_dict(), by=by)


def user_joined(room: str, username: str, by: str) -> bytes:
    return encode(room=room, username=username, by=by)


def user_left(room: str, username: str) -> bytes:
    return encode(room=room, username=username)


def presence(room: str, username: str, *, online: bool) -> bytes:
    return encode(room=room, username=username, online=online)


def typing(room: str, username: str) -> bytes:
    return encode(room=room, username=username)


def welcome(
    username: str, rooms: Sequence[Room], *, recovered: bool, sid: str, pid: str, recovery_window: float
) -> bytes:
    """``recovery_window`` is in seconds. ``pid`` is the client's secret."""
    return encode(
        username=username,
        rooms=[room.as_dict() for room in rooms],
        recovered=recovered,
        sid=sid,
        pid=pid,
        recovery_window=recovery_window,
    )


def with_field(body: bytes, name: str, value: str) -> bytes:
    """``body``, an encoded object, with one more field at the end."""
    return b'%b,"%b":%b}' % (body[:-1], name.encode(), orjson.dumps(value))
