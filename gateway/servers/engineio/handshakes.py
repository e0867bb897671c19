"""How Engine.IO sessions begin (Engine.IO protocol, "Handshake"): on long-polling, or on a WebSocket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import orjson

from gateway.servers.engineio.packets import open_frame
from gateway.servers.engineio.replies import PROTOCOL
from gateway.servers.engineio.socket import EngineSocket
from gateway.servers.engineio.socket import Host as SessionHost
from gateway.servers.hooks import cookie_header, environ_of
from gateway.servers.websocket.handshake import Handshake
from gateway.servers.websocket.rfc6455 import HandshakeError
from gateway.servers.websocket.stream import WebSocketStream

if TYPE_CHECKING:
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
    def new_sid(self) -> str: ...
    def opened(self, socket: EngineSocket, environ: dict[str, Any]) -> None: ...
    async def ask(self, sid: str, environ: dict[str, Any]) -> Any: ...


class Handshakes:
    """Those of one server."""

    def __init__(self, server: Host, replies: Replies) -> None:
        self._server = server
        self._replies = replies

    def problem(self, request: web.BaseRequest) -> str | None:
        """The word of `replies.ERRORS` for why ``request`` begins no session; None where it may."""
        if not self._server.accepting:
            return "stopping"
        if not self._server.seats.has_room:
            return "full"
        if request.method != "GET":
            return "method"
        return None if request.query.get("EIO") == PROTOCOL else "version"

    async def open(self, request: web.Request, transport: str) -> web.StreamResponse:
        """Begin a session, or refuse to."""
        problem = self.problem(request)
        if problem == "version":
            return self._replies.refuse_version(request)
        if problem is not None:
            return self._replies.refuse(request, problem)
        if transport == "polling":
            return await self._open_polling(request)
        try:
            return await self._open_websocket(request, Handshake(request))
        except HandshakeError as error:
            return self._replies.refuse(request, "request", why=error)

    async def _open_polling(self, request: web.Request) -> web.StreamResponse:
        server = self._server
        socket = self._new_socket(request)
        polling = socket.open_polling()
        self._enter(socket, "polling")
        refusal = await self._ask(request, socket)
        if refusal is not None:
            return refusal
        if not socket.closed:
            server.heartbeats.add(socket)
        response = self._replies.respond(request, polling.take_payload(), polling=polling)
        if server.cookie:
            cookie = server.cookie if isinstance(server.cookie, dict) else _default_cookie(server.cookie)
            response.headers["Set-Cookie"] = cookie_header(server, socket.sid, cookie)
        return response

    async def _open_websocket(self, request: web.Request, handshake: Handshake) -> web.StreamResponse:
        """Begin a session on a WebSocket. The handshake is not replied to before the application has accepted the
        client; what is written to it until then waits in its stream.
        """
        if not self._server.asks_application:
            return self.accept(handshake)
        socket, stream = self._new_on_websocket(request)
        refusal = await self._ask(request, socket)
        if refusal is not None:
            return refusal
        if socket.closed:
            return self._replies.refuse(request, "stopping")
        self._server.heartbeats.add(socket)
        return handshake.accept(stream)

    def accept(self, handshake: Handshake) -> web.StreamResponse:
        """Begin a session on a WebSocket, where the application is not asked."""
        socket, stream = self._new_on_websocket(handshake.request)
        self._server.opened(socket, environ_of(handshake.request))
        self._server.heartbeats.add(socket)
        return handshake.accept(stream)

    def _new_socket(self, request: web.BaseRequest) -> EngineSocket:
        socket = EngineSocket(self._server, self._server.new_sid())
        socket.base64 = wants_base64(request)
        return socket

    def _new_on_websocket(self, request: web.BaseRequest) -> tuple[EngineSocket, WebSocketStream]:
        server = self._server
        socket = self._new_socket(request)
        stream = WebSocketStream(socket, max_size=server.max_http_buffer_size, limits=server.limits)
        socket.open(stream)
        self._enter(socket, "websocket")
        return socket, stream

    def _enter(self, socket: EngineSocket, transport: str) -> None:
        """Let a session be found by its id, and send its OPEN packet."""
        self._server.sockets[socket.sid] = socket
        self._server.seats.take_or_stand(socket)
        socket.write(self._open_packet(socket, transport))

    async def _ask(self, request: web.Request, socket: EngineSocket) -> web.Response | None:
        """Ask the application whether it accepts a new client. Returns the reply to one that it refuses."""
        server, environ = self._server, environ_of(request)
        if not server.asks_application:
            server.opened(socket, environ)
            return None
        answer = await server.ask(socket.sid, environ)
        if answer is None or answer is True:
            return None
        socket.discard()
        return self._replies.unauthorized(request, answer)

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


def wants_base64(request: web.BaseRequest) -> bool:
    """Whether the client takes no binary frames: the option ``forceBase64`` of the JavaScript client."""
    return bool(request.query.get("b64"))


def _default_cookie(name: str) -> dict[str, Any]:
    return {"name": name, "path": "/", "SameSite": "Lax"}
