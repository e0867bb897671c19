"""A client's connection as it is delivered to, whatever its wire."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from gateway.engines.effects import Session
    from gateway.errors import CloseReason


class Wire(Protocol):
    """How events are encoded. All connections of a wire are sent the same frames, in the same order."""

    name: str
    resumable: bool
    """Whether its clients learn the ``pid`` of their session, and so can come back to it."""

    def encode_event(self, event: str, body: bytes, offset: str | None) -> bytes:
        """The frame of an event with the JSON object ``body``; empty where this wire does not carry it."""

    def encode_welcome(self, body: bytes, offset: str) -> bytes:
        """The frame of the event ``welcome``; empty where this wire has none."""


class Connection(Protocol):
    """A client's connection on this node, as its transport offers it."""

    @property
    def wire(self) -> Wire: ...

    cid: str
    """Names the connection; on Socket.IO the ``sid`` of python-socketio."""
    engine_id: str
    """The ``eio_sid`` of python-socketio; on other wires the ``cid``."""
    session: Session | None
    """The session that is live on the connection, from `Delivery.committed` until it is detached."""
    closed: bool
    """Whether the transport is gone."""

    @property
    def may_know_pid(self) -> bool:
        """Whether there is a sign that the client can come back: that it was told of its session and knows its pid."""

    @property
    def leaves_late(self) -> bool:
        """Whether the client may have left and not been able to say so yet."""

    def write(self, frames: bytes) -> None:
        """Send one frame or several, once the client knows that it is connected. Never waits: a client that reads too
        slowly is closed, and comes back for what it missed.
        """

    def hint(self, frames: bytes) -> None:
        """Send what is only worth something now: it is dropped where more is unsent."""

    async def finish(self) -> None:
        """Take nothing more from the client, and return when all that it asked for is replied to."""

    def close(self, reason: CloseReason) -> None:
        """Send why, and close. Does not wait."""
