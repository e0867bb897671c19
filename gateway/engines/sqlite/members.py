"""Who is in which room, in the embedded store; the operations on it are in ``rooms`` and ``direct``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from gateway.errors import LimitReached, UnknownUser
from gateway.events import Member

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from gateway.engines.base import Policy


class Members:
    """The table ``members``."""

    def __init__(self, connection: sqlite3.Connection, policy: Policy) -> None:
        self._db = connection
        self._policy = policy

    def insert(
        self,
        room_id: int,
        users: Sequence[str],
        joined: Sequence[int],
        *,
        invited: bool,
        peer: str | None = None,
    ) -> None:
        """Make ``users`` members who hear the room after the positions ``joined``.

        ``invited``: others put them into the room. ``peer``: the other of a direct room.
        """
        self._db.executemany(
            "INSERT INTO members (room_id, username, joined, invited, peer) VALUES (?, ?, ?, ?, ?)",
            [(room_id, user, position, invited, peer) for user, position in zip(users, joined, strict=True)],
        )
        self._db.execute("UPDATE rooms SET member_count = member_count + ? WHERE id = ?", (len(users), room_id))

    def page(self, room_id: int, after: str, limit: int) -> tuple[Member, ...]:
        """The first ``limit`` members in order of name, of those after ``after``."""
        rows = self._db.execute(
            "SELECT username, connection IS NOT NULL FROM members JOIN sessions USING (username) "
            "WHERE room_id = ? AND username > ? ORDER BY username LIMIT ?",
            (room_id, after, limit),
        )
        return tuple(Member(username, bool(online)) for username, online in rows)

    def among(self, room_id: int, users: tuple[str, ...]) -> set[str]:
        """Those of ``users`` who are in the room."""
        return self._names(
            "SELECT username FROM members WHERE username IN (SELECT value FROM json_each(?)) AND room_id = ?",
            users,
            room_id,
        )

    def check_may_join(self, users: tuple[str, ...]) -> None:
        """See that each of ``users`` has a session, and may be in one room more.

        Raises:
            UnknownUser, LimitReached: with the names of those who do not.
        """
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
