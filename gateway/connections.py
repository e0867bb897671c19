"""Connections and wires, as `gateway.delivery` sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from gateway.engines.effects import Session
    from gateway.errors import CloseReason


class Wire(Protocol):
    """How events are encoded. All connections of a wire receive the same frames."""

    name: str
    resumable: bool
    """Whether its clients are sent the ``pid`` of their session, and so can resume it."""

    def encode_event(self, event: str, body: bytes, offset: str | None) -> bytes:
        """The frame of an event with the JSON object ``body``; empty if this wire does not carry it."""

    def encode_welcome(self, body: bytes, offset: str) -> bytes:
        """The frame of the event ``welcome``; empty if this wire does not have it."""


class Connection(Protocol):
    """A client's connection to this node."""

    @property
    def wire(self) -> Wire: ...

    connection_id: str
    """Identifies the connection on this node. On Socket.IO, python-socketio's ``sid``."""
    engine_id: str
    """On Socket.IO, python-socketio's ``eio_sid``; on other wires, the ``connection_id``."""
    session: Session | None
    """The session that is live on the connection, from `Delivery.committed` until it is detached."""
    closed: bool
    """Whether the transport is closed, or about to be: nothing more is written to it."""

    @property
    def may_know_pid(self) -> bool:
        """Whether there is evidence that the client has received the ``pid`` of its session, and so can resume it."""

    @property
    def leaves_late(self) -> bool:
        """Whether the client may have left already: requests that it sent before are still being handled."""

    def write(self, frames: bytes) -> None:
        """Send one or more frames; until the client knows that it is connected, they are held. Never waits: a client
        that reads too slowly is disconnected, and recovers what it missed.
        """

    def write_volatile(self, frames: bytes) -> None:
        """Send frames that are soon stale. They are dropped if the client has not received everything before them."""

    async def finish(self) -> None:
        """Accept nothing more from the client, and return when every request has been replied to."""

    def close(self, reason: CloseReason) -> None:
        """Send the reason, and close. Does not wait."""
