"""Spans: which part of a room's events the log still holds, how many there are, and their size.

There are two kinds of events that a whole room receives, *messages* and *notices* (who joined and left). Each kind has
a span of its own, so that neither crowds out the other. The rows of the log carry running totals, so that a span is
computed from its first and last row, however many there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import sqlite3

MESSAGES: Final = 0
NOTICES: Final = 1
KINDS: Final = (MESSAGES, NOTICES)

MAX_KNOWN: Final = 65_536
"""How many spans are cached. When there are more, the cache is emptied."""

NEWEST = "SELECT number, size, position, author, other, ts FROM log WHERE room_id = ? AND kind = ? "
OLDEST = "SELECT number - 1, size - length(body) FROM log WHERE room_id = ? AND kind = ? "


@dataclass(slots=True)
class Span:
    """The events of one kind in one room.

    ``number`` and ``size`` (bytes) count all events that there ever were, ``cut_number`` and ``cut_size`` those of them
    that were trimmed, which are the oldest. ``position``, ``author`` and ``ts`` are those of the newest event;
    ``other`` is the position of the newest one before it by another author, or 0.
    """

    number: int = 0
    size: int = 0
    position: int = 0
    author: str | None = None
    other: int = 0
    ts: int = 0
    cut_number: int = 0
    cut_size: int = 0

    def append(self, position: int, author: str, size: int, ts: int | None) -> None:
        self.number += 1
        self.size += size
        if author != self.author:
            self.other, self.author = self.position, author
        self.position = position
        if ts is not None:
            self.ts = ts

    def newest_for(self, username: str) -> int:
        """The position of the newest event that is not by ``username``, or 0."""
        return self.other if self.author == username else self.position

    def keeps(self, number: int, before: int, history_size: int, history_bytes: int) -> bool:
        """Whether the event with that number is within the bounds. ``before``: the size of all events before it."""
        return number == self.number or (self.number - number < history_size and self.size - before <= history_bytes)


class Spans:
    """A cache of spans. They include what the transaction under way has appended."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._known: dict[tuple[int, int], Span] = {}

    def begin(self) -> None:
        """Begin a transaction."""
        if len(self._known) > MAX_KNOWN:
            self._known.clear()

    def rollback(self) -> None:
        self._known.clear()

    def get(self, room_id: int, kind: int) -> Span:
        span = self._known.get((room_id, kind))
        if span is None:
            span = self._known[room_id, kind] = self._load(room_id, kind)
        return span

    def forget(self, room_id: int) -> None:
        for kind in KINDS:
            self._known.pop((room_id, kind), None)

    def _load(self, room_id: int, kind: int) -> Span:
        newest = self._db.execute(NEWEST + "ORDER BY position DESC LIMIT 1", (room_id, kind)).fetchone()
        if newest is None:
            return Span()
        oldest = self._db.execute(OLDEST + "ORDER BY position LIMIT 1", (room_id, kind)).fetchone()
        number, size, position, author, other, ts = newest
        return Span(number, size, position, author, other, ts or 0, *oldest)
