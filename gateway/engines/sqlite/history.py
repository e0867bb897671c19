"""Reading the messages of a room, page by page."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import orjson

from gateway import events
from gateway.engines.base import HistoryPage
from gateway.engines.sqlite.spans import MESSAGES
from gateway.errors import InvalidPayload

if TYPE_CHECKING:
    import sqlite3

    from gateway.engines.base import Policy
    from gateway.engines.sqlite.log import Log


class History:
    """The messages in the table ``log``."""

    def __init__(self, connection: sqlite3.Connection, log: Log, policy: Policy) -> None:
        self._db = connection
        self._log = log
        self._policy = policy

    def read(self, room_id: int, before: str | None, limit: int, *, after: int = 0) -> HistoryPage:
        """The newest messages, or the newest before the one that ``before`` names by its offset or id; none up to the
        position ``after``. A page ends early where it holds as many bytes as a replay may.
        """
        self._log.flush()
        span = self._log.spans.get(room_id, MESSAGES)
        end = self._log.newest() + 1 if before is None else self._position(room_id, after, before)
        rows = self._db.execute(
            "SELECT position, number, size, body FROM log WHERE room_id = ? AND kind = 0 AND position < ? "
            "AND position > ? ORDER BY position DESC LIMIT ?",
            (room_id, end, after, limit + 1),
        )
        messages: list[bytes] = []
        bytes_left = self._policy.replay_size
        with contextlib.closing(rows):
            for position, number, size, body in rows:
                if not span.keeps(number, size - len(body), self._policy.history_size, self._policy.history_bytes):
                    break
                if len(messages) == limit or (messages and len(body) > bytes_left):
                    return HistoryPage(tuple(reversed(messages)), more=True)
                bytes_left -= len(body)
                messages.append(events.with_field(body, "offset", self._log.offset(position)))
        return HistoryPage(tuple(reversed(messages)), more=False)

    def _position(self, room_id: int, after: int, name: str) -> int:
        position = self._log.position(name)
        if position is not None:
            return position
        rows = self._db.execute(
            "SELECT position FROM log WHERE room_id = ? AND message_id = ? AND position > ? LIMIT 2",
            (room_id, name, after),
        ).fetchall()
        found = [int(row[0]) for row in rows] + self._position_of_own_id(room_id, after, name)
        if len(found) != 1:
            problem = "is the id of several messages; give an offset." if found else "is no message of this room."
            raise InvalidPayload.in_fields({"before": [f"{name!r} {problem}"]})
        return found[0]

    def _position_of_own_id(self, room_id: int, after: int, name: str) -> list[int]:
        """Of the message with an id that `Log.message_id` made: none or one."""
        digits = name.rpartition(".")[2]
        if not (digits.isascii() and digits.isdigit() and len(digits) < 19) or int(digits) <= after:
            return []
        row = self._db.execute(
            "SELECT body FROM log WHERE position = ? AND room_id = ? AND kind = 0 AND message_id IS NULL",
            (int(digits), room_id),
        ).fetchone()
        return [int(digits)] if row is not None and orjson.loads(row[0])["id"] == name else []
