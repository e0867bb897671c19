"""What happened in the rooms, in one order: appending, publishing, replaying and trimming.

A **position** is a place in that order, an **offset** its name for clients: the log's own name and the position.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway import events
from gateway.engines.base import HistoryPage, Movement, Publication
from gateway.errors import InvalidPayload

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from gateway.engines.base import Effect, Policy

IS_MESSAGE = f"event = '{events.MESSAGE}'"
IS_NO_MESSAGE = f"event != '{events.MESSAGE}'"

SENT = "SELECT room_id, position, ts"
SENT_AS = "WHERE room_id = :room_id AND message_id = :message_id AND origin = :sender"

RETRY_WINDOWS = 2
RETRY_MARGIN = 60.0
"""A sender may send a message again for so many recovery windows and so many seconds: the id is known so long, also
where the log is trimmed.
"""


class Log:
    """The table ``log``, and what the current transaction did for others to hear."""

    def __init__(self, connection: sqlite3.Connection, policy: Policy, clock: Callable[[], float]) -> None:
        """``clock`` gives Unix time in seconds."""
        self.effects: list[Effect] = []
        """What the running operation did, in order."""
        self.told = 0
        """Bytes of the events in the effects of the transaction."""
        self._db = connection
        self._policy = policy
        self._clock = clock
        self._name: str = connection.execute("SELECT name FROM log_name").fetchone()[0]
        row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'log'").fetchone()
        self._newest = self._committed = 0 if row is None else int(row[0])
        """The position of the newest event, and what it was when the transaction began."""
        self._rows: list[tuple[object, ...]] = []
        self._unwritten_ids: set[tuple[int, str]] = set()
        """Rooms and ids of messages in `_rows`."""
        self._kept: dict[tuple[int, str], int] = {}
        """How many events the log has of a room, by its id and their kind; of rooms that were written to since the last
        failure.
        """

    # --- writing

    def flush(self) -> None:
        """Write the events that were appended: all in one statement, for what reads the table, or before a commit."""
        if self._rows:
            rows, self._rows = self._rows, []
            self._unwritten_ids.clear()
            self._db.executemany(
                "INSERT INTO log (position, room_id, event, origin, recipient, message_id, ts, body) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                rows,
            )

    def begin(self) -> None:
        """A transaction begins."""
        self._committed = self._newest
        self.told = 0

    def rollback(self) -> None:
        """What was appended since `begin` is gone."""
        self._rows.clear()
        self._unwritten_ids.clear()
        self._kept.clear()
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
        position = self._newest = self._newest + 1
        self._rows.append((position, room_id, event, origin, recipient, message_id, ts, body))
        if message_id is not None:
            self._unwritten_ids.add((room_id, message_id))
        offset = self.offset(position)
        recipients = None if recipient is None else (recipient,)
        self._tell(Publication(event, body, room, offset, origin, recipients))
        self._trim(room_id, IS_MESSAGE if event == events.MESSAGE else IS_NO_MESSAGE)

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
        """Delete all that happened in a room."""
        self.flush()
        for table in ("log", "trimmed_messages"):
            self._db.execute(f"DELETE FROM {table} WHERE room_id = ?", (room_id,))
        for kind in (IS_MESSAGE, IS_NO_MESSAGE):
            self._kept.pop((room_id, kind), None)

    def _trim(self, room_id: int, kind: str) -> None:
        """Cut off what is too old, every so many events: a room keeps its newest messages and as many other events."""
        size = self._policy.history_size
        kept = self._kept.get((room_id, kind))
        kept = self._count(room_id, kind) if kept is None else kept + 1
        if kept > size + size // 8:
            self.flush()
            cut = self._oldest(room_id, kind, kept - size)
            if kind == IS_MESSAGE:
                self._remember_ids(room_id, cut)
            self._db.execute(f"DELETE FROM log WHERE room_id = ? AND position <= ? AND {kind}", (room_id, cut))
            self._db.execute("UPDATE rooms SET trimmed = ? WHERE id = ? AND trimmed < ?", (cut, room_id, cut))
            kept = size
        self._kept[room_id, kind] = kept

    def _count(self, room_id: int, kind: str) -> int:
        self.flush()
        query = f"SELECT count(*) FROM log WHERE room_id = ? AND {kind}"
        return int(self._db.execute(query, (room_id,)).fetchone()[0])

    def _oldest(self, room_id: int, kind: str, number: int) -> int:
        """The position of the room's event of that kind with that number, counted from the oldest."""
        query = f"SELECT position FROM log WHERE room_id = ? AND {kind} ORDER BY position LIMIT 1 OFFSET ?"
        return int(self._db.execute(query, (room_id, number - 1)).fetchone()[0])

    def _remember_ids(self, room_id: int, cut: int) -> None:
        """Keep the ids of messages that are cut off, as long as their senders may come back and send them again."""
        oldest = now_ms(self._clock) - int(1000 * (RETRY_WINDOWS * self._policy.recovery_window + RETRY_MARGIN))
        self._db.execute(
            "INSERT OR REPLACE INTO trimmed_messages (room_id, origin, message_id, position, ts) "
            f"SELECT room_id, origin, message_id, position, ts FROM log "
            f"WHERE room_id = ? AND position <= ? AND {IS_MESSAGE} AND message_id IS NOT NULL AND ts >= ?",
            (room_id, cut, oldest),
        )
        self._db.execute("DELETE FROM trimmed_messages WHERE ts < ?", (oldest,))

    def _cut(self, room_id: int) -> int:
        """The position of the newest message that is older than the history reaches, or 0."""
        row = self._db.execute(
            f"SELECT position FROM log WHERE room_id = ? AND {IS_MESSAGE} ORDER BY position DESC LIMIT 1 OFFSET ?",
            (room_id, self._policy.history_size),
        ).fetchone()
        return 0 if row is None else int(row[0])

    # --- reading

    def message_ts(self, room_id: int, sender: str, message_id: str) -> int | None:
        """When a message was sent that the log has, or had not long ago (Unix time in ms), or None.

        What a sender of the same name sent before this one became a member is another's.
        """
        if (room_id, message_id) in self._unwritten_ids:
            self.flush()
        row = self._db.execute(
            f"SELECT ts FROM ({SENT} FROM log {SENT_AS} UNION ALL {SENT} FROM trimmed_messages {SENT_AS}) "
            "JOIN members USING (room_id) WHERE username = :sender AND position > joined",
            {"room_id": room_id, "message_id": message_id, "sender": sender},
        ).fetchone()
        return None if row is None else int(row[0])

    def read_messages(self, room_id: int, after: int, before: str | None, limit: int) -> HistoryPage:
        """The newest messages, or the newest before the one that ``before`` names by its offset or id; of those after
        the position ``after``.
        """
        self.flush()
        end = self.newest() + 1 if before is None else self._message_position(room_id, after, before)
        rows = self._db.execute(
            f"SELECT position, body FROM log WHERE room_id = ? AND {IS_MESSAGE} AND position < ? AND position > ? "
            "ORDER BY position DESC LIMIT ?",
            (room_id, end, max(after, self._cut(room_id)), limit + 1),
        ).fetchall()
        messages = [events.with_field(body, "offset", self.offset(position)) for position, body in rows[:limit]]
        return HistoryPage(tuple(reversed(messages)), more=len(rows) > limit)

    def _message_position(self, room_id: int, after: int, name: str) -> int:
        position = self.position(name)
        if position is not None:
            return position
        rows = self._db.execute(
            "SELECT position FROM log WHERE room_id = :room_id AND message_id = :name AND position > :after "
            "UNION ALL SELECT position FROM log WHERE room_id = :room_id AND message_id IS NULL AND position > :after "
            f"AND {IS_MESSAGE} AND json_extract(body, '$.id') = :name LIMIT 2",
            {"room_id": room_id, "name": name, "after": after},
        ).fetchall()
        if len(rows) != 1:
            problem = "is the id of several messages; give an offset." if rows else "is no message of this room."
            raise InvalidPayload.in_fields({"before": [f"{name!r} {problem}"]})
        return int(rows[0][0])

    def missed(self, username: str, offset: str | None) -> tuple[Publication, ...] | None:
        """What a user has not heard since ``offset``; None where not all of it can be had."""
        self.flush()
        position = self.position(offset)
        if position is None or position > self.newest():
            return None
        left = self._db.execute("SELECT missed_by_leaving FROM sessions WHERE username = ?", (username,)).fetchone()
        if left is None or left[0] > position:
            return None
        trimmed = self._db.execute(
            "SELECT 1 FROM members JOIN rooms ON id = room_id WHERE username = ? AND trimmed > ? AND trimmed >= joined",
            (username, position),
        ).fetchone()
        if trimmed is not None:
            return None
        rows = self._db.execute(
            "SELECT position, event, name, body FROM members JOIN rooms ON id = members.room_id "
            "JOIN log ON log.room_id = members.room_id WHERE username = :user AND position > :position "
            "AND (recipient = :user OR (recipient IS NULL AND position > joined)) AND origin IS NOT :user "
            "ORDER BY position",
            {"user": username, "position": position},
        )
        missed: list[Publication] = []
        size = 0
        for row_position, event, room, body in rows:
            size += len(body)
            if size > self._policy.replay_size:
                return None
            missed.append(Publication(event, body, room, self.offset(row_position), recipients=(username,)))
        return tuple(missed)

    def newest_for(self, room_id: int, username: str) -> int:
        """The position of the newest event in a room that a member hears, or 0."""
        self.flush()
        row = self._db.execute(
            "SELECT position FROM log WHERE room_id = ? AND origin IS NOT ? AND (recipient IS NULL OR recipient = ?) "
            "ORDER BY position DESC LIMIT 1",
            (room_id, username, username),
        ).fetchone()
        return 0 if row is None else int(row[0])

    # --- positions

    def newest(self) -> int:
        """The position of the newest event there ever was."""
        return self._newest

    def offset(self, position: int) -> str:
        return f"{self._name}-{position}"

    def position(self, offset: str | None) -> int | None:
        """The position that ``offset`` names in this log, or None."""
        if offset is None:
            return None
        name, _, digits = offset.rpartition("-")
        valid = name == self._name and digits.isascii() and digits.isdigit() and len(digits) < 19
        return int(digits) if valid else None


def now_ms(clock: Callable[[], float]) -> int:
    """Unix time in milliseconds."""
    return int(clock() * 1000)
