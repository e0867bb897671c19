"""How slow the machine is just now: bounds in milliseconds hold on the one they were set on, when it is calm."""

from __future__ import annotations

import sqlite3
import time

NOMINAL = 0.000_4
"""Seconds of the processor that the reference takes on that machine."""


class Machine:
    """Measures a piece of work that never changes, of the kind that a store does: rows found by a key, and read."""

    def __init__(self) -> None:
        self._db = sqlite3.connect(":memory:")
        self._db.execute("CREATE TABLE rows (name TEXT PRIMARY KEY, body TEXT) WITHOUT ROWID")
        self._db.executemany(
            "INSERT INTO rows VALUES (?, ?)", [(f"row{number:06}", "x" * 100) for number in range(20_000)]
        )

    def slowness(self) -> float:
        """How many times as long as on a calm machine that piece takes just now; at least 1."""
        began = time.thread_time()
        for number in range(0, 20_000, 400):
            self._db.execute("SELECT name, body FROM rows WHERE name >= ? LIMIT 10", (f"row{number:06}",)).fetchall()
        return max(1.0, (time.thread_time() - began) / NOMINAL)
