"""Engine.IO v4: long-polling and WebSocket under one session (docs/engine.io-protocol of socketio/socket.io).

`EngineServer` takes the place of ``engineio.AsyncServer`` on aiohttp: the same options, handlers and methods. A
client's packets are handled in the order they came; what is queued for it is bounded; one timer pings all.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import engineio
import orjson
from aiohttp import web
from engineio import packet
from engineio.async_drivers import aiohttp as driver

from gateway.tokens import tokens
from gateway.transports.budget import UNLIMITED
from gateway.transports.compression import compress
from gateway.transports.crossorigin import CrossOrigin
from gateway.transports.enginepackets import CLOSE, Packet, message_frame, open_frame
from gateway.transports.enginesocket import EngineSocket, Probe
from gateway.transports.heartbeats import Heartbeats
from gateway.transports.msgpack import MsgpackRefused
from gateway.transports.notices import Notice
from gateway.transports.polling import PollingResponse, read_body
from gateway.transports.rfc6455 import VERSION, CloseCode, HandshakeError, UpgradeRequired, binary_frame, text_frame
from gateway.transports.seats import Seats
from gateway.transports.stream import TakenOver, WebSocketStream, check_handshake, let_go, take_over
from gateway.transports.watch import ConnectionWatch, is_lost

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gateway.transports.budget import Budget
    from gateway.transports.inorder import InOrder
    from gateway.transports.polling import Polling

SHUTDOWN_TIMEOUT: Final = 2.0
"""Seconds that handlers have to finish when the server is shut down."""

PROTOCOL: Final = "4"
"""The version of Engine.IO that is spoken here: the parameter ``EIO``."""

UPDATE_CLIENT: Final = "socket.io-client 3 or 4, or another library for Socket.IO 3 or later, connects"

logger = logging.getLogger(__name__)

ERRORS: Final = {
    "transport": (0, "Transport unknown"),
    "session": (1, "Session ID unknown"),
    "method": (2, "Bad handshake method"),
    "request": (3, "Bad request"),
    "forbidden": (4, "Forbidden"),
    "version": (5, "Unsupported protocol version"),
    "stopping": (6, "Server is stopping"),
    "full": (7, "Server is full"),
}
"""The answers to requests that are refused, as the JavaScript server words them; it has no word for the last two."""


class EngineServer(engineio.AsyncServer):  # type: ignore[misc]
    """An ``engineio.AsyncServer`` on aiohttp."""

    def __init__(
        self,
        *,
        max_buffer: int = 1_048_576,
        seats: Seats | None = None,
        budget: Budget = UNLIMITED,
        **options: Any,
    ) -> None:
        """``max_buffer``: unsent bytes at which a client that does not read is cut (`backlog`). ``seats``, ``budget``:
        how many clients there may be, and the memory that they may take together; without them there is no limit.
        ``options``: those of the base class.
        """
        super().__init__(**{**options, "async_mode": "aiohttp"})
        self.max_buffer = max_buffer
        self.seats = seats or Seats()
        self.budget = budget
        self.too_slow: Callable[[str, int], None] = self._note_slow
        """Called with a client that is cut because it does not read, and how many bytes it has unsent."""
        self.receive: Callable[[str, Packet, InOrder], None] = self._receive
        """Called with what a client sends, as it arrives; puts into the order of the client's messages what is to be
        done with it. The client is closed where it raises ValueError.
        """
        self.connected: Callable[[str, dict[str, Any]], Awaitable[bool] | None] = self._ask_application
        """Called with a new client and its WSGI environment. Returns None where the client may stay, or what will say
        whether it may.
        """
        self.closing: Callable[[str], None] = _ignore
        """Called the moment a client's session is over; the application hears of it after the client's last message."""
        self._cross_origin = CrossOrigin(self)
        self._old_client = Notice(logger, "refused a client of another version of Engine.IO", UPDATE_CLIENT)
        self._path: str | None = None
        self._ids = tokens(15)
        self._ending: dict[str, EngineSocket] = {}
        """Sessions whose end the application has not handled yet."""
        self.heartbeats = Heartbeats(self.ping_interval, self.ping_timeout)
        self._empty: asyncio.Event | None = None
        self.accepting = True
        """Whether new clients are taken; else they hear 503."""

    # --- what applications call

    def generate_id(self) -> str:
        return next(self._ids)

    async def send(self, sid: str, data: Any) -> None:
        if not isinstance(data, str | bytes | bytearray):
            data = orjson.dumps(data).decode()
        self.write(sid, message_frame(bytes(data) if isinstance(data, bytearray) else data))

    async def send_packet(self, sid: str, pkt: packet.Packet) -> None:
        encoded = pkt.encode()
        self.write(sid, text_frame(encoded.encode()) if isinstance(encoded, str) else binary_frame(encoded))

    def write(self, sid: str, frame: bytes) -> None:
        """Send a packet, given as its WebSocket frame. A client that is too slow is cut; one that is gone hears
        nothing.
        """
        socket: EngineSocket | None = self.sockets.get(sid)
        if socket is not None:
            socket.write(frame)

    def has_seat(self, sid: str) -> bool:
        """Whether a client has one of the `Seats`, or gets one that is free by now."""
        socket: EngineSocket | None = self.sockets.get(sid)
        if socket is None:
            return False
        if not socket.seated and self.seats.take():
            self.seats.stand_no_more()
            socket.seated = True
        return socket.seated

    def _note_slow(self, sid: str, unsent: int) -> None:
        self.logger.warning("%s does not read and is cut: %d bytes are unsent", sid, unsent)

    def write_through(self, sid: str, frame: bytes) -> None:
        """Send a packet, given as its WebSocket frame, past those that are held."""
        if (socket := self.sockets.get(sid)) is not None:
            socket.write_through(frame)

    def cork(self, sid: str) -> None:
        """Hold what is written to a client until `uncork`."""
        if (socket := self.sockets.get(sid)) is not None:
            socket.cork()

    def uncork(self, sid: str) -> None:
        if (socket := self.sockets.get(sid)) is not None:
            socket.uncork()

    def fail(self, sid: str) -> None:
        """Close a client that broke the protocol."""
        if (socket := self.sockets.get(sid)) is not None:
            socket.fail()

    def refuse(self, sid: str) -> None:
        """Close a client that asked for what it may not have, behind all that was written."""
        if (socket := self.sockets.get(sid)) is not None:
            socket.close(self.reason.TRANSPORT_ERROR, code=CloseCode.PROTOCOL_ERROR)

    async def disconnect(self, sid: str | None = None) -> None:
        for socket in tuple(self.sockets.values()) if sid is None else filter(None, [self.sockets.get(sid)]):
            if socket.upgraded:
                socket.write(CLOSE)
            socket.close(self.reason.SERVER_DISCONNECT)

    async def shutdown(self) -> None:
        """Send every client away, take no new one, and let long-polling clients have what waits for them. What handlers
        are doing is cancelled after `SHUTDOWN_TIMEOUT`.

        An application that was given to `attach` does this as it shuts down.
        """
        self.accepting = False
        self.heartbeats.close()
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
        if self.sockets.pop(socket.sid, None) is not None:
            (self.seats.give_back if socket.seated else self.seats.stand_no_more)()
        if self._empty is not None and not self.sockets:
            self._empty.set()

    def ending(self, socket: EngineSocket) -> None:
        """The session is over, and the application is to hear of it: until then it finds what it kept there."""
        self._ending[socket.sid] = socket
        self.closing(socket.sid)

    def _receive(self, sid: str, data: Packet, in_order: InOrder) -> None:
        in_order.put(partial(self.handle, sid, data))

    async def handle(self, sid: str, data: Any) -> None:
        """Give a message to the application."""
        await self._trigger_event("message", sid, data, run_async=False)

    async def end(self, socket: EngineSocket, reason: str) -> None:
        """Tell the application that the session is over."""
        try:
            await self._trigger_event("disconnect", socket.sid, reason, run_async=False)
        finally:
            self._ending.pop(socket.sid, None)

    def _get_socket(self, sid: str) -> EngineSocket:
        """Raises KeyError."""
        return self._ending.get(sid) or self.sockets[sid]

    # --- requests

    def attach(self, app: web.Application, engineio_path: str = "engine.io") -> None:
        """Serve ``/{engineio_path}/``, whatever the method: Engine.IO has its own answer to wrong ones."""
        self._path = f"/{engineio_path.strip('/')}/"
        app.router.add_route("*", self._path, self.handle_request)
        app.on_shutdown.append(self._on_shutdown)

    def take_handshake(self, request: web.BaseRequest, transport: asyncio.Transport, unread: bytes) -> bool:
        """Begin a session with a WebSocket handshake that aiohttp has not seen (`upgrades.TakeHandshake`). Whatever is
        something else, or to be refused, is left to `handle_request`.
        """
        query = request.query
        if request.method != "GET" or request.path != self._path or "sid" in query:
            return False
        if not self.accepting or not self.seats.can_enter:
            return False
        if query.get("transport") != "websocket" or "websocket" not in self.transports or query.get("EIO") != PROTOCOL:
            return False
        try:
            allowed = self._cross_origin.allows(request)
            accepted = check_handshake(request)
        except ValueError:
            return False
        if allowed is not True:
            if inspect.iscoroutine(allowed):
                allowed.close()
            return False
        self._begin(request, transport, accepted, unread)
        return True

    async def handle_request(self, request: web.Request) -> web.StreamResponse:
        """Handle an HTTP request; the handler of the route that ``attach`` makes."""
        try:
            allowed = self._cross_origin.allows(request)
        except ValueError as error:
            return self._refuse(request, "request", why=error)
        if not (allowed if isinstance(allowed, bool) else await allowed):
            return self._refuse(request, "forbidden", 403)
        if request.method == "OPTIONS":
            return self._respond(request, b"")
        transport = request.query.get("transport")
        if transport is None or transport not in self.transports:
            return self._refuse(request, "transport")
        try:
            return await self._route(request, transport, request.query.get("sid"))
        except web.HTTPException as refusal:
            self._cross_origin.share(request, refusal)
            raise

    async def _route(self, request: web.Request, transport: str, sid: str | None) -> web.StreamResponse:
        if sid is None and not self.accepting:
            return self._refuse(request, "stopping", 503)
        if sid is None and not self.seats.can_enter:
            return self._refuse(request, "full", 503)
        if sid is None:
            return await self._handshake(request, transport)
        socket: EngineSocket | None = self.sockets.get(sid)
        if socket is None:
            return self._refuse(request, "session")
        if transport == "websocket":
            return self._upgrade(request, socket)
        return await (self._poll if request.method == "GET" else self._post)(request, socket)

    async def _handshake(self, request: web.Request, transport: str) -> web.StreamResponse:
        if request.method != "GET":
            return self._refuse(request, "method")
        if request.query.get("EIO") != PROTOCOL:
            return self._refuse_version(request)
        if transport == "websocket":
            try:
                accepted = check_handshake(request)
            except HandshakeError as error:
                return self._refuse(request, "request", why=error)
            connection = let_go(request)
            if connection is not None:
                self._begin(request, connection[0], accepted, connection[1])
            return TakenOver()
        socket = EngineSocket(self, self.generate_id())
        polling = socket.open_polling()
        self._greet(socket, transport)
        answer = self.connected(socket.sid, driver.translate_request(request))
        if not (answer is None or await answer):
            socket.cut()
            return self._refuse(request, "forbidden", 401)
        self.heartbeats.add(socket)
        response = self._respond(request, polling.take_payload(), polling=polling)
        if self.cookie:
            cookie = self.cookie if isinstance(self.cookie, dict) else _default_cookie(self.cookie)
            response.headers["Set-Cookie"] = self._generate_sid_cookie(socket.sid, cookie)
        return response

    def _begin(self, request: web.BaseRequest, transport: asyncio.Transport, accepted: bytes, unread: bytes) -> None:
        """Begin a session on a WebSocket. Nothing is read from it until the application has heard of the client."""
        socket = EngineSocket(self, self.generate_id())
        stream = WebSocketStream(socket, **self._stream_options())
        stream.open(transport, accepted)
        socket.open(stream)
        self._greet(socket, "websocket")
        answer = self.connected(socket.sid, driver.translate_request(request))
        if answer is None:
            self.heartbeats.add(socket)
        else:
            stream.pause()
            socket.do(partial(self._decide, socket, stream, answer))
        if unread:
            stream.data_received(unread)

    def _stream_options(self) -> dict[str, Any]:
        return {"max_size": self.max_http_buffer_size, "max_buffer": self.max_buffer, "budget": self.budget}

    async def _decide(self, socket: EngineSocket, stream: WebSocketStream, answer: Awaitable[bool]) -> None:
        if not await answer:
            socket.cut()
        elif not socket.closed:
            self.heartbeats.add(socket)
            stream.resume()

    async def _ask_application(self, sid: str, environ: dict[str, Any]) -> bool:
        accepted = await self._trigger_event("connect", sid, environ, run_async=False)
        return accepted is None or accepted is True

    def _greet(self, socket: EngineSocket, transport: str) -> None:
        self.sockets[socket.sid] = socket
        socket.seated = self.seats.take()
        if not socket.seated:
            self.seats.stand()
        socket.write(self._open_packet(socket, transport))

    def _open_packet(self, socket: EngineSocket, transport: str) -> bytes:
        upgrades = ["websocket"] if transport == "polling" and "websocket" in self.transports else []
        handshake = {
            "sid": socket.sid,
            "upgrades": upgrades if self.allow_upgrades else [],
            "pingInterval": round(self.ping_interval * 1000),
            "pingTimeout": round(self.ping_timeout * 1000),
            "maxPayload": self.max_http_buffer_size,
        }
        return open_frame(orjson.dumps(handshake))

    def _upgrade(self, request: web.Request, socket: EngineSocket) -> web.StreamResponse:
        try:
            accepted = check_handshake(request)
        except HandshakeError as error:
            return self._refuse(request, "request", why=error)
        probe = Probe(socket, **self._stream_options())
        if not socket.can_upgrade:
            response = take_over(request, probe.stream, accepted)
            probe.stream.fail(CloseCode.PROTOCOL_ERROR, "the session is not to be upgraded")
            return response
        socket.start_upgrade(probe.stream)
        return take_over(request, probe.stream, accepted)

    async def _poll(self, request: web.Request, socket: EngineSocket) -> web.Response:
        if socket.closed:
            return self._respond(request, socket.take_rest())
        polling = socket.polling
        try:
            payload = await socket.poll(request)
        except ValueError:
            return self._refuse(request, "request")
        return self._respond(request, payload, polling=polling)

    async def _post(self, request: web.Request, socket: EngineSocket) -> web.Response:
        polling = socket.polling
        if request.method != "POST" or polling is None or polling.posting or socket.closed:
            if not socket.upgraded:
                socket.close(self.reason.TRANSPORT_ERROR)
            return self._refuse(request, "request")
        polling.body_begins(request.transport)
        try:
            body = await read_body(request, polling, self.max_http_buffer_size)
            with ConnectionWatch(request, partial(socket.request_lost, poll=False)):
                await socket.take_body(polling, body)
        except ConnectionError:
            socket.request_lost(poll=False)
            return self._refuse(request, "request")
        except (ValueError, web.RequestPayloadError) as error:
            socket.close(self.reason.TRANSPORT_ERROR)
            return self._refuse(request, "request", why=error if isinstance(error, MsgpackRefused) else "")
        except (web.HTTPException, asyncio.CancelledError):
            socket.close(self.reason.TRANSPORT_CLOSE if is_lost(request) else self.reason.TRANSPORT_ERROR)
            raise
        finally:
            polling.body_ended()
        return self._respond(request, b"ok", polling=polling, poll=False)

    def _respond(
        self,
        request: web.Request,
        body: bytes,
        status: int = 200,
        kind: str = "text/plain",
        *,
        polling: Polling | None = None,
        poll: bool = True,
    ) -> web.Response:
        """``polling``: that of the client, which is to know whether it gets the response."""
        options: dict[str, Any] = {"body": body, "status": status, "content_type": kind, "charset": "utf-8"}
        response = web.Response(**options) if polling is None else PollingResponse(polling, poll=poll, **options)
        if status != 403:
            self._cross_origin.share(request, response)
        if self.http_compression and len(body) >= self.compression_threshold:
            compress(request, response)
        return response

    def _refuse(self, request: web.Request, error: str, status: int = 400, *, why: object = "") -> web.Response:
        """``why``: what the word for it does not say."""
        code, message = ERRORS[error]
        sentence = f"{message}: {why}" if why else message
        body = orjson.dumps({"code": code, "message": sentence})
        response = self._respond(request, body, status, "application/json")
        if isinstance(why, UpgradeRequired):
            response.headers["Sec-WebSocket-Version"] = VERSION
        return response

    def _refuse_version(self, request: web.Request) -> web.Response:
        """Refuse a client of another version of Engine.IO, so that the operator hears of it as well."""
        version = request.query.get("EIO")
        said = "no EIO in the URL" if version is None else f"EIO={_printable(version[:10])}"
        self._old_client.give(client=said, user_agent=_printable(request.headers.get("User-Agent", "")[:100]))
        why = f"{said}, but this server speaks EIO={PROTOCOL}, as socket.io-client does from 3.0 on"
        return self._refuse(request, "version", why=why)


def _printable(text: str) -> str:
    """What a client has written, for replies and for the log: with an escape for all that is not ASCII."""
    return ascii(text)[1:-1]


def _default_cookie(name: str) -> dict[str, Any]:
    return {"name": name, "path": "/", "SameSite": "Lax"}


def _ignore(sid: str) -> None:
    """Nobody wants to know."""
