"""What a rule reads and writes: sessions, rooms, members and the log, in one transaction.

A rule is a coroutine function whose first argument is a `Transaction`. It **reads first and writes after**: a read
after a write need not see it. A read takes as many keys as the rule has, since on a shared store each costs a round
trip. A write returns at once, and is kept, with all the others, when the rule has returned; where the rule raises, none
is. The rule may be run again from its beginning, so that it changes nothing but the transaction.

Members refer to users, and so do sessions: a user may have several sessions, whatever the rules allow today.

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
"""Names a room for good: a later room of the same name has another."""


class SessionRecord(NamedTuple):
    """A tuple, and not a dataclass, as `RoomRecord`, `Membership` and `Stream` are: log-ins make many, and a rule may
    read two hundred of the others.

    A session is live while it has a ``holder``; without one it is suspended, since ``suspended_at`` (in the store's
    running time, ms).

    Of a pid only the hash is kept. ``previous_pid_hash``: that pid works as well until the client has used the newer
    one, which may not have reached it. ``resumable``: the client was told its pid. ``began``: the newest position when
    the session began. ``missed_by_leaving``: the newest position that its user received, or should have, in a room that
    the user has left since.
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
    """``joined``: the position after which the member receives the events of the room. ``invited``: somebody else made
    the user a member, which its own ``room-joined``, at that very position, says.
    """

    room: RoomRecord
    username: str
    joined: int
    invited: bool


@dataclass(frozen=True, slots=True)
class RoomCounts:
    """How many rooms a user is in: ``own`` ones that it made or opened, ``invited`` ones that others put it into."""

    own: int
    invited: int


@dataclass(frozen=True, slots=True)
class Invitation:
    """The ``room-joined`` of those who are made members by ``author``: its encoded ``body``."""

    body: bytes
    author: str


class Stream(NamedTuple):
    """The events of one kind that a whole room receives, as one of its members has to read them: the messages, or the
    notices of who came and went. The two are trimmed apart.

    ``newest``: the position of the newest event that is not the member's own, also where it was trimmed. ``trimmed``:
    that of the newest such event that was in the room's log and is not any more. 0 where there is none.
    """

    room: RoomRecord
    kind: int
    newest: int
    trimmed: int


@dataclass(frozen=True, slots=True)
class Range:
    """What is in ``stream`` after the position ``low``, up to ``high``."""

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
    """What was found in a range, newest first; ``complete``: nothing older is in it."""

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
        """Sessions that were suspended at that running time or before, the longest first."""

    async def online(self, prefix: str, limit: int) -> Sequence[str]:
        """Users with a live session whose names begin with ``prefix``, in order of name."""

    async def online_among(self, usernames: Sequence[str], limit: int) -> Sequence[str]:
        """Those of ``usernames`` with a live session, in order of name."""

    def put(self, session: SessionRecord) -> None:
        """Keep a session that is new or has changed."""

    def delete(self, session: SessionRecord) -> None: ...


class Rooms(Protocol):
    """The rooms, and who may see what of them."""

    async def named(self, name: str) -> RoomRecord | None: ...

    async def direct(self, pair: str) -> RoomRecord | None:
        """The direct room of a pair."""

    async def shapes(self, username: str, *, as_online: bool = False) -> tuple[Room, ...]:
        """The rooms of a user, in order of name; with ``as_online``, as they will be when the user is online."""

    def create(self, name: str, kind: str, history: str, pair: str | None = None) -> RoomRecord:
        """A new room without members."""

    def delete(self, room: RoomRecord) -> None:
        """The room, whose last member is removed, ends with its log."""


class Members(Protocol):
    """Which users are in which rooms."""

    async def find(self, username: str, names: Sequence[str]) -> Membership | None:
        """The membership of a user in the first of the rooms of these names that it is in."""

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

        With an ``invitation``, others have put them into the room: each of them receives it as an event of its own,
        from which on it receives the others. ``peer``: the other one in a direct room.
        """

    def remove(self, username: str, rooms: Sequence[RoomRecord]) -> None:
        """A user is no longer a member of these rooms, and receives nothing more of them."""


class Departures(Protocol):
    """Who left a place on purpose within the decline window, and is not to be put there again by others.

    A *place* is a room by its id, which no later room has; or the pair of a direct room, which the next room of the two
    has again.
    """

    async def among(self, place: str, usernames: Sequence[str]) -> frozenset[str]:
        """Those of ``usernames`` who left that place not long ago."""

    def note(self, place: str, username: str) -> None:
        """A user has left the place."""

    def forget(self, place: str, username: str) -> None:
        """A user has come back to the place by its own choice."""

    def forget_user(self, username: str) -> None:
        """Who takes this name later has left nothing."""


class History(Protocol):
    """What the log says of rooms."""

    async def streams(self, memberships: Sequence[Membership]) -> Sequence[Stream]:
        """What the members receive of these rooms: each room's streams, in the order of the rooms."""

    async def read_back(self, ranges: Sequence[Range], reader: str, limit: int) -> Sequence[Entries]:
        """The newest events of each range that are not the ``reader``'s own: about ``limit`` in all, but one at least
        of a range that has any.
        """

    async def invitations(self, memberships: Sequence[Membership]) -> Sequence[Entry]:
        """The ``room-joined`` of each of these memberships, all of which are ``invited``."""

    async def messages(self, room: RoomRecord, *, after: int, before: int | None, limit: int) -> Messages:
        """The newest messages between two positions, or up to the newest of all. A page ends early where it holds as
        many bytes as a replay may.
        """

    async def find_message(self, room: RoomRecord, message_id: str, *, after: int) -> Sequence[int]:
        """The positions, two at most, of the messages with that id after the position ``after``."""


class Log(Protocol):
    """What happened in the rooms, in one order."""

    def newest(self) -> int:
        """The position of the newest event there ever was; whether with those of this rule is not defined."""

    def offset(self, position: int) -> str:
        """The offset that names a position."""

    def position(self, offset: str) -> int | None:
        """The position that ``offset`` names; None where it names none in this log."""

    def append(self, room: RoomRecord, event: str, body: bytes, *, author: str) -> None:
        """Append an event, and publish it to the other members of the room."""

    def publish(self, room: RoomRecord, event: str, body: bytes, *, author: str) -> None:
        """Publish an event to the other members of the room without keeping it."""


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

    def running_ms(self) -> int:
        """How long the store has been in use, in milliseconds; it stands still while the store is closed."""

    def has_time(self) -> bool:
        """Whether the rule may go on. One that has long work to do ends where it can when this is false, and goes on in
        another transaction, so that others do not wait for all of it.
        """

    def check_space(self) -> None:
        """Before something is added.

        Raises:
            LimitReached: the store is full.
        """

    def attach(self, attachment: Attachment) -> None:
        """Have the connection and its client told that a session, which the rule keeps, is live there."""
