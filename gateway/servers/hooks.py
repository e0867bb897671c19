"""The private parts of aiohttp, python-engineio and python-socketio that the servers stand on.

This module alone touches them; what ours override is listed in `OVERRIDDEN`. `tests/servers/test_hooks.py` compares all
of it with the libraries that are installed, so that an upgrade that moves a part fails there and not in production.
"""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import engineio
import socketio
from aiohttp import web
from aiohttp._websocket.helpers import websocket_mask
from aiohttp.http import HttpProcessingError, HttpRequestParser
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import RequestHandler, _ErrInfo
from engineio.async_drivers import aiohttp as driver
from socketio import packet
from socketio.async_admin import InstrumentedAsyncServer

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.http import RawRequestMessage
    from aiohttp.streams import StreamReader

Hook: TypeAlias = tuple[Any, str, list[str]]
"""A class or module, the name of something that it has, and its parameters."""

OVERRIDDEN: Final[tuple[Hook, ...]] = (
    (engineio.AsyncServer, "attach", ["app", "engineio_path"]),
    (engineio.AsyncServer, "handle_request", ["args", "kwargs"]),
    (engineio.AsyncServer, "send", ["sid", "data"]),
    (engineio.AsyncServer, "send_packet", ["sid", "pkt"]),
    (engineio.AsyncServer, "disconnect", ["sid"]),
    (engineio.AsyncServer, "shutdown", []),
    (engineio.AsyncServer, "generate_id", []),
    (engineio.AsyncServer, "_trigger_event", ["event", "args", "kwargs"]),
    (engineio.AsyncServer, "_get_socket", ["sid"]),
    (socketio.AsyncServer, "_engineio_server_class", []),
    (socketio.AsyncServer, "_send_packet", ["eio_sid", "pkt"]),
    (socketio.AsyncServer, "_handle_eio_connect", ["eio_sid", "environ"]),
    (socketio.AsyncServer, "_handle_eio_message", ["eio_sid", "data"]),
    (socketio.AsyncServer, "_handle_eio_disconnect", ["eio_sid", "reason"]),
    (socketio.AsyncServer, "_handle_connect", ["eio_sid", "namespace", "data"]),
    (socketio.AsyncServer, "_handle_disconnect", ["eio_sid", "namespace", "reason"]),
    (socketio.AsyncServer, "_handle_event", ["eio_sid", "namespace", "id", "data"]),
    (socketio.AsyncServer, "_trigger_event", ["event", "namespace", "args"]),
    (
        socketio.AsyncServer,
        "instrument",
        ["auth", "mode", "read_only", "server_id", "namespace", "server_stats_interval"],
    ),
    (socketio.AsyncServer, "call", ["event", "data", "to", "sid", "namespace", "timeout", "ignore_queue"]),
    (socketio.AsyncServer, "disconnect", ["sid", "namespace", "ignore_queue"]),
    (socketio.AsyncManager, "basic_enter_room", ["sid", "namespace", "room", "eio_sid"]),
    (socketio.AsyncManager, "basic_leave_room", ["sid", "namespace", "room"]),
    (socketio.AsyncManager, "basic_disconnect", ["sid", "namespace", "kwargs"]),
    (packet.Packet, "_reconstruct_binary_internal", ["data", "attachments"]),
    (RequestHandler, "connection_lost", ["exc"]),
    (RequestHandler, "data_received", ["data"]),
    (RequestHandler, "handle_error", ["request", "status", "exc", "message"]),
    (RequestHandler, "finish_response", ["request", "resp", "start_time"]),
    (RequestHandler, "_process_keepalive", []),
    (web.Request, "_prepare_hook", ["response"]),
    (web.AppRunner, "_make_server", []),
    (web.StreamResponse, "prepare", ["request"]),
    (web.StreamResponse, "write_eof", ["data"]),
)
"""The methods that ours take the place of, with their parameters: the libraries call them by these names."""

