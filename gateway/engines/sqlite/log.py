"""The table ``log``: what happened in the rooms, in one order, and the effects of the transaction under way.

Rows are buffered in memory and written in one statement, before the table is read or the transaction ends. ``history``
reads the table, ``trimming`` deletes from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway import events
from gateway.engines.effects import Movement, Publication
from gateway.engines.sqlite.spans import MESSAGES, NOTICES, Spans
from gateway.engines.sqlite.trimming import Trimming
from gateway.tokens import tokens

if TYPE_CHECKING:
    import sqlite3

    from gateway.engines.base import Policy
    from gateway.engines.effects import Effect
    from gateway.engines.sqlite.clocks import Clocks
    from gateway.engines.sqlite.epochs import EpochTable
    from gateway.engines.transaction import Invitation, RoomId, RoomRecord

SENT: Final = """
SELECT ts FROM (
    SELECT position, ts FROM log WHERE room_id = :room_id AND message_id = :message_id AND author = :sender
    UNION ALL
    SELECT position, ts FROM trimmed_messages
    WHERE room_id = :room_id AND message_id = :message_id AND author = :sender AND kept >= :oldest
) WHERE position > (SELECT joined FROM members WHERE room_id = :room_id AND username = :sender)
"""

WITHDRAW: Final = """
DELETE FROM log WHERE recipient = ?1 AND position IN (
    SELECT joined FROM members WHERE username = ?1 AND invited AND room_id IN (SELECT value FROM json_each(?2))
)
"""


class EventLog:
    """See `gateway.engines.transaction.Log`."""

    def __init__(self, connection: sqlite3.Connection, policy: Policy, clocks: Clocks, epochs: EpochTable) -> None:
        self.effects: list[Effect] = []
        """The effects of the operation that is running, in order."""
        self.published = 0
        """Size of the events that this transaction publishes, in bytes."""
        self.spans = Spans(connection)
        self.trimming = Trimming(connection, self.spans, policy, clocks)
        self._db = connection
        self._clocks = clocks
        self._epochs = epochs
        row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'log'").fetchone()
        self._newest = self._committed = 0 if row is None else int(row[0])
        """The position of the newest event: now, and when the transaction began."""
        self._rows: list[tuple[object, ...]] = []
        self._unwritten_ids: set[tuple[int, str]] = set()
        """The messages in `_rows`, by room and message id."""
        self._random = tokens(6)

    # --- the transaction

    def begin(self) -> None:
        """Begin a transaction."""
        self._committed = self._newest
        self.published = 0
        self.spans.begin()

    def flush(self) -> None:
        """Write the buffered rows. To be called before the table is read, and before a commit."""
        if self._rows:
            rows, self._rows = self._rows, []
            self._unwritten_ids.clear()
            self._db.executemany(
                "INSERT INTO log "
                "(position, room_id, kind, event, author, recipient, message_id, ts, number, size, other, body) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                rows,
            )

    def rollback(self) -> None:
        """Forget what was appended since `begin`."""
        self._rows.clear()
        self._unwritten_ids.clear()
        self.spans.rollback()
        self._newest = self._committed

    # --- positions

    def newest(self) -> int:
        return self._newest

    def offset(self, position: int) -> str:
        return self._epochs.known.offset(position)

    def position(self, offset: str) -> int | None:
        return self._epochs.known.position(offset, self._newest)

    # --- writing

    def append(self, room: RoomRecord, event: str, body: bytes, *, author: str) -> None:
        self._append(room.id, room.name, NOTICES, event, body, author=author)

    def append_message(
        self, room_id: RoomId, room: str, body: bytes, *, author: str, message_id: str | None, ts: int
    ) -> None:
        """Append and publish a message. ``message_id``: the one its author chose, if any; ``ts``: Unix time in ms."""
        if message_id is not None:
            self._unwritten_ids.add((room_id, message_id))
        self._append(room_id, room, MESSAGES, events.MESSAGE, body, author=author, message_id=message_id, ts=ts)

    def _append(
        self,
        room_id: RoomId,
        room: str,
        kind: int,
        event: str,
        body: bytes,
        *,
        author: str,
        message_id: str | None = None,
        ts: int | None = None,
    ) -> None:
        position = self._newest = self._newest + 1
        span = self.spans.get(room_id, kind)
        span.append(position, author, len(body), ts)
        self._rows.append(
            (position, room_id, kind, event, author, None, message_id, ts, span.number, span.size, span.other, body)
        )
        self.effects.append(Publication(event, body, room, f"{self._epochs.known.prefix}{position}", author))
        self.published += len(body)
        if self.trimming.is_due(span):
            self.flush()
            self.trimming.trim(room_id, kind)

    def append_invitation(self, room: RoomRecord, invitation: Invitation, username: str) -> None:
        """Append the ``room-joined`` of a new member, who receives the room's events after that position."""
        position = self._newest = self._newest + 1
        event, body, author = events.ROOM_JOINED, invitation.body, invitation.author
        row = (position, room.id, None, event, author, username, None, None, None, None, None, body)
        self._rows.append(row)
        offset = f"{self._epochs.known.prefix}{position}"
        self._publish(Publication(event, body, room.name, offset, author, (username,)))

    def withdraw_invitations(self, username: str, room_ids: str) -> None:
        """Delete the ``room-joined`` events of a member who is about to leave rooms; ``room_ids`` is a JSON array."""
        self.flush()
        self._db.execute(WITHDRAW, (username, room_ids))

    def publish(self, room: RoomRecord, event: str, body: bytes, *, author: str) -> None:
        self._publish(Publication(event, body, room.name, None, author))

    def _publish(self, publication: Publication) -> None:
        self.effects.append(publication)
        self.published += len(publication.body)

    def move(self, room: RoomRecord, *, joined: tuple[str, ...] = (), left: tuple[str, ...] = ()) -> None:
        """Add an effect: who receives the room's events from here on, and who no longer does."""
        self.effects.append(Movement(room.name, joined, left))

    def forget(self, room_id: RoomId) -> None:
        """Forget a room that was deleted. Maintenance deletes its log, a slice at a time."""
        self.spans.forget(room_id)
        self._db.execute("INSERT INTO ended_rooms (room_id) VALUES (?)", (room_id,))

    # --- the next message

    def next_message_id(self) -> str:
        """An id for the next message. It contains the position, so that finding the message takes no index."""
        return f"{next(self._random)}.{self._newest + 1}"

    def next_message_ts(self, room_id: RoomId) -> int:
        """The time of the next message (Unix time in ms), which is never before that of the last one in its room."""
        now, last = self._clocks.unix_ms(), self.spans.get(room_id, MESSAGES).ts
        return now if now > last else last

    def find_sent(self, room_id: RoomId, sender: str, message_id: str) -> int | None:
        """When the sender sent a message with that id (Unix time in ms), if it is in the log or was trimmed recently;
        else None. Messages from before the sender became a member do not count: the name may have been another's.
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
