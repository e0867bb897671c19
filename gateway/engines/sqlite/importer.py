"""Writing records (`gateway.engines.dump`) into an empty store.

All of it is one transaction, with a rollback journal and not a write-ahead log: since the file was empty, the journal
is too, and what is written goes into the file at once. If the process is killed, the next opening of the file finds the
journal, and an empty store.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from gateway.engines import dump
from gateway.engines.sqlite.database import open_database, reason_for
from gateway.engines.sqlite.rooms import COLUMNS as ROOM
from gateway.engines.sqlite.spans import MESSAGES, NOTICES, Span
from gateway.errors import StoreError
from gateway.events import ROOM_JOINED

if TYPE_CHECKING:
    from types import TracebackType

    from gateway.engines.sqlite.database import StoreConnection

CACHE_SIZE: Final = -16_384
"""SQLite's ``cache_size``: 16 MB. Positions of one room are far apart, so each event goes to another page."""

IS_USED: Final = """
SELECT EXISTS (SELECT 1 FROM sessions) OR EXISTS (SELECT 1 FROM rooms)
    OR EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'log' AND seq > 0)
"""

PUT_ROOM: Final = f"""
INSERT INTO rooms ({ROOM}, trimmed, trimmed_author, trimmed_other) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

PUT_EVENT: Final = """
INSERT INTO log (position, room_id, kind, event, author, message_id, ts, number, size, other, body)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

PUT_TRIMMED_MESSAGE: Final = """
INSERT OR REPLACE INTO trimmed_messages (room_id, author, message_id, position, ts, kept) VALUES (?, ?, ?, ?, ?, ?)
"""

PUT_SESSION: Final = """
INSERT INTO sessions (sid, username, pid, previous_pid, suspended_at, resumable, began, missed_by_leaving)
VALUES (?, ?, ?, ?, 0, ?, ?, ?)
"""
"""Opening the store sets ``suspended_at`` anew (`SessionTable.suspend_all`)."""

PUT_MEMBER: Final = "INSERT INTO members (room_id, username, joined, invited, peer) VALUES (?, ?, ?, ?, ?)"

PUT_INVITATION: Final = "INSERT INTO log (position, room_id, event, recipient, body) VALUES (?, ?, ?, ?, ?)"

PUT_DEPARTURE: Final = "INSERT INTO departures (place, username, left_at) VALUES (?, ?, ?)"


class SQLiteImporter:
    """An `Importer`."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._is_new = not Path(path).exists()
        self._is_finished = False
        self._newest = 0
        self._spans: dict[int, Span] = {}
        """Of the room whose events are being put, by kind."""
        self._db: StoreConnection

    async def __aenter__(self) -> Self:
        self._db = open_database(self._path)
        try:
            if self._db.execute(IS_USED).fetchone()[0]:
                raise StoreError(f"The store {self._path} is not empty; name a new file.")
            self._db.execute("PRAGMA journal_mode = DELETE")
            self._db.execute(f"PRAGMA cache_size = {CACHE_SIZE}")
            self._db.execute("BEGIN EXCLUSIVE")
            self._db.execute("DELETE FROM epochs")
        except BaseException as error:
            self._db.close_in_order()
            if isinstance(error, sqlite3.Error):
                raise self._unwritable(error) from None
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close_in_order()
        if self._is_new and not self._is_finished:
            _delete(self._path)

    def _unwritable(self, error: sqlite3.Error) -> StoreError:
        return StoreError(f"The store {self._path} cannot be written: {reason_for(self._path, error)}.")

    async def put(self, record: dump.Record) -> None:
        try:
            self._put(record)
        except sqlite3.Error as error:
            raise self._unwritable(error) from None

    async def finish(self) -> None:
        try:
            self._db.execute("DELETE FROM sqlite_sequence WHERE name = 'log'")
            self._db.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('log', ?)", (self._newest,))
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._unwritable(error) from None
        self._is_finished = True

    def _put(self, record: dump.Record) -> None:
        match record:
            case dump.Event():
                self._put_event(record)
            case dump.Start(newest, _, epochs):
                self._newest = newest
                self._db.executemany("INSERT INTO epochs (name, first) VALUES (?, ?)", epochs)
            case dump.Room():
                self._spans = {MESSAGES: Span(), NOTICES: Span()}
                self._db.execute(PUT_ROOM, (*record.record, *_trimmed(record)))
            case dump.TrimmedMessage(room, author, message_id, position, ts, trimmed_at):
                self._db.execute(PUT_TRIMMED_MESSAGE, (room, author, message_id, position, ts, trimmed_at))
            case dump.Session(sid, username, pid, previous, resumable, began, missed):
                self._db.execute(PUT_SESSION, (sid, username, pid, previous, resumable, began, missed))
            case dump.Member():
                self._put_member(record)
            case dump.Departure(place, username, left_at):
                self._db.execute(PUT_DEPARTURE, (place, username, left_at))

    def _put_event(self, event: dump.Event) -> None:
        kind = MESSAGES if event.is_message else NOTICES
        ts = event.ts() if event.is_message else None
        span = self._spans[kind]
        span.append(event.position, event.author, len(event.body), ts)
        row = (event.position, event.room, kind, event.event, event.author, event.message_id, ts)
        self._db.execute(PUT_EVENT, (*row, span.number, span.size, event.other, event.body))

    def _put_member(self, member: dump.Member) -> None:
        invited = member.invitation is not None
        self._db.execute(PUT_MEMBER, (member.room, member.username, member.joined, invited, member.peer))
        if invited:
            row = (member.joined, member.room, ROOM_JOINED, member.username, member.invitation)
            self._db.execute(PUT_INVITATION, row)


def _delete(path: str) -> None:
    Path(path).unlink(missing_ok=True)


def _trimmed(room: dump.Room) -> tuple[int, str | None, int]:
    """What was trimmed of either kind, as in the table ``rooms`` (`Trimming`)."""
    marks = sorted(
        [mark for mark in (room.messages, room.notices) if mark is not None], key=lambda mark: -mark.position
    )
    if not marks:
        return 0, None, 0
    newest = marks[0]
    by_others = [mark.position for mark in marks if mark.author != newest.author]
    return newest.position, newest.author, max(by_others + [mark.other for mark in marks])
