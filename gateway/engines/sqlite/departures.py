"""The table ``departures``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import orjson

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

MAX_DEPARTURES: Final = 1_000
"""How many departures of a user are remembered, the newest ones. They are deleted in one step with the session."""

FORGOTTEN_AT_ONCE: Final = 100
"""How many departures are deleted with a room, or in one slice of maintenance. The rest go when they expire."""


class DepartureTable:
    """See `gateway.engines.transaction.Departures`."""

    def __init__(self, connection: sqlite3.Connection, now_ms: Callable[[], int], *, window: float) -> None:
        """``window``: how long others cannot add a user again to a room that the user left, in seconds. ``now_ms``
        returns the time in milliseconds, by a clock that is not set while the store is open.
        """
        self._db = connection
        self._now_ms = now_ms
        self._window_ms = int(window * 1000)

    def open(self) -> None:
        """Correct departures that are in the future because the clock was set back while the store was closed."""
        self._db.execute("UPDATE departures SET left_at = ?1 WHERE left_at > ?1", (self._now_ms(),))

    def note(self, place: str, username: str) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO departures (place, username, left_at) VALUES (?, ?, ?)",
            (place, username, self._now_ms()),
        )
        self._db.execute(
            "DELETE FROM departures WHERE username = ?1 AND left_at < "
            "(SELECT left_at FROM departures WHERE username = ?1 ORDER BY left_at DESC LIMIT 1 OFFSET ?2)",
            (username, MAX_DEPARTURES - 1),
        )

    async def among(self, place: str, usernames: Sequence[str]) -> frozenset[str]:
        rows = self._db.execute(
            "SELECT username FROM departures WHERE place = ? AND username IN (SELECT value FROM json_each(?)) "
            "AND left_at > ?",
            (place, orjson.dumps(usernames).decode(), self._oldest()),
        )
        return frozenset(username for (username,) in rows)

    def forget(self, place: str, username: str) -> None:
        self._db.execute("DELETE FROM departures WHERE place = ? AND username = ?", (place, username))

    def forget_user(self, username: str) -> None:
        self._db.execute("DELETE FROM departures WHERE username = ?", (username,))

    def forget_place(self, place: str) -> None:
        """Delete departures from a room that was deleted, as many as one step may delete."""
        self._db.execute(
            "DELETE FROM departures WHERE place = ?1 AND username IN "
            "(SELECT username FROM departures WHERE place = ?1 LIMIT ?2)",
            (place, FORGOTTEN_AT_ONCE),
        )

    def prune(self) -> bool:
        """Delete some that have expired. Returns whether there may be more."""
        cursor = self._db.execute(
            "DELETE FROM departures WHERE (place, username) IN "
            "(SELECT place, username FROM departures WHERE left_at <= ? LIMIT ?)",
            (self._oldest(), FORGOTTEN_AT_ONCE),
        )
        return cursor.rowcount == FORGOTTEN_AT_ONCE

    def _oldest(self) -> int:
        return self._now_ms() - self._window_ms
