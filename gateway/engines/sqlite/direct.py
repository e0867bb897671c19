"""Rooms of two, which the server makes, in the embedded store (see ``tables``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway import events
from gateway.engines.base import Opened
from gateway.errors import UnknownUser
from gateway.tokens import tokens

if TYPE_CHECKING:
    import sqlite3

    from gateway.engines.sqlite.departures import Departures
    from gateway.engines.sqlite.members import Members
    from gateway.engines.sqlite.rooms import Rooms


class DirectRooms:
    """The rooms with a ``pair``: the sids of the two, so that a later holder of a name opens another room."""

    def __init__(self, connection: sqlite3.Connection, rooms: Rooms, members: Members, departures: Departures) -> None:
        self._db = connection
        self._rooms = rooms
        self._members = members
        self._departures = departures
        self._names = tokens(12)

    def open(self, actor: str, user: str) -> Opened:
        """The room of ``actor`` and ``user``, with both in it, but for a user who has left it not long ago."""
        pair = self._pair(actor, user)
        row = self._db.execute("SELECT id, name FROM rooms WHERE pair = ?", (pair,)).fetchone()
        present = set() if row is None else self._members.among(row[0], (actor, user))
        declined = self._departures.among(pair, (user,)) - present
        if actor not in present:
            self._members.check_allowance((actor,), invited=False)
        if user not in present | declined:
            self._members.check_allowance((user,), invited=True)
        room_id, room = self._create(pair) if row is None else row
        if actor not in present:
            self._departures.forget(pair, actor)
            self._rooms.enter(room_id, room, actor, peer=user)
        if user not in present | declined:
            self._rooms.join(room_id, room, (user,), by=actor, peer=actor)
        return Opened(self._rooms.shape(room_id, peer=user), tuple(declined))

    def _pair(self, actor: str, user: str) -> str:
        """What names the two sessions, whoever of them asks."""
        rows = self._db.execute("SELECT username, sid FROM sessions WHERE username IN (?, ?)", (actor, user))
        sids: dict[str, str] = dict(rows.fetchall())
        if user not in sids:
            raise UnknownUser([user])
        return " ".join(sorted(sids.values()))

    def _create(self, pair: str) -> tuple[int, str]:
        """The id and the name of a new room, with nobody in it."""
        name = events.DIRECT_MARK + next(self._names)
        cursor = self._db.execute(
            "INSERT INTO rooms (name, kind, pair, member_count) VALUES (?, ?, ?, 0)", (name, events.DIRECT, pair)
        )
        return cursor.lastrowid or 0, name
