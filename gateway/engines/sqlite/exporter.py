"""Reading a store into records (`gateway.engines.dump`), while the lock keeps gateways out."""

from __future__ import annotations

import heapq
import sqlite3
from contextlib import ExitStack, closing
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from gateway.engines import dump
from gateway.engines.sqlite.database import APPLICATION_ID, OPEN_TIMEOUT, SCHEMA_VERSION, reason_for
from gateway.engines.sqlite.files import CAN_LOCK, StoreFiles
from gateway.engines.sqlite.rooms import COLUMNS as ROOM
from gateway.engines.sqlite.spans import KINDS
from gateway.engines.transaction import RoomId, RoomRecord
from gateway.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from types import TracebackType

START: Final = """
SELECT (SELECT seq FROM sqlite_sequence WHERE name = 'log'), (SELECT max(kept) FROM trimmed_messages)
"""

ROOMS: Final = f"""
SELECT trimmed, trimmed_author, trimmed_other,
    (SELECT position FROM log WHERE room_id = rooms.id AND log.kind = 0 ORDER BY position LIMIT 1),
    (SELECT position FROM log WHERE room_id = rooms.id AND log.kind = 1 ORDER BY position LIMIT 1),
    {ROOM}
FROM rooms ORDER BY id
"""

EVENTS: Final = """
SELECT room_id, position, event, author, body, other, message_id FROM log
WHERE room_id = ? AND kind = ? ORDER BY position
"""

TRIMMED_MESSAGES: Final = """
SELECT room_id, author, message_id, position, ts, kept FROM trimmed_messages WHERE room_id = ?
"""

SESSIONS: Final = """
SELECT sid, username, pid, previous_pid, resumable, began, missed_by_leaving FROM sessions
"""

MEMBERS: Final = """
SELECT members.room_id, username, joined, peer, body
FROM members LEFT JOIN log ON invited AND position = joined AND recipient = username
"""

DEPARTURES: Final = """
SELECT place, username, left_at FROM departures
WHERE instr(place, ' ') OR EXISTS (SELECT 1 FROM rooms WHERE id = CAST(place AS INTEGER))
"""
"""The place of a pair has a space. Those of rooms that are gone are deleted later, and mean nothing any more."""


class SQLiteExporter:
    """An `Exporter`."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._stack = ExitStack()
        self._db: sqlite3.Connection

    async def __aenter__(self) -> Self:
        self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _open(self) -> None:
        if not Path(self._path).is_file():
            raise StoreError(f"There is no store {self._path}.")
        with ExitStack() as stack:
            files = StoreFiles(self._path)
            stack.callback(files.release)  # last, after SQLite has closed its own descriptor
            files.check_no_stale_log()
            try:
                self._db = stack.enter_context(closing(self._connect(files.real)))
                self._check()
            except sqlite3.Error as error:
                raise self._unreadable(error) from None
            self._stack = stack.pop_all()

    def _connect(self, real: str) -> sqlite3.Connection:
        if _is_there(f"{real}-journal"):
            raise StoreError(f"A migration into the store {self._path} was not completed.")
        # If there is no log, SQLite must not make one, which it could not delete.
        option = "" if _is_there(f"{real}-wal") or not CAN_LOCK else "&immutable=1"
        uri = f"{Path(real).as_uri()}?mode=ro{option}"
        return sqlite3.connect(uri, uri=True, timeout=OPEN_TIMEOUT, isolation_level=None)

    def _check(self) -> None:
        if self._db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise StoreError(f"{self._path} is not a gateway's store.")
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise StoreError(f"The store {self._path} was written by a newer gateway; use that one.")
        if version < SCHEMA_VERSION:
            raise StoreError(f"The store {self._path} was written by an earlier gateway; start this one on it once.")

    def _unreadable(self, error: sqlite3.Error) -> StoreError:
        return StoreError(f"The store {self._path} cannot be read: {reason_for(self._path, error)}.")

    async def records(self) -> AsyncIterator[dump.Record]:
        try:
            for record in self._records():
                yield record
        except sqlite3.Error as error:
            raise self._unreadable(error) from None

    def _records(self) -> Iterator[dump.Record]:
        newest, running_ms = self._db.execute(START).fetchone()
        epochs = self._db.execute("SELECT name, first FROM epochs ORDER BY id").fetchall()
        yield dump.Start(newest or 0, running_ms or 1, tuple(epochs))
        for position, author, other, first_message, first_notice, *room in self._db.execute(ROOMS):
            trimmed = dump.Trimmed(position, author, other) if position else None
            record = RoomRecord(*room)
            yield dump.Room(record, _before(trimmed, first_message), _before(trimmed, first_notice))
            yield from self._log(record.id)
        for sid, username, pid, previous, resumable, began, missed in self._db.execute(SESSIONS):
            yield dump.Session(sid, username, pid, previous, bool(resumable), began, missed)
        for row in self._db.execute(MEMBERS):
            yield dump.Member(*row)
        for row in self._db.execute(DEPARTURES):
            yield dump.Departure(*row)

    def _log(self, room_id: RoomId) -> Iterator[dump.Record]:
        kinds = [(dump.Event(*row) for row in self._db.execute(EVENTS, (room_id, kind))) for kind in KINDS]
        yield from heapq.merge(*kinds, key=attrgetter("position"))
        for row in self._db.execute(TRIMMED_MESSAGES, (room_id,)):
            yield dump.TrimmedMessage(*row)


def _is_there(path: str) -> bool:
    """Whether there is such a file, with something in it."""
    file = Path(path)
    return file.exists() and file.stat().st_size > 0


def _before(trimmed: dump.Trimmed | None, oldest: int | None) -> dump.Trimmed | None:
    """What was trimmed of one kind of events, whose oldest one in the log is at ``oldest``.

    ``trimmed`` is that of both kinds together. Each is trimmed from its beginning, so all of that is before ``oldest``.
    """
    if trimmed is None or oldest is None or trimmed.position < oldest:
        return trimmed
    return dump.Trimmed(oldest - 1, trimmed.author, min(trimmed.other, oldest - 1))
