"""How SQLite finds what statements ask for: by an index, or by looking at everything."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator

ALLOWED = {
    r"SCAN json_each VIRTUAL TABLE INDEX .*": "a list of a client's, of 100 at most",
    r"SCAN ended_rooms": "one row of it, whichever",
    r"SCAN sqlite_sequence": "it has one row",
    r"SCAN epochs( USING INDEX \S+| USING COVERING INDEX \S+)?": "at an opening; a thousand at most",
    r"SCAN shown": "the members that a room shows, ten at most",
    r"SCAN \(subquery-\d+\)|SCAN CONSTANT ROW": "what comes out of other lines of the plan",
}
"""Scans that may be, and why."""

AT_AN_OPENING = (
    "UPDATE sessions SET connection = NULL, node = NULL, claimed_at = 0, suspended_at = ",
    "SELECT min(began) FROM sessions",
)
"""Beginnings of statements that look at every session, before anybody is served."""

SORTED = ("\nSELECT name, kind, history, (",)
"""Beginnings of statements that may sort: the names of one user's rooms, without their messages."""


class Statements:
    """The different statements that a connection has run. `note` is for its trace callback."""

    def __init__(self) -> None:
        self._by_shape: dict[str, str] = {}

    def note(self, statement: str) -> None:
        if statement.lstrip().startswith(("SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "WITH")):
            shape = re.sub(r"'(?:[^']|'')*'|\b\d+\b", "?", statement) if len(statement) < 5000 else statement[:100]
            self._by_shape.setdefault(shape, statement)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._by_shape.values()))


def faults(connection: sqlite3.Connection, statements: Iterable[str]) -> list[str]:
    """Lines of the plans of ``statements`` that look at more than they need, or sort."""
    connection.set_trace_callback(None)
    found = []
    for statement in statements:
        for *_, line in connection.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall():
            is_scan = line.startswith("SCAN") and not any(re.fullmatch(allowed, line) for allowed in ALLOWED)
            is_sort = "TEMP B-TREE" in line and not statement.startswith(SORTED)
            if (is_scan and not statement.startswith(AT_AN_OPENING)) or is_sort:
                found.append(f"{line}: {' '.join(statement.split())[:300]}")
    return found
