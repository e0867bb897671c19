"""Who is in which room, in the embedded store; the operations on it are in ``rooms`` and ``direct``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from gateway.engines.base import UserPage
from gateway.errors import LimitReached, UnknownUser
from gateway.events import Member

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from gateway.engines.base import Policy
    from gateway.engines.sqlite.space import Space


MAX_COMPANIONS = 1_000
"""How many memberships are looked at to find those who share a room with a user. More would take longer than others
should wait, and more letters of a name find everybody.
"""

LAST_CHARACTER = "\U0010ffff"
"""What comes after every character that a name may have."""

INVITATIONS = "(SELECT count(*) FROM members WHERE username = value AND invited)"
OWN_ROOMS = f"(SELECT count(*) FROM members WHERE username = value) - {INVITATIONS}"


class Members:
    """The table ``members``."""

    def __init__(self, connection: sqlite3.Connection, policy: Policy, space: Space) -> None:
        self._db = connection
        self.space = space
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

    def find_companions(self, username: str, prefix: str, limit: int) -> UserPage:
        """Who is online of those who share a room with ``username``, and that user; with names that begin with
        ``prefix``, in order. At most `MAX_COMPANIONS` are looked at, in the smallest rooms first.
        """
        rooms = self._db.execute(
            "SELECT room_id FROM members JOIN rooms ON id = room_id WHERE username = ? ORDER BY member_count",
            (username,),
        ).fetchall()
        found = {username} if username.startswith(prefix) else set()
        looked_at = 0
        for (room_id,) in rooms:
            names = self._db.execute(
                "SELECT username FROM members WHERE room_id = ? AND username >= ? AND username < ? "
                "ORDER BY username LIMIT ?",
                (room_id, prefix, prefix + LAST_CHARACTER, min(limit + 1, MAX_COMPANIONS - looked_at)),
            ).fetchall()
            found.update(name for (name,) in names)
            looked_at += len(names)
            if looked_at == MAX_COMPANIONS:
                break
        users = self._db.execute(
            "SELECT username FROM sessions WHERE username IN (SELECT value FROM json_each(?)) "
            "AND connection IS NOT NULL ORDER BY username LIMIT ?",
            (orjson.dumps(sorted(found)).decode(), limit + 1),
        ).fetchall()
        return UserPage(tuple(name for (name,) in users[:limit]), more=len(users) > limit)

    def check_known(self, users: tuple[str, ...]) -> None:
        """See that each of ``users`` has a session.

        Raises:
            UnknownUser: with the names of those who have none.
        """
        known = self._names("SELECT username FROM sessions WHERE username IN (SELECT value FROM json_each(?))", users)
        unknown = [user for user in users if user not in known]
        if unknown:
            raise UnknownUser(unknown)

    def check_allowance(self, users: tuple[str, ...], *, invited: bool) -> None:
        """See that each of ``users`` may be in one room more. Rooms that others put them into, and those that they
        entered by themselves, are counted apart: nobody uses up what another may do.

        Raises:
            LimitReached: with the names of those who may not.
        """
        full = self._names(
            f"SELECT value FROM json_each(?) WHERE {INVITATIONS if invited else OWN_ROOMS} >= ?",
            users,
            self._policy.max_rooms,
        )
        if full:
            names = [user for user in users if user in full]
            limited = LimitReached.invitations if invited else LimitReached.own_rooms
            raise limited(names, self._policy.max_rooms)
        if users:
            self.space.check()

    def _names(self, query: str, users: tuple[str, ...], *parameters: object) -> set[str]:
        """The usernames that ``query`` finds; its first parameter is ``users`` as a JSON array."""
        rows = self._db.execute(query, (orjson.dumps(users).decode(), *parameters))
        return {username for (username,) in rows}
