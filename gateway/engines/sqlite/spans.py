"""What the log holds of a room: from which event to which, how many, and how many bytes.

There are two kinds of events that a whole room hears, *messages* and *notices* (who came and went); each kind of a room
has a span of its own, and so neither crowds out the other. The rows of the log carry running counts, so that no
question about a span takes longer where there is more.
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
"""How many spans are remembered."""

NEWEST = "SELECT number, size, position, author, other, ts FROM log WHERE room_id = ? AND kind = ? "
OLDEST = "SELECT number - 1, size - length(body) FROM log WHERE room_id = ? AND kind = ? "


@dataclass(slots=True)
class Span:
    """``number`` and ``size`` count all events there were, up to and with the newest; ``cut_number`` and ``cut_size``
    those of them that were trimmed, the oldest ones. Of the newest event there is the ``position``, the ``author``,
    ``ts``, and in ``other`` the position of the newest before it that has another author (or 0).
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
        """Whether the history reaches back to the event with that number, before which there were ``before`` bytes."""
        return number == self.number or (self.number - number < history_size and self.size - before <= history_bytes)


class Spans:
    """Remembers spans. What has been appended to the log in the running transaction is in those that are remembered."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._known: dict[tuple[int, int], Span] = {}

    def begin(self) -> None:
        """A transaction begins."""
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
