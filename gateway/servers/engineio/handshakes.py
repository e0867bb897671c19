"""How Engine.IO sessions begin (Engine.IO protocol, "Handshake"): on long-polling, or on a WebSocket."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from gateway.servers.engineio.packets import open_frame
from gateway.servers.engineio.replies import PROTOCOL
from gateway.servers.engineio.socket import EngineSocket
from gateway.servers.engineio.socket import Host as SessionHost
from gateway.servers.hooks import cookie_header, detach_transport, environ_of
from gateway.servers.websocket.rfc6455 import HandshakeError
from gateway.servers.websocket.stream import TakenOver, WebSocketStream, check_handshake

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

    from aiohttp import web

    from gateway.servers.engineio.replies import Replies
    from gateway.servers.seats import Seats


class Host(SessionHost, Protocol):
    """What a handshake needs of its server."""

    sockets: dict[str, EngineSocket]
    accepting: bool
    seats: Seats
    transports: list[str]
    allow_upgrades: bool
    ping_interval: float
    ping_timeout: float
    max_http_buffer_size: int
    cookie: Any

    @property
    def asks_application(self) -> bool: ...
    def generate_id(self) -> str: ...
    def opened(self, socket: EngineSocket, environ: dict[str, Any]) -> None: ...
    def stream_options(self) -> dict[str, Any]: ...
    async def ask(self, sid: str, environ: dict[str, Any]) -> Any: ...


class Handshakes:
    """Those of one server."""

    def __init__(self, server: Host, replies: Replies) -> None:
        self._server = server
        self._replies = replies

    async def open(self, request: web.Request, transport: str) -> web.StreamResponse:
        """Begin a session, or refuse to."""
        if not self._server.accepting:
            return self._replies.refuse(request, "stopping", 503)
        if not self._server.seats.can_enter:
            return self._replies.refuse(request, "full", 503)
        if request.method != "GET":
            return self._replies.refuse(request, "method")
        if request.query.get("EIO") != PROTOCOL:
            return self._replies.refuse_version(request)
        return await (self._open_websocket if transport == "websocket" else self._open_polling)(request)

    def begin(self, request: web.BaseRequest, transport: asyncio.Transport, accepted: bytes, unread: bytes) -> None:
        """Begin a session on a WebSocket at once, where the application is not asked."""
        socket, stream = self._socket_and_stream(request)
        stream.open(transport, accepted)
        self._greet(socket, "websocket")
        self._server.opened(socket, environ_of(request))
        self._server.heartbeats.add(socket)
        if unread:
            stream.data_received(unread)

    async def _open_polling(self, request: web.Request) -> web.StreamResponse:
        server = self._server
        socket = self._new_socket(request)
        polling = socket.open_polling()
        self._greet(socket, "polling")
        refusal = await self._introduce(request, socket)
        if refusal is not None:
            return refusal
        if not socket.closed:
            server.heartbeats.add(socket)
        response = self._replies.respond(request, polling.take_payload(), polling=polling)
        if server.cookie:
            cookie = server.cookie if isinstance(server.cookie, dict) else _default_cookie(server.cookie)
            response.headers["Set-Cookie"] = cookie_header(server, socket.sid, cookie)
        return response

    async def _open_websocket(self, request: web.Request) -> web.StreamResponse:
        """Begin a session on a WebSocket. The handshake is not answered before the application wants the client, and
        what is written to it until then waits.
        """
        try:
            accepted = check_handshake(request)
        except HandshakeError as error:
            return self._replies.refuse(request, "request", why=error)
        socket, stream = self._socket_and_stream(request)
        socket.cork()
        self._greet(socket, "websocket")
        refusal = await self._introduce(request, socket)
        if refusal is not None:
            return refusal
        if socket.closed:
            return self._replies.refuse(request, "stopping", 503)
        connection = detach_transport(request)
        if connection is None:
            socket.close(self._server.reason.TRANSPORT_CLOSE)
            return TakenOver(replied=False)
        transport, unread = connection
        stream.open(transport, accepted)
        socket.uncork()
        self._server.heartbeats.add(socket)
        stream.data_received(unread)
        return TakenOver(replied=True)

    def _new_socket(self, request: web.BaseRequest) -> EngineSocket:
        socket = EngineSocket(self._server, self._server.generate_id())
        socket.base64 = wants_base64(request)
        return socket

    def _socket_and_stream(self, request: web.BaseRequest) -> tuple[EngineSocket, WebSocketStream]:
        socket = self._new_socket(request)
        stream = WebSocketStream(socket, **self._server.stream_options())
        socket.open(stream)
        return socket, stream

    async def _introduce(self, request: web.Request, socket: EngineSocket) -> web.Response | None:
        """Tell the application of a new client. Returns the reply to one that it does not want."""
        server, environ = self._server, environ_of(request)
        if not server.asks_application:
            server.opened(socket, environ)
            return None
        with _reading_paused(request.transport):
            answer = await server.ask(socket.sid, environ)
        if answer is None or answer is True:
            return None
        socket.discard()
        return self._replies.unauthorized(request, answer)

    def _greet(self, socket: EngineSocket, transport: str) -> None:
        server = self._server
        server.sockets[socket.sid] = socket
        socket.seated = server.seats.take()
        if not socket.seated:
            server.seats.stand()
        socket.write(self._open_packet(socket, transport))

    def _open_packet(self, socket: EngineSocket, transport: str) -> bytes:
        server = self._server
        upgrades = ["websocket"] if transport == "polling" and "websocket" in server.transports else []
        handshake = {
            "sid": socket.sid,
            "upgrades": upgrades if server.allow_upgrades else [],
            "pingInterval": round(server.ping_interval * 1000),
            "pingTimeout": round(server.ping_timeout * 1000),
            "maxPayload": server.max_http_buffer_size,
        }
        return open_frame(orjson.dumps(handshake))


@contextmanager
def _reading_paused(transport: asyncio.Transport | None) -> Iterator[None]:
    """What a client sends behind its handshake stays with the system: aiohttp would take any amount of it."""
    if transport is not None:
        transport.pause_reading()
    try:
        yield
    finally:
        if transport is not None and not transport.is_closing():
            transport.resume_reading()


def wants_base64(request: web.BaseRequest) -> bool:
    """Whether the client takes no binary frames: the option ``forceBase64`` of the JavaScript client."""
    return bool(request.query.get("b64"))


def _default_cookie(name: str) -> dict[str, Any]:
    return {"name": name, "path": "/", "SameSite": "Lax"}
