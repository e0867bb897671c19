"""Engine.IO v4: long-polling and WebSocket under one session (docs/engine.io-protocol of socketio/socket.io).

`EngineServer` takes the place of ``engineio.AsyncServer`` on aiohttp: the same options, handlers and methods. A
client's packets are handled in the order they came; what is queued for it is bounded; one timer pings all.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import engineio
from engineio import packet

from gateway.servers.budget import UNLIMITED
from gateway.servers.engineio.handshakes import Handshakes, wants_base64
from gateway.servers.engineio.nodes import NotForwarded, Via, node_of, sid_on
from gateway.servers.engineio.packets import CLOSE, Packet, message_frame
from gateway.servers.engineio.pollrequests import PollRequests
from gateway.servers.engineio.replies import Replies
from gateway.servers.engineio.upgrade import Upgrade
from gateway.servers.handlers import call_handler
from gateway.servers.heartbeats import Heartbeats
from gateway.servers.http.crossorigin import CrossOrigin
from gateway.servers.jsonio import PacketJSON, check_module
from gateway.servers.limits import Limits
from gateway.servers.seats import Seats
from gateway.servers.websocket.handshake import Handshake
from gateway.servers.websocket.rfc6455 import HandshakeError, binary_frame, text_frame

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from gateway.servers.budget import Budget
    from gateway.servers.engineio.nodes import Forwarder
    from gateway.servers.engineio.socket import EngineSocket
    from gateway.servers.inorder import InOrder

SHUTDOWN_TIMEOUT: Final = 2.0
"""How long handlers may take to finish when the server is shut down, in seconds."""

logger = logging.getLogger(__name__)


class EngineServer(engineio.AsyncServer):  # type: ignore[misc]
    """An ``engineio.AsyncServer`` on aiohttp."""

    def __init__(
        self,
        *,
        max_buffer: int = 1_048_576,
        seats: Seats | None = None,
        budget: Budget = UNLIMITED,
        forwarder: Forwarder | None = None,
        async_mode: str | None = None,
        json: Any = None,
        **options: Any,
    ) -> None:
        """``max_buffer``: unsent bytes at which a client that does not read is cut (`backlog`). ``seats``, ``budget``:
        how many clients there may be, and the memory that they may take together; without them there is no limit.
        ``forwarder``: where this server is one of several, passes requests on to the others; the ids of sessions then
        begin with that of the node, and the forwarder is closed with this server. ``json``: for this server alone,
        where python-engineio's is for the process. ``options``: those of the base class.

        Raises:
            ValueError: an option has a value that this server does not support; the message says what to do.
        """
        if async_mode not in {None, "aiohttp"}:
            raise ValueError(
                f"async_mode={async_mode!r} is not supported: this server runs on aiohttp. Leave async_mode out, or "
                "use the server of the library itself (socketio.AsyncServer, engineio.AsyncServer)"
            )
        if json is not None:
            check_module(json)
        super().__init__(**{"logger": logger, **options, "async_mode": "aiohttp"})
        self.json = json or PacketJSON
        self.limits = Limits(max_buffer, budget)
        self.seats = seats or Seats()
        self._cross_origin = CrossOrigin(self)
        self._replies = Replies(self, self._cross_origin)
        self._handshakes = Handshakes(self, self._replies)
        self._poll_requests = PollRequests(self._replies, self.reason)
        self._forwarder = forwarder
        self._path: str | None = None
        self._ending: dict[str, EngineSocket] = {}
        """Sessions whose end the application has not handled yet."""
        self.heartbeats = Heartbeats(self.ping_interval, self.ping_timeout)
        self._empty: asyncio.Event | None = None
        self.accepting = True
        """Whether new clients are accepted; else they are refused with 503."""

    # --- what applications call

    def generate_id(self) -> str:
        return secrets.token_urlsafe(15)

    def new_sid(self) -> str:
        """The id of a new session."""
        id_: str = self.generate_id()
        return id_ if self._forwarder is None else sid_on(self._forwarder.node, id_)

    async def send(self, sid: str, data: Any) -> None:
        if not isinstance(data, str | bytes | bytearray):
            data = self.json.dumps(data, separators=(",", ":"))
        self.write(sid, message_frame(bytes(data) if isinstance(data, bytearray) else data))

    async def send_packet(self, sid: str, pkt: packet.Packet) -> None:
        encoded = pkt.encode()
        self.write(sid, text_frame(encoded.encode()) if isinstance(encoded, str) else binary_frame(encoded))

    def write(self, sid: str, frame: bytes) -> None:
        """Send a packet, given as its WebSocket frame. A client that is too slow is closed; for one that is gone,
        nothing is done.
        """
        socket: EngineSocket | None = self.sockets.get(sid)
        if socket is not None:
            socket.write(frame)

    def has_seat(self, sid: str) -> bool:
        """Whether a client has one of the `Seats`, or gets one that is free by now."""
        socket: EngineSocket | None = self.sockets.get(sid)
        return socket is not None and self.seats.take(socket)

    async def disconnect(self, sid: str | None = None) -> None:
        for socket in tuple(self.sockets.values()) if sid is None else filter(None, [self.sockets.get(sid)]):
            if socket.upgraded:
                socket.write(CLOSE)
            socket.close(self.reason.SERVER_DISCONNECT)

    async def shutdown(self) -> None:
        """Close every client, accept no new one, and let long-polling clients poll what waits for them. Handlers that
        still run after `SHUTDOWN_TIMEOUT` are cancelled.

        An application that was given to `attach` does this as it shuts down.
        """
        self.accepting = False
        self.heartbeats.close()
        if self._forwarder is not None:
            await self._forwarder.close()
        sockets = {**self.sockets, **self._ending}.values()
        if not sockets:
            return
        ends = [asyncio.create_task(socket.shut_down()) for socket in sockets]
        _, late = await asyncio.wait([*ends, asyncio.create_task(self._emptied())], timeout=SHUTDOWN_TIMEOUT)
        for task in late:
            task.cancel()

    async def _emptied(self) -> None:
        """Wait until no request can find a session any more."""
        self._empty = asyncio.Event()
        if self.sockets:
            await self._empty.wait()

    async def _on_shutdown(self, app: web.Application) -> None:
        await self.shutdown()

    def forget(self, socket: EngineSocket) -> None:
        """The session is over: no request finds it any more."""
        self.sockets.pop(socket.sid, None)
        self.seats.leave(socket)
        if self._empty is not None and not self.sockets:
            self._empty.set()

    def ending(self, socket: EngineSocket) -> None:
        """The session is over. What the application stored in it is available until the application is notified."""
        self._ending[socket.sid] = socket
        self.closing(socket)

    # --- what happens to a session: for a server on top of this one to override

    @property
    def asks_application(self) -> bool:
        """Whether the handler of ``connect`` decides which clients may stay; else `opened` is called for each."""
        return "connect" in self.handlers

    def opened(self, socket: EngineSocket, environ: dict[str, Any]) -> None:
        """There is a new client, and ``environ`` is the WSGI environment of its handshake."""

    def receive(self, socket: EngineSocket, data: Packet, in_order: InOrder) -> None:
        """A message arrives. What is to be done with it is put into the order of the client's messages.

        Raises:
            ValueError: it breaks the protocol; the client is closed.
        """
        in_order.put(partial(self.handle, socket.sid, data))

    def describe(self, socket: EngineSocket) -> Mapping[str, object]:
        """Who a client is, for what is logged of it."""
        return {"sid": socket.sid}

    def closing(self, socket: EngineSocket) -> None:
        """A session is over; the handler of ``disconnect`` is called after the client's last message is handled."""

    # --- the application's handlers

    async def handle(self, sid: str, data: Any) -> None:
        """Give a message to the application: text that is JSON as its value, unless it begins with a digit, as
        python-engineio does.
        """
        if isinstance(data, str) and not data[:1].isnumeric():
            with suppress(ValueError):
                data = self.json.loads(data)
        await self._trigger_event("message", sid, data)

    async def end(self, socket: EngineSocket, reason: str) -> None:
        """Tell the application that the session is over."""
        try:
            await self._trigger_event("disconnect", socket.sid, reason)
        finally:
            self._ending.pop(socket.sid, None)

    async def ask(self, sid: str, environ: dict[str, Any]) -> Any:
        """What the application's handler of ``connect`` returns for a new client; None or True where it accepts it."""
        return await self._trigger_event("connect", sid, environ)

    async def _trigger_event(self, event: str, *args: Any, **_: Any) -> Any:
        """As python-engineio's, in the caller's task; but no handler is called twice."""
        handler = self.handlers.get(event)
        if handler is None:
            return None
        try:
            return await call_handler(event, handler, args)
        except Exception:
            self.logger.exception("the handler of %s failed", event)
            return False if event == "connect" else None

    def _get_socket(self, sid: str) -> EngineSocket:
        """Raises KeyError."""
        return self._ending.get(sid) or self.sockets[sid]

    # --- requests

    def attach(self, app: web.Application, engineio_path: str = "engine.io") -> None:
        """Serve ``/{engineio_path}/`` for every method: Engine.IO has a reply of its own to wrong ones."""
        self._path = f"/{engineio_path.strip('/')}/"
        app.router.add_route("*", self._path, self.handle_request)
        app.on_shutdown.append(self._on_shutdown)

    def take_handshake(self, handshake: Handshake) -> bool:
        """Begin a session with a WebSocket handshake that aiohttp has not seen (`upgrades.TakeHandshake`). Anything
        else, and what is to be refused, is left to `handle_request`.
        """
        request = handshake.request
        query = request.query
        if request.path != self._path or "sid" in query or self.asks_application:
            return False
        if query.get("transport") != "websocket" or "websocket" not in self.transports:
            return False
        if self._handshakes.problem(request) is not None or not self._cross_origin.allows_now(request):
            return False
        self._handshakes.accept(handshake)
        return True

    async def handle_request(self, request: web.Request) -> web.StreamResponse:
        """Handle an HTTP request; the handler of the route that ``attach`` makes."""
        via = Via.CLIENT if self._forwarder is None else self._forwarder.via(request)
        try:
            allowed = via is not Via.CLIENT or self._cross_origin.allows(request)
        except ValueError as error:
            return self._replies.refuse(request, "request", why=error)
        if not (allowed if isinstance(allowed, bool) else await allowed):
            return self._replies.refuse(request, "forbidden")
        if request.method == "OPTIONS":
            return self._replies.respond(request, b"")
        return await self._dispatch(request, via)

    async def _dispatch(self, request: web.Request, via: Via) -> web.StreamResponse:
        """Handle a request that may be made."""
        transport = request.query.get("transport")
        if transport is None or transport not in self.transports:
            return self._replies.refuse(request, "transport", why=f"use {' or '.join(self.transports)}")
        sid = request.query.get("sid")
        if sid is None:
            return await self._handshakes.open(request, transport)
        try:
            return await self._route(request, transport, sid, via)
        except NotForwarded as refusal:
            return self._replies.refuse(request, refusal.error)
        except HandshakeError as error:
            return self._replies.refuse(request, "request", why=error)

    async def _route(self, request: web.Request, transport: str, sid: str, via: Via) -> web.StreamResponse:
        """Handle a request of a session.

        Raises:
            NotForwarded: the session is not here, nor on a node that can be reached.
            HandshakeError: the request asks for a WebSocket, but not as RFC 6455 says.
        """
        socket: EngineSocket | None = self.sockets.get(sid)
        if socket is None:
            return await self._forward(request, sid)
        if via is Via.LOST:
            socket.request_lost(poll=True)
            return self._replies.respond(request, b"ok")
        if transport == "websocket":
            return self._upgrade(request, socket)
        if request.method == "GET":
            return await self._poll_requests.poll(request, socket)
        return await self._poll_requests.post(request, socket, self.max_http_buffer_size)

    async def _forward(self, request: web.Request, sid: str) -> web.StreamResponse:
        """Pass a request on to the node that its session's id names."""
        node = node_of(sid)
        if self._forwarder is None or node is None or node == self._forwarder.node:
            raise NotForwarded("session")
        return await self._forwarder.forward(request, node)

    def _upgrade(self, request: web.Request, socket: EngineSocket) -> web.StreamResponse:
        handshake = Handshake(request)
        upgrade = Upgrade(socket, max_size=self.max_http_buffer_size, limits=self.limits)
        if not socket.can_upgrade:
            response = handshake.accept(upgrade.stream)
            upgrade.refuse()
            return response
        socket.base64 = socket.base64 or wants_base64(request)
        socket.start_upgrade(upgrade)
        return handshake.accept(upgrade.stream)
