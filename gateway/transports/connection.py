"""What the connections of all wires share: held until the client knows that it is connected, and never more
than so many bytes behind.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from gateway.actions import Caller
from gateway.logs import get_logger

if TYPE_CHECKING:
    from gateway.delivery import Frame, Wire
    from gateway.errors import CloseReason

logger = get_logger(__name__)


class BaseConnection(Caller, ABC):
    """A `gateway.delivery.Connection`. A wire says how to send, what is unsent, and how to close."""

    __slots__ = ("_allowed", "_held", "_max_buffer", "cid", "closed", "engine_id", "wire")

    def __init__(self, wire: Wire, cid: str, engine_id: str, *, max_buffer: int) -> None:
        super().__init__()
        self.wire = wire
        self.cid = cid
        self.engine_id = engine_id
        self.closed = False
        self._max_buffer = max_buffer
        self._allowed = max_buffer
        self._held: list[Frame] | None = []

    def write(self, frame: Frame) -> None:
        if self.closed:
            return
        self._put(frame)
        unsent = self._unsent() if self._held is None else sum(map(self._size, self._held))
        if unsent <= self._max_buffer:
            self._allowed = self._max_buffer
        elif unsent > self._allowed:
            logger.info("cut a slow client", username=self.session and self.session.username, wire=self.wire.name)
            self.closed = True
            self._cut()

    def greet(self, frames: list[Frame]) -> None:
        self._allowed += sum(map(self._size, frames))
        for frame in frames:
            self._put(frame)

    def _put(self, frame: Frame) -> None:
        if self._held is None:
            self._send(frame)
        else:
            self._held.append(frame)

    def release(self) -> None:
        held, self._held = self._held or [], None
        for frame in held:
            self._send(frame)

    @abstractmethod
    async def finish(self) -> None:
        """Take nothing more from the client, and return when all that it asked is answered."""

    @abstractmethod
    def close(self, reason: CloseReason) -> None:
        """Say why, and close. Does not wait."""

    @abstractmethod
    def _send(self, frame: Frame) -> None:
        """Hand a frame to the transport, without waiting. Frames for a transport that is gone are dropped."""

    @staticmethod
    @abstractmethod
    def _size(frame: Frame) -> int:
        """Bytes in a frame."""

    @abstractmethod
    def _unsent(self) -> int:
        """Bytes that were sent and have not left this process."""

    @abstractmethod
    def _cut(self) -> None:
        """Drop the transport and what is unsent. The transport then ends as one that was lost."""
