"""What happened in the rooms, in one order: appending and publishing.

Rows are appended in memory and written together, before something reads the table or the transaction ends. What leaves
the log is ``trimming``'s, who comes back is ``replay``'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway import events
from gateway.engines.base import Movement, Publication
from gateway.engines.sqlite.spans import KINDS, MESSAGES, NOTICES, Spans
from gateway.engines.sqlite.trimming import Trimming
from gateway.tokens import tokens

if TYPE_CHECKING:
    import sqlite3

    from gateway.engines.base import Effect, Policy
    from gateway.engines.sqlite.clocks import Clocks
    from gateway.engines.sqlite.epochs import Epochs

SENT = """
SELECT ts FROM (
    SELECT position, ts FROM log WHERE room_id = :room_id AND message_id = :message_id AND origin = :sender
    UNION ALL
    SELECT position, ts FROM trimmed_messages
    WHERE room_id = :room_id AND message_id = :message_id AND origin = :sender AND kept >= :oldest
) WHERE position > (SELECT joined FROM members WHERE room_id = :room_id AND username = :sender)
"""

WITHDRAW = "DELETE FROM log WHERE position IN (SELECT joined FROM members WHERE username = ?1{}) AND recipient = ?1"


class Log:
    """The table ``log``, and what the current transaction did for others to hear."""

    def __init__(self, connection: sqlite3.Connection, policy: Policy, clocks: Clocks, epochs: Epochs) -> None:
        self.effects: list[Effect] = []
        """What the running operation did, in order."""
        self.told = 0
        """Bytes of the events in the effects of the transaction."""
        self.spans = Spans(connection)
        self.trimming = Trimming(connection, self.spans, policy, clocks)
        self._db = connection
        self._clocks = clocks
        self._epochs = epochs
        row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'log'").fetchone()
        self._newest = self._committed = 0 if row is None else int(row[0])
        """The position of the newest event, and what it was when the transaction began."""
        self._rows: list[tuple[object, ...]] = []
        self._unwritten_ids: set[tuple[int, str]] = set()
        """Rooms and ids of messages in `_rows`."""
        self._random = tokens(6)

    # --- writing

    def flush(self) -> None:
        """Write the events that were appended: all in one statement, for what reads the table, or before a commit."""
        if self._rows:
            rows, self._rows = self._rows, []
            self._unwritten_ids.clear()
            self._db.executemany(
                "INSERT INTO log "
                "(position, room_id, kind, event, origin, recipient, message_id, ts, number, size, other, body) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                rows,
            )

    def begin(self) -> None:
        """A transaction begins."""
        self._committed = self._newest
        self.told = 0
        self.spans.begin()

    def rollback(self) -> None:
        """What was appended since `begin` is gone."""
        self._rows.clear()
        self._unwritten_ids.clear()
        self.spans.rollback()
        self._newest = self._committed

    def append(
        self,
        room_id: int,
        room: str,
        event: str,
        body: bytes,
        *,
        origin: str,
        recipient: str | None = None,
        message_id: str | None = None,
        ts: int | None = None,
    ) -> None:
        """Append and publish an event for the whole room; or the ``room-joined`` of ``recipient``, who is a member from
        its position on.
        """
        position = self._newest = self._newest + 1
        offset = f"{self._epochs.prefix}{position}"
        if recipient is not None:
            row = (position, room_id, None, event, origin, recipient, None, None, None, None, None, body)
            self._rows.append(row)
            self._tell(Publication(event, body, room, offset, origin, (recipient,)))
            return
        kind = MESSAGES if event == events.MESSAGE else NOTICES
        span = self.spans.get(room_id, kind)
        span.append(position, origin, len(body), ts)
        self._rows.append(
            (position, room_id, kind, event, origin, None, message_id, ts, span.number, span.size, span.other, body)
        )
        if message_id is not None:
            self._unwritten_ids.add((room_id, message_id))
        self.effects.append(Publication(event, body, room, offset, origin))
        self.told += len(body)
        if self.trimming.is_due(span):
            self.flush()
            self.trimming.trim(room_id, kind)

    def publish(
        self,
        room: str,
        event: str,
        body: bytes,
        *,
        origin: str | None = None,
        recipients: tuple[str, ...] | None = None,
    ) -> None:
        """Publish what is not kept."""
        self._tell(Publication(event, body, room, None, origin, recipients))

    def _tell(self, publication: Publication) -> None:
        self.effects.append(publication)
        self.told += len(publication.body)

    def move(self, room: str, *, joined: tuple[str, ...] = (), left: tuple[str, ...] = ()) -> None:
        """Say who hears the room from here on, and who no more."""
        self.effects.append(Movement(room, joined, left))

    def forget(self, room_id: int) -> None:
        """A room is gone; what happened in it is deleted by and by."""
        self.spans.forget(room_id)
        self._db.execute("INSERT INTO ended_rooms (room_id) VALUES (?)", (room_id,))

    def withdraw(self, username: str, room_id: int | None = None) -> bool:
        """Delete the ``room-joined`` of a member who is about to leave a room, or all rooms; whether there was any."""
        self.flush()
        if room_id is None:
            cursor = self._db.execute(WITHDRAW.format(""), (username,))
        else:
            cursor = self._db.execute(WITHDRAW.format(" AND room_id = ?2"), (username, room_id))
        return cursor.rowcount > 0

    # --- messages

    def message_id(self) -> str:
        """An id for the message that is appended next. It names the position: finding it takes no index."""
        return f"{next(self._random)}.{self._newest + 1}"

    def message_ts(self, room_id: int) -> int:
        """When the message is sent that is appended next (Unix time in ms): never before the last one in its room."""
        now, last = self._clocks.unix_ms(), self.spans.get(room_id, MESSAGES).ts
        return now if now > last else last

    def find_sent(self, room_id: int, sender: str, message_id: str) -> int | None:
        """When a message was sent that the log has, or had not long ago (Unix time in ms), or None.

        What a sender of the same name sent before this one became a member is another's.
        """
        if (room_id, message_id) in self._unwritten_ids:
            self.flush()
        row = self._db.execute(
            SENT,
            {
                "room_id": room_id,
                "message_id": message_id,
                "sender": sender,
                "oldest": self.trimming.oldest_retry(),
            },
        ).fetchone()
        return None if row is None else int(row[0])

    def newest_for(self, room_id: int, username: str) -> int:
        """The position of the newest event that the whole room heard and that is not by ``username``, or 0."""
        return max(self.spans.get(room_id, kind).newest_for(username) for kind in KINDS)

    # --- positions

    def newest(self) -> int:
        """The position of the newest event there ever was."""
        return self._newest

    def offset(self, position: int) -> str:
        return self._epochs.offset(position)

    def position(self, offset: str) -> int | None:
        """The position that ``offset`` names in this log, or None."""
        return self._epochs.position(offset, self._newest)
