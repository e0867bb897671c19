"""Connections until their first request: a WebSocket handshake may be taken here, anything else is aiohttp's.

aiohttp's protocol, task, route and response are a fifth of what a log-in costs, and none of them is needed after it.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from gateway.servers.deadline import Deadline
from gateway.servers.hooks import LIMITS, connection_options, make_request, parse_handshake, set_first_reply
from gateway.servers.http.runner import MAX_HEAD_SIZE
from gateway.servers.websocket.handshake import AcceptedResponse, Handshake
from gateway.servers.websocket.rfc6455 import HandshakeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from aiohttp import web

    TakeHandshake: TypeAlias = Callable[[Handshake], bool]
    """Accepts or refuses a handshake, now or later; or returns False and has done nothing. The request was not routed:
    it has no ``match_info`` and no task.
    """

MAX_UNREAD: Final = 65_536
"""Bytes after a handshake above which nothing more is read until it is accepted."""


NO_RESPONSE: Final = AcceptedResponse()
"""What accepting an early handshake returns: no handler of aiohttp is there to return it. Making one takes a while."""


class Upgrades:
    """The protocol factory of a listening socket."""

    def __init__(self, server: web.Server, takers: Sequence[TakeHandshake], *, timeout: float) -> None:
        """``takers`` are asked, in order, for each handshake; what none of them takes is for ``server``. ``timeout``:
        how long a connection may take to send something, in seconds.
        """
        self.server = server
        self.timeout = timeout
        self.silent: set[FirstRequest] = set()
        """The connections on which nothing was received yet."""
        self._takers = takers
        options = connection_options(server)
        self._limits = {name: options[name] for name in LIMITS if name in options}

    def __call__(self) -> FirstRequest:
        return FirstRequest(self)

    def close(self) -> None:
        """Close the connections on which nothing was received yet."""
        for connection in tuple(self.silent):
            connection.close()

    def take(self, connection: FirstRequest, transport: asyncio.Transport, data: bytes) -> bool:
        """Whether ``data``, the first of a connection, is a handshake that one of the takers takes."""
        head, end, rest = data.partition(b"\r\n\r\n")
        if not end or b"pgrade" not in head or len(head) > MAX_HEAD_SIZE:
            return False
        parsed = parse_handshake(head + end, connection, self._limits)
        if parsed is None:
            return False
        request = make_request(self.server, *parsed, connection)
        try:
            handshake = EarlyHandshake(request, transport, rest, upgrades=self, head=head + end)
        except HandshakeError:
            return False
        return any(take(handshake) for take in self._takers)

    def pass_on(self, transport: asyncio.Transport, data: bytes, reply: web.StreamResponse | None = None) -> None:
        """Give a connection to aiohttp, with the ``data`` that was received on it. ``reply``: the reply to its first
        request, which is then not routed.
        """
        protocol = self.server()
        if reply is not None:
            set_first_reply(protocol, reply)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(data)


class FirstRequest(asyncio.Protocol):
    """A connection on which nothing was received yet."""

    __slots__ = ("_deadline", "_upgrades", "transport")

    def __init__(self, upgrades: Upgrades) -> None:
        self._upgrades = upgrades
        self._deadline: Deadline | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._upgrades.silent.add(self)
        self._deadline = Deadline(self._upgrades.timeout, self.close)

    def data_received(self, data: bytes) -> None:
        transport = self.transport
        self._end_silence()
        if transport is not None and not self._upgrades.take(self, transport, data):
            self._upgrades.pass_on(transport, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_silence()
        self.transport = None

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def _end_silence(self) -> None:
        """Something was received, or the connection is lost."""
        self._upgrades.silent.discard(self)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    # --- a `hooks.RequestConnection`

    def pause_reading(self) -> None:
        """A handshake has no body."""

    def resume_reading(self, *, resume_parser: bool = True) -> None:
        """A handshake has no body."""

    @property
    def ssl_context(self) -> Any:
        return self._extra("sslcontext")

    @property
    def peername(self) -> Any:
        return self._extra("peername")

    @property
    def sockname(self) -> Any:
        return self._extra("sockname")

    def _extra(self, name: str) -> Any:
        return None if self.transport is None else self.transport.get_extra_info(name)


class EarlyHandshake(Handshake, asyncio.Protocol):
    """A handshake that aiohttp has not seen; the protocol of its connection until it is accepted or refused."""

    __slots__ = ("_head", "_lost", "_paused", "_transport", "_unread", "_upgrades")

    def __init__(
        self, request: web.BaseRequest, transport: asyncio.Transport, unread: bytes, *, upgrades: Upgrades, head: bytes
    ) -> None:
        """``head``: the bytes that ``request`` was parsed from; ``unread`` came after them."""
        super().__init__(request)
        self._upgrades = upgrades
        self._transport = transport
        self._head = head
        self._unread = unread
        self._lost: Callable[[], None] | None = None
        self._paused = False
        transport.set_protocol(self)

    @contextmanager
    def watch(self, lost: Callable[[], None]) -> Iterator[None]:
        self._lost = lost
        if self._transport.is_closing():
            lost()
        try:
            yield
        finally:
            self._lost = None

    def refuse(self, response: web.StreamResponse) -> web.StreamResponse:
        if (connection := self._detach()) is not None:
            transport, unread = connection
            self._upgrades.pass_on(transport, self._head + unread, response)
        return response

    def _accepted(self) -> web.StreamResponse:
        return NO_RESPONSE

    def _detach(self) -> tuple[asyncio.Transport, bytes] | None:
        if self._transport.is_closing():
            return None
        if self._paused:
            self._transport.resume_reading()
        return self._transport, self._unread

    def data_received(self, data: bytes) -> None:
        self._unread += data
        if len(self._unread) > MAX_UNREAD:
            self._paused = True
            self._transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._lost is not None:
            self._lost()
