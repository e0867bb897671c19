"""Engine.IO v4: long-polling and WebSocket under one session (docs/engine.io-protocol of socketio/socket.io).

`EngineServer` takes the place of ``engineio.AsyncServer`` on aiohttp: the same options, handlers and methods. A
client's packets are handled in the order they came; what is queued for it is bounded; one timer pings all.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import inspect
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import engineio
import orjson
from aiohttp import web
from engineio import packet
from engineio.async_drivers import aiohttp as driver

from gateway.errors import TooLarge
from gateway.transports.rfc6455 import (
    CloseCode,
    Message,
    Opcode,
    binary_frame,
    payload_of,
    text_frame,
)
from gateway.transports.stream import Heartbeats, InOrder, WebSocketStream, check_handshake, take_over

if TYPE_CHECKING:
    from collections.abc import Callable

    Packet = str | bytes

LINGER: Final = 2.0
"""Seconds for which a session that the server has ended can be polled for what was written to it."""

BODY_TIMEOUT: Final = 10.0
"""Seconds that a long-polling body may take."""

UPGRADE_TIMEOUT: Final = 10.0
"""Seconds from the WebSocket of an upgrade to its UPGRADE packet (as the JavaScript server)."""

SEPARATOR: Final = b"\x1e"

OPEN_TYPE, MESSAGE_TYPE = b"0", b"4"
PING, NOOP, CLOSE = text_frame(b"2"), text_frame(b"6"), text_frame(b"1")
PONG_PROBE: Final = text_frame(b"3probe")

ERRORS: Final = {
    "transport": (0, "Transport unknown"),
    "session": (1, "Session ID unknown"),
    "method": (2, "Bad handshake method"),
    "request": (3, "Bad request"),
    "forbidden": (4, "Forbidden"),
    "version": (5, "Unsupported protocol version"),
}
"""The answers to requests that are refused, as the JavaScript server words them."""


def message_frame(data: Packet) -> bytes:
    """The MESSAGE packet with ``data``, as the WebSocket frame that carries it."""
    return text_frame(MESSAGE_TYPE + data.encode()) if isinstance(data, str) else binary_frame(data)


class EngineSocket:
    """A client's session, on whichever transport it is now. `Listener` of its stream, and a `Heartbeat`."""

    __slots__ = (
        "_buffer",
        "_buffered",
        "_corked",
        "_in_order",
        "_poll",
        "_probe",
        "_server",
        "_stream",
        "closed",
        "posting",
        "session",
        "sid",
    )

    def __init__(self, server: EngineServer, sid: str) -> None:
        self.sid = sid
        self.session: dict[str, Any] = {}
        """What the application keeps for the client (``eio.session(sid)``)."""
        self.closed = False
        self.posting = False
        """Whether a long-polling body is being handled."""
        self._server = server
        self._stream: WebSocketStream | None = None
        self._buffer: list[bytes] | None = None
        self._buffered = 0
        self._corked: list[bytes] | None = None
        self._poll: asyncio.Future[None] | None = None
        self._probe: WebSocketStream | None = None
        self._in_order = InOrder(self._handle, self)

    @property
    def upgraded(self) -> bool:
        """Whether the client is on a WebSocket."""
        return self._stream is not None

    # --- out

    @property
    def unsent(self) -> int:
        """Bytes that were written and have not left this process."""
        corked = 0 if self._corked is None else sum(map(len, self._corked))
        return corked + (self._buffered if self._stream is None else self._stream.unsent)

    def write(self, frame: bytes) -> None:
        """Send a packet, given as its WebSocket frame. One for a client that is gone is dropped."""
        if self._corked is None:
            self.write_through(frame)
        else:
            self._corked.append(frame)

    def cork(self) -> None:
        """Hold what is written until `uncork`."""
        self._corked = []

    def uncork(self) -> None:
        held, self._corked = self._corked or [], None
        for frame in held:
            self.write_through(frame)

    def write_through(self, frame: bytes) -> None:
        """Send a packet past those that are held."""
        if self.closed:
            return
        if self._stream is not None:
            self._stream.write(frame)
            return
        if self._buffer is None:
            self._buffer = []
        self._buffer.append(frame)
        self._buffered += len(frame)
        self._answer_poll()

    def _answer_poll(self) -> None:
        if self._poll is not None and not self._poll.done():
            self._poll.set_result(None)

    def take_payload(self) -> bytes:
        """All that waits for the next poll; NOOP where nothing does."""
        frames, self._buffer, self._buffered = self._buffer or [NOOP], None, 0
        return SEPARATOR.join(map(_polling_packet, frames))

    async def poll(self) -> bytes:
        """The payload that answers a poll.

        Raises:
            ValueError: the client is on a WebSocket, or there is a poll already; the session is closed for it.
        """
        if self.upgraded:
            raise ValueError("not on long-polling any more")
        if self._poll is not None:
            # The poll before is answered with CLOSE.
            self._buffer = [CLOSE]
            self.close(self._server.reason.TRANSPORT_ERROR)
            raise ValueError("duplicate poll")
        if self._buffer is None and self._probe is None:
            self._poll = asyncio.get_running_loop().create_future()
            try:
                await self._poll
            finally:
                self._poll = None
        return self.take_payload()

    def close(self, reason: str, *, code: int = CloseCode.NORMAL, text: str = "") -> None:
        """End the session. What was written goes out before; the application hears of it behind the last message."""
        if self.closed:
            return
        self._end(reason)
        for stream in filter(None, (self._stream, self._probe)):
            stream.close(code, text)

    def _end(self, reason: str) -> None:
        """Nothing more is taken from the client or written to it."""
        self.closed = True
        if self._stream is None and self._poll is None and self._buffer is not None:
            asyncio.get_running_loop().call_later(LINGER, self._server.forget, self)
        else:
            self._server.forget(self)
        self._server.ending(self)
        self._server.heartbeats.remove(self)
        self._answer_poll()
        self._in_order.put(_Closed(reason))

    def fail(self) -> None:
        """End the session of a client that broke the protocol."""
        self._buffer, self._buffered = None, 0
        if not self.closed:
            self._end(self._server.reason.TRANSPORT_ERROR)
        for stream in filter(None, (self._stream, self._probe)):
            stream.fail(CloseCode.PROTOCOL_ERROR)

    def cut(self) -> None:
        """End the session and drop what is unsent."""
        if self._stream is not None:
            self._stream.abort()
        self._buffer, self._buffered = None, 0
        self.close(self._server.reason.TRANSPORT_ERROR)

    # --- in

    def open(self, stream: WebSocketStream) -> None:
        """The session is on a WebSocket from the start."""
        self._stream = stream

    def packet_received(self, data: Packet) -> None:
        """A packet from the client, on either transport. What comes behind the end of the session counts for nothing.

        Raises:
            ValueError: it is none.
        """
        if self.closed:
            return
        if isinstance(data, bytes):
            self._receive(data)
            return
        kind = data[:1]
        if kind == "4":
            self._receive(data[1:])
        elif kind == "3":
            self._server.heartbeats.answered(self)
        elif kind == "1":
            self.close(self._server.reason.CLIENT_DISCONNECT)
        elif kind not in {"0", "2", "5", "6"}:
            raise ValueError("not an Engine.IO packet")

    def _receive(self, data: Packet) -> None:
        item = self._server.receive(self.sid, data)
        if item is not None:
            self._in_order.put(item)

    def message_received(self, message: Message) -> None:
        try:
            self.packet_received(message.data.decode() if message.opcode == Opcode.TEXT else message.data)
        except ValueError:
            self.fail()

    def pong_received(self) -> None:
        """A WebSocket pong; Engine.IO has its own."""

    def stream_ended(self, code: int) -> None:
        self.close(self._server.reason.TRANSPORT_CLOSE)

    async def finished(self) -> None:
        """Wait until all that was received is handled."""
        await self._in_order.idle()

    async def _handle(self, item: Any) -> None:
        if isinstance(item, _Closed):
            await self._server.end(self, item.reason)
        else:
            await self._server._trigger_event("message", self.sid, item, run_async=False)

    def pause(self) -> None:
        """Read no more from the client for now: too much of it waits."""
        if self._stream is not None:
            self._stream.pause()

    def resume(self) -> None:
        if self._stream is not None:
            self._stream.resume()

    # --- upgrade

    @property
    def can_upgrade(self) -> bool:
        return not self.closed and self._stream is None and self._probe is None

    def start_upgrade(self, stream: WebSocketStream) -> None:
        self._probe = stream
        asyncio.get_running_loop().call_later(UPGRADE_TIMEOUT, self._give_up, stream)

    def probed(self) -> None:
        """The client's WebSocket works: end its poll, so that it can let go of long-polling."""
        self._answer_poll()

    def finish_upgrade(self, stream: WebSocketStream) -> None:
        """The client is on ``stream`` from here on; what still waited for a poll goes there."""
        self._probe, self._stream = None, stream
        self._answer_poll()
        frames, self._buffer, self._buffered = self._buffer or [], None, 0
        for frame in frames:
            stream.write(frame)

    def _give_up(self, stream: WebSocketStream) -> None:
        if self._probe is stream:
            self.end_upgrade()
            stream.close(CloseCode.PROTOCOL_ERROR)

    def end_upgrade(self) -> None:
        """The upgrade failed; the client goes on with long-polling."""
        self._probe = None

    # --- heartbeat

    def ping(self) -> None:
        self.write_through(PING)

    def timed_out(self) -> None:
        self._buffer, self._buffered = None, 0
        self.close(self._server.reason.PING_TIMEOUT)


