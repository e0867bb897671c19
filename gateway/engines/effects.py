"""Effects: what a commit has to deliver. Sessions that went live, members that joined or left, events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from gateway.events import Room


@dataclass(frozen=True, slots=True)
class Session:
    """``sid`` is public. Anyone who knows ``pid`` can take the session over: it is sent to its client only, and never
    logged.
    """

    sid: str
    pid: str
    username: str


@dataclass(frozen=True, slots=True)
class Publication:
    """An event for the members of ``room``, or only for ``recipients`` if that is not None.

    ``author`` is the username that caused it and does not receive it. ``offset`` is None if the event is volatile.
    """

    event: str
    body: bytes
    room: str
    offset: str | None = None
    author: str | None = None
    recipients: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Movement:
    """``joined`` receive the events of the room from here on, ``left`` no longer do."""

    room: str
    joined: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Holder:
    """The connection that a session is live on, and the node that has the connection."""

    connection: str
    node: str


@dataclass(frozen=True, slots=True)
class Attachment:
    """A session is live on ``holder`` from here on.

    ``offset`` is where the client continues. If it ``recovered``, that is the offset of the last event it has seen, and
    ``missed`` has every later one, in order; else it is the newest. ``replaces`` held the session until now.
    """

    session: Session
    holder: Holder
    rooms: tuple[Room, ...]
    offset: str
    recovered: bool
    missed: tuple[Publication, ...] = ()
    replaces: Holder | None = None


@dataclass(frozen=True, slots=True)
class Detachment:
    """The session of ``connection``, which is on this node, is live on another node from here on."""

    connection: str


Effect: TypeAlias = Attachment | Detachment | Publication | Movement
"""What a commit has to deliver."""


class Subscriber(Protocol):
    """Receives the effects of commits, in their order."""

    def committed(self, effects: Sequence[Effect]) -> None:
        """Receive the effects of one commit, in order. Must neither raise nor wait."""

    def missed(self, rooms: Collection[str] | None) -> None:
        """The members of these rooms who are on this node, or all sessions (None), cannot be given all that they
        should have received: they must come back and recover.
        """

    def has_session(self, sid: str, username: str) -> bool:
        """Whether the session is live on a connection of this node."""

    def has_members(self, room: str) -> bool:
        """Whether a member of the room has a live session on this node."""
