"""aiohttp's HTTP server, for clients that send something else than HTTP, or an unwanted body, or are slow.

aiohttp goes on reading such a connection: it parses what is broken again and again, quotes it in replies and logs, and
takes seconds to read a body that it drops. Here the client gets a reply, and nothing more is read from it. The head of
a request has a timeout of its own, apart from that of an idle connection, and so has a reply, by its size.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from gateway.servers.deadline import Deadline
from gateway.servers.hooks import Connection, connection_options
from gateway.servers.websocket.rfc6455 import is_websocket

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiohttp.http import RawRequestMessage
    from aiohttp.web_request import BaseRequest

LINGER = 1.0
"""How long a client may take to read its last reply before its connection is reset, in seconds. What it still sends is
not read.
"""

HEAD_TIMEOUT: Final = 10.0
"""How long the head of a request may take from its first byte to its last, in seconds."""

MAX_HEAD_SIZE: Final = 65_536
"""Bytes in the head of a request."""

TOO_LARGE: Final = f"The head of a request can have at most {MAX_HEAD_SIZE} bytes."

REPLY_TIMEOUT: Final = 30.0
"""How long a client may take to read a reply, in seconds, and in addition a second for each `MIN_RATE` bytes."""

MIN_RATE: Final = 1024
"""Bytes of a reply that a client must read in a second, on average. A phone on the slowest network reads twice as many.
"""


class HeadError(HttpProcessingError):
    """What is wrong with the head of a request, in words that its client may see."""


class HTTPConnection(Connection):
    """A connection that ends with the first request that cannot be parsed, is not read to its end, or asked in vain to
    become a WebSocket; or with a head or a reply that takes too long.
    """

    __slots__ = ("_end_of_head", "_head_deadline", "_head_size", "_lost", "_reply_deadline", "_replying", "_server")

    def __init__(self, server: HTTPServer, **options: Any) -> None:
        super().__init__(server, **options)
        self._server = server
        self._lost = False
        self._head_size = 0
        """Bytes of the head that is being received, so far."""
        self._end_of_head = b""
        """The last three of them, in which the end of the head may begin."""
        self._head_deadline: Deadline | None = None
        self._reply_deadline: Deadline | None = None
        self._replying: asyncio.Task[Any] | None = None

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._end_head()
        self._drop_reply_deadline()

    # --- in: heads

    def data_received(self, data: bytes) -> None:
        if self._lost:
            return
        known = self.waiting_heads
        super().data_received(data)
        count = self.waiting_heads - known
        if count:
            self._heads_received(data, known, count)
        elif data and self._awaits_head():
            self._head_goes_on(data)

    def _awaits_head(self) -> bool:
        """Whether what comes next is not part of a body."""
        if self.waiting_heads or self.is_upgraded:
            return False
        request = self.current_request
        return self.is_idle or (request is not None and request.content.is_eof())

    def _head_goes_on(self, data: bytes) -> None:
        if self._head_deadline is None:
            self._head_deadline = Deadline(self._server.head_timeout, self._head_late)
        self._head_size += len(data)
        self._end_of_head = (self._end_of_head + data[-3:])[-3:]
        if self._head_size > MAX_HEAD_SIZE:
            self._fail(HeadError(code=400, message=TOO_LARGE))

    def _head_late(self) -> None:
        self._head_deadline = None
        if self.transport is not None and not self._lost:
            message = f"The head of a request must come within {self._server.head_timeout:g} seconds."
            self._fail(HeadError(code=408, message=message))

    def _heads_received(self, data: bytes, known: int, count: int) -> None:
        received = self.heads_since(known)
        heads = [head for head in received if not isinstance(head, BaseException)]
        errors = [error for error in received if isinstance(error, BaseException)]
        if errors:
            self._lose()
            for error in errors:
                _drop_frames(error)
        elif any(_size(head) > MAX_HEAD_SIZE for head in heads):
            self.drop_heads(len(heads))
            self._fail(HeadError(code=400, message=TOO_LARGE))
        elif heads[-1].upgrade and not self.is_upgraded and is_websocket(heads[-1].headers.getall(hdrs.UPGRADE, ())):
            # aiohttp knows `Upgrade: websocket`, but no list with it. What comes after the head is for the WebSocket.
            self.upgrade(b"".join((self._end_of_head + data).split(b"\r\n\r\n", count)[count:]))
        self._end_head()

    def _end_head(self) -> None:
        """No head is being received."""
        self._head_size, self._end_of_head = 0, b""
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None

    def _fail(self, error: HeadError) -> None:
        """Reply with ``error``, after the replies to earlier requests, and read nothing more."""
        self.fail_next(error)
        self._end_head()
        self._lose()

    def _lose(self) -> None:
        self._lost = True
        self.stop_reading()

    def _process_keepalive(self) -> None:
        """The connection was idle for its time. A head that is being received has a timeout of its own."""
        if self._head_deadline is None:
            super()._process_keepalive()
        else:
            self.keep_open()

    # --- out: replies

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The response to an error: of the client, whose request is not quoted, or of ours, which is logged."""
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        response = web.Response(status=status, text=f"{_explain(exc)}\n")
        response.force_close()
        return response

    async def finish_response(
        self, request: BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        last = self.transport is not None and self._is_last(request)
        if last:
            resp.force_close()
            self.drop_unread()
        self._replying = asyncio.current_task()
        try:
            finished = await super().finish_response(request, resp, start_time)
        finally:
            self._replying = None
            for error in (resp, request.content.exception()):
                _drop_frames(error)
        if last:
            self._close_after_reply()
        return finished

    def reply_begins(self, response: web.StreamResponse) -> None:
        """The head of a reply is about to be written: set its deadline."""
        response.headers.pop(hdrs.SERVER, None)
        for name, value in self._server.headers.items():
            response.headers.setdefault(name, value)
        size, transport = response.content_length, self.transport
        if size is None or transport is None:
            return
        self._drop_reply_deadline()
        seconds = self._server.reply_timeout + (size + transport.get_write_buffer_size()) / MIN_RATE
        self._reply_deadline = Deadline(seconds, partial(self._reply_late, transport))

    def _reply_late(self, transport: asyncio.Transport) -> None:
        """Abort the connection, unless all of the reply has left this process."""
        self._reply_deadline = None
        if transport.get_write_buffer_size() or self._replying is not None:
            if self._replying is not None:
                # A task that sends a file is not woken by the end of its connection; it must release the socket first.
                self._replying.cancel()
            transport.abort()

    def _drop_reply_deadline(self) -> None:
        if self._reply_deadline is not None:
            self._reply_deadline.cancel()
            self._reply_deadline = None

    def _is_last(self, request: BaseRequest) -> bool:
        return not request.content.is_eof() or (not self.waiting_heads and (self._lost or self.is_upgraded))

    def _close_after_reply(self) -> None:
        """Take the connection from aiohttp and close it, after all that was written."""
        transport = self.detach()
        if transport is None:
            return
        transport.set_protocol(asyncio.Protocol())
        transport.pause_reading()
        if transport.can_write_eof():
            transport.write_eof()
        self.event_loop.call_later(LINGER, transport.abort)


def _size(message: RawRequestMessage) -> int:
    """Bytes in the head of a request."""
    return len(message.path) + sum(len(name) + len(value) + 4 for name, value in message.raw_headers)


def _drop_frames(error: object) -> None:
    """Drop an error's traceback, and with it what its frames have read. The error and its request refer to each other,
    so that all of it would stay in memory until the next garbage collection.
    """
    if isinstance(error, BaseException):
        error.__traceback__ = error.__context__ = error.__cause__ = None


def _explain(error: HttpProcessingError) -> str:
    if isinstance(error, HeadError):
        return error.message
    if isinstance(error, LineTooLong):
        return f"A line of the head is too long: at most {error.args[1]} bytes."
    return "This is not an HTTP request."


class HTTPRequest(web.Request):
    """A request that notifies its connection when its response begins, wherever that comes from."""

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        await super()._prepare_hook(response)
        protocol = self.protocol
        if isinstance(protocol, HTTPConnection):
            protocol.reply_begins(response)


class HTTPServer(web.Server):
    """Its connections are `HTTPConnection`."""

    def __init__(
        self,
        server: web.Server,
        headers: Mapping[str, str],
        *,
        head_timeout: float,
        reply_timeout: float,
    ) -> None:
        """Takes the place of ``server``, which an application has made."""
        make_request: Callable[..., web.BaseRequest] = server.request_factory
        super().__init__(
            server.request_handler,
            request_factory=partial(make_request, _cls=HTTPRequest),
            handler_cancellation=server.handler_cancellation,
            **connection_options(server),
        )
        self.headers = headers
        self.head_timeout = head_timeout
        self.reply_timeout = reply_timeout

    def __call__(self) -> HTTPConnection:
        return HTTPConnection(self, loop=asyncio.get_running_loop(), **connection_options(self))


class Runner(web.AppRunner):
    """An ``AppRunner`` whose server is an `HTTPServer`; any application on aiohttp can be run by it."""

    def __init__(
        self,
        app: web.Application,
        *,
        headers: Mapping[str, str] | None = None,
        head_timeout: float = HEAD_TIMEOUT,
        reply_timeout: float = REPLY_TIMEOUT,
        **options: Any,
    ) -> None:
        """``headers``: added to every reply that does not have them. ``head_timeout``: how long the head of a request
        may take, in seconds; ``keepalive_timeout``, apart from it, is the time between two requests. ``reply_timeout``:
        how long a client may take to read a reply, in seconds, besides the time for its size. ``options``: those of the
        base class.
        """
        super().__init__(app, **options)
        self._headers = headers or {}
        self._head_timeout = head_timeout
        self._reply_timeout = reply_timeout

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        return HTTPServer(server, self._headers, head_timeout=self._head_timeout, reply_timeout=self._reply_timeout)
