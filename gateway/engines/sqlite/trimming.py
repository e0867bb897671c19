"""Deleting from the log: events beyond the bounds, deleted rooms, and message ids too old to be sent again.

All of it is done in small steps. A room is trimmed as it grows; `Trimming.maintain` does the rest, between the
operations of clients.
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
"""How many events are deleted in one step. A room exceeds its bound by at most as many."""

CHUNK_BYTES: Final = 262_144
"""After how many bytes of deleted events a step ends."""

ROOMS_AT_ONCE: Final = 16
"""How many rooms are checked in one step."""

RETRY_WINDOWS: Final = 2
RETRY_MARGIN: Final = 60.0
"""For how many recovery windows, plus how many seconds, the id of a message is kept after the message was trimmed: its
sender may come back and send it again.
"""


class Trimming:
    """Deletes from the tables ``log`` and ``trimmed_messages``. `EventLog.flush` must have been called before."""

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
        """The id of the last room that `_sweep` has checked; None once it has checked all."""

    def is_due(self, span: Span) -> bool:
        """Whether a span exceeds its bounds by so much that trimming it is worthwhile."""
        kept = span.number - span.cut_number
        return kept > self._most or (span.size - span.cut_size > self._most_bytes and kept > 1)

    def trim(self, room_id: int, kind: int) -> None:
        """Delete the oldest events beyond the bounds: one step."""
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
        """Record the newest event of the room that was trimmed, and the newest one before it by another author.

        From these two positions follows, for each member, the newest trimmed event that it did not cause
        (`Stream.trimmed`). The two kinds of events are trimmed separately, so what is trimmed now may be older than
        what was trimmed before.
        """
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
        """The ids of messages that were trimmed before this running time (ms) have expired."""
        return self._clocks.running_ms() - self._retry_ms

    # --- between the operations of clients

    def maintain(self, piece: Slice) -> bool:
        """Work until ``piece`` is over. Returns whether there is more to do."""
        return self._forget_rooms(piece) or self._sweep(piece) or self._forget_ids(piece)

    def _forget_rooms(self, piece: Slice) -> bool:
        """Delete the logs of deleted rooms."""
        while (ended := self._db.execute("SELECT room_id FROM ended_rooms LIMIT 1").fetchone()) is not None:
            while self._delete_some(ended[0]):
                if piece.is_over():
                    return True
            self._db.execute("DELETE FROM ended_rooms WHERE room_id = ?", ended)
            if piece.is_over():
                return True
        return False

    def _delete_some(self, room_id: int) -> bool:
        """Delete part of the log of a deleted room. Returns whether there was any."""
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
        """Delete some ids of trimmed messages. Returns whether there were any."""
        ids = self._db.execute(
            f"SELECT room_id, author, message_id FROM trimmed_messages WHERE {condition} LIMIT ?", (parameter, CHUNK)
        ).fetchall()
        self._db.executemany("DELETE FROM trimmed_messages WHERE room_id = ? AND author = ? AND message_id = ?", ids)
        return bool(ids)

    def _sweep(self, piece: Slice) -> bool:
        """Trim all rooms once after the store is opened: the bounds may have been larger before."""
        while self._swept is not None:
            query = "SELECT id FROM rooms WHERE id > ? ORDER BY id LIMIT ?"
            ids = [room_id for (room_id,) in self._db.execute(query, (self._swept, ROOMS_AT_ONCE))]
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
    """The position of the last event to delete in one step; ``rows`` are positions and sizes."""
    freed = 0
    for position, size in rows:
        freed += size
        if freed >= CHUNK_BYTES:
            return position
    return rows[-1][0]
