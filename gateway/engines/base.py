"""The contract of every store: sessions, rooms, members, the log, and one order over all of them.

What an `Engine` guarantees:

1. **Committed first.** When a call returns, its effect survives ``kill -9`` of the gateway (SQLite: fsynced;
   memory: nothing is kept). Subscribers hear of an effect after its commit and before the call that caused it
   returns.
2. **One order.** Every subscriber hears all effects in the order of their commits. Two effects in one room are
   heard in the same order everywhere.
3. **All or nothing.** A call that raises has changed nothing.
4. **Checked where it is decided.** Membership, limits and names are checked in the transaction that acts on
   them: two clients that race cannot both win.
5. **Each client in its order.** The calls of one username, those about its session among them, take effect in the
   order in which they were begun, also where one is not done when the next is begun. The calls of two usernames take
   effect in the order in which the store takes them up: in turn, and later for those who have used it more. (A call
   that failed and is made again comes when it is made again. One that is cancelled before it is taken up changes
   nothing; one that is cancelled later takes effect. Log-ins may overtake each other: one that is given what it
   missed may take several steps.)
6. **Temporary failures are `Unavailable`.** The store works again by itself when its disk or server does.

Where a call names an ``actor``, that user must be a member of the room: else `RoomNotFound`, as where there is no
such room. A ``room`` may be given in any spelling of its name (`gateway.protocol.names.room_name`), but in
`create_room`; a room that an older store calls exactly that comes first.

An **offset** is an opaque string that names a position in the order of the log, and the epoch that gave it out: each
opening of a store begins one. So a store that was wiped, exchanged or put back from a backup is noticed: an offset of
an epoch that it does not know, or beyond the end of its epoch, recovers nothing.

A **session** belongs to a username. It is *live* while a connection holds it, *suspended* after its connection
was lost, and *ended* for good; a username has one session at most. A member of a room is a username with a
session: the members of a room leave when their sessions end, and a room ends with its last member.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol, TypeAlias

from gateway import events

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.events import Member, Room


@dataclass(frozen=True, slots=True)
class Session:
    """``sid`` is public. Whoever knows ``pid`` can take the session over: it goes to its client alone, never
    into a log.
    """

    sid: str
    pid: str
    username: str


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Where a returning client wants to go on: its session, and the offset of the last event it saw."""

    pid: str
    offset: str | None


@dataclass(frozen=True, slots=True)
class Publication:
    """An event for the members of ``room``, or for ``recipients`` alone where that is not None.

    ``origin`` is the username whose deed it is; that user does not hear it. ``offset`` is None where the event is
    volatile.
    """

    event: str
    body: bytes
    room: str
    offset: str | None = None
    origin: str | None = None
    recipients: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Movement:
    """``joined`` hear the room from here on, ``left`` hear it no more."""

    room: str
    joined: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Attachment:
    """A session is live on ``connection`` from here on.

    ``offset`` is the position from which the client goes on: that of its last event where it ``recovered``,
    with every event in ``missed`` behind it, in order; else the newest one. ``replaces`` is the connection that
    held the session and no longer does.
    """

    session: Session
    connection: str
    rooms: tuple[Room, ...]
    offset: str
    recovered: bool
    missed: tuple[Publication, ...] = ()
    replaces: str | None = None


Effect: TypeAlias = Attachment | Publication | Movement
"""What a commit did for others to hear."""


class Subscriber(Protocol):
    """Hears the effects of commits, in their order."""

    def committed(self, effects: Sequence[Effect]) -> None:
        """What one commit did, in order. May neither fail nor wait."""


@dataclass(frozen=True, slots=True)
class Added:
    """Who became a member, who was one already, and who left not long ago and was not added again; each in the order
    asked for.
    """

    added: tuple[str, ...]
    already: tuple[str, ...]
    declined: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Opened:
    """A direct room. ``declined``: the other, who left it not long ago and was not added again."""

    room: Room
    declined: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Receipt:
    """A message in the log. ``ts`` is Unix time in milliseconds; ``duplicate``: the log had it before, by its
    ``id``.
    """

    id: str
    ts: int
    duplicate: bool