class _Closed:
    """In the queue of a client's packets: here it went."""

    __slots__ = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason


class Probe:
    """Listens to the WebSocket of an upgrade until the client moves to it."""

    __slots__ = ("_probed", "_socket", "stream")

    def __init__(self, socket: EngineSocket, max_size: int) -> None:
        self.stream = WebSocketStream(self, max_size=max_size)
        self._socket = socket
        self._probed = False

    def message_received(self, message: Message) -> None:
        if message == (Opcode.TEXT, b"2probe") and not self._probed:
            self._probed = True
            self.stream.write(PONG_PROBE)
            self._socket.probed()
        elif message == (Opcode.TEXT, b"5") and self._probed:
            self.stream.listen(self._socket)
            self._socket.finish_upgrade(self.stream)
        else:
            self._socket.end_upgrade()
            self.stream.close(CloseCode.PROTOCOL_ERROR)

    def pong_received(self) -> None:
        pass

    def stream_ended(self, code: int) -> None:
        self._socket.end_upgrade()


class EngineServer(engineio.AsyncServer):  # type: ignore[misc]
    """An ``engineio.AsyncServer`` on aiohttp."""

    def __init__(self, *, max_buffer: int = 1_048_576, **options: Any) -> None:
        """``max_buffer``: unsent bytes at which a client is too slow and is cut. ``options``: those of the base
        class.
        """
        super().__init__(**{**options, "async_mode": "aiohttp"})
        self.max_buffer = max_buffer
        self.receive: Callable[[str, Packet], Any] = lambda sid, data: data
        """Called with what a client sends, as it arrives: what the ``message`` handler is given when its turn comes;
        nothing where it returns None. The client is closed where it raises ValueError.
        """
        self._ending: dict[str, EngineSocket] = {}
        """Sessions whose end the application has not handled yet."""
        self.heartbeats = Heartbeats(self.ping_interval, self.ping_timeout)

    # --- what applications call

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
            if socket.unsent > self.max_buffer:
                socket.cut()

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

    async def disconnect(self, sid: str | None = None) -> None:
        for socket in tuple(self.sockets.values()) if sid is None else filter(None, [self.sockets.get(sid)]):
            socket.write(CLOSE)
            socket.close(self.reason.SERVER_DISCONNECT)

    async def shutdown(self) -> None:
        self.heartbeats.close()

    def forget(self, socket: EngineSocket) -> None:
        """The session is over: no request finds it any more."""
        self.sockets.pop(socket.sid, None)

    def ending(self, socket: EngineSocket) -> None:
        """The session is over, and the application is to hear of it: until then it finds what it kept there."""
        self._ending[socket.sid] = socket

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
        app.router.add_route("*", f"/{engineio_path.strip('/')}/", self.handle_request)

    async def handle_request(self, request: web.Request) -> web.StreamResponse:
        """Handle an HTTP request; the handler of the route that ``attach`` makes."""
        if not await self._is_allowed(request):
            return self._refuse(request, "forbidden", 403)
        if request.method == "OPTIONS":
            return self._respond(request, b"")
        transport = request.query.get("transport")
        if transport is None or transport not in self.transports:
            return self._refuse(request, "transport")
        return await self._route(request, transport, request.query.get("sid"))

    async def _route(self, request: web.Request, transport: str, sid: str | None) -> web.StreamResponse:
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
        if request.query.get("EIO") != "4":
            return self._refuse(request, "version")
        socket = EngineSocket(self, self.generate_id())
        if transport == "websocket":
            try:
                key = check_handshake(request)
            except ValueError:
                return self._refuse(request, "request")
            stream = WebSocketStream(socket, max_size=self.max_http_buffer_size)
            stream.pause()  # until the application has heard of the client
            response: web.StreamResponse = take_over(request, stream, key)
            socket.open(stream)
        self.sockets[socket.sid] = socket
        socket.write(self._open_packet(socket, transport))
        accepted = await self._trigger_event("connect", socket.sid, driver.translate_request(request), run_async=False)
        if accepted is not None and accepted is not True:
            socket.cut()
            return response if transport == "websocket" else self._refuse(request, "forbidden", 401)
        self.heartbeats.add(socket)
        if transport == "websocket":
            stream.resume()
            return response
        response = self._respond(request, socket.take_payload())
        if self.cookie:
            cookie = self.cookie if isinstance(self.cookie, dict) else _default_cookie(self.cookie)
            response.headers["Set-Cookie"] = self._generate_sid_cookie(socket.sid, cookie)
        return response

    def _open_packet(self, socket: EngineSocket, transport: str) -> bytes:
        upgrades = ["websocket"] if transport == "polling" and "websocket" in self.transports else []
        handshake = {
            "sid": socket.sid,
            "upgrades": upgrades if self.allow_upgrades else [],
            "pingInterval": round(self.ping_interval * 1000),
            "pingTimeout": round(self.ping_timeout * 1000),
            "maxPayload": self.max_http_buffer_size,
        }
        return text_frame(OPEN_TYPE + orjson.dumps(handshake))

    def _upgrade(self, request: web.Request, socket: EngineSocket) -> web.StreamResponse:
        try:
            key = check_handshake(request)
        except ValueError:
            return self._refuse(request, "request")
        probe = Probe(socket, self.max_http_buffer_size)
        response = take_over(request, probe.stream, key)
        if socket.can_upgrade:
            socket.start_upgrade(probe.stream)
        else:
            probe.stream.fail(CloseCode.PROTOCOL_ERROR, "the session is not to be upgraded")
        return response

    async def _poll(self, request: web.Request, socket: EngineSocket) -> web.Response:
        if socket.closed:
            self.forget(socket)
            return self._respond(request, socket.take_payload())
        try:
            payload = await socket.poll()
        except ValueError:
            return self._refuse(request, "request")
        if request.transport is None or request.transport.is_closing():
            # The client gave up this poll, and what it answers is lost on the way: so is the transport.
            socket.close(self.reason.TRANSPORT_CLOSE)
        return self._respond(request, payload)

    async def _post(self, request: web.Request, socket: EngineSocket) -> web.Response:
        if request.method != "POST" or socket.upgraded or socket.posting or socket.closed:
            if not socket.upgraded:
                socket.close(self.reason.TRANSPORT_ERROR)
            return self._refuse(request, "request")
        socket.posting = True
        try:
            body = await self._read_body(request)
            for data in decode_payload(body):
                socket.packet_received(data)
            await socket.finished()
        except (ValueError, web.RequestPayloadError):
            socket.close(self.reason.TRANSPORT_ERROR)
            return self._refuse(request, "request")
        except web.HTTPException:
            socket.close(self.reason.TRANSPORT_ERROR)
            raise
        finally:
            socket.posting = False
        return self._respond(request, b"ok")

    async def _read_body(self, request: web.Request) -> bytes:
        """The whole body, however many segments it comes in."""
        limit = self.max_http_buffer_size
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_TIMEOUT):
                async for chunk in request.content.iter_any():
                    body += chunk
                    if len(body) > limit:
                        answer = orjson.dumps({"error": TooLarge(limit).as_dict()}).decode()
                        raise web.HTTPRequestEntityTooLarge(
                            limit, len(body), text=answer, content_type="application/json"
                        )
        except TimeoutError:
            raise web.HTTPRequestTimeout from None
        return bytes(body)

    async def _is_allowed(self, request: web.Request) -> bool:
        """Whether the page that asks may: ``cors_allowed_origins``, by default those of the same host."""
        origin, allowed = request.headers.get("Origin"), self.cors_allowed_origins
        if origin is None or allowed in ([], "*"):
            return True
        if allowed is None:
            return urlsplit(origin).netloc == request.host
        if callable(allowed):
            answer = allowed(
                *([origin, driver.translate_request(request)][: len(inspect.signature(allowed).parameters)])
            )
            return bool(await answer if inspect.isawaitable(answer) else answer)
        return "*" in allowed or origin in ([allowed] if isinstance(allowed, str) else allowed)

    def _respond(self, request: web.Request, body: bytes, status: int = 200, kind: str = "text/plain") -> web.Response:
        response = web.Response(body=body, status=status, content_type=kind, charset="utf-8")
        origin = request.headers.get("Origin")
        if origin is not None and self.cors_allowed_origins != [] and status != 403:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Vary"] = "Origin"
            if self.cors_credentials:
                response.headers["Access-Control-Allow-Credentials"] = "true"
            if request.method == "OPTIONS":
                response.headers["Access-Control-Allow-Methods"] = "OPTIONS, GET, POST"
                wanted = request.headers.get("Access-Control-Request-Headers")
                if wanted is not None:
                    response.headers["Access-Control-Allow-Headers"] = wanted
        if self.http_compression and len(body) >= self.compression_threshold:
            response.enable_compression()
        return response

    def _refuse(self, request: web.Request, error: str, status: int = 400) -> web.Response:
        code, message = ERRORS[error]
        return self._respond(request, orjson.dumps({"code": code, "message": message}), status, "application/json")


def decode_payload(body: bytes) -> list[Packet]:
    """The packets in a long-polling body.

    Raises:
        ValueError: it is none.
    """
    return [_decode_packet(part) for part in body.split(SEPARATOR)]


def _decode_packet(part: bytes) -> Packet:
    if part[:1] == b"b":
        try:
            return base64.b64decode(part[1:], validate=True)
        except binascii.Error as error:
            raise ValueError("not base64") from error
    return part.decode()


def _polling_packet(frame: bytes) -> bytes:
    """A packet, given as its WebSocket frame, as it stands in a long-polling payload."""
    payload = payload_of(frame)
    return payload if frame[0] & 0x0F == Opcode.TEXT else b"b" + base64.b64encode(payload)


def _default_cookie(name: str) -> dict[str, Any]:
    return {"name": name, "path": "/", "SameSite": "Lax"}
