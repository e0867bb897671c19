"""The table ``epochs``: each opening of the store begins one (see `gateway.engines.epochs`)."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from gateway.engines.epochs import Epochs

if TYPE_CHECKING:
    import sqlite3

MAX_EPOCHS: Final = 1_000
"""How many epochs are remembered: one for each run that appended something. A client whose last event is older than
that is not recovered.
"""


class EpochTable:
    """It changes only when the store is opened."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._fresh = secrets.token_hex(6)
        self.known = Epochs([(self._fresh, 0)])
        """Up to the current one, once it has begun."""

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
        self.known = Epochs([*((name, first) for _, name, first in rows), (self._fresh, newest)])

    def _oldest(self, query: str) -> float:
        oldest = self._db.execute(query).fetchone()[0]
        return float("inf") if oldest is None else oldest


def _json(rows: list[tuple[int, str, int]]) -> str:
    return f"[{','.join(str(id_) for id_, _, _ in rows)}]"