@dataclass(frozen=True, slots=True)
class MemberPage:
    members: tuple[Member, ...]
    member_count: int
    more: bool


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """``messages`` are encoded ``message`` bodies, oldest first, each with its ``offset``."""

    messages: tuple[bytes, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class UserPage:
    users: tuple[str, ...]
    more: bool


class ListUsers(Enum):
    """Whom `Engine.find_users` finds: everybody; those with whom the actor shares a room, and others by the first two
    letters of their names; or no others.
    """

    ALL = "all"
    PREFIX = "prefix"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The bounds that an engine keeps. ``recovery_window``, ``reserve_names`` and ``decline_window`` are in seconds.

    ``max_rooms`` counts the rooms that a user made or opened, and once more those that others put the user into.

    ``history_size`` and ``history_bytes``: how many messages are kept of a room, and how many bytes of them; the newest
    is kept always. ``replay_size``: bytes of events in a replay, at most. ``commit_size``: bytes of events at which a
    commit takes up nothing more: a member may be given all of them at once. ``max_store``: bytes of the store beyond
    which nothing is added (`LimitReached`); sessions begin and end, and members leave, all the same.
    """

    max_rooms: int
    max_members: int
    history_size: int
    history_bytes: int
    presence_limit: int
    recovery_window: float
    reserve_names: float
    decline_window: float
    list_users: ListUsers
    replay_size: int
    commit_size: int
    max_store: int = 2**63


class Engine(Protocol):
    """See the module's docstring for what each call guarantees. Any call may raise `Unavailable`."""

    async def open(self, subscriber: Subscriber) -> None:
        """Open the store. All sessions are suspended from now on: nobody could come back before.

        Raises:
            StoreError: it cannot be opened; the message says why and what to do.
        """

    async def close(self, timeout: float) -> bool:  # noqa: ASYNC109 - the store is given up, not the task that waits
        """Finish the calls under way and release the store. Does nothing where the store is not open.

        Takes ``timeout`` seconds at most. Returns whether all that waited is kept: what the store did not answer for
        in time may be kept or not, and its callers get `Unavailable`.
        """

    def problem(self) -> str | None:
        """Why the store cannot be written to now, in a few words for the operator; None while it can."""

    # sessions

    async def attach_session(
        self, username: str, connection: str, resume: ResumePoint | None, *, resumable: bool = True
    ) -> Session:
        """Resume the session of ``username`` that ``resume`` names, or claim the name with a new session.

        A valid ``resume`` wins over the connection that holds the session. Where not every missed event can be
        replayed, the session goes on with its rooms but gets a new ``pid``. A suspended session keeps its name for
        `Policy.reserve_names` seconds; when the name is claimed after that, the session ends.

        ``resumable``: the client learns the ``pid`` of a new session. Where it does not, the session ends soon after
        the store is opened again, and its name is free from then on.

        Raises:
            UsernameTaken: the session is live, or its name is reserved, and ``resume`` does not name it.
        """

    async def suspend_session(self, session: Session, connection: str) -> None:
        """The transport of ``connection`` was lost. Does nothing where the session is not live on it."""

    async def end_session(self, session: Session, connection: str) -> None:
        """The client left on purpose. Does nothing where the session is not live on ``connection``."""

    async def abandon_session(self, username: str, connection: str, resume: ResumePoint | None) -> None:
        """``connection`` was closed before its client could know how `attach_session`, called with the same arguments,
        came out. A session that ``resume`` does not name ends: nobody could come back to it. The one that it names is
        suspended. Does nothing where no session of ``username`` is live on ``connection``.
        """

    async def end_expired_sessions(self) -> int:
        """End sessions that were suspended longer than the recovery window ago; how many, a bounded number in
        one call.
        """

    # rooms

    async def create_room(self, actor: str, room: str, users: tuple[str, ...], history: str = events.ALL) -> Room:
        """``history`` is how far it reaches back: `ALL` or `JOINED` of `gateway.events`.

        Raises RoomExists, UnknownUser, LimitReached.
        """

    async def open_direct(self, actor: str, user: str) -> Opened:
        """The room of exactly these two, which is made where it is not there yet; whoever of them is not in it joins.

        It is the same room as long as both their sessions last, whoever asks and however often. A later holder of
        either name opens another. Nobody can be added to it.

        Raises UnknownUser, LimitReached.
        """

    async def add_members(self, actor: str, room: str, users: tuple[str, ...]) -> Added:
        """Add users, but for those who have left the room within `Policy.decline_window`.

        Raises UnknownUser, LimitReached; Forbidden where the room is a direct one.
        """

    async def remove_member(self, actor: str, room: str) -> None:
        """``actor`` leaves; with the last member go the room and its log."""

    async def list_rooms(self, username: str) -> tuple[Room, ...]:
        """The rooms of a user, in order of name."""

    async def list_members(self, actor: str, room: str, after: str, limit: int) -> MemberPage:
        """Members in order of name, from behind ``after``."""

    async def find_users(self, actor: str, prefix: str, limit: int) -> UserPage:
        """Usernames with a live session that begin with ``prefix``, in order: of those whom `Policy.list_users` lets
        ``actor`` find. Of those who share a room with the actor not all are shown where they are very many.
        """

    # the log

    async def append_message(self, actor: str, room: str, content: str, message_id: str | None) -> Receipt:
        """Append a message and publish it. The same ``message_id`` by the same user in the same room is
        appended once.
        """

    async def publish_typing(self, actor: str, room: str) -> None:
        """Publish ``typing`` to the other members; nothing is kept."""

    async def read_history(self, actor: str, room: str, before: str | None, limit: int) -> HistoryPage:
        """The newest messages, or the newest before the one that ``before`` names by its offset or id.

        Raises:
            InvalidPayload: ``before`` names no message of the room, or is the id of several.
        """
