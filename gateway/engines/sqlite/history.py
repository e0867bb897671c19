"""Reading the table ``log``: pages of messages, and what a member has missed."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import orjson

from gateway import events
from gateway.engines.sqlite.spans import KINDS, MESSAGES
from gateway.engines.transaction import Entries, Entry, Messages, Stream

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from gateway.engines.base import Policy
    from gateway.engines.sqlite.log import EventLog
    from gateway.engines.transaction import Membership, Range, RoomRecord

TRIMMED: Final = """
SELECT id, trimmed, trimmed_author, trimmed_other FROM rooms WHERE id IN (SELECT value FROM json_each(?))
"""

BACKWARDS: Final = """
SELECT position, event, CASE WHEN author = ?1 THEN NULL ELSE body END, other FROM log
WHERE room_id = ?2 AND kind = ?3 AND position > ?4 AND position <= ?5 ORDER BY position DESC
"""


BYTES_AT_ONCE: Final = 131_072
"""Bytes of events that are read together from one stream, about: long messages take longer."""


class LogHistory:
    """See `gateway.engines.transaction.History`."""

    def __init__(self, connection: sqlite3.Connection, log: EventLog, policy: Policy) -> None:
        self._db = connection
        self._log = log
        self._policy = policy

    async def streams(self, memberships: Sequence[Membership]) -> Sequence[Stream]:
        ids = orjson.dumps([membership.room.id for membership in memberships]).decode()
        trimmed = {room_id: cut for room_id, *cut in self._db.execute(TRIMMED, (ids,))}
        found = []
        for membership in memberships:
            room, reader = membership.room, membership.username
            newest, author, others = trimmed[room.id]
            for kind in KINDS:
                span = self._log.spans.get(room.id, kind)
                found.append(Stream(room, kind, span.newest_for(reader), others if author == reader else newest))
        return found

    async def read_back(self, ranges: Sequence[Range], reader: str, limit: int) -> Sequence[Entries]:
        self._log.flush()
        share = max(1, limit // max(1, len(ranges)))
        return [self._read_range(wanted, reader, share) for wanted in ranges]

    def _read_range(self, wanted: Range, reader: str, limit: int) -> Entries:
        """The reader's own events are skipped in one step: each row holds the position of the newest one before it by
        another author.
        """
        stream, high = wanted.stream, wanted.high
        found: list[Entry] = []
        bytes_left = BYTES_AT_ONCE
        while high > wanted.low:
            rows = self._db.execute(BACKWARDS, (reader, stream.room.id, stream.kind, wanted.low, high))
            with contextlib.closing(rows):
                for position, event, body, others in rows:
                    if body is None:
                        high = others
                        break
                    found.append(Entry(position, event, body))
                    bytes_left -= len(body)
                    if len(found) == limit or bytes_left <= 0:
                        return Entries(tuple(found), complete=False)
                else:
                    break
        return Entries(tuple(found), complete=True)

    async def invitations(self, memberships: Sequence[Membership]) -> Sequence[Entry | None]:
        self._log.flush()
        positions = orjson.dumps([membership.joined for membership in memberships]).decode()
        rows = self._db.execute(
            "SELECT position, event, body FROM log WHERE position IN (SELECT value FROM json_each(?))", (positions,)
        )
        entries = {position: Entry(position, event, body) for position, event, body in rows}
        return [entries.get(membership.joined) for membership in memberships]

    async def messages(self, room: RoomRecord, *, after: int, before: int | None, limit: int) -> Messages:
        self._log.flush()
        span = self._log.spans.get(room.id, MESSAGES)
        end = self._log.newest() + 1 if before is None else before
        rows = self._db.execute(
            "SELECT position, number, size, body FROM log WHERE room_id = ? AND kind = 0 AND position < ? "
            "AND position > ? ORDER BY position DESC LIMIT ?",
            (room.id, end, after, limit + 1),
        )
        found: list[bytes] = []
        bytes_left = self._policy.replay_size
        with contextlib.closing(rows):
            for position, number, size, body in rows:
                if not span.keeps(number, size - len(body), self._policy.history_size, self._policy.history_bytes):
                    break
                if len(found) == limit or (found and len(body) > bytes_left):
                    return Messages(tuple(reversed(found)), more=True)
                bytes_left -= len(body)
                found.append(events.with_field(body, "offset", self._log.offset(position)))
        return Messages(tuple(reversed(found)), more=False)

    async def find_message(self, room: RoomRecord, message_id: str, *, after: int) -> Sequence[int]:
        self._log.flush()
        rows = self._db.execute(
            "SELECT position FROM log WHERE room_id = ? AND message_id = ? AND position > ? LIMIT 2",
            (room.id, message_id, after),
        ).fetchall()
        return [int(position) for (position,) in rows] + self._find_own_id(room, message_id, after)

    def _find_own_id(self, room: RoomRecord, message_id: str, after: int) -> list[int]:
        """The position of the message with an id that `EventLog.next_message_id` generated: none or one."""
        digits = message_id.rpartition(".")[2]
        if not (digits.isascii() and digits.isdigit() and len(digits) < 19) or int(digits) <= after:
            return []
        row = self._db.execute(
            "SELECT body FROM log WHERE position = ? AND room_id = ? AND kind = 0 AND message_id IS NULL",
            (int(digits), room.id),
        ).fetchone()
        return [int(digits)] if row is not None and orjson.loads(row[0])["id"] == message_id else []
