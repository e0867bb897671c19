"""The table ``sessions``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from gateway.engines.effects import Holder
from gateway.engines.sqlite.spans import KINDS
from gateway.engines.transaction import SessionRecord

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping, Sequence

    from gateway.engines.sqlite.log import EventLog
    from gateway.engines.transaction import Membership

    Row = tuple[str, str, str, str | None, str | None, str | None, int | None, int, int, int, int]

LAST_CHARACTER = "\U0010ffff"
"""Sorts after every character that a username may contain."""

# As `Row`.
COLUMNS = (
    "sid, username, pid, previous_pid, connection, node, suspended_at, resumable, began, missed_by_leaving, claimed_at"
)

SELECT = f"SELECT {COLUMNS} FROM sessions"

PUT = f"""
INSERT INTO sessions ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (username, sid) DO UPDATE SET
    pid = excluded.pid, previous_pid = excluded.previous_pid, connection = excluded.connection, node = excluded.node,
    suspended_at = excluded.suspended_at, resumable = excluded.resumable,
    missed_by_leaving = excluded.missed_by_leaving, claimed_at = excluded.claimed_at
"""


class SessionTable:
    """See `gateway.engines.transaction.Sessions`."""

    def __init__(self, connection: sqlite3.Connection, log: EventLog) -> None:
        self._db = connection
        self._log = log

    async def of(self, usernames: Sequence[str]) -> Mapping[str, Sequence[SessionRecord]]:
        if len(usernames) == 1:  # each log-in: the list takes longer than the search
            rows = self._db.execute(f"{SELECT} WHERE username = ?", (usernames[0],))
        else:
            names = orjson.dumps(usernames).decode()
            rows = self._db.execute(f"{SELECT} WHERE username IN (SELECT value FROM json_each(?))", (names,))
        found: dict[str, list[SessionRecord]] = {}
        for session in _records(rows):
            found.setdefault(session.username, []).append(session)
        return found

    async def suspended_until(self, running_ms: int, limit: int) -> Sequence[SessionRecord]:
        rows = self._db.execute(f"{SELECT} WHERE suspended_at <= ? ORDER BY suspended_at LIMIT ?", (running_ms, limit))
        return list(_records(rows))

    async def orphaned(self, limit: int) -> Sequence[SessionRecord]:
        return []  # there is one node, and opening the store has suspended what was live on it

    async def online(self, prefix: str, limit: int) -> Sequence[str]:
        rows = self._db.execute(
            "SELECT DISTINCT username FROM sessions WHERE connection IS NOT NULL AND username >= ? AND username < ? "
            "ORDER BY username LIMIT ?",
            (prefix, prefix + LAST_CHARACTER, limit),
        )
        return [username for (username,) in rows]

    async def online_among(self, usernames: Sequence[str], limit: int) -> Sequence[str]:
        rows = self._db.execute(
            "SELECT DISTINCT username FROM sessions WHERE username IN (SELECT value FROM json_each(?)) "
            "AND connection IS NOT NULL ORDER BY username LIMIT ?",
            (orjson.dumps(usernames).decode(), limit),
        )
        return [username for (username,) in rows]

    def put(self, session: SessionRecord) -> None:
        holder = session.holder
        self._db.execute(
            PUT,
            (
                session.sid,
                session.username,
                session.pid_hash,
                session.previous_pid_hash,
                None if holder is None else holder.connection,
                None if holder is None else holder.node,
                session.suspended_at,
                session.resumable,
                session.began,
                session.missed_by_leaving,
                session.claimed_at,
            ),
        )

    def delete(self, session: SessionRecord) -> None:
        self._db.execute("DELETE FROM sessions WHERE username = ? AND sid = ?", (session.username, session.sid))

    def note_leaving(self, membership: Membership) -> None:
        spans = [self._log.spans.get(membership.room.id, kind) for kind in KINDS]
        received = membership.received(max(span.newest_for(membership.username) for span in spans))
        self._db.execute(
            "UPDATE sessions SET missed_by_leaving = ?1 WHERE username = ?2 AND missed_by_leaving < ?1",
            (received, membership.username),
        )

    def suspend_all(self, running_ms: int, window_ms: int) -> None:
        """Suspend all sessions when the store is opened. No client could return while it was closed, so every recovery
        window begins now; a session to which no client can return expires at once.
        """
        self._db.execute(
            "UPDATE sessions SET connection = NULL, node = NULL, claimed_at = 0, "
            "suspended_at = ? - iif(resumable, 0, ?)",
            (running_ms, window_ms),
        )


def _records(rows: Iterable[Row]) -> Iterable[SessionRecord]:
    for sid, username, pid, previous, connection, node, suspended_at, resumable, began, missed, claimed_at in rows:
        holder = None if connection is None or node is None else Holder(connection, node)
        yield SessionRecord(
            sid, username, pid, previous, holder, suspended_at, bool(resumable), began, missed, claimed_at
        )
