"""The table ``members``."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

import orjson

from gateway.engines.sqlite.rooms import COLUMNS as ROOM
from gateway.engines.sqlite.sessions import LAST_CHARACTER
from gateway.engines.transaction import Membership, RoomCounts, RoomId, RoomRecord
from gateway.events import Member

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from gateway.engines.sqlite.log import EventLog
    from gateway.engines.transaction import Invitation

MAX_KNOWN: Final = 65_536
"""How many memberships `MemberTable.find_id` caches. When there are more, the cache is emptied."""

IS_ONLINE = """EXISTS (
    SELECT 1 FROM sessions WHERE sessions.username = members.username AND connection IS NOT NULL
)"""

COUNTS = """
SELECT value, (SELECT count(*) FROM members WHERE username = value),
    (SELECT count(*) FROM members WHERE username = value AND invited)
FROM json_each(?)
"""


class MemberTable:
    """See `gateway.engines.transaction.Members`."""

    def __init__(self, connection: sqlite3.Connection, log: EventLog) -> None:
        self._db = connection
        self._log = log
        self._ids: dict[tuple[str, str], RoomId] = {}
        """A cache of room ids, by member and room name."""

    def rollback(self) -> None:
        """Forget what may have been written since the transaction began."""
        self._ids.clear()

    async def find(self, username: str, names: Sequence[str]) -> Membership | None:
        for name in names:
            row = self._db.execute(
                f"SELECT joined, invited, {ROOM} FROM rooms JOIN members ON room_id = id "
                "WHERE name = ? AND username = ?",
                (name, username),
            ).fetchone()
            if row is not None:
                joined, invited, *room = row
                return Membership(RoomRecord(*room), username, joined, bool(invited))
        return None

    def find_id(self, username: str, names: Sequence[str]) -> tuple[RoomId, str] | None:
        """The id and name of the first of these rooms that a user is in, from the cache if possible."""
        for name in names:
            key = username, name
            room_id = self._ids.get(key)
            if room_id is None:
                row = self._db.execute(
                    "SELECT id FROM rooms JOIN members ON room_id = id WHERE name = ? AND username = ?",
                    (name, username),
                ).fetchone()
                if row is None:
                    continue
                if len(self._ids) >= MAX_KNOWN:
                    self._ids.clear()
                room_id = self._ids[key] = RoomId(row[0])
            return room_id, name
        return None

    async def among(self, room: RoomRecord, usernames: Sequence[str]) -> frozenset[str]:
        rows = self._db.execute(
            "SELECT username FROM members WHERE username IN (SELECT value FROM json_each(?)) AND room_id = ?",
            (_json(usernames), room.id),
        )
        return frozenset(username for (username,) in rows)

    async def of(self, usernames: Sequence[str]) -> Mapping[str, Sequence[Membership]]:
        found: defaultdict[str, list[Membership]] = defaultdict(list)
        rows = self._db.execute(
            f"SELECT username, joined, invited, {ROOM} FROM members JOIN rooms ON id = room_id "
            "WHERE username IN (SELECT value FROM json_each(?))",
            (_json(usernames),),
        ).fetchall()
        for row in rows:
            username, joined, invited = row[:3]
            found[username].append(Membership(RoomRecord._make(row[3:]), username, joined, bool(invited)))
        return dict(found)

    async def counts(self, usernames: Sequence[str]) -> Mapping[str, RoomCounts]:
        rows = self._db.execute(COUNTS, (_json(usernames),))
        return {username: RoomCounts(number - invited, invited) for username, number, invited in rows}

    async def page(self, room: RoomRecord, after: str, limit: int) -> Sequence[Member]:
        rows = self._db.execute(
            f"SELECT username, {IS_ONLINE} FROM members WHERE room_id = ? AND username > ? ORDER BY username LIMIT ?",
            (room.id, after, limit),
        )
        return [Member(username, bool(online)) for username, online in rows]

    async def names(self, rooms: Sequence[RoomRecord], prefix: str, *, each: int, limit: int) -> Sequence[str]:
        found: list[str] = []
        for room in rooms:
            rows = self._db.execute(
                "SELECT username FROM members WHERE room_id = ? AND username >= ? AND username < ? "
                "ORDER BY username LIMIT ?",
                (room.id, prefix, prefix + LAST_CHARACTER, min(each, limit - len(found))),
            )
            found += [username for (username,) in rows]
            if len(found) == limit:
                break
        return found

    def add(
        self,
        room: RoomRecord,
        usernames: Sequence[str],
        *,
        invitation: Invitation | None = None,
        peer: str | None = None,
    ) -> None:
        newest = self._log.newest()
        invited = invitation is not None
        # An invited member receives the events after its own invitation, which is appended below.
        rows = [
            (room.id, username, newest + number if invited else newest, invited, peer)
            for number, username in enumerate(usernames, 1)
        ]
        self._db.executemany(
            "INSERT INTO members (room_id, username, joined, invited, peer) VALUES (?, ?, ?, ?, ?)", rows
        )
        self._db.execute("UPDATE rooms SET member_count = member_count + ? WHERE id = ?", (len(rows), room.id))
        if invitation is not None:
            for username in usernames:
                self._log.append_invitation(room, invitation, username)
        self._log.move(room, joined=tuple(usernames))

    def remove(self, username: str, rooms: Sequence[RoomRecord]) -> None:
        ids = _json([room.id for room in rooms])
        self._log.withdraw_invitations(username, ids)
        self._db.execute(
            "UPDATE rooms SET member_count = member_count - 1 WHERE id IN (SELECT value FROM json_each(?))", (ids,)
        )
        self._db.execute(
            "DELETE FROM members WHERE username = ? AND room_id IN (SELECT value FROM json_each(?))", (username, ids)
        )
        for room in rooms:
            self._ids.pop((username, room.name), None)
            self._log.move(room, left=(username,))


def _json(values: Sequence[object]) -> str:
    """A JSON array, for ``json_each``."""
    return orjson.dumps(values).decode()
