"""What a user has missed since a position: all of it, once and in order, or nothing.

A member of a room, from the position ``joined`` on, receives

- the events of the room after ``joined``, except those that the member caused;
- its own ``room-joined``, at ``joined`` itself, if another user added it.

A replay since a position is **lost** if any later event that the user received, or should have received, is not
available:

- it was trimmed (`Stream.trimmed`);
- it happened in a room that the user has left since (`SessionRecord.missed_by_leaving`);
- the position is not one of this log (`Log.position`);
- there is more than a client is sent at once (`Policy.replay_size`).

**Reading in several transactions.** A replay may be long, so a transaction reads as much of it as it has time for, and
others write between two of them. For each stream (one kind of events in one room), `_Unread` keeps three positions::

      position, or joined                                    newest when reading began
            │                                                          │
            ▼            not read yet           read already           ▼        appended since
    ────────┼───────────────────────────┼──────────────────────────────┼───────────────────────▶
           low                         high                           top

A stream is read backwards, from ``top`` down to ``low``. Then ``top`` becomes the new ``low``, and what was appended
meanwhile is read in the same way. Events up to ``low`` may be trimmed meanwhile; if later ones are, the replay is lost.
The replay is done in a transaction that has read every stream to its newest event; the session is attached in the same
transaction, so that nothing can be appended in between.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, TypeAlias

from gateway.engines.effects import Publication
from gateway.engines.transaction import Range

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.engines.base import Policy
    from gateway.engines.transaction import Entry, Membership, RoomId, RoomRecord, SessionRecord, Stream, Transaction

ROOMS_AT_ONCE: Final = 8
"""How many rooms are read in one call. On a shared store each call is a round trip; on an embedded one it blocks the
event loop.
"""

EVENTS_AT_ONCE: Final = 64
"""How many events are read in one call."""

LAST_EVENTS: Final = 500
"""How many events a replay that has caught up once may read at its end without regard to the time: a few milliseconds.
In a busy room more is appended between any two transactions, so that a client would never be let in.
"""

Key: TypeAlias = "tuple[RoomId, int, int]"
"""A stream of one membership: the room's id, the position at which the user joined it, and the kind of events."""


@dataclass(slots=True)
class _Unread:
    """Of one stream, what is after ``low``, up to ``high``, is unread; the rest, up to ``top``, has been read."""

    low: int
    high: int
    top: int


@dataclass(slots=True)
class Replay:
    """What has been read so far of what ``username`` missed since ``position``."""

    username: str
    position: int
    lost: bool = False
    """Whether some of it is not available."""
    done: bool = False
    """Whether there was nothing more to read when the last transaction ended."""
    newest: int = -1
    """The newest position in the log at that time."""
    size: int = 0
    """Size of the events that were read, in bytes."""
    steps: int = 0
    """How much work was done so far: events read, plus streams."""
    found: list[tuple[int, Publication]] = field(default_factory=list)
    """The missed events, with their positions, in no order."""
    unread: dict[Key, _Unread] = field(default_factory=dict)

    def copy(self) -> Replay:
        unread = {key: _Unread(unread.low, unread.high, unread.top) for key, unread in self.unread.items()}
        return replace(self, found=list(self.found), unread=unread)

    def missed(self) -> tuple[Publication, ...]:
        """The missed events, in order, of a replay that is done and not lost."""
        return tuple(publication for _, publication in sorted(self.found, key=lambda found: found[0]))


def begin(tx: Transaction, username: str, offset: str | None) -> Replay:
    """A replay since ``offset``, of which nothing has been read yet."""
    position = None if offset is None else tx.log.position(offset)
    return Replay(username, position or 0, lost=position is None)


async def read_on(
    tx: Transaction, policy: Policy, session: SessionRecord, memberships: Sequence[Membership], replay: Replay
) -> Replay:
    """A copy of ``replay`` with what can be read in this transaction; ``memberships`` are all those of its user.

    The original is not changed: if the transaction fails, what was read in it may be wrong.
    """
    newest = tx.log.newest()
    if replay.done and replay.newest == newest and session.missed_by_leaving <= replay.position:
        return replay
    replay = replay.copy()
    replay.newest = newest
    replay.lost = replay.lost or session.missed_by_leaving > replay.position
    reading = _Reading(tx, policy, replay)
    replay.done = replay.lost or await reading.read_all(memberships) or replay.lost
    return replay


