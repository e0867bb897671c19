"""Rooms, their members and what these say, in the embedded store: each method is one operation, all of it or
nothing (see ``tables``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from gateway import events
from gateway.engines.base import Added, HistoryPage, MemberPage, Receipt
from gateway.errors import LimitReached, NotAMember, RoomExists, RoomNotFound, UnknownUser
from gateway.events import Member, Room

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from gateway.engines.base import Policy
    from gateway.engines.sqlite.history import History
    from gateway.engines.sqlite.log import Log

SHOWN_MEMBERS = 10
"""How many members a reply or an event shows of a room. A user may be in a hundred rooms and is shown them all at once;
``list-members`` pages through all.
"""

MAX_KNOWN = 65_536
"""Members whose rooms' ids are remembered."""


class Rooms:
    """The tables ``rooms`` and ``members``."""

    def __init__(self, connection: sqlite3.Connection, log: Log, history: History, policy: Policy) -> None:
        self._db = connection
        self._log = log
        self._history = history
        self._policy = policy
        self._ids_by_member: dict[tuple[str, str], int] = {}
        """Ids of rooms by member and name: of those who have spoken since the last failure."""

    def rollback(self) -> None:
        """What was written since the transaction began is gone."""
        self._ids_by_member.clear()

    def create_room(self, actor: str, room: str, users: tuple[str, ...]) -> Room:
        if self._db.execute("SELECT 1 FROM rooms WHERE name = ?", (room,)).fetchone() is not None:
            raise RoomExists(room)
        users = tuple(user for user in users if user != actor)
        self._check_may_join((actor, *users))
        if 1 + len(users) > self._policy.max_members:
            raise LimitReached.members_per_room(room, self._policy.max_members)
        cursor = self._db.execute("INSERT INTO rooms (name, member_count) VALUES (?, 0)", (room,))
        room_id = cursor.lastrowid or 0
        self._insert_members(room_id, (actor,), [self._log.newest()])
        self._log.move(room, joined=(actor,))
        self._join(room_id, room, users, by=actor)
        return self._room(room_id, room)

    def add_members(self, actor: str, room: str, users: tuple[str, ...]) -> Added:
        room_id, member_count = self._room_of_member(actor, room)
        members = self._names(
            "SELECT username FROM members WHERE username IN (SELECT value FROM json_each(?)) AND room_id = ?",
            users,
            room_id,
        )
        added = tuple(user for user in users if user not in members)
        self._check_may_join(added)
        if member_count + len(added) > self._policy.max_members:
            raise LimitReached.members_per_room(room, self._policy.max_members)
        if self._is_announced(member_count + len(added)):
            for user in added:
                self._log.append(room_id, room, events.USER_JOINED, events.user_joined(room, user, actor), origin=actor)
        self._join(room_id, room, added, by=actor)
        return Added(added, tuple(user for user in users if user in members))

    def remove_member(self, actor: str, room: str) -> None:
        room_id, member_count = self._room_of_member(actor, room)
        heard = self._newest_heard(room_id, actor)
        self._db.execute(
            "UPDATE sessions SET missed_by_leaving = max(missed_by_leaving, ?) WHERE username = ?", (heard, actor)
        )
        self._db.execute("UPDATE rooms SET member_count = member_count - 1 WHERE id = ?", (room_id,))
        self._db.execute("DELETE FROM members WHERE room_id = ? AND username = ?", (room_id, actor))
        self._publish_leaving(room_id, room, member_count, actor)

    def leave_all(self, username: str) -> None:
        """Take a user whose session ends out of all rooms."""
        rooms = self._rooms_of(username)
        self._log.withdraw(username)
        self._db.execute(
            "UPDATE rooms SET member_count = member_count - 1 "
            "WHERE id IN (SELECT room_id FROM members WHERE username = ?)",
            (username,),
        )
        self._db.execute("DELETE FROM members WHERE username = ?", (username,))
        for room_id, room, member_count in rooms:
            self._publish_leaving(room_id, room, member_count, username)

    def _newest_heard(self, room_id: int, username: str) -> int:
        """The position of the newest event in a room that a member who leaves it heard, or 0."""
        (joined,) = self._db.execute(
            "SELECT joined FROM members WHERE room_id = ? AND username = ?", (room_id, username)
        ).fetchone()
        newest = self._log.newest_for(room_id, username)
        was_added = self._log.withdraw(username, room_id)
        return newest if newest > joined else joined if was_added else 0

    def list_rooms(self, username: str) -> tuple[Room, ...]:
        return tuple(
            Room(room, self._members(room_id, "", SHOWN_MEMBERS), member_count)
            for room_id, room, member_count in self._rooms_of(username)
        )

    def list_members(self, actor: str, room: str, after: str, limit: int) -> MemberPage:
        room_id, member_count = self._room_of_member(actor, room)
        members = self._members(room_id, after, limit + 1)
        return MemberPage(members[:limit], member_count, more=len(members) > limit)

    def _check_may_join(self, users: tuple[str, ...]) -> None:
        """Every one has a session, and room for one room more."""
        known = self._names("SELECT username FROM sessions WHERE username IN (SELECT value FROM json_each(?))", users)
        unknown = [user for user in users if user not in known]
        if unknown:
            raise UnknownUser(unknown)
        full = self._names(
            "SELECT value FROM json_each(?) WHERE (SELECT count(*) FROM members WHERE username = value) >= ?",
            users,
            self._policy.max_rooms,
        )
        if full:
            raise LimitReached.rooms_per_user([user for user in users if user in full], self._policy.max_rooms)

    def _names(self, query: str, users: tuple[str, ...], *parameters: object) -> set[str]:
        """The usernames that ``query`` finds; its first parameter is ``users`` as a JSON array."""
        rows = self._db.execute(query, (orjson.dumps(users).decode(), *parameters))
        return {username for (username,) in rows}

    def _join(self, room_id: int, room: str, users: tuple[str, ...], *, by: str) -> None:
        """Make ``users`` members and tell each of them."""
        newest = self._log.newest()
        # Each hears the room from behind its own room-joined, whose position it gets below.
        self._insert_members(room_id, users, [newest + 1 + index for index in range(len(users))])
        body = events.room_joined(self._room(room_id, room), by)
        for user in users:
            self._log.append(room_id, room, events.ROOM_JOINED, body, origin=by, recipient=user)
        self._log.move(room, joined=users)

    def _insert_members(self, room_id: int, users: Sequence[str], joined: Sequence[int]) -> None:
        self._db.executemany(
            "INSERT INTO members (room_id, username, joined) VALUES (?, ?, ?)",
            [(room_id, user, position) for user, position in zip(users, joined, strict=True)],
        )
        self._db.execute("UPDATE rooms SET member_count = member_count + ? WHERE id = ?", (len(users), room_id))

    def _publish_leaving(self, room_id: int, room: str, member_count: int, username: str) -> None:
        """A room that had ``member_count`` members has one less; without any it is gone."""
        self._ids_by_member.pop((username, room), None)
        self._log.move(room, left=(username,))
        if member_count == 1:
            self._log.forget(room_id)
            self._db.execute("DELETE FROM rooms WHERE id = ?", (room_id,))
        elif self._is_announced(member_count):
            body = events.user_left(room, username)
            self._log.append(room_id, room, events.USER_LEFT, body, origin=username)

    def _room_of_member(self, username: str, room: str) -> tuple[int, int]:
        """The room's id and its member count."""
        row = self._db.execute(
            "SELECT id, member_count, EXISTS (SELECT 1 FROM members WHERE room_id = id AND username = ?) "
            "FROM rooms WHERE name = ?",
            (username, room),
        ).fetchone()
        if row is None:
            raise RoomNotFound(room)
        room_id, member_count, is_member = row
        if not is_member:
            raise NotAMember(room)
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

    def _room(self, room_id: int, room: str) -> Room:
        (member_count,) = self._db.execute("SELECT member_count FROM rooms WHERE id = ?", (room_id,)).fetchone()
        return Room(room, self._members(room_id, "", SHOWN_MEMBERS), member_count)

    def _members(self, room_id: int, after: str, limit: int) -> tuple[Member, ...]:
        rows = self._db.execute(
            "SELECT username, connection IS NOT NULL FROM members JOIN sessions USING (username) "
            "WHERE room_id = ? AND username > ? ORDER BY username LIMIT ?",
            (room_id, after, limit),
        )
        return tuple(Member(username, bool(online)) for username, online in rows)

    # --- messages and presence

    def append_message(self, actor: str, room: str, content: str, message_id: str | None) -> Receipt:
        room_id = self._room_id_of_member(actor, room)
        if message_id is not None and (sent := self._log.find_sent(room_id, actor, message_id)) is not None:
            return Receipt(message_id, sent, duplicate=True)
        ts = self._log.message_ts(room_id)
        name = self._log.message_id() if message_id is None else message_id
        body = events.message(name, room, actor, content, ts)
        self._log.append(room_id, room, events.MESSAGE, body, origin=actor, message_id=message_id, ts=ts)
        return Receipt(name, ts, duplicate=False)

    def read_history(self, actor: str, room: str, before: str | None, limit: int) -> HistoryPage:
        room_id, _ = self._room_of_member(actor, room)
        return self._history.read(room_id, before, limit)

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
