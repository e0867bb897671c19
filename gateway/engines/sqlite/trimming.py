"""What leaves the log: events that are too old, rooms that are gone, and ids that nobody sends again.

All of it goes in small pieces. A room that is written to is trimmed as it grows; the rest is `Trimming.maintain`'s,
between the operations of clients.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.engines.sqlite.spans import KINDS, MESSAGES

if TYPE_CHECKING:
    import sqlite3

    from gateway.engines.base import Policy
    from gateway.engines.sqlite.clocks import Clocks, Slice
    from gateway.engines.sqlite.spans import Span, Spans

CHUNK: Final = 64
"""How many events are deleted in one step, at most; rooms hold at most as many more than their bound."""

CHUNK_BYTES: Final = 262_144
"""How many bytes of events are deleted in one step; the event that passes it is the last one."""

SWEPT: Final = 16
"""How many rooms are looked at in one step."""

RETRY_WINDOWS: Final = 2
RETRY_MARGIN: Final = 60.0
"""How many recovery windows, and how many seconds more, the id of a message is known after the message was trimmed: its
sender may come back and send it again.
"""


class Trimming:
    """Deletes from the tables ``log`` and ``trimmed_messages``. All that was appended must have been written before."""

    def __init__(self, connection: sqlite3.Connection, spans: Spans, policy: Policy, clocks: Clocks) -> None:
        self._db = connection
        self._spans = spans
        self._history_size = policy.history_size
        self._history_bytes = policy.history_bytes
        self._most = policy.history_size + min(CHUNK, policy.history_size // 8)
        self._most_bytes = policy.history_bytes + min(CHUNK_BYTES, policy.history_bytes // 8)
        self._clocks = clocks
        self._retry_ms = int(1000 * (RETRY_WINDOWS * policy.recovery_window + RETRY_MARGIN))
        self._swept: int | None = 0
        """The id of the last room that was looked at since the opening; None when all were."""

    def is_due(self, span: Span) -> bool:
        """Whether a span is so far above its bounds that it is worth the work."""
        kept = span.number - span.cut_number
        return kept > self._most or (span.size - span.cut_size > self._most_bytes and kept > 1)

    def trim(self, room_id: int, kind: int) -> None:
        """Delete the oldest events above the bounds, one step of it."""
        span = self._spans.get(room_id, kind)
        rows = self._db.execute(
            "SELECT position, number, size, author, other, message_id, ts FROM log "
            "WHERE room_id = ? AND kind = ? ORDER BY position LIMIT ?",
            (room_id, kind, CHUNK),
        ).fetchall()
        cut = []
        start = span.cut_size
        for row in rows:
            _, number, size, *_ = row
            if span.keeps(number, span.cut_size, self._history_size, self._history_bytes):
                break
            cut.append(row)
            span.cut_number, span.cut_size = number, size
            if size - start >= CHUNK_BYTES:
                break
        if not cut:
            return
        position, _, _, author, other, _, _ = cut[-1]
        self._db.execute("DELETE FROM log WHERE room_id = ? AND kind = ? AND position <= ?", (room_id, kind, position))
        self._note(room_id, position, author, other)
        if kind == MESSAGES:
            kept = self._clocks.running_ms()
            self._db.executemany(
                "INSERT OR REPLACE INTO trimmed_messages (room_id, author, message_id, position, ts, kept) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                [(room_id, by, name, at, ts, kept) for at, _, _, by, _, name, ts in cut if name is not None],
            )

    def _note(self, room_id: int, position: int, author: str, other: int) -> None:
        """Note the newest event of a kind that was trimmed, and the newest before it that has another author."""
        known = self._db.execute(
            "SELECT trimmed, trimmed_author, trimmed_other FROM rooms WHERE id = ?", (room_id,)
        ).fetchone()
        if known is None:
            return
        newest, older = sorted([(position, author, other), known], key=lambda cut: -cut[0])
        others = [newest[2], older[2], older[0] if older[1] != newest[1] else 0]
        self._db.execute(
            "UPDATE rooms SET trimmed = ?, trimmed_author = ?, trimmed_other = ? WHERE id = ?",
            (newest[0], newest[1], max(others), room_id),
        )

    def oldest_retry(self) -> int:
        """The running time since which a message must have been trimmed for its id to count."""
        return self._clocks.running_ms() - self._retry_ms

    # --- between the operations of clients

    def maintain(self, piece: Slice) -> bool:
        """Work until ``piece`` is over. Returns whether there is more to do."""
        return self._forget_rooms(piece) or self._sweep(piece) or self._forget_ids(piece)

    def _forget_rooms(self, piece: Slice) -> bool:
        """Delete what is left of rooms that are gone."""
        while (ended := self._db.execute("SELECT room_id FROM ended_rooms LIMIT 1").fetchone()) is not None:
            while self._delete_some(ended[0]):
                if piece.is_over():
                    return True
            self._db.execute("DELETE FROM ended_rooms WHERE room_id = ?", ended)
            if piece.is_over():
                return True
        return False

    def _delete_some(self, room_id: int) -> bool:
        """Delete some of the log of a room that is gone; whether there was any."""
        for kind in KINDS:
            rows = self._db.execute(
                "SELECT position, length(body) FROM log WHERE room_id = ? AND kind = ? ORDER BY position LIMIT ?",
                (room_id, kind, CHUNK),
            ).fetchall()
            if rows:
                self._db.execute(
                    "DELETE FROM log WHERE room_id = ? AND kind = ? AND position <= ?", (room_id, kind, _last_of(rows))
                )
                return True
        return self._delete_ids("room_id = ?", room_id)

    def _delete_ids(self, condition: str, parameter: int) -> bool:
        """Delete some of the ids of messages that were trimmed; whether there was any."""
        ids = self._db.execute(
            f"SELECT room_id, author, message_id FROM trimmed_messages WHERE {condition} LIMIT ?", (parameter, CHUNK)
        ).fetchall()
        self._db.executemany("DELETE FROM trimmed_messages WHERE room_id = ? AND author = ? AND message_id = ?", ids)
        return bool(ids)

    def _sweep(self, piece: Slice) -> bool:
        """Trim, once after the opening, what bounds are above that may have been larger before."""
        while self._swept is not None:
            rooms = self._db.execute("SELECT id FROM rooms WHERE id > ? ORDER BY id LIMIT ?", (self._swept, SWEPT))
            ids = [room_id for (room_id,) in rooms]
            for room_id in ids:
                for kind in KINDS:
                    while self.is_due(self._spans.get(room_id, kind)):
                        self.trim(room_id, kind)
                        if piece.is_over():
                            return True
                self._swept = room_id
            if not ids:
                self._swept = None
            if piece.is_over():
                return self._swept is not None
        return False

    def _forget_ids(self, piece: Slice) -> bool:
        """Delete the ids of messages that were trimmed too long ago to be sent again."""
        while self._delete_ids("kept < ?", self.oldest_retry()):
            if piece.is_over():
                return True
        return False


def _last_of(rows: list[tuple[int, int]]) -> int:
    """The position of the last event that is deleted in one step; ``rows`` are positions and sizes."""
    freed = 0
    for position, size in rows:
        freed += size
        if freed >= CHUNK_BYTES:
            return position
    return rows[-1][0]
