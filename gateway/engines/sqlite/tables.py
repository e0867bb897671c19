"""What the embedded store does in a transaction: each method is one operation, all of it or nothing.

An operation checks first and writes then, so that one that refuses (a `GatewayError`) has changed nothing. What
it did for others to hear goes, in order, into `Log.effects`. What happens in rooms is kept by `Log`.
"""

from __future__ import annotations

import contextlib
import hmac
import sqlite3
from typing import TYPE_CHECKING

import orjson

from gateway import events
from gateway.engines.base import (
    Added,
    Attachment,
    HistoryPage,
    MemberPage,
    Receipt,
    ResumePoint,
    Session,
    UserPage,
)
from gateway.engines.sqlite.log import Log
from gateway.errors import (
    LimitReached,
    NotAMember,
    RoomExists,
    RoomNotFound,
    UnknownUser,
    UsernameTaken,
)
from gateway.events import Member, Room
from gateway.tokens import tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.engines.base import Effect, Policy

SHOWN_MEMBERS = 100
"""Members that a reply or an event shows of a room; ``list-members`` pages through all."""

EXPIRED_AT_ONCE = 100

MAX_KNOWN = 65_536
"""Members whose rooms' ids are remembered."""


class Tables:
    """The tables of ``schema.sql``. Used by one thread at a time."""

    def __init__(self, connection: sqlite3.Connection, policy: Policy, clock: Callable[[], float]) -> None:
        self._db = connection
        self._log = Log(connection, policy, self._now)
        self._policy = policy
        self._clock = clock
        self._message_ids = tokens(12)
        self._sids = tokens(15)
        self._pids = tokens(24)
        self._changes = 0
        self._rooms_by_member: dict[tuple[str, str], int] = {}
        """Ids of rooms by member and name: of those who have spoken since the last failure."""

    # --- transactions

    def begin(self) -> None:
        if self._db.in_transaction:
            self.rollback()
        self.take_effects()
        self._log.begin()
        self._db.execute("BEGIN")
        self._changes = self._db.total_changes

    def flush(self) -> bool:
        self._log.flush()
        return self._db.total_changes > self._changes

    def commit(self) -> None:
        self._db.execute("COMMIT")

    def rollback(self) -> None:
        """Undo what was not committed, and know nothing any more of what may not be so."""
        if self._db.in_transaction:
            with contextlib.suppress(sqlite3.Error):  # begin() tries again
                self._db.execute("ROLLBACK")
        self._rooms_by_member.clear()
        self._log.rollback()

    def take_effects(self) -> list[Effect]:
        effects, self._log.effects = self._log.effects, []
        return effects

    def is_full(self) -> bool:
        return self._log.told >= self._policy.commit_size

    def close(self) -> None:
        self._db.close()

    # --- sessions

    def attach_session(self, username: str, connection: str, resume: ResumePoint | None) -> Session:
        row = self._db.execute(
            "SELECT sid, pid, previous_pid, connection FROM sessions WHERE username = ?", (username,)
        ).fetchone()
        if row is not None:
            sid, *pids, holder = row
            if resume is not None and any(_is_same(resume.pid, pid) for pid in pids):
                return self._resume(Session(sid, resume.pid, username), connection, holder, resume.offset)
            if holder is not None:
                raise UsernameTaken(username)
            self._end(username)
        session = Session(next(self._sids), next(self._pids), username)
        self._db.execute(
            "INSERT INTO sessions (username, sid, pid, connection) VALUES (?, ?, ?, ?)",
            (username, session.sid, session.pid, connection),
        )
        self._log.effects.append(
            Attachment(session, connection, (), self._log.offset(self._log.newest()), recovered=False)
        )
        return session

    def _resume(self, session: Session, connection: str, holder: str | None, offset: str | None) -> Session:
        missed = self._log.missed(session.username, offset)
        recovered = offset is not None and missed is not None
        previous_pid = None
        if not recovered:
            # The stock client takes an unchanged pid for a recovery.
            previous_pid = session.pid
            session = Session(session.sid, next(self._pids), session.username)
        self._db.execute(
            "UPDATE sessions SET pid = ?, previous_pid = ?, connection = ?, suspended_at = NULL WHERE username = ?",
            (session.pid, previous_pid, connection, session.username),
        )
        self._log.effects.append(
            Attachment(
                session,
                connection,
                self.list_rooms(session.username),
                offset if recovered and offset is not None else self._log.offset(self._log.newest()),
                recovered,
                missed if recovered and missed is not None else (),
                replaces=holder,
            )
        )
        if holder is None:
            self._publish_presence(session.username, online=True)
        return session

    def suspend_session(self, session: Session, connection: str) -> None:
        cursor = self._db.execute(
            "UPDATE sessions SET connection = NULL, suspended_at = ? WHERE username = ? AND sid = ? AND connection = ?",
            (self._now(), session.username, session.sid, connection),
        )
        if cursor.rowcount:
            self._publish_presence(session.username, online=False)

    def suspend_all_sessions(self) -> None:
        """Nobody could come back while the store was closed: the recovery windows of all begin now."""
        self._db.execute("UPDATE sessions SET connection = NULL, suspended_at = ?", (self._now(),))

    def end_session(self, session: Session, connection: str) -> None:
        row = self._db.execute(
            "SELECT 1 FROM sessions WHERE username = ? AND sid = ? AND connection = ?",
            (session.username, session.sid, connection),
        ).fetchone()
        if row is not None:
            self._end(session.username)

    def end_expired_sessions(self) -> int:
        expired = self._db.execute(
            "SELECT username FROM sessions WHERE suspended_at <= ? ORDER BY suspended_at LIMIT ?",
            (self._now() - int(self._policy.recovery_window * 1000), EXPIRED_AT_ONCE),
        ).fetchall()
        for (username,) in expired:
            self._end(username)
        return len(expired)

    def _end(self, username: str) -> None:
        for room_id, room, member_count in self._rooms_of(username):
            self._remove_member(room_id, room, member_count, username)
        self._db.execute("DELETE FROM sessions WHERE username = ?", (username,))

    # --- rooms

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
        self._db.execute(
            "UPDATE sessions SET missed_by_leaving = max(missed_by_leaving, ?) WHERE username = ?",
            (self._log.newest_for(room_id, actor), actor),
        )
        self._remove_member(room_id, room, member_count, actor)

    def list_rooms(self, username: str) -> tuple[Room, ...]:
        return tuple(self._room(room_id, room) for room_id, room, _ in self._rooms_of(username))

    def list_members(self, actor: str, room: str, after: str, limit: int) -> MemberPage:
        room_id, member_count = self._room_of_member(actor, room)
        members = self._members(room_id, after, limit + 1)
        return MemberPage(members[:limit], member_count, more=len(members) > limit)

    def find_users(self, prefix: str, limit: int) -> UserPage:
        rows = self._db.execute(
            "SELECT username FROM sessions WHERE connection IS NOT NULL AND username >= ? "
            "AND substr(username, 1, ?) = ? ORDER BY username LIMIT ?",
            (prefix, len(prefix), prefix, limit + 1),
        ).fetchall()
        users = tuple(username for (username,) in rows)
        return UserPage(users[:limit], more=len(users) > limit)

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

    def _remove_member(self, room_id: int, room: str, member_count: int, username: str) -> None:
        self._db.execute("DELETE FROM members WHERE room_id = ? AND username = ?", (room_id, username))
        self._rooms_by_member.pop((username, room), None)
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
        room_id = self._rooms_by_member.get(key)
        if room_id is None:
            if len(self._rooms_by_member) >= MAX_KNOWN:
                self._rooms_by_member.clear()
            room_id, _ = self._room_of_member(username, room)
            self._rooms_by_member[key] = room_id
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
        if message_id is not None and (sent := self._log.message_ts(room_id, actor, message_id)) is not None:
            return Receipt(message_id, sent, duplicate=True)
        ts = self._now()
        name = next(self._message_ids) if message_id is None else message_id
        body = events.message(name, room, actor, content, ts)
        self._log.append(room_id, room, events.MESSAGE, body, origin=actor, message_id=message_id, ts=ts)
        return Receipt(name, ts, duplicate=False)

    def read_history(self, actor: str, room: str, before: str | None, limit: int) -> HistoryPage:
        room_id, _ = self._room_of_member(actor, room)
        return self._log.read_messages(room_id, before, limit)

    def publish_typing(self, actor: str, room: str) -> None:
        self._room_id_of_member(actor, room)
        self._log.publish(room, events.TYPING, events.typing(room, actor), origin=actor)

    def _publish_presence(self, username: str, *, online: bool) -> None:
        for _, room, member_count in self._rooms_of(username):
            if self._is_announced(member_count):
                body = events.presence(room, username, online=online)
                self._log.publish(room, events.PRESENCE, body, origin=username)

    def _is_announced(self, member_count: int) -> bool:
        """Whether a room of that size hears who comes, goes and is online."""
        return member_count <= self._policy.presence_limit

    def _now(self) -> int:
        return int(self._clock() * 1000)


def _is_same(given: str, secret: str | None) -> bool:
    """Compare without telling by the time it takes how much was right."""
    return secret is not None and hmac.compare_digest(given.encode(), secret.encode())
