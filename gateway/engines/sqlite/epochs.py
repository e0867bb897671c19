"""Epochs: which run of the store issued an offset, and whether it still names the same place in the log.

A **position** is a place in the order of the log. An **offset** is its name for clients: an epoch and the position.
Each opening of the store begins an epoch. A store that was restored from a backup assigns some positions for the second
time, but in another epoch: in the backup, the epoch in which it was made ends where its log ends. So an offset names
nothing if its epoch is unknown here, or if its position is beyond the end of its epoch. Any other offset names the same
events as when it was issued.
"""

from __future__ import annotations

import secrets
from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from gateway.protocol.offsets import parse_offset

if TYPE_CHECKING:
    import sqlite3

MAX_EPOCHS: Final = 1_000
"""How many epochs are remembered: one for each run that appended something. A client whose last event is older than
that is not recovered.
"""


class Epochs:
    """The table ``epochs``, which changes only when the store is opened."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._fresh = secrets.token_hex(6)
        self._names: list[str] = []
        self._firsts: list[int] = []
        """Names of the epochs, and the positions after which they begin, from the oldest to the current one."""
        self._by_name: dict[str, int] = {}
        self.prefix = f"{self._fresh}-"
        """What the offsets of this epoch begin with; the position follows."""

    def begin(self, newest: int) -> None:
        """Begin an epoch after the position ``newest``, and forget those whose offsets no client can still use."""
        rows = self._db.execute("SELECT id, name, first FROM epochs ORDER BY id").fetchall()
        if len(rows) > 1 and rows[-1][2] == newest:
            rows.pop()  # nothing was appended in it, so that no offset names it
        needed = min(self._oldest("SELECT min(position) FROM log"), self._oldest("SELECT min(began) FROM sessions"))
        ends = [*(first for _, _, first in rows[1:]), newest]
        rows = [row for row, end in zip(rows, ends, strict=True) if end >= needed][1 - MAX_EPOCHS :]
        self._db.execute("DELETE FROM epochs WHERE id NOT IN (SELECT value FROM json_each(?))", (_json(rows),))
        self._db.execute("INSERT INTO epochs (name, first) VALUES (?, ?)", (self._fresh, newest))
        self._names = [*(name for _, name, _ in rows), self._fresh]
        self._firsts = [*(first for _, _, first in rows), newest]
        self._by_name = {name: number for number, name in enumerate(self._names)}

    def _oldest(self, query: str) -> float:
        oldest = self._db.execute(query).fetchone()[0]
        return float("inf") if oldest is None else oldest

    def offset(self, position: int) -> str:
        """The offset of ``position``: the same in every run, as long as the epoch that assigned it is remembered."""
        if position > self._firsts[-1]:
            return f"{self.prefix}{position}"
        return f"{self._names[max(bisect_left(self._firsts, position) - 1, 0)]}-{position}"

    def position(self, offset: str, newest: int) -> int | None:
        """The position that ``offset`` names, or None; ``newest`` is that of the newest event."""
        parsed = parse_offset(offset)
        number = None if parsed is None else self._by_name.get(parsed[0])
        if parsed is None or number is None:
            return None
        position = parsed[1]
        end = newest if number + 1 == len(self._firsts) else self._firsts[number + 1]
        return position if position <= end else None


def _json(rows: list[tuple[int, str, int]]) -> str:
    return f"[{','.join(str(id_) for id_, _, _ in rows)}]"
