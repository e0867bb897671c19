"""Rooms, their members and what these say, in the embedded store: each method is one operation, all of it or
nothing (see ``tables``).
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from gateway import events
from gateway.engines.base import Added, HistoryPage, MemberPage, Receipt
from gateway.errors import Forbidden, LimitReached, RoomExists, RoomNotFound
from gateway.events import Room
from gateway.protocol.names import MAX_GROWTH, room_name

if TYPE_CHECKING:
    import sqlite3

    from gateway.engines.base import Policy
    from gateway.engines.sqlite.departures import Departures
    from gateway.engines.sqlite.history import History
    from gateway.engines.sqlite.log import Log
    from gateway.engines.sqlite.members import Members

SHOWN_MEMBERS = 10
"""How many members a reply or an event shows of a room. A user may be in a hundred rooms and is shown them all at once;
``list-members`` pages through all.
"""

SHAPE = f"""name, kind, history, (
    SELECT json_group_array(json_object('username', username, 'online', json(iif(connection IS NULL, 'false', 'true'))))
    FROM (
        SELECT username, connection FROM members JOIN sessions USING (username)
        WHERE room_id = rooms.id ORDER BY username LIMIT {SHOWN_MEMBERS}
    )
), member_count"""
"""The columns of a `Room`, but for the other of a direct one. SQLite writes the members down: as Python objects they
would take twice as long, and a user may be in two hundred rooms.
"""

MAX_KNOWN = 65_536
"""Members whose rooms' ids are remembered."""