CALLED: Final[tuple[Hook, ...]] = (
    (engineio.AsyncServer, "_generate_sid_cookie", ["sid", "attributes"]),
    (socketio.AsyncServer, "_send_eio_packet", ["eio_sid", "eio_pkt"]),
    (socketio.AsyncServer, "_handle_ack", ["eio_sid", "namespace", "id", "data"]),
    (socketio.AsyncServer, "_get_event_handler", ["event", "namespace", "args"]),
    (socketio.AsyncServer, "_get_namespace_handler", ["namespace", "args"]),
    (socketio.AsyncNamespace, "trigger_event", ["event", "args"]),
    (socketio.AsyncManager, "connect", ["sid", "namespace"]),
    (socketio.AsyncManager, "disconnect", ["sid", "namespace", "kwargs"]),
    (socketio.AsyncManager, "pre_connect", ["eio_sid", "namespace"]),
    (socketio.AsyncManager, "is_sid_room", ["namespace", "room"]),
    (socketio.AsyncManager, "get_participants", ["namespace", "room"]),
    (InstrumentedAsyncServer, "_handle_eio_connect", ["eio_sid", "environ"]),
    (packet.Packet, "encode", []),
    (packet.Packet, "decode", ["encoded_packet"]),
    (packet.Packet, "add_attachment", ["attachment"]),
    (driver, "translate_request", ["request"]),
    (web.BaseRequest, "_cancel", ["exc"]),
    (RequestHandler, "_pause_transport_reading", []),
    (web.Application, "_make_request", ["message", "payload", "protocol", "writer", "task", "_cls"]),
)
"""The methods that are called, here or in what ours override, and the functions."""

BODY_BUFFER: Final = 65_536
"""How many bytes of a body aiohttp's parser would buffer; a handshake has none."""


# --- aiohttp: WebSocket frames

mask = websocket_mask
"""Unmask a frame's payload, a `bytearray`, in place (RFC 6455, section 5.3)."""


# --- aiohttp: servers and requests


def connection_options(server: web.Server) -> dict[str, Any]:
    """The options that a server gives to each of its connections."""
    options: dict[str, Any] = server._kwargs
    return options


class RequestConnection(Protocol):
    """What a request asks of its connection: the `protocol` of `make_request`."""

    @property
    def transport(self) -> asyncio.Transport | None: ...
    @property
    def ssl_context(self) -> Any: ...
    @property
    def peername(self) -> Any: ...
    @property
    def sockname(self) -> Any: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self, *, resume_parser: bool = True) -> None: ...


def parse_handshake(
    head: bytes, connection: RequestConnection, limits: dict[str, Any]
) -> tuple[RawRequestMessage, StreamReader] | None:
    """The request in ``head``, if it is one request that asks for an upgrade. ``limits``: those of `LIMITS` that a
    server sets.
    """
    protocol: Any = connection
    parser = HttpRequestParser(protocol, asyncio.get_running_loop(), BODY_BUFFER, **limits)
    try:
        messages, upgraded, _ = parser.feed_data(head)
    except HttpProcessingError:
        return None
    return messages[0] if upgraded and len(messages) == 1 else None


LIMITS: Final[tuple[str, ...]] = ("max_line_size", "max_headers", "max_field_size")
"""The options of a server that bound the head of a request."""


def make_request(
    server: web.Server, message: RawRequestMessage, body: StreamReader, connection: RequestConnection
) -> web.BaseRequest:
    """The request of an application that was not routed, and which no task handles."""
    nobody: Any = None
    protocol: Any = connection
    return server.request_factory(message, body, protocol, nobody, nobody)


def exchange_body(request: web.BaseRequest, body: StreamReader) -> StreamReader:
    """Put ``body`` in the place of a request's body, which is returned. aiohttp reports a lost connection only to the
    body of the request that is being handled (`BaseRequest._cancel`).
    """
    before, request._payload = request._payload, body
    return before


def detach_transport(request: web.BaseRequest) -> tuple[asyncio.Transport, bytes] | None:
    """Take the transport of a handshake from aiohttp, with the bytes that came after it; None where it is closed. It
    drops all that it keeps for the connection, so that nothing it sends as a reply goes anywhere.
    """
    protocol: Any = request.protocol
    transport = request.transport
    if transport is None or transport.is_closing():
        return None
    unread: bytes = protocol._message_tail
    if protocol._buffer_paused or protocol._reading_paused:
        transport.resume_reading()
    protocol.transport = None
    protocol.connection_lost(None)
    return transport, unread


def set_first_reply(connection: RequestHandler, response: web.StreamResponse) -> None:
    """Have the first request on a new connection replied to with ``response``, without asking its application."""
    handler = connection._request_handler

    async def reply(request: web.BaseRequest) -> web.StreamResponse:
        connection._request_handler = handler
        return response

    connection._request_handler = reply


