"""aiohttp's HTTP server, for clients that send what is no HTTP, or a body that nobody wants.

aiohttp reads such a connection on: it parses the rest of what is broken again and again, quotes it in answers and
logs, and takes seconds to read a body away. Here it hears its answer, and nothing more is read from it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestHandler, _ErrInfo

if TYPE_CHECKING:
    from aiohttp.web_request import BaseRequest

FAREWELL = 1.0
"""Seconds that a client has to read its last answer before its connection is reset: what it still sends stays
unread.
"""


class HTTPConnection(RequestHandler):
    """A connection that ends with the first request that cannot be understood, is not read whole, or asked in
    vain to become a WebSocket.
    """

    __slots__ = ("_lost",)

    _lost: bool

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._lost = False
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._lost:
            return
        super().data_received(data)
        if self._messages and isinstance(self._messages[-1][0], _ErrInfo):
            self._lost = True
            self._pause_transport_reading()

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to a mistake: of a client, which hears of it but is not quoted, or of ours, which is logged."""
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        response = web.Response(status=status, text="This is no HTTP request.\n")
        response.force_close()
        return response

    async def finish_response(
        self, request: BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        last = self.transport is not None and self._is_last(request)
        if last:
            resp.force_close()
            self._message_tail = b""
        finished = await super().finish_response(request, resp, start_time)
        if last:
            self._part()
        return finished

    def _is_last(self, request: BaseRequest) -> bool:
        return not request.content.is_eof() or (not self._messages and (self._lost or self._upgraded))

    def _part(self) -> None:
        """Take the connection from aiohttp and end it, behind what was written."""
        transport = self.transport
        if transport is None:
            return
        self.transport = None
        self.connection_lost(None)
        transport.set_protocol(asyncio.Protocol())
        transport.pause_reading()
        if transport.can_write_eof():
            transport.write_eof()
        self._loop.call_later(FAREWELL, transport.abort)


class HTTPServer(web.Server):
    """Makes a `HTTPConnection` of each."""

    def __call__(self) -> HTTPConnection:
        return HTTPConnection(self, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """An ``AppRunner`` whose server is an `HTTPServer`; any application on aiohttp can be run by it."""

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        return HTTPServer(
            server.request_handler,
            request_factory=server.request_factory,
            handler_cancellation=server.handler_cancellation,
            **server._kwargs,
        )
