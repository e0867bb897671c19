"""Effects: what a commit has to deliver. Sessions that went live, members that joined or left, events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

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


Effect: TypeAlias = Attachment | Publication | Movement
"""What a commit has to deliver."""


class Subscriber(Protocol):
    """Receives the effects of commits, in their order."""

    def committed(self, effects: Sequence[Effect]) -> None:
        """Receive the effects of one commit, in order. Must neither raise nor wait."""