class _Reading:
    """One transaction's share of a replay."""

    def __init__(self, tx: Transaction, policy: Policy, replay: Replay) -> None:
        self._tx = tx
        self._policy = policy
        self._replay = replay
        self._steps_before = replay.steps
        self._caught_up = replay.done

    async def read_all(self, memberships: Sequence[Membership]) -> bool:
        """Whether nothing is left to read. Returns early where the replay is lost or `_may_go_on` ends.

        Rooms that no transaction has read from come first. Then the others are read on: what an earlier transaction
        had no time for, and what was appended since.
        """
        known = {(room_id, joined) for room_id, joined, _ in self._replay.unread}
        new = [membership for membership in memberships if (membership.room.id, membership.joined) not in known]
        old = [membership for membership in memberships if (membership.room.id, membership.joined) in known]
        parts = [new[start : start + ROOMS_AT_ONCE] for start in range(0, len(new), ROOMS_AT_ONCE)]
        for part in [*parts, old] if old else parts:
            if not self._may_go_on() or not await self._read_rooms(part):
                return False
        return True

    def _may_go_on(self) -> bool:
        """Whether this transaction may do more. Each one does something, so that there is an end to it."""
        steps = self._replay.steps - self._steps_before
        if self._caught_up:
            return steps < LAST_EVENTS
        return not steps or self._tx.has_time()

    async def _read_rooms(self, memberships: Sequence[Membership]) -> bool:
        """Read some rooms; whether everything in them was read."""
        replay = self._replay
        streams = await self._tx.history.streams(memberships)
        joined = {membership.room.id: membership.joined for membership in memberships}
        keyed = {(stream.room.id, joined[stream.room.id], stream.kind): stream for stream in streams}
        await self._add_rooms(memberships, keyed)
        replay.lost = replay.lost or any(stream.trimmed > replay.unread[key].low for key, stream in keyed.items())
        unread = deque(keyed.items())
        while not replay.lost and (batch := self._next_ranges(unread)):
            if not self._may_go_on():
                return False
            await self._read(batch)
            unread.extendleft((key, wanted.stream) for key, wanted in batch.items())  # there may be more of them
        return not replay.lost

    def _next_ranges(self, unread: deque[tuple[Key, Stream]]) -> dict[Key, Range]:
        """What to read next of these streams: at most `ROOMS_AT_ONCE` ranges."""
        ranges: dict[Key, Range] = {}
        while unread and len(ranges) < ROOMS_AT_ONCE:
            key, stream = unread.popleft()
            if (wanted := self._next_range(key, stream)) is not None:
                ranges[key] = wanted
        return ranges

    async def _add_rooms(self, memberships: Sequence[Membership], streams: dict[Key, Stream]) -> None:
        """Add what the replay has not begun to read."""
        replay = self._replay
        new = [key for key in streams if key not in replay.unread]
        for key in new:
            low = max(replay.position, key[1])
            replay.unread[key] = _Unread(low, low, low)
        replay.steps += len(new)
        rooms = {key[0] for key in new}
        invited = [
            membership
            for membership in memberships
            if membership.invited and membership.room.id in rooms and membership.joined > replay.position
        ]
        if invited:
            entries = await self._tx.history.invitations(invited)
            for membership, entry in zip(invited, entries, strict=True):
                if entry is None:
                    replay.lost = True
                else:
                    self._add(membership.room, entry)

    def _next_range(self, key: Key, stream: Stream) -> Range | None:
        """What to read next of a stream, or None if everything has been read."""
        unread = self._replay.unread[key]
        if unread.high == unread.top:  # nothing after low was read
            unread.high = unread.top = max(unread.top, stream.newest)
        return None if unread.high <= unread.low else Range(stream, unread.low, unread.high)

    async def _read(self, ranges: dict[Key, Range]) -> None:
        found = await self._tx.history.read_back(tuple(ranges.values()), self._replay.username, EVENTS_AT_ONCE)
        for (key, read), entries in zip(ranges.items(), found, strict=True):
            unread = self._replay.unread[key]
            for entry in entries.found:
                self._add(read.stream.room, entry)
            unread.high = unread.low if entries.complete else entries.found[-1].position - 1
            if unread.high <= unread.low:  # everything up to top was read, and stays read whatever is trimmed
                unread.low = unread.high = unread.top

    def _add(self, room: RoomRecord, entry: Entry) -> None:
        replay = self._replay
        replay.size += len(entry.body)
        replay.lost = replay.lost or replay.size > self._policy.replay_size
        replay.steps += 1
        offset = self._tx.log.offset(entry.position)
        missed = Publication(entry.event, entry.body, room.name, offset, recipients=(replay.username,))
        replay.found.append((entry.position, missed))
