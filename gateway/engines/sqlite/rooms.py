"""Rooms, their members and what these say, in the embedded store: each method is one operation, all of it or
nothing (see ``tables``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway import events
from gateway.engines.base import Added, HistoryPage, MemberPage, Receipt
from gateway.engines.sqlite.log import now_ms
from gateway.errors import Forbidden, LimitReached, RoomExists, RoomNotFound
from gateway.events import Room
from gateway.tokens import tokens

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from gateway.engines.base import Policy
    from gateway.engines.sqlite.log import Log
    from gateway.engines.sqlite.members import Members

SHOWN_MEMBERS = 100
"""Members that a reply or an event shows of a room; ``list-members`` pages through all."""

MAX_KNOWN = 65_536
"""Members whose rooms' ids are remembered."""


class Rooms:
    """The table ``rooms``."""

    def __init__(
        self, connection: sqlite3.Connection, log: Log, members: Members, policy: Policy, clock: Callable[[], float]
    ) -> None:
        """``clock`` gives Unix time in seconds."""
        self._db = connection
        self._log = log
        self._members = members
        self._policy = policy
        self._clock = clock
        self._message_ids = tokens(12)
        self._ids_by_member: dict[tuple[str, str], int] = {}
        """Ids of rooms by member and name: of those who have spoken since the last failure."""

    def rollback(self) -> None:
        """What was written since the transaction began is gone."""
        self._ids_by_member.clear()

    def create_room(self, actor: str, room: str, users: tuple[str, ...], history: str) -> Room:
        if self._db.execute("SELECT 1 FROM rooms WHERE name = ?", (room,)).fetchone() is not None:
            raise RoomExists(room)
        users = tuple(user for user in users if user != actor)
        self._members.check_may_join((actor, *users))
        if 1 + len(users) > self._policy.max_members:
            raise LimitReached.members_per_room(room, self._policy.max_members)
        cursor = self._db.execute("INSERT INTO rooms (name, history, member_count) VALUES (?, ?, 0)", (room, history))
        room_id = cursor.lastrowid or 0
        self._members.insert(room_id, (actor,), [self._log.newest()], invited=False)
        self._log.move(room, joined=(actor,))
        self.join(room_id, room, users, by=actor)
        return self.shape(room_id, room)

    def add_members(self, actor: str, room: str, users: tuple[str, ...]) -> Added:
        room_id, member_count = self._room_of_member(actor, room)
        if self._is_direct(room_id):
            raise Forbidden.adding_to_direct()
        members = self._members.among(room_id, users)
        added = tuple(user for user in users if user not in members)
        self._members.check_may_join(added)
        if member_count + len(added) > self._policy.max_members:
            raise LimitReached.members_per_room(room, self._policy.max_members)
        if self._is_announced(member_count + len(added)):
            for user in added:
                self._log.append(room_id, room, events.USER_JOINED, events.user_joined(room, user, actor), origin=actor)
        self.join(room_id, room, added, by=actor)
        return Added(added, tuple(user for user in users if user in members))

    def remove_member(self, actor: str, room: str) -> None:
        room_id, member_count = self._room_of_member(actor, room)
        self._db.execute(
            "UPDATE sessions SET missed_by_leaving = max(missed_by_leaving, ?) WHERE username = ?",
            (self._log.newest_for(room_id, actor), actor),
        )
        self._remove_member(room_id, room, member_count, actor)

    def leave_all(self, username: str) -> None:
        """Take a user whose session ends out of all rooms."""
        for room_id, room, member_count in self._rooms_of(username):
            self._remove_member(room_id, room, member_count, username)

    def list_rooms(self, username: str) -> tuple[Room, ...]:
        rows = self._db.execute(
            "SELECT id, name, peer FROM members JOIN rooms ON id = room_id WHERE username = ? ORDER BY name",
            (username,),
        ).fetchall()
        return tuple(self.shape(room_id, room, peer=peer) for room_id, room, peer in rows)

    def list_members(self, actor: str, room: str, after: str, limit: int) -> MemberPage:
        room_id, member_count = self._room_of_member(actor, room)
        members = self._members.page(room_id, after, limit + 1)
        return MemberPage(members[:limit], member_count, more=len(members) > limit)

    def enter(self, room_id: int, room: str, user: str, *, peer: str) -> None:
        """Make ``user``, who asked for it, a member of a direct room; the other hears of it."""
        (member_count,) = self._db.execute("SELECT member_count FROM rooms WHERE id = ?", (room_id,)).fetchone()
        if member_count and self._is_announced(member_count + 1):
            self._log.append(room_id, room, events.USER_JOINED, events.user_joined(room, user, user), origin=user)
        self._members.insert(room_id, (user,), [self._log.newest()], invited=False, peer=peer)
        self._log.move(room, joined=(user,))

    def join(self, room_id: int, room: str, users: tuple[str, ...], *, by: str, peer: str | None = None) -> None:
        """Make ``users`` members and tell each of them. ``peer``: the other of a direct room."""
        newest = self._log.newest()
        # Each hears the room from behind its own room-joined, whose position it gets below.
        positions = [newest + 1 + index for index in range(len(users))]
        self._members.insert(room_id, users, positions, invited=True, peer=peer)
        body = events.room_joined(self.shape(room_id, room, peer=peer), by)
        for user in users:
            self._log.append(room_id, room, events.ROOM_JOINED, body, origin=by, recipient=user)
        self._log.move(room, joined=users)

    def _remove_member(self, room_id: int, room: str, member_count: int, username: str) -> None:
        self._db.execute("DELETE FROM members WHERE room_id = ? AND username = ?", (room_id, username))
        self._ids_by_member.pop((username, room), None)
        self._log.move(room, left=(username,))
        if member_count == 1:
            self._log.forget(room_id)
            self._db.execute("DELETE FROM rooms WHERE id = ?", (room_id,))
            return
        self._db.execute("UPDATE rooms SET member_count = member_count - 1 WHERE id = ?", (room_id,))
        if self._is_announced(member_count):
            body = events.user_left(room, username)
            self._log.append(room_id, room, events.USER_LEFT, body, origin=username)

    def _room_of_member(self, username: str, room: str) -> tuple[int, int]:
        """The room's id and its member count. A room of others is as none: also in the time that it takes to say so."""
        row = self._db.execute(
            "SELECT id, member_count FROM rooms JOIN members ON room_id = id WHERE name = ? AND username = ?",
            (room, username),
        ).fetchone()
        if row is None:
            raise RoomNotFound(room)
        room_id, member_count = row
        return room_id, member_count

    def _room_id_of_member(self, username: str, room: str) -> int:
        """The room's id, without asking the disk each time."""
        key = username, room
        room_id = self._ids_by_member.get(key)
        if room_id is None:
            if len(self._ids_by_member) >= MAX_KNOWN:
                self._ids_by_member.clear()
            room_id, _ = self._room_of_member(username, room)
            self._ids_by_member[key] = room_id
        return room_id

    def _rooms_of(self, username: str) -> list[tuple[int, str, int]]:
        """Id, name and member count of a user's rooms, in order of name."""
        return self._db.execute(
            "SELECT id, name, member_count FROM members JOIN rooms ON id = room_id WHERE username = ? ORDER BY name",
            (username,),
        ).fetchall()

    def shape(self, room_id: int, room: str, *, peer: str | None = None) -> Room:
        """The room as a member sees it. ``peer``: the other of a direct room."""
        kind, history, member_count = self._db.execute(
            "SELECT kind, history, member_count FROM rooms WHERE id = ?", (room_id,)
        ).fetchone()
        return Room(room, kind, history, self._members.page(room_id, "", SHOWN_MEMBERS), member_count, peer)

    def _is_direct(self, room_id: int) -> bool:
        (kind,) = self._db.execute("SELECT kind FROM rooms WHERE id = ?", (room_id,)).fetchone()
        return bool(kind == events.DIRECT)

    # --- messages and presence

    def append_message(self, actor: str, room: str, content: str, message_id: str | None) -> Receipt:
        room_id = self._room_id_of_member(actor, room)
        if message_id is not None and (sent := self._log.message_ts(room_id, actor, message_id)) is not None:
            return Receipt(message_id, sent, duplicate=True)
        ts = now_ms(self._clock)
        name = next(self._message_ids) if message_id is None else message_id
        body = events.message(name, room, actor, content, ts)
        self._log.append(room_id, room, events.MESSAGE, body, origin=actor, message_id=message_id, ts=ts)
        return Receipt(name, ts, duplicate=False)

    def read_history(self, actor: str, room: str, before: str | None, limit: int) -> HistoryPage:
        room_id, _ = self._room_of_member(actor, room)
        return self._log.read_messages(room_id, self._history_begins(room_id, actor), before, limit)

    def _history_begins(self, room_id: int, username: str) -> int:
        """The position after which a member may read the room."""
        row = self._db.execute(
            "SELECT iif(history = 'joined', joined, 0) FROM members JOIN rooms ON id = room_id "
            "WHERE room_id = ? AND username = ?",
            (room_id, username),
        ).fetchone()
        return int(row[0])

    def publish_typing(self, actor: str, room: str) -> None:
        self._room_id_of_member(actor, room)
        self._log.publish(room, events.TYPING, events.typing(room, actor), origin=actor)

    def publish_presence(self, username: str, *, online: bool) -> None:
        for _, room, member_count in self._rooms_of(username):
            if self._is_announced(member_count):
                body = events.presence(room, username, online=online)
                self._log.publish(room, events.PRESENCE, body, origin=username)

    def _is_announced(self, member_count: int) -> bool:
        """Whether a room of that size hears who comes, goes and is online."""
        return member_count <= self._policy.presence_limit
