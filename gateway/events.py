"""The events that clients hear and the shapes inside them, as `docs/protocol.md`, section "Events", names them.

Every body is encoded here, once; the store keeps these bytes and the wires copy them into their frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Sequence

WELCOME = "welcome"
MESSAGE = "message"
ROOM_JOINED = "room-joined"
USER_JOINED = "user-joined"
USER_LEFT = "user-left"
PRESENCE = "presence"
TYPING = "typing"
ERROR = "error"


@dataclass(frozen=True, slots=True)
class Member:
    username: str
    online: bool


@dataclass(frozen=True, slots=True)
class Room:
    """A room as replies and events show it: at most 10 of its members, in order of name, and how many there are."""

    room: str
    members: tuple[Member, ...]
    member_count: int


def encode(**fields: Any) -> bytes:
    """A JSON object. Dataclasses become objects, tuples arrays."""
    return orjson.dumps(fields)


def message(id_: str, room: str, sender: str, content: str, ts: int) -> bytes:
    """``ts`` is Unix time in milliseconds."""
    return orjson.dumps({"id": id_, "room": room, "from": sender, "content": content, "ts": ts})


def room_joined(room: Room, by: str) -> bytes:
    return encode(room=room.room, members=room.members, member_count=room.member_count, by=by)


def user_joined(room: str, username: str, by: str) -> bytes:
    return encode(room=room, username=username, by=by)


def user_left(room: str, username: str) -> bytes:
    return encode(room=room, username=username)


def presence(room: str, username: str, *, online: bool) -> bytes:
    return encode(room=room, username=username, online=online)


def typing(room: str, username: str) -> bytes:
    return encode(room=room, username=username)


def welcome(username: str, rooms: Sequence[Room], *, recovered: bool) -> bytes:
    return encode(username=username, rooms=tuple(rooms), recovered=recovered)


def with_field(body: bytes, name: str, value: str) -> bytes:
    """``body``, an encoded object, with one more field at its end."""
    return b'%b,"%b":%b}' % (body[:-1], name.encode(), orjson.dumps(value))
