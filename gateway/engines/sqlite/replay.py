"""What a user has not heard since a position: all of it, once and in order, or nothing.

While a user is a member of a room, from the position ``joined`` on, the user hears

- what the whole room hears, behind ``joined``, but for what the user did;
- its own ``room-joined``, which is at ``joined`` itself, where somebody else has added the user.

So a replay since a position is lost where something behind it that the user heard is there no more:

- it was trimmed (``rooms`` holds the newest position that was, for any author);
- it happened in a room that the user has left since (``sessions.missed_by_leaving``);
- the position belongs to a log that is not this one (see ``epochs``);
- there is more than a client is given at once (``Policy.replay_size``).

A replay may be long: it is read backwards, room by room, in slices, between which others may write. What was read stays
read, whatever is trimmed meanwhile; what was appended meanwhile is read in the next slice.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import TYPE_CHECKING

from gateway.engines.base import Publication
from gateway.engines.sqlite.spans import KINDS, MESSAGES

if TYPE_CHECKING:
    import sqlite3

    from gateway.engines.base import Policy
    from gateway.engines.sqlite.clocks import Slice
    from gateway.engines.sqlite.log import Log

MEMBERSHIPS = """
SELECT room_id, name, joined, trimmed, trimmed_author, trimmed_other
FROM members JOIN rooms ON rooms.id = room_id WHERE username = ?
"""

BACKWARDS = """
SELECT position, event, origin, other, CASE WHEN origin = :user THEN NULL ELSE body END FROM log
WHERE room_id = :room_id AND kind = :kind AND position > :low AND position <= :high ORDER BY position DESC
"""


@dataclass(slots=True)
class _Unread:
    """Of one kind of events in one room: what is behind ``low``, up to ``high``. The rest, up to ``top``, was read."""

    low: int
    high: int
    top: int


@dataclass(slots=True)
class Replay:
    """What was read so far of what ``username`` missed since ``position``."""

    username: str
    position: int
    lost: bool = False
    """Whether not all of it can be had."""
    done: bool = False
    """Whether there was nothing more to read when the last slice ended."""
    size: int = 0
    steps: int = 0
    """How much work it was so far: events and rooms."""
    found: list[tuple[int, Publication]] = field(default_factory=list)
    """What was missed, by position."""
    unread: dict[tuple[int, int, int], _Unread] = field(default_factory=dict)
    """By the room's id, the position at which the user joined it, and the kind of event."""

    def copy(self) -> Replay:
        unread = {key: _Unread(unread.low, unread.high, unread.top) for key, unread in self.unread.items()}
        return replace(self, found=list(self.found), unread=unread)


class Replays:
    """Reads the table ``log`` for users who come back."""

    def __init__(self, connection: sqlite3.Connection, log: Log, policy: Policy) -> None:
        self._db = connection
        self._log = log
        self._policy = policy

    def begin(self, username: str, offset: str | None) -> Replay:
        """A replay since ``offset``, of which nothing is read yet."""
        position = None if offset is None else self._log.position(offset)
        return Replay(username, position or 0, lost=position is None)

    def read_on(self, replay: Replay, piece: Slice) -> Replay:
        """``replay`` with what can be read until ``piece`` is over.

        The one given is not changed: should the transaction fail, what was read in it may not be so.
        """
        replay = replay.copy()
        self._log.flush()
        replay.lost = replay.lost or self._missed_by_leaving(replay)
        replay.done = replay.lost or self._read_rooms(replay, piece) or replay.lost
        return replay

    def missed(self, replay: Replay) -> tuple[Publication, ...]:
        """What a replay that is done, and not lost, has found, in order."""
        return tuple(publication for _, publication in sorted(replay.found, key=itemgetter(0)))

    def _missed_by_leaving(self, replay: Replay) -> bool:
        row = self._db.execute(
            "SELECT missed_by_leaving FROM sessions WHERE username = ?", (replay.username,)
        ).fetchone()
        return row is None or row[0] > replay.position

    def _read_rooms(self, replay: Replay, piece: Slice) -> bool:
        """Read all rooms; whether nothing is left to read. Returns early where the replay is lost or the piece over."""
        user = replay.username
        for room_id, room, joined, trimmed, author, other in self._db.execute(MEMBERSHIPS, (user,)).fetchall():
            cut = other if author == user else trimmed
            for kind in KINDS:
                key = room_id, joined, kind
                is_new = key not in replay.unread
                if is_new:
                    replay.steps += 1
                    low = max(replay.position, joined)
                    replay.unread[key] = _Unread(low, low, low)
                    if kind == MESSAGES and joined > replay.position:
                        self._read_room_joined(replay, room_id, room, joined)
                unread = replay.unread[key]
                replay.lost = replay.lost or cut > unread.low
                if replay.lost or not self._read_kind(replay, (room_id, room, kind), unread, piece):
                    return False
                if is_new and piece.is_over():
                    return False
        return True

    def _read_room_joined(self, replay: Replay, room_id: int, room: str, joined: int) -> None:
        """Whoever made the room has none."""
        row = self._db.execute(
            "SELECT event, body FROM log WHERE position = ? AND room_id = ? AND recipient = ?",
            (joined, room_id, replay.username),
        ).fetchone()
        if row is not None:
            self._add(replay, joined, row[0], room, row[1])

    def _read_kind(self, replay: Replay, source: tuple[int, str, int], unread: _Unread, piece: Slice) -> bool:
        """Read what is unread of a room's events of a kind; whether all of it was."""
        room_id, room, kind = source
        newest = self._log.spans.get(room_id, kind).newest_for(replay.username)
        while True:
            if unread.high <= unread.low:
                unread.low = unread.top
                if newest <= unread.low:
                    return True
                unread.high = unread.top = newest
            rows = self._db.execute(
                BACKWARDS,
                {
                    "user": replay.username,
                    "room_id": room_id,
                    "kind": kind,
                    "low": unread.low,
                    "high": unread.high,
                },
            )
            with contextlib.closing(rows):
                for position, event, origin, other, body in rows:
                    if origin == replay.username:
                        unread.high = other  # from there to here, all is the reader's own
                        break
                    unread.high = position - 1
                    self._add(replay, position, event, room, body)
                    if replay.lost or piece.is_over():
                        return False
                else:
                    unread.high = unread.low

    def _add(self, replay: Replay, position: int, event: str, room: str, body: bytes) -> None:
        replay.size += len(body)
        replay.lost = replay.lost or replay.size > self._policy.replay_size
        replay.steps += 1
        readers = (replay.username,)
        missed = Publication(event, body, room, self._log.offset(position), recipients=readers)
        replay.found.append((position, missed))
