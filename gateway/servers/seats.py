"""How many connections there may be at once, whatever their wire and transport."""

from __future__ import annotations

from typing import Final

STANDING: Final = 100
"""Connections beyond the limit that are taken all the same, to be told on their own wire that there is no seat."""


class Seats:
    """The connections that may be there at once. Whoever gets no seat may stand, for a short while."""

    def __init__(self, count: int | None = None) -> None:
        """``count``: how many; None is no limit."""
        self.count = count
        self._taken = 0
        self._standing = 0

    @property
    def can_enter(self) -> bool:
        """Whether there is a seat, or room to stand."""
        return self.count is None or self._taken < self.count or self._standing < STANDING

    def take(self) -> bool:
        """Take a seat. False where there is none."""
        if self.count is not None and self._taken >= self.count:
            return False
        self._taken += 1
        return True

    def give_back(self) -> None:
        self._taken -= 1

    def stand(self) -> None:
        self._standing += 1

    def stand_no_more(self) -> None:
        self._standing -= 1
