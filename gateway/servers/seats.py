"""How many connections there may be at once, whatever their wire and transport."""

from __future__ import annotations

from typing import Final

MAX_STANDING: Final = 100
"""Connections beyond the limit that are accepted all the same, to be refused on their own wire."""


class Seats:
    """Which connections have a seat. A connection that gets none may stand for a short while."""

    def __init__(self, count: int | None = None) -> None:
        """``count``: how many seats there are; None is no limit."""
        self.count = count
        self._seated: set[object] = set()
        self._standing: set[object] = set()

    @property
    def has_room(self) -> bool:
        """Whether there is a free seat, or room to stand."""
        return self._has_free_seat or len(self._standing) < MAX_STANDING

    @property
    def _has_free_seat(self) -> bool:
        return self.count is None or len(self._seated) < self.count

    def take(self, connection: object) -> bool:
        """Whether ``connection`` has a seat; it gets one if it has none and one is free."""
        if connection in self._seated:
            return True
        if not self._has_free_seat:
            return False
        self._standing.discard(connection)
        self._seated.add(connection)
        return True

    def take_or_stand(self, connection: object) -> None:
        """Give ``connection`` a seat if one is free; else it stands."""
        if not self.take(connection):
            self._standing.add(connection)

    def leave(self, connection: object) -> None:
        """``connection`` is closed. Does nothing where it has no place any more."""
        self._seated.discard(connection)
        self._standing.discard(connection)
