"""The plain wire: one JSON object per WebSocket frame, ``/username/{name}``; see ``docs/protocol.md``, "The
plain wire".
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any, Final

import orjson
from aiohttp import WSMsgType, web

from gateway import events
from gateway.actions import refusal
from gateway.errors import CloseReason, GatewayError, InvalidPayload, InvalidUsername, Unavailable, UnknownAction
from gateway.schemas import is_username, load_credentials
from gateway.transports.connection import BaseConnection
from gateway.transports.jsonio import decode, echo

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.actions import Actions, Reply
    from gateway.engines.base import Session
    from gateway.sessions import Sessions
    from gateway.transports.origins import OriginPolicy

ECHOED: Final = frozenset({"create-room", "add-user", "add-users", "send-msg"})
"""The actions of the older server: on the bare wire their own frame is the answer."""

LEAVING_CODES: Final = frozenset({1000, 1005, 0, None})
"""Close codes of a client that leaves on purpose: 1000, or none at all (RFC 6455, section 7.1.5; aiohttp says 0)."""


LINGER: Final = 5.0
"""Seconds that a client which was too slow has to read what was sent before."""


def text_frame(payload: bytes) -> bytes:
    """An unmasked, unfragmented text frame (RFC 6455, section 5.2)."""
    return _frame(0x81, payload)


def binary_frame(payload: bytes) -> bytes:
    """An unmasked, unfragmented binary frame (RFC 6455, section 5.2)."""
    return _frame(0x82, payload)


def close_frame(reason: CloseReason) -> bytes:
    """A close frame (RFC 6455, section 5.5.1)."""
    return _frame(0x88, reason.code.to_bytes(2, "big") + reason.text.encode())


def _frame(first_byte: int, payload: bytes) -> bytes:
    length = len(payload)
    if length < 126:
        return bytes((first_byte, length)) + payload
    if length < 65536:
        return bytes((first_byte, 126)) + length.to_bytes(2, "big") + payload
    return bytes((first_byte, 127)) + length.to_bytes(8, "big") + payload


class BareWire:
    """Events of the older server: the content of messages, nothing else. Every close is for good."""

    name = "bare"

    def encode_event(self, event: str, body: bytes, offset: str | None) -> bytes | None:
        return text_frame(orjson.loads(body)["content"].encode()) if event == events.MESSAGE else None

    def encode_welcome(self, body: bytes, session: Session, offset: str) -> None:
        return None

    def answer(self, data: bytes, action: object, ref: Reply, reply: Reply) -> bytes:
        """The answer to the frame ``data``: itself, an error, or a reply frame."""
        if not isinstance(action, str) or (not reply["ok"] and reply["error"]["code"] == UnknownAction.code):
            return orjson.dumps({"error": reply["error"]})
        if action not in ECHOED:
            return _reply_frame(ref, reply)
        return data if reply["ok"] else orjson.dumps({"error": reply["error"]})


class JSONWire:
    """Every event an object with its name and its offset."""

    name = "json"

    def encode_event(self, event: str, body: bytes, offset: str | None) -> bytes:
        head = {"event": event} if offset is None else {"event": event, "offset": offset}
        fields = b"," + body[1:] if len(body) > 2 else b"}"
        return text_frame(orjson.dumps(head)[:-1] + fields)

    def encode_welcome(self, body: bytes, session: Session, offset: str) -> bytes:
        secret = events.with_field(events.with_field(body, "sid", session.sid), "pid", session.pid)
        return self.encode_event(events.WELCOME, secret, offset)

    def answer(self, data: bytes, action: object, ref: Reply, reply: Reply) -> bytes:
        """The reply frame."""
        return _reply_frame(ref, reply)


def _reply_frame(ref: Reply, reply: Reply) -> bytes:
    return orjson.dumps({"event": "reply", **ref, **reply})


BARE = BareWire()
JSON = JSONWire()
WIRES: Final[dict[str, BareWire | JSONWire]] = {"bare": BARE, "json": JSON}


class PlainConnection(BaseConnection):
    """A client of the plain wire. Frames go straight to the transport: compression is off, so they are the same
    for all members.
    """

    __slots__ = ("_closing", "_on_cut", "_reason", "_transport", "_ws", "wire")

    wire: BareWire | JSONWire

    def __init__(
        self,
        wire: BareWire | JSONWire,
        ws: web.WebSocketResponse,
        on_cut: Callable[[PlainConnection], None],
        *,
        max_buffer: int,
    ) -> None:
        cid = secrets.token_urlsafe(15)
        super().__init__(wire, cid, cid, max_buffer=max_buffer)
        self._ws = ws
        self._on_cut = on_cut
        self._transport: asyncio.Transport | None = None
        self._closing: asyncio.Task[bool] | None = None
        self._reason: CloseReason | None = None

    def open(self, transport: asyncio.Transport | None) -> None:
        """The upgrade is answered."""
        self._transport = transport
        self.release()
        if self._reason is not None:
            self.close(self._reason)

    def close(self, reason: CloseReason) -> None:
        self.closed = True
        self._reason = reason
        if self._closing is None and self._ws.prepared:
            self._closing = asyncio.create_task(self._ws.close(code=reason.code, message=reason.text.encode()))

    async def closing(self) -> None:
        """Wait until a close of ours is done."""
        if self._closing is not None:
            await asyncio.wait([self._closing])

    def _send(self, frame: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame)

    @staticmethod
    def _size(frame: bytes) -> int:
        return len(frame)

    def _unsent(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def _cut(self) -> None:
        """Whoever reads on within `LINGER` finds behind what was sent the reason why there is no more."""
        self._reason = CloseReason.TOO_SLOW
        transport = self._transport
        if transport is not None and not transport.is_closing():
            transport.write(close_frame(CloseReason.TOO_SLOW))
            transport.close()
            asyncio.get_running_loop().call_later(LINGER, transport.abort)
        self._on_cut(self)


class PlainRoute:
    """The handler of ``/username/{name}``."""

    def __init__(
        self,
        sessions: Sessions,
        actions: Actions,
        origins: OriginPolicy,
        *,
        max_frame_size: int,
        max_buffer: int,
        ping_interval: float,
    ) -> None:
        self._sessions = sessions
        self._actions = actions
        self._origins = origins
        self._max_frame_size = max_frame_size
        self._max_buffer = max_buffer
        self._ping_interval = ping_interval

    def add_to(self, app: web.Application) -> None:
        app.router.add_get("/username/{name}", self.handle)
        app.router.add_route("*", "/username/{rest:.*}", _unknown_path)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        ws = web.WebSocketResponse(
            compress=False,
            max_msg_size=self._max_frame_size + 1,  # aiohttp refuses what reaches it
            heartbeat=self._ping_interval,
            timeout=5.0,
        )
        try:
            wire = self._check(request, ws)
            connection = PlainConnection(wire, ws, self._lose, max_buffer=self._max_buffer)
            await self._sessions.connect(connection, load_credentials(_credentials(request)))
        except GatewayError as error:
            return refuse(error)
        leaving = False
        try:
            await ws.prepare(request)
            connection.open(request.transport)
            leaving = await self._converse(connection, ws)
        finally:
            if leaving:
                self._sessions.end(connection)
            else:
                self._lose(connection)
            await connection.closing()
        return ws

    def _lose(self, connection: PlainConnection) -> None:
        """The transport is gone, or is given up. On the bare wire nobody could come back."""
        if connection.wire is BARE:
            self._sessions.end(connection)
        else:
            self._sessions.suspend(connection)

    def _check(self, request: web.Request, ws: web.WebSocketResponse) -> BareWire | JSONWire:
        if not is_username(request.match_info["name"]):
            raise InvalidUsername
        self._origins.check(request.headers.get("Origin"), request.host)
        wire = WIRES.get(request.query.get("format", "bare"))
        if wire is None:
            raise InvalidPayload.in_fields({"format": [f"Must be one of {', '.join(WIRES)}."]})
        if not ws.can_prepare(request).ok:
            raise UpgradeRequired("This is a WebSocket: connect with ws:// or wss:// (RFC 6455, version 13).")
        return wire

    async def _converse(self, connection: PlainConnection, ws: web.WebSocketResponse) -> bool:
        """Answer frames, in order, until the socket closes; whether the client left on purpose."""
        while True:
            message = await ws.receive()
            if message.type is WSMsgType.TEXT:
                answer = await self._answer(connection, message.data.encode())
                connection.write(text_frame(answer))
            elif message.type is WSMsgType.BINARY:
                answer = await self._answer(connection, message.data)
                connection.write(binary_frame(answer))
            else:
                return message.type is WSMsgType.CLOSE and ws.close_code in LEAVING_CODES

    async def _answer(self, connection: PlainConnection, data: bytes) -> bytes:
        try:
            frame = decode(data)
        except ValueError:
            frame = None
        if not isinstance(frame, dict):
            error = InvalidPayload("A frame must be one JSON object.")
            return connection.wire.answer(data, None, {}, refusal(error))
        action = frame.get("action")
        ref = {"ref": echo(frame["ref"])} if "ref" in frame else {}
        reply = await self._actions.perform(connection, action, frame)
        return connection.wire.answer(data, action, ref, reply)


class UpgradeRequired(InvalidPayload):
    http_status = 426


def _credentials(request: web.Request) -> dict[str, Any]:
    query = request.query
    resume = {name: query[name] for name in ("pid", "offset") if name in query}
    return {"username": request.match_info["name"], **resume}


async def _unknown_path(request: web.Request) -> web.Response:
    return refuse(InvalidUsername())


def refuse(error: GatewayError) -> web.Response:
    """The HTTP answer that says why not: ``{"error": {code, message, fields?}}``."""
    headers = {"Retry-After": "1"} if isinstance(error, Unavailable) else {}
    if isinstance(error, UpgradeRequired):
        headers["Upgrade"] = "websocket"
    return web.json_response(
        {"error": error.as_dict()},
        status=error.http_status,
        headers=headers,
        dumps=lambda value: orjson.dumps(value).decode(),
    )