class Rooms:
    """The table ``rooms``."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        log: Log,
        history: History,
        members: Members,
        departures: Departures,
        policy: Policy,
    ) -> None:
        self._db = connection
        self._log = log
        self._history = history
        self._members = members
        self._departures = departures
        self._policy = policy
        self._ids_by_member: dict[tuple[str, str], int] = {}
        """Ids of rooms by member and name: of those who have spoken since the last failure."""

    def rollback(self) -> None:
        """What was written since the transaction began is gone."""
        self._ids_by_member.clear()

    def create_room(self, actor: str, room: str, users: tuple[str, ...], history: str) -> Room:
        if self._db.execute("SELECT 1 FROM rooms WHERE name = ?", (room,)).fetchone() is not None:
            raise RoomExists(room)
        users = tuple(user for user in users if user != actor)
        self._members.check_known(users)
        self._members.check_allowance((actor,), invited=False)
        self._members.check_allowance(users, invited=True)
        if 1 + len(users) > self._policy.max_members:
            raise LimitReached.members_per_room(room, self._policy.max_members)
        cursor = self._db.execute("INSERT INTO rooms (name, history, member_count) VALUES (?, ?, 0)", (room, history))
        room_id = cursor.lastrowid or 0
        self._members.insert(room_id, (actor,), [self._log.newest()], invited=False)
        self._log.move(room, joined=(actor,))
        self.join(room_id, room, users, by=actor)
        return self.shape(room_id)

    def add_members(self, actor: str, room: str, users: tuple[str, ...]) -> Added:
        room_id, member_count = self._room_of_member(actor, room)
        if self._pair(room_id) is not None:
            raise Forbidden.adding_to_direct()
        members = self._members.among(room_id, users)
        others = tuple(user for user in users if user not in members)
        self._members.check_known(others)
        declined = self._departures.among(str(room_id), others)
        added = tuple(user for user in others if user not in declined)
        self._members.check_allowance(added, invited=True)
        if member_count + len(added) > self._policy.max_members:
            raise LimitReached.members_per_room(room, self._policy.max_members)
        if self._is_announced(member_count + len(added)):
            for user in added:
                self._log.append(room_id, room, events.USER_JOINED, events.user_joined(room, user, actor), origin=actor)
        self.join(room_id, room, added, by=actor)
        already, refused = (tuple(user for user in users if user in names) for names in (members, declined))
        return Added(added, already, refused)

    def remove_member(self, actor: str, room: str) -> None:
        room_id, member_count = self._room_of_member(actor, room)
        heard = self._newest_heard(room_id, actor)
        self._db.execute(
            "UPDATE sessions SET missed_by_leaving = max(missed_by_leaving, ?) WHERE username = ?", (heard, actor)
        )
        pair = self._pair(room_id)
        if pair is not None or member_count > 1:
            self._departures.note(pair or str(room_id), actor)
        self._db.execute("UPDATE rooms SET member_count = member_count - 1 WHERE id = ?", (room_id,))
        self._db.execute("DELETE FROM members WHERE room_id = ? AND username = ?", (room_id, actor))
        self._publish_leaving(room_id, room, member_count, actor)

    def leave_all(self, username: str) -> None:
        """Take a user whose session ends out of all rooms."""
        rooms = self._rooms_of(username)
        self._departures.forget_user(username)
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
        query = f"SELECT {SHAPE}, peer FROM members JOIN rooms ON id = room_id WHERE username = ? ORDER BY name"
        return tuple([Room(*row) for row in self._db.execute(query, (username,)).fetchall()])

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
        if not users:
            return
        newest = self._log.newest()
        # Each hears the room from behind its own room-joined, whose position it gets below.
        positions = [newest + 1 + index for index in range(len(users))]
        self._members.insert(room_id, users, positions, invited=True, peer=peer)
        body = events.room_joined(self.shape(room_id, peer=peer), by)
        for user in users:
            self._log.append(room_id, room, events.ROOM_JOINED, body, origin=by, recipient=user)
        self._log.move(room, joined=users)

    def _publish_leaving(self, room_id: int, room: str, member_count: int, username: str) -> None:
        """A room that had ``member_count`` members has one less; without any it is gone."""
        self._ids_by_member.pop((username, room), None)
        self._log.move(room, left=(username,))
        if member_count == 1:
            self._log.forget(room_id)
            self._departures.forget_place(str(room_id))
            self._db.execute("DELETE FROM rooms WHERE id = ?", (room_id,))
        elif self._is_announced(member_count):
            body = events.user_left(room, username)
            self._log.append(room_id, room, events.USER_LEFT, body, origin=username)

    def called(self, username: str, text: str) -> str:
        """The name of the room that a member calls ``text``: exactly this, which a room of an older store may have, or
        else the name that a new room gets when somebody asks for ``text``.
        """
        is_normal = text.isascii() and "  " not in text and text == text.strip(" ")
        if is_normal or (username, text) in self._ids_by_member:
            return text
        with contextlib.suppress(RoomNotFound):
            self._room_of_member(username, text)
            return text
        with contextlib.suppress(ValueError):
            return room_name(text, MAX_GROWTH * len(text))
        return text

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

    def shape(self, room_id: int, *, peer: str | None = None) -> Room:
        """The room as a member sees it. ``peer``: the other of a direct room."""
        row = self._db.execute(f"SELECT {SHAPE}, ? FROM rooms WHERE id = ?", (peer, room_id)).fetchone()
        return Room(*row)

    def _pair(self, room_id: int) -> str | None:
        """What names the two of a direct room; None for a room of another kind."""
        (pair,) = self._db.execute("SELECT pair FROM rooms WHERE id = ?", (room_id,)).fetchone()
        return None if pair is None else str(pair)

    # --- messages and presence

    def append_message(self, actor: str, room: str, content: str, message_id: str | None) -> Receipt:
        room_id = self._room_id_of_member(actor, room)
        if message_id is not None and (sent := self._log.find_sent(room_id, actor, message_id)) is not None:
            return Receipt(message_id, sent, duplicate=True)
        self._members.space.check()
        ts = self._log.message_ts(room_id)
        name = self._log.message_id() if message_id is None else message_id
        body = events.message(name, room, actor, content, ts)
        self._log.append(room_id, room, events.MESSAGE, body, origin=actor, message_id=message_id, ts=ts)
        return Receipt(name, ts, duplicate=False)

    def read_history(self, actor: str, room: str, before: str | None, limit: int) -> HistoryPage:
        room_id, _ = self._room_of_member(actor, room)
        return self._history.read(room_id, before, limit, after=self._history_begins(room_id, actor))

    def _history_begins(self, room_id: int, username: str) -> int:
        """The position after which a member may read the room."""
        row = self._db.execute(
            "SELECT iif(history = 'joined', joined, 0) FROM members JOIN rooms ON id = room_id "
            "WHERE room_id = ? AND username = ?",
            (room_id, username),
        ).fetchone()
        return int(row[0])

    def publish_typing(self, actor: str, room: str) -> None:
        _, member_count = self._room_of_member(actor, room)
        if self._is_announced(member_count):
            self._log.publish(room, events.TYPING, events.typing(room, actor), origin=actor)

    def publish_presence(self, username: str, *, online: bool) -> None:
        for _, room, member_count in self._rooms_of(username):
            if self._is_announced(member_count):
                body = events.presence(room, username, online=online)
                self._log.publish(room, events.PRESENCE, body, origin=username)

    def _is_announced(self, member_count: int) -> bool:
        """Whether a room of that size hears who comes, goes, is online and types."""
        return member_count <= self._policy.presence_limit
