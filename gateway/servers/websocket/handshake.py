"""WebSocket handshakes, from the request to the stream: the one path for every wire.

A handshake comes in by one of two entrances: past aiohttp (`http.upgrades.EarlyHandshake`), or as a request that
aiohttp has routed to a handler. Both are served in the same way: checked by making a `Handshake`, and then, once that
is decided, accepted or refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from aiohttp import web
from aiohttp.http import HttpVersion11

from gateway.servers.hooks import detach_transport
from gateway.servers.http.watch import ConnectionWatch
from gateway.servers.websocket.rfc6455 import HANDSHAKE_HEADERS, HandshakeError, switching_protocols

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from contextlib import AbstractContextManager


class Stream(Protocol):
    """What becomes of a connection whose handshake is accepted: a `WebSocketStream`, or a `relay.Relay`."""

    def open(self, transport: asyncio.Transport, reply: bytes) -> None:
        """Take the connection: send ``reply``, and receive what comes on it."""

    def data_received(self, data: bytes) -> None:
        """What the client has sent after the handshake."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone away; there is no connection."""


class Handshake:
    """A request that asks for a WebSocket as RFC 6455 says, and was not replied to yet."""

    __slots__ = ("_reply", "request")

    def __init__(self, request: web.BaseRequest) -> None:
        """
        Raises:
            HandshakeError: ``request`` is not a handshake; the message says why.
        """
        self.request = request
        self._reply = _acceptance(request)

    def watch(self, lost: Callable[[], None]) -> AbstractContextManager[object]:
        """A context for a decision that takes a while: ``lost`` is called if the client goes away meanwhile."""
        return ConnectionWatch(self.request, lost)

    def accept(self, stream: Stream) -> web.StreamResponse:
        """Give the connection to ``stream``, which replies and begins to read. If the client has gone away, the stream
        ends. Returns what a handler of aiohttp is to return.
        """
        connection = self._detach()
        if connection is None:
            stream.connection_lost(None)
        else:
            transport, unread = connection
            stream.open(transport, self._reply)
            if unread:
                stream.data_received(unread)
        return self._accepted()

    def _accepted(self) -> web.StreamResponse:
        return AcceptedResponse()

    def refuse(self, response: web.StreamResponse) -> web.StreamResponse:
        """Reply with ``response``. Returns what a handler of aiohttp is to return."""
        return response

    def _detach(self) -> tuple[asyncio.Transport, bytes] | None:
        """The transport, with what the client has sent after the handshake; None where the client has gone away."""
        return detach_transport(self.request)


class AcceptedResponse(web.StreamResponse):
    """What aiohttp gets for a request whose transport it does not have any more: nothing is left to send. Its status is
    for the access log.
    """

    def __init__(self) -> None:
        super().__init__(status=101)

    async def prepare(self, request: web.BaseRequest) -> None:
        pass

    async def write_eof(self, data: bytes = b"") -> None:
        pass


def _acceptance(request: web.BaseRequest) -> bytes:
    """The reply that accepts a handshake.

    Raises:
        HandshakeError: ``request`` is not one.
    """
    headers = request.headers
    reply = switching_protocols(
        {name: ", ".join(headers.getall(name)) for name in HANDSHAKE_HEADERS if name in headers}
    )
    if request.version != HttpVersion11:
        raise HandshakeError("a handshake is HTTP/1.1")
    if request.body_exists:
        raise HandshakeError("a handshake has no body")
    return reply
