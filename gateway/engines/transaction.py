"""What a rule reads and writes: sessions, rooms, members and the log, in one transaction.

A rule is a coroutine function whose first argument is a `Transaction`. It **reads first and writes afterwards**: a read
after a write need not see it. A read takes as many keys as the rule has, since on a shared store each read is a round
trip. A write returns at once; all writes are committed together when the rule has returned, and none if it raises. A
rule may be run again from its beginning, so it must change nothing but the transaction.

Memberships and sessions refer to users, not to each other: a user may have several sessions in the data, even though
the rules allow only one today.

The **effects** of a rule, in the order of its writes, are what members and connections receive after the commit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, NewType, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gateway.engines.effects import Attachment, Holder
    from gateway.events import Member, Room

RoomId = NewType("RoomId", int)
"""Identifies a room: a later room of the same name has another id."""


class SessionRecord(NamedTuple):
    """A tuple, and not a dataclass, as `RoomRecord`, `Membership` and `Stream` are: log-ins make many, and a rule may
    read two hundred of the others.

    A session is live while it has a ``holder``; without one it is suspended, since ``suspended_at`` (in the store's
    running time, ms). ``claimed_at``: when the client came that was the last to get it (in the same time).

    Only the hash of a pid is stored. ``previous_pid_hash``: the previous pid also works until the client has used the
    newer one, which may not have reached it. ``resumable``: the client was sent its pid. ``began``: the newest position
    when the session began. ``missed_by_leaving``: the newest position that its user received, or should have received,
    in a room that the user has left since.
    """

    sid: str
    username: str
    pid_hash: str
    previous_pid_hash: str | None
    holder: Holder | None
    suspended_at: int | None
    resumable: bool
    began: int
    missed_by_leaving: int = 0
    claimed_at: int = 0


class RoomRecord(NamedTuple):
    """``pair`` names the two of a direct room, and is None for a room of another kind; ``kind`` and ``history`` as in
    `gateway.events.Room`.
    """

    id: RoomId
    name: str
    kind: str
    history: str
    pair: str | None
    member_count: int


class Membership(NamedTuple):
    """``joined``: the position after which the member receives the events of the room. ``invited``: the user was added
    by another, and its own ``room-joined`` event is at that very position.
    """

    room: RoomRecord
    username: str
    joined: int
    invited: bool

    def received(self, newest: int) -> int:
        """The newest position that the member has received from the room, or should have; 0 if there was nothing.
        ``newest``: that of the newest event in the room by another author.
        """
        if newest > self.joined:
            return newest
        return self.joined if self.invited else 0


@dataclass(frozen=True, slots=True)
class RoomCounts:
    """How many rooms a user is in: ``own`` ones that it created or opened, ``invited`` ones that others added it to."""

    own: int
    invited: int


@dataclass(frozen=True, slots=True)
class Invitation:
    """The ``room-joined`` event of users that ``author`` adds to a room: its encoded ``body``."""

    body: bytes
    author: str


class Stream(NamedTuple):
    """The events of one kind that a whole room receives, from the view of one member: the messages, or the notices of
    who joined and left. The two are trimmed separately.

    ``newest``: the position of the newest event by another author, even if it was trimmed. ``trimmed``: the position of
    the newest such event that was trimmed. 0 if there is none.
    """

    room: RoomRecord
    kind: int
    newest: int
    trimmed: int


@dataclass(frozen=True, slots=True)
class Range:
    """The part of ``stream`` after the position ``low``, up to and including ``high``."""

    stream: Stream
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Entry:
    """An event in the log."""

    position: int
    event: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Entries:
    """What was found in a range, newest first; ``complete``: there is nothing older in it."""

    found: tuple[Entry, ...]
    complete: bool


@dataclass(frozen=True, slots=True)
class Messages:
    """Encoded ``message`` bodies, oldest first, each with its ``offset``; ``more``: there are older ones."""

    bodies: tuple[bytes, ...]
    more: bool


class Sessions(Protocol):
    """The sessions of all users."""

    async def of(self, usernames: Sequence[str]) -> Mapping[str, Sequence[SessionRecord]]:
        """The sessions of each of these users who has any."""

    async def suspended_until(self, running_ms: int, limit: int) -> Sequence[SessionRecord]:
        """Sessions that were suspended at that running time or earlier, the earliest first."""

    async def orphaned(self, limit: int) -> Sequence[SessionRecord]:
        """Sessions that are live on nodes that are gone."""

    async def online(self, prefix: str, limit: int) -> Sequence[str]:
        """Users with a live session whose names begin with ``prefix``, in order of name."""

    async def online_among(self, usernames: Sequence[str], limit: int) -> Sequence[str]:
        """Those of ``usernames`` with a live session, in order of name."""

    def put(self, session: SessionRecord) -> None:
        """Store a session that is new or has changed."""

    def delete(self, session: SessionRecord) -> None: ...

    def note_leaving(self, membership: Membership) -> None:
        """A member leaves its room: what it has received there (`Membership.received`) is the ``missed_by_leaving`` of
        its sessions from here on, unless that is newer.
        """


class Rooms(Protocol):
    """The rooms."""

    async def named(self, name: str) -> RoomRecord | None: ...

    async def direct(self, pair: str) -> RoomRecord | None:
        """The direct room of a pair."""

    async def shapes(self, username: str, *, as_online: bool = False) -> tuple[Room, ...]:
        """The rooms of a user, in order of name; with ``as_online``, the user is shown as online."""

    def create(self, name: str, kind: str, history: str, pair: str | None = None) -> RoomRecord:
        """Create a room without members."""

    def delete(self, room: RoomRecord) -> None:
        """Delete a room, whose last member has been removed, and its log."""


class Members(Protocol):
    """Which users are in which rooms."""

    async def find(self, username: str, names: Sequence[str]) -> Membership | None:
        """The membership of a user in the first of these rooms that the user is in."""

    async def among(self, room: RoomRecord, usernames: Sequence[str]) -> frozenset[str]:
        """Those of ``usernames`` who are in the room."""

    async def of(self, usernames: Sequence[str]) -> Mapping[str, Sequence[Membership]]:
        """The memberships of each of these users who has any."""

    async def counts(self, usernames: Sequence[str]) -> Mapping[str, RoomCounts]:
        """How many rooms each of these users is in."""

    async def page(self, room: RoomRecord, after: str, limit: int) -> Sequence[Member]:
        """Members whose names come after ``after``, in order of name."""

    async def names(self, rooms: Sequence[RoomRecord], prefix: str, *, each: int, limit: int) -> Sequence[str]:
        """Members of these rooms whose names begin with ``prefix``: the first ``each`` of each room in order of name,
        and ``limit`` in all.
        """

    def add(
        self,
        room: RoomRecord,
        usernames: Sequence[str],
        *,
        invitation: Invitation | None = None,
        peer: str | None = None,
    ) -> None:
        """Make users members. They receive the events of the room from here on.

        With an ``invitation``, another user has added them: each receives it as an event of its own, and the events of
        the room after it. ``peer``: the other user of a direct room.
        """

    def remove(self, username: str, rooms: Sequence[RoomRecord]) -> None:
        """Remove a user from these rooms, whose events it no longer receives."""


class Departures(Protocol):
    """Who left a place on purpose within the decline window, and so cannot be added to it again by others.

    A *place* is the id of a room, which no later room has; or the pair of a direct room, which the next direct room of
    the same two has again.
    """

    async def among(self, place: str, usernames: Sequence[str]) -> frozenset[str]:
        """Those of ``usernames`` who left that place within the decline window."""

    def note(self, place: str, username: str) -> None:
        """Record that a user has left the place."""

    def forget(self, place: str, username: str) -> None:
        """Forget a departure: the user has returned on its own."""

    def forget_user(self, username: str) -> None:
        """Forget all departures of a user, so that a later holder of the name does not inherit them."""


class History(Protocol):
    """Reading what happened in rooms."""

    async def streams(self, memberships: Sequence[Membership]) -> Sequence[Stream]:
        """The streams of each of these rooms, as their members receive them, in the order of the rooms."""

    async def read_back(self, ranges: Sequence[Range], reader: str, limit: int) -> Sequence[Entries]:
        """The newest events of each range by authors other than ``reader``: about ``limit`` in all, but at least one of
        each range that has any.
        """

    async def invitations(self, memberships: Sequence[Membership]) -> Sequence[Entry | None]:
        """The ``room-joined`` event of each of these memberships, all of which are ``invited``; None where it is not
        there any more.
        """

    async def messages(self, room: RoomRecord, *, after: int, before: int | None, limit: int) -> Messages:
        """The newest messages between two positions, or up to the newest of all. A page ends early when it reaches
        `Policy.replay_size`.
        """

    async def find_message(self, room: RoomRecord, message_id: str, *, after: int) -> Sequence[int]:
        """The positions, at most two, of messages with that id after the position ``after``."""


class Log(Protocol):
    """What happened in the rooms, in one order."""

    def newest(self) -> int:
        """The position of the newest event there ever was; whether with those of this rule is not defined."""

    def offset(self, position: int) -> str:
        """The offset that names a position."""

    def position(self, offset: str) -> int | None:
        """The position that ``offset`` names, or None if it names none in this log."""

    def append(self, room: RoomRecord, event: str, body: bytes, *, author: str) -> None:
        """Append an event, and publish it to the other members of the room."""

    def publish(self, room: RoomRecord, event: str, body: bytes, *, author: str) -> None:
        """Publish an event to the other members of the room without storing it."""


class Transaction(Protocol):
    """One run of one rule."""

    @property
    def node(self) -> str:
        """The node that runs the rule."""

    @property
    def sessions(self) -> Sessions: ...
    @property
    def rooms(self) -> Rooms: ...
    @property
    def members(self) -> Members: ...
    @property
    def departures(self) -> Departures: ...
    @property
    def history(self) -> History: ...
    @property
    def log(self) -> Log: ...

    async def is_here(self, username: str) -> bool:
        """Whether a session of the user is live on this node. Always true of an engine that only one process can open:
        it runs all calls of a user in their order.
        """

    def running_ms(self) -> int:
        """How long the store has been in use, in milliseconds; it stands still while the store is closed."""

    def has_time(self) -> bool:
        """Whether the rule may continue. A long-running rule stops where it can once this is false, and continues in
        another transaction, so that others do not have to wait for all of it.
        """

    def check_space(self) -> None:
        """Check that something may be added.

        Raises:
            LimitReached: the store is full.
        """

    def attach(self, attachment: Attachment) -> None:
        """Add the effect that a session, which the rule stores, is live on a connection."""
