"""The table ``rooms``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.engines.transaction import RoomId, RoomRecord
from gateway.events import SHOWN_MEMBERS, Room

if TYPE_CHECKING:
    import sqlite3

    from gateway.engines.sqlite.departures import DepartureTable
    from gateway.engines.sqlite.log import EventLog

COLUMNS = "id, name, kind, history, pair, member_count"
"""The columns of a `RoomRecord`."""

SHAPES = """
SELECT name, kind, history, (
    SELECT '[' || group_concat('{"username":' || json_quote(username) || iif(
        (?3 AND username = ?1) OR EXISTS (
            SELECT 1 FROM sessions WHERE sessions.username = shown.username AND connection IS NOT NULL
        ), ',"online":true}', ',"online":false}'
    )) || ']'
    FROM (SELECT username FROM members WHERE room_id = rooms.id ORDER BY username LIMIT ?2) AS shown
), member_count, peer
FROM members JOIN rooms ON id = room_id WHERE username = ?1 ORDER BY name
"""
"""The `Room`s of a user. SQLite encodes the members itself, and concatenates strings since ``json_object`` is slower: a
user may be in two hundred rooms, and making Python objects of their members would take twice as long.
"""


class RoomTable:
    """See `gateway.engines.transaction.Rooms`."""

    def __init__(self, connection: sqlite3.Connection, log: EventLog, departures: DepartureTable) -> None:
        self._db = connection
        self._log = log
        self._departures = departures

    async def named(self, name: str) -> RoomRecord | None:
        return self._find("name = ?", name)

    async def direct(self, pair: str) -> RoomRecord | None:
        return self._find("pair = ?", pair)

    def _find(self, condition: str, value: str) -> RoomRecord | None:
        row = self._db.execute(f"SELECT {COLUMNS} FROM rooms WHERE {condition}", (value,)).fetchone()
        return None if row is None else RoomRecord(*row)

    async def shapes(self, username: str, *, as_online: bool = False) -> tuple[Room, ...]:
        rows = self._db.execute(SHAPES, (username, SHOWN_MEMBERS, as_online)).fetchall()
        return tuple([Room(*row) for row in rows])

    def create(self, name: str, kind: str, history: str, pair: str | None = None) -> RoomRecord:
        cursor = self._db.execute(
            "INSERT INTO rooms (name, kind, history, pair, member_count) VALUES (?, ?, ?, ?, 0)",
            (name, kind, history, pair),
        )
        return RoomRecord(RoomId(cursor.lastrowid or 0), name, kind, history, pair, 0)

    def delete(self, room: RoomRecord) -> None:
        self._log.forget(room.id)
        self._departures.forget_place(str(room.id))
        self._db.execute("DELETE FROM rooms WHERE id = ?", (room.id,))
