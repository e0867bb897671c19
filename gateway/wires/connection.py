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
"""How many unsent bytes do not mean that a client is slow: what is written in one event-loop iteration is sent at its
end.
"""


class BaseConnection(ABC):
    """A `gateway.connections.Connection`. A wire adds how to send, and how to close. Whether the client is too slow is
    decided where bytes leave (`servers.limits`).
    """

    __slots__ = ("_session", "actor", "closed", "connection_id", "engine_id", "wire")

    def __init__(self, wire: Wire, connection_id: str, engine_id: str) -> None:
        self.wire = wire
        self.connection_id = connection_id
        self.engine_id = engine_id
        self.closed = False
        self.actor: Actor | None = None
        """On whose behalf requests on this connection are performed; None without a session."""
        self._session: Session | None = None

    @property
    def session(self) -> Session | None:
        """The session that is live on the connection."""
        return self._session

    @session.setter
    def session(self, session: Session | None) -> None:
        self._session = session
        self.actor = None if session is None else Actor(session.username, self.connection_id)

    @abstractmethod
    def write(self, frames: bytes) -> None:
        """Send frames, without waiting. They are dropped if the connection is closed, and held until the client knows
        that it is connected.
        """

    def write_volatile(self, frames: bytes) -> None:
        if self.unsent() <= NEGLIGIBLE:
            self.write(frames)

    @abstractmethod
    def unsent(self) -> int:
        """How many bytes were written and have not left this process."""

    @abstractmethod
    async def finish(self) -> None:
        """Accept nothing more from the client, and return when every request has been replied to."""

    @abstractmethod
    def close(self, reason: CloseReason) -> None:
        """Send the reason, and close. Does not wait."""

    def describe(self) -> dict[str, object]:
        """Who the client is, for the log."""
        return {"username": None if self.session is None else self.session.username, "wire": self.wire.name}