def writer_of(response: web.StreamResponse) -> AbstractStreamWriter | None:
    """What a response is written to, from its head to its end; its `drain` waits until the system has taken nearly all
    of it.
    """
    return response._payload_writer


class Connection(RequestHandler):
    """aiohttp's side of an HTTP connection, with names for what it keeps to itself."""

    __slots__ = ()

    @property
    def waiting_heads(self) -> int:
        """How many heads were received whose requests are not handled yet."""
        return len(self._messages)

    def heads_since(self, known: int) -> list[RawRequestMessage | BaseException]:
        """The heads after the first ``known`` that wait: each as it was parsed, or what was wrong with it."""
        heads = [head for head, _ in islice(self._messages, known, None)]
        return [head.exc if isinstance(head, _ErrInfo) else head for head in heads]

    def drop_heads(self, count: int) -> None:
        """Forget the newest heads."""
        for _ in range(count):
            self._messages.pop()

    def fail_next(self, error: HttpProcessingError) -> None:
        """Have a request that cannot be parsed replied to (`handle_error`), after those that wait."""
        self._request_count += 1
        self._messages.append((_ErrInfo(status=error.code, exc=error, message=error.message), EMPTY_PAYLOAD))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    @property
    def is_idle(self) -> bool:
        """Whether no request is handled, and none was yet or the last one is done."""
        return self._request_count == 0 or (self._waiter is not None and not self._waiter.done())

    @property
    def current_request(self) -> web.BaseRequest | None:
        return self._current_request

    @property
    def is_upgraded(self) -> bool:
        """Whether the newest head asks for an upgrade. What comes after it is not HTTP, and is kept."""
        return self._upgraded

    def upgrade(self, unread: bytes) -> None:
        """Take the newest head for one that asks for an upgrade. ``unread`` came after it."""
        self._upgraded = True
        self._message_tail = unread

    def drop_unread(self) -> None:
        """Forget what came after a head that asks for an upgrade."""
        self._message_tail = b""

    def stop_reading(self) -> None:
        self._pause_transport_reading()

    @property
    def event_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def keep_open(self) -> None:
        """Let the time of an idle connection pass without closing it; `_process_keepalive` has been called for it."""
        self._keepalive_handle = None

    def detach(self) -> asyncio.Transport | None:
        """Take the transport from aiohttp, which drops all that it keeps for the connection."""
        transport = self.transport
        if transport is not None:
            self.transport = None
            self.connection_lost(None)
        return transport


CONNECTION_STATE: Final = frozenset(
    {
        "_buffer_paused",
        "_current_request",
        "_keepalive_handle",
        "_loop",
        "_message_tail",
        "_messages",
        "_reading_paused",
        "_request_count",
        "_request_handler",
        "_upgraded",
        "_waiter",
        "transport",
    }
)
"""The attributes of aiohttp's `RequestHandler` that are read or set here."""


# --- python-engineio and python-socketio


def environ_of(request: web.BaseRequest) -> dict[str, Any]:
    """The WSGI environment of a request, as python-engineio gives it to a ``connect`` handler."""
    environ: dict[str, Any] = driver.translate_request(request)
    return environ


def cookie_header(server: engineio.AsyncServer, sid: str, attributes: dict[str, Any]) -> str:
    """The ``Set-Cookie`` header with a session's id."""
    header: str = server._generate_sid_cookie(sid, attributes)
    return header


def members_of(manager: socketio.AsyncManager, namespace: str, room: str | None) -> Any:
    """The sids in a native room, a mapping to be read at once: ``manager.rooms[namespace][room][sid] = eio_sid``."""
    return manager.rooms.get(namespace, {}).get(room, {})


def drop_client(manager: socketio.AsyncManager, sid: str, namespace: str) -> None:
    """Drop what a manager keeps of a client besides its rooms: its acks' callbacks, and that it is amid connecting or
    disconnecting (``pending_connect``, ``pending_disconnect``).
    """
    manager.callbacks.pop(sid, None)
    for pending in (manager.pending_connect, manager.pending_disconnect):
        waiting = pending.get(namespace, [])
        if sid in waiting:
            waiting.remove(sid)
            if not waiting:
                del pending[namespace]
