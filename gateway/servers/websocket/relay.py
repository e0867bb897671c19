"""A WebSocket that goes through this process: its client on one connection, what serves it on another.

After the handshake it is bytes in both directions. They are passed on as they come, and no frame is parsed: no task,
future or queue lives as long as a relay. Where one side does not read, at most `HIGH_WATER` bytes and one read are held
for it, and nothing more is read from the other.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol, cast

CLOSE_TIMEOUT: Final = 5.0
"""How long one side may take to read the rest when the other is gone, in seconds. Then its transport is aborted."""

HIGH_WATER: Final = 65_536
"""Unsent bytes for one side from which on nothing is read from the other."""

MAX_HEAD_SIZE: Final = 65_536
"""Bytes in the head of a reply to a handshake."""

ACCEPTED: Final = b"HTTP/1.1 101 "


class NotAccepted(Exception):
    """A handshake was replied to with something else."""


class PendingHandshake(asyncio.Protocol):
    """A connection on which a handshake is sent, until it is replied to."""

    def __init__(self) -> None:
        self._received = b""
        self._transport: asyncio.Transport | None = None
        self._replied: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def accepted(self) -> bytes:
        """Wait until the handshake is accepted. Returns what was received after the reply; nothing more is read.

        Raises:
            ConnectionError: the connection was lost.
            NotAccepted: it is not.
        """
        await self._replied
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("closed without a reply")
        head, _, rest = self._received.partition(b"\r\n\r\n")
        if not head.startswith(ACCEPTED):
            raise NotAccepted
        return rest

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if b"\r\n\r\n" in self._received or len(self._received) > MAX_HEAD_SIZE:
            if self._transport is not None:
                self._transport.pause_reading()
            self._end_wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._end_wait()

    def _end_wait(self) -> None:
        if not self._replied.done():
            self._replied.set_result(None)


async def send_handshake(host: str, port: int, head: bytes) -> tuple[asyncio.Transport, bytes]:
    """Connect, and ask for a WebSocket with ``head``. Returns the connection when that is accepted, with what was
    received after the reply; nothing more is read from it until it has another protocol.

    Raises:
        OSError: the connection cannot be made, or was lost.
        NotAccepted: the handshake is not accepted.
    """
    transport, pending = await asyncio.get_running_loop().create_connection(PendingHandshake, host, port)
    try:
        transport.write(head)
        return transport, await pending.accepted()
    except BaseException:
        transport.abort()
        raise


class Owner(Protocol):
    """What keeps the relays that are open."""

    def relay_ended(self, relay: Relay) -> None:
        """Both connections of a relay are gone."""


class Relay:
    """Two connections, each of which is sent what the other receives (a `handshake.Stream`)."""

    __slots__ = ("_client", "_owner", "_unread", "_upstream", "node")

    def __init__(self, owner: Owner, node: str, upstream: asyncio.Transport, unread: bytes) -> None:
        """``node``: what serves the WebSocket, for the owner. ``upstream``: the connection to it, on which the
        handshake was accepted; ``unread`` was received after that.
        """
        self.node = node
        self._owner = owner
        self._unread = unread
        self._client: _Side | None = None
        self._upstream = _Side(self, upstream)

    def end(self) -> None:
        """Close both connections, after what was read."""
        for side in (self._upstream, self._client):
            if side is not None:
                side.close()

    def other(self, side: _Side) -> _Side | None:
        return self._client if side is self._upstream else self._upstream

    def side_lost(self, side: _Side) -> None:
        """The connection of one side is gone."""
        other = self.other(side)
        if other is not None and not other.lost:
            other.close()
        else:
            self._owner.relay_ended(self)

    # --- a `handshake.Stream`

    def open(self, transport: asyncio.Transport, reply: bytes) -> None:
        """Take the client's connection, whose handshake is accepted with ``reply``."""
        self._client = _Side(self, transport)
        self._upstream.resume()
        self._client.write(reply + self._unread)
        self._unread = b""

    def data_received(self, data: bytes) -> None:
        """What the client has sent after its handshake."""
        self._upstream.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone away before it could be replied to."""
        self._upstream.close()


class _Side(asyncio.Protocol):
    """One of the two connections."""

    __slots__ = ("_relay", "_transport", "lost")

    def __init__(self, relay: Relay, transport: asyncio.Transport) -> None:
        self.lost = False
        self._relay = relay
        self._transport = transport
        transport.set_write_buffer_limits(high=HIGH_WATER)
        transport.set_protocol(self)

    def write(self, data: bytes) -> None:
        if not self.lost:
            self._transport.write(data)

    def pause(self) -> None:
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        """Close the connection, after what was written to it."""
        self._transport.close()
        if self._transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        if (other := self._relay.other(self)) is not None:
            other.write(data)

    def pause_writing(self) -> None:
        if (other := self._relay.other(self)) is not None:
            other.pause()

    def resume_writing(self) -> None:
        if (other := self._relay.other(self)) is not None:
            other.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._relay.side_lost(self)
