"""What the connections of all wires share: what is written is held until the client knows that it is connected."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

from gateway.access.actors import Actor
from gateway.logs import get_logger

if TYPE_CHECKING:
    from gateway.connections import Connection, Wire
    from gateway.engines.base import Session
    from gateway.errors import CloseReason
    from gateway.servers.websocket.stream import WebSocketStream

NEGLIGIBLE: Final = 4096
"""Unsent bytes that mean nothing: what is written in one turn of the loop leaves at its end."""

logger = get_logger(__name__)


class BaseConnection(ABC):
    """A `gateway.connections.Connection`. A wire says how to send, and how to close. Whether the client is too slow is
    found where bytes leave (`backlog`).
    """

    __slots__ = ("_held", "_outlet", "_session", "actor", "cid", "closed", "engine_id", "wire")

    def __init__(self, wire: Wire, cid: str, engine_id: str) -> None:
        self.wire = wire
        self.cid = cid
        self.engine_id = engine_id
        self.closed = False
        self.actor: Actor | None = None
        """Who asks for what comes on the connection."""
        self._session: Session | None = None
        self._held: list[bytes] | None = []
        self._outlet: WebSocketStream | None = None
        """Where frames go straight to: the client's WebSocket, once it is on one and nothing is held."""

    @property
    def session(self) -> Session | None:
        """The session that is live on the connection."""
        return self._session

    @session.setter
    def session(self, session: Session | None) -> None:
        self._session = session
        self.actor = None if session is None else Actor(session.username, self.cid)

    def write(self, frames: bytes) -> None:
        outlet = self._outlet
        if self.closed:
            return
        if outlet is not None:
            outlet.write(frames)
        elif self._held is None:
            self._send(frames)
        else:
            self._held.append(frames)

    def hint(self, frames: bytes) -> None:
        if self._held is None and self._unsent() <= NEGLIGIBLE:
            self.write(frames)

    def release(self) -> None:
        held, self._held = self._held or [], None
        for frames in held:
            self._send(frames)

    @abstractmethod
    async def finish(self) -> None:
        """Take nothing more from the client, and return when all that it asked is answered."""

    @abstractmethod
    def close(self, reason: CloseReason) -> None:
        """Say why, and close. Does not wait."""

    @abstractmethod
    def _send(self, frames: bytes) -> None:
        """Hand frames to the transport, without waiting. Those for a transport that is gone are dropped. Sets the
        `_outlet` where there is one from here on.
        """

    @abstractmethod
    def _unsent(self) -> int:
        """Bytes that were sent and have not left this process."""


def note_slow(connection: Connection | None, wire: str, unsent: int) -> None:
    """Log why a client is cut; ``connection`` is None where it is not logged in."""
    username = None if connection is None or connection.session is None else connection.session.username
    logger.info("cut a slow client", username=username, wire=wire, unsent=unsent, reason="it does not read")
