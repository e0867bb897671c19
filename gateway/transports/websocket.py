"""The plain wire: one JSON object per WebSocket frame, ``/username/{name}``; see ``docs/protocol.md``, "The
plain wire".
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

import orjson
from aiohttp import web

from gateway import events
from gateway.actions import refusal
from gateway.errors import CloseReason, GatewayError, InvalidPayload, InvalidUsername, Unavailable, UnknownAction
from gateway.schemas import is_username, load_credentials
from gateway.tokens import tokens
from gateway.transports.connection import BaseConnection
from gateway.transports.inorder import InOrder
from gateway.transports.jsonio import decode, raw_member
from gateway.transports.rfc6455 import (
    VERSION,
    CloseCode,
    HandshakeError,
    Message,
    Opcode,
    UpgradeRequired,
    frame,
    text_frame,
)
from gateway.transports.stream import WebSocketStream, check_handshake, take_over

if TYPE_CHECKING:
    from gateway.actions import Actions, Reply
    from gateway.engines.base import Session
    from gateway.sessions import Sessions
    from gateway.transports.heartbeats import Heartbeats
    from gateway.transports.inorder import Answer
    from gateway.transports.origins import OriginPolicy

ECHOED: Final = frozenset({"create-room", "add-user", "add-users", "send-msg"})
"""The actions of the older server: on the bare wire their own frame is the answer."""

LEAVING_CODES: Final = frozenset({CloseCode.NORMAL, CloseCode.NO_STATUS})
"""Close codes of a client that leaves on purpose: 1000, or none at all."""

_CIDS: Final = tokens(15)

PING: Final = frame(Opcode.PING, b"")


class BareWire:
    """Events of the older server: the content of messages, nothing else. Every close is for good."""

    name = "bare"

    def encode_event(self, event: str, body: bytes, offset: str | None) -> bytes:
        return text_frame(orjson.loads(body)["content"].encode()) if event == events.MESSAGE else b""

    def encode_welcome(self, body: bytes, session: Session, offset: str) -> bytes:
        return b""

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
    """A client of the plain wire; the `Listener` of its stream."""

    __slots__ = ("_in_order", "_reason", "_resuming", "_route", "stream", "wire")

    wire: BareWire | JSONWire

    def __init__(self, route: PlainRoute, wire: BareWire | JSONWire, *, resuming: bool) -> None:
        cid = next(_CIDS)
        super().__init__(wire, cid, cid, max_buffer=route.max_buffer)
        self._route = route
        self._resuming = resuming
        self._reason: CloseReason | None = None
        self.stream = WebSocketStream(self, max_size=route.max_frame_size)
        self._in_order = InOrder(self.stream)

    @property
    def can_come_back(self) -> bool:
        """Whether the client knows the ``pid`` of its session. On the bare wire none does."""
        return self.wire is JSON and (self._resuming or self.stream.answered)

    # --- a Connection

    def release(self) -> None:
        super().release()
        if self._reason is not None:
            self.stream.close(self._reason.code, self._reason.text)

    async def finish(self) -> None:
        await self._in_order.finish()

    def close(self, reason: CloseReason) -> None:
        self.closed = True
        self._reason = reason
        self.stream.close(reason.code, reason.text)

    def _send(self, frames: bytes) -> None:
        self.stream.write(frames)
        self._outlet = self.stream

    def _unsent(self) -> int:
        return self.stream.unsent()

    def _cut(self) -> None:
        """Whoever reads on in time finds behind what was sent the reason why there is no more."""
        self.close(CloseReason.TOO_SLOW)
        self._route.end(self, CloseCode.ABNORMAL)

    # --- a Listener

    def message_received(self, message: Message) -> None:
        if not self.closed:
            self._in_order.overlap(partial(self._answer, message))

    def pong_received(self) -> None:
        self._route.heartbeats.answered(self)

    def stream_ended(self, code: int) -> None:
        self._in_order.put(partial(self._end, code))

    async def _answer(self, message: Message) -> Answer:
        answer = await self._route.answer(self, message.data)
        return partial(self.answer, frame(message.opcode, answer))

    async def _end(self, code: int) -> None:
        """The client has closed, behind its last message."""
        self._route.end(self, code)

    # --- a Heartbeat

    def ping(self) -> None:
        self.write(PING)

    def timed_out(self) -> None:
        self.stream.abort()


class PlainRoute:
    """The handler of ``/username/{name}``."""

    def __init__(
        self,
        sessions: Sessions,
        actions: Actions,
        origins: OriginPolicy,
        heartbeats: Heartbeats,
        *,
        max_frame_size: int,
        max_buffer: int,
    ) -> None:
        self.heartbeats = heartbeats
        self.max_frame_size = max_frame_size
        self.max_buffer = max_buffer
        self._sessions = sessions
        self._actions = actions
        self._origins = origins

    def add_to(self, app: web.Application, base: str = "") -> None:
        """Serve ``/username/{name}``, below ``base``."""
        app.router.add_get(f"{base}/username/{{name}}", self.handle, allow_head=False)
        app.router.add_route("*", f"{base}/username/{{rest:.*}}", _unknown_path)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        try:
            wire = self._check(request)
            accepted = _handshake(request)
            credentials = load_credentials(_credentials(request))
            connection = PlainConnection(self, wire, resuming=credentials.pid is not None)
            await self._sessions.connect(connection, credentials)
        except GatewayError as error:
            return refuse(error)
        response = take_over(request, connection.stream, accepted)
        if connection.stream.answered:
            self.heartbeats.add(connection)
            connection.release()
        return response

    def _check(self, request: web.Request) -> BareWire | JSONWire:
        if not is_username(request.match_info["name"]):
            raise InvalidUsername
        self._origins.check(request)
        wire = WIRES.get(request.query.get("format", "bare"))
        if wire is None:
            raise InvalidPayload.in_fields({"format": [f"Must be one of {', '.join(WIRES)}."]})
        return wire

    async def answer(self, connection: PlainConnection, data: bytes) -> bytes:
        """Do what a frame says; the payload of the frame that answers it."""
        try:
            value = decode(data)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            error = InvalidPayload("A frame must be one JSON object.")
            return connection.wire.answer(data, None, {}, refusal(error))
        action = value.get("action")
        try:
            ref = {"ref": orjson.Fragment(raw_member(data, "ref", value["ref"]))} if "ref" in value else {}
        except ValueError as error:
            return connection.wire.answer(data, None, {}, refusal(InvalidPayload.in_fields({"ref": [f"Is {error}."]})))
        reply = await self._actions.perform(connection, action, value)
        return connection.wire.answer(data, action, ref, reply)

    def end(self, connection: PlainConnection, code: int) -> None:
        """The client is gone; it closed with ``code``."""
        self.heartbeats.remove(connection)
        if code in LEAVING_CODES or not connection.can_come_back:
            self._sessions.end(connection)
        else:
            self._sessions.suspend(connection)


class NoUpgrade(InvalidPayload):
    http_status = 426


def _handshake(request: web.Request) -> bytes:
    try:
        return check_handshake(request)
    except UpgradeRequired as error:
        raise NoUpgrade(f"This is a WebSocket; connect with ws:// or wss:// (RFC 6455): {error}.") from None
    except HandshakeError as error:
        raise InvalidPayload(f"This is no WebSocket handshake (RFC 6455): {error}.") from None


def _credentials(request: web.Request) -> dict[str, Any]:
    query = request.query
    resume = {name: query[name] for name in ("pid", "offset") if name in query}
    return {"username": request.match_info["name"], **resume}


async def _unknown_path(request: web.Request) -> web.Response:
    return refuse(InvalidUsername())


def refuse(error: GatewayError) -> web.Response:
    """The HTTP answer that says why not: ``{"error": {code, message, fields?}}``."""
    headers = {"Retry-After": "1"} if isinstance(error, Unavailable) else {}
    if isinstance(error, NoUpgrade):
        headers |= {"Upgrade": "websocket", "Sec-WebSocket-Version": VERSION}
    return web.json_response(
        {"error": error.as_dict()},
        status=error.http_status,
        headers=headers,
        dumps=lambda value: orjson.dumps(value).decode(),
    )
