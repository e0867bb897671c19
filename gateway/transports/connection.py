"""What the connections of all wires share: held until the client knows that it is connected, and never more
than so many bytes behind.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from gateway.actions import Caller
from gateway.logs import get_logger

if TYPE_CHECKING:
    from gateway.delivery import Wire
    from gateway.errors import CloseReason
    from gateway.transports.stream import WebSocketStream

logger = get_logger(__name__)


class BaseConnection(Caller, ABC):
    """A `gateway.delivery.Connection`. A wire says how to send, what is unsent, and how to close."""

    __slots__ = ("_allowed", "_held", "_max_buffer", "_outlet", "cid", "closed", "engine_id", "wire")

    def __init__(self, wire: Wire, cid: str, engine_id: str, *, max_buffer: int) -> None:
        super().__init__()
        self.wire = wire
        self.cid = cid
        self.engine_id = engine_id
        self.closed = False
        self._max_buffer = max_buffer
        self._allowed = max_buffer
        self._held: list[bytes] | None = []
        self._outlet: WebSocketStream | None = None
        """Where frames go straight to: the client's WebSocket, once it is on one and nothing is held."""

    def write(self, frames: bytes) -> None:
        if self.closed:
            return
        outlet = self._outlet
        if outlet is not None:
            outlet.write(frames)
            unsent = outlet.unsent()
        else:
            self._put(frames)
            unsent = self._backlog()
        if unsent <= self._max_buffer:
            self._allowed = self._max_buffer
        elif unsent > self._allowed:
            logger.info("cut a slow client", username=self.session and self.session.username, wire=self.wire.name)
            self.closed = True
            self._cut()

    def answer(self, frames: bytes) -> None:
        """Send what the client has asked for. However large it is, it does not make the client slow; what was unsent
        before does.
        """
        if self._backlog() <= self._max_buffer:
            self._allowed = self._max_buffer + len(frames)
        self.write(frames)

    def greet(self, frames: bytes) -> None:
        self._allowed += len(frames)
        self._put(frames)

    def _backlog(self) -> int:
        return self._unsent() if self._held is None else sum(map(len, self._held))

    def _put(self, frames: bytes) -> None:
        if self._held is None:
            self._send(frames)
        else:
            self._held.append(frames)

    def release(self) -> None:
        held, self._held = self._held or [], None
        for frames in held:
            self._send(frames)

    @property
    def leaves_late(self) -> bool:
        return False

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

    @abstractmethod
    def _cut(self) -> None:
        """Drop the transport and what is unsent. The transport then ends as one that was lost."""
