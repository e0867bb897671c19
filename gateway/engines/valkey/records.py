"""How sessions, memberships and rooms are written down in the store's hashes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import orjson

from gateway.engines.effects import Holder
from gateway.engines.transaction import Membership, RoomId, RoomRecord, SessionRecord

if TYPE_CHECKING:
    from collections.abc import Iterator

LONG_AGO: Final = -(2**40)
"""Since when a session is suspended to which no client can return: longer than any recovery window."""


@dataclass(slots=True)
class RoomState:
    """A room as it was read, and as the rules of a batch have changed it since.

    ``version`` is '' if it is new. ``newest``: the position of its newest event when it was read. ``added`` and
    ``removed``: usernames.
    """

    record: RoomRecord
    version: str
    newest: str
    changes: int = 0
    """How many rules of the batch have changed it."""
    added: dict[str, bool] = field(default_factory=dict)
    """Whether each of them is online."""
    removed: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Place:
    """A membership. ``peer``: the other user of a direct room."""

    joined: int
    invited: bool
    peer: str | None


@dataclass(slots=True)
class UserState:
    """A user as it was read: its sessions by sid, and its memberships. ``version`` is '' if there is no such user."""

    version: str
    sessions: dict[str, SessionRecord]
    places: dict[RoomId, Place]
    is_written: bool = False
    """Whether a rule of the batch has changed it, so that what was read is of no use to another."""


def encode_session(session: SessionRecord) -> str:
    holder = session.holder
    where = None if holder is None else [holder.connection, holder.node]
    return orjson.dumps(
        [
            session.pid_hash,
            session.previous_pid_hash,
            where,
            session.suspended_at,
            session.resumable,
            session.began,
            session.missed_by_leaving,
            session.claimed_at,
        ]
    ).decode()


def decode_user(username: str, fields: list[bytes], windows_began: int) -> UserState:
    """``windows_began``: a session that was suspended before counts as suspended then (`Node.windows_began`)."""
    version, sessions, places = "", {}, {}
    for name, value in _pairs(fields):
        kind, rest = name[:1], name[1:].decode()
        if kind == b"s":
            sessions[rest] = _session(rest, username, value, windows_began)
        elif kind == b"m":
            joined, invited, peer = orjson.loads(value)
            places[RoomId(int(rest))] = Place(joined, invited, peer)
        else:
            version = value.decode()
    return UserState(version, sessions, places)


def _session(sid: str, username: str, value: bytes, windows_began: int) -> SessionRecord:
    pid, previous, where, suspended_at, resumable, began, missed, claimed_at = orjson.loads(value)
    holder = None if where is None else Holder(*where)
    if suspended_at is not None and resumable:
        suspended_at = max(suspended_at, windows_began)
    return SessionRecord(sid, username, pid, previous, holder, suspended_at, resumable, began, missed, claimed_at)


def decode_room(room_id: int, fields: list[bytes | None]) -> RoomState | None:
    version, name, kind, history, pair, count, newest = (None if value is None else value.decode() for value in fields)
    if name is None or kind is None or history is None:
        return None
    record = RoomRecord(RoomId(room_id), name, kind, history, pair, int(count or 0))
    return RoomState(record, version or "", newest or "")


def membership(username: str, place: Place, room: RoomState) -> Membership:
    return Membership(room.record, username, place.joined, place.invited)


def session_key(session: SessionRecord) -> str:
    """How the indexes of sessions name one: usernames may contain spaces, sids do not."""
    return f"{session.sid} {session.username}"


def split_session_key(key: bytes) -> tuple[str, str]:
    """Its sid and its username."""
    sid, _, username = key.decode().partition(" ")
    return sid, username


def _pairs(values: list[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(values[::2], values[1::2], strict=True)


def pairs(values: list[bytes]) -> Iterator[tuple[str, int]]:
    """What scripts reply as {name, number, …}."""
    return ((name.decode(), int(value)) for name, value in _pairs(values))
