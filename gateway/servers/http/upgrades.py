"""Connections until their first request: a WebSocket handshake may be taken here, anything else is aiohttp's.

aiohttp's protocol, task, route and response are a fifth of what a log-in costs, and none of them is needed after it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from gateway.servers.hooks import LIMITS, connection_options, make_request, parse_handshake
from gateway.servers.http.runner import MAX_HEAD_SIZE
from gateway.servers.websocket.handshake import EarlyHandshake, Handshake
from gateway.servers.websocket.rfc6455 import HandshakeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiohttp import web

    TakeHandshake: TypeAlias = Callable[[Handshake], bool]
    """Accepts a handshake; or returns False and has done nothing. The request was not routed: it has no ``match_info``
    and no task.
    """


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
        try:
            handshake = EarlyHandshake(make_request(self.server, *parsed, connection), transport, rest)
        except HandshakeError:
            return False
        return any(take(handshake) for take in self._takers)


class FirstRequest(asyncio.Protocol):
    """A connection on which nothing was received yet."""

    __slots__ = ("_timer", "_upgrades", "transport")

    def __init__(self, upgrades: Upgrades) -> None:
        self._upgrades = upgrades
        self._timer: asyncio.TimerHandle | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._upgrades.silent.add(self)
        self._timer = asyncio.get_running_loop().call_later(self._upgrades.timeout, self.close)

    def data_received(self, data: bytes) -> None:
        transport = self.transport
        self._end_silence()
        if transport is None or self._upgrades.take(self, transport, data):
            return
        aiohttp_protocol = self._upgrades.server()
        transport.set_protocol(aiohttp_protocol)
        aiohttp_protocol.connection_made(transport)
        aiohttp_protocol.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_silence()
        self.transport = None

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def _end_silence(self) -> None:
        """Something was received, or the connection is lost."""
        self._upgrades.silent.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

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
