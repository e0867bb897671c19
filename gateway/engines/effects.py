"""What a commit has to deliver: which sessions are live where, who is in which room, and what is published there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.events import Room


@dataclass(frozen=True, slots=True)
class Session:
    """``sid`` is public. Anyone who knows ``pid`` can take the session over: it goes to its client alone, never
    into a log.
    """

    sid: str
    pid: str
    username: str


@dataclass(frozen=True, slots=True)
class Publication:
    """An event for the members of ``room``, or for ``recipients`` alone where that is not None.

    ``author`` is the username that caused it and does not receive it. ``offset`` is None where the event is volatile.
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

    ``offset`` is the position from which the client goes on: that of its last event where it ``recovered``,
    with every later event in ``missed``, in order; else the newest one. ``replaces`` held the session until now.
    """

    session: Session
    holder: Holder
    rooms: tuple[Room, ...]
    offset: str
    recovered: bool
    missed: tuple[Publication, ...] = ()
    replaces: Holder | None = None


Effect: TypeAlias = Attachment | Publication | Movement
"""What a commit has to deliver."""


class Subscriber(Protocol):
    """Receives the effects of commits, in their order."""

    def committed(self, effects: Sequence[Effect]) -> None:
        """What one commit did, in order. May neither fail nor wait."""
