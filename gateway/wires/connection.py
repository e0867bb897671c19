"""What the connections of all wires share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

from gateway.access.actors import Actor

if TYPE_CHECKING:
    from gateway.connections import Wire
    from gateway.engines.effects import Session
    from gateway.errors import CloseReason

NEGLIGIBLE: Final = 4096
"""Unsent bytes that do not show that a client is behind: what is written in one event-loop iteration leaves at its end.
"""


class BaseConnection(ABC):
    """A `gateway.connections.Connection`. A wire adds how to send, and how to close. Whether the client is too slow is
    decided where bytes leave (`servers.limits`).
    """

    __slots__ = ("_session", "actor", "cid", "closed", "engine_id", "wire")

    def __init__(self, wire: Wire, cid: str, engine_id: str) -> None:
        self.wire = wire
        self.cid = cid
        self.engine_id = engine_id
        self.closed = False
        self.actor: Actor | None = None
        """Who asks for what comes on the connection."""
        self._session: Session | None = None

    @property
    def session(self) -> Session | None:
        """The session that is live on the connection."""
        return self._session

    @session.setter
    def session(self, session: Session | None) -> None:
        self._session = session
        self.actor = None if session is None else Actor(session.username, self.cid)

    @abstractmethod
    def write(self, frames: bytes) -> None:
        """Send frames, without waiting. Those for a client that is gone are dropped; those for one that does not know
        yet that it is connected are held.
        """

    def hint(self, frames: bytes) -> None:
        if self.unsent() <= NEGLIGIBLE:
            self.write(frames)

    @abstractmethod
    def unsent(self) -> int:
        """Bytes that were written and have not left this process."""

    @abstractmethod
    async def finish(self) -> None:
        """Take nothing more from the client, and return when all that it asked for is replied to."""

    @abstractmethod
    def close(self, reason: CloseReason) -> None:
        """Send why, and close. Does not wait."""

    def describe(self) -> dict[str, object]:
        """Who the client is, for the log."""
        return {"username": None if self.session is None else self.session.username, "wire": self.wire.name}
