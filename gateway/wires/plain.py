"""The plain wire: one JSON object per WebSocket frame, ``/username/{name}``; see ``docs/protocol.md``, "The
plain wire".
"""

from __future__ import annotations

import asyncio
import math
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson
from aiohttp import web

from gateway import events
from gateway.errors import (
    CloseReason,
    GatewayError,
    InvalidPayload,
    InvalidUsername,
    LimitReached,
    Unavailable,
    UnknownAction,
)
from gateway.payloads import load_credentials
from gateway.pipeline import refusal
from gateway.protocol.fields import is_username
from gateway.servers.http.watch import ConnectionWatch
from gateway.servers.inorder import InOrder
from gateway.servers.jsonio import decode, raw_member
from gateway.servers.websocket.rfc6455 import (
    VERSION,
    CloseCode,
    HandshakeError,
    Message,
    Opcode,
    UpgradeRequired,
    frame,
    text_frame,
)
from gateway.servers.websocket.stream import WebSocketStream, check_handshake, take_over
from gateway.tokens import tokens
from gateway.wires.connection import BaseConnection, note_slow

if TYPE_CHECKING:
    from gateway.access.origins import OriginPolicy
    from gateway.pipeline import Pipeline, Reply
    from gateway.protocol.login import Credentials
    from gateway.servers.budget import Budget
    from gateway.servers.heartbeats import Heartbeats
    from gateway.servers.inorder import Answer
    from gateway.servers.seats import Seats
    from gateway.sessions import Sessions

ECHOED: Final = frozenset({"create-room", "add-user", "add-users", "send-msg"})
"""The actions of the older server: on the bare wire their own frame is the answer."""

LEAVING_CODES: Final = frozenset({CloseCode.NORMAL, CloseCode.NO_STATUS})
"""Close codes of a client that leaves on purpose: 1000, or none at all."""

RESUME: Final = "resume"
"""The action of the first frame with which a client logs in, so that no secret stands in its URL."""

LOG_IN_TIMEOUT: Final = 5.0
"""Seconds that such a client has until that frame."""

_CIDS: Final = tokens(15)

PING: Final = frame(Opcode.PING, b"")


class BareWire:
    """Events of the older server: the content of messages, nothing else. Every close is for good."""

    name = "bare"
    resumable = False

    def encode_event(self, event: str, body: bytes, offset: str | None) -> bytes:
        return text_frame(orjson.loads(body)["content"].encode()) if event == events.MESSAGE else b""

    def encode_welcome(self, body: bytes, offset: str) -> bytes:
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
    resumable = True

    def encode_event(self, event: str, body: bytes, offset: str | None) -> bytes:
        head = {"event": event} if offset is None else {"event": event, "offset": offset}
        fields = b"," + body[1:] if len(body) > 2 else b"}"
        return text_frame(orjson.dumps(head)[:-1] + fields)

    def encode_welcome(self, body: bytes, offset: str) -> bytes:
        return self.encode_event(events.WELCOME, body, offset)

    def answer(self, data: bytes, action: object, ref: Reply, reply: Reply) -> bytes:
        """The reply frame."""
        return _reply_frame(ref, reply)


def _reply_frame(ref: Reply, reply: Reply) -> bytes:
    return orjson.dumps({"event": "reply", **ref, **reply})


BARE = BareWire()
JSON = JSONWire()
WIRES: Final[dict[str, BareWire | JSONWire]] = {"bare": BARE, "json": JSON}


class AwaitedLogIn(NamedTuple):
    """A connection whose first frame is to say which session it goes on with."""

    username: str
    timer: asyncio.TimerHandle


class PlainConnection(BaseConnection):
    """A client of the plain wire; the `Listener` of its stream."""

    __slots__ = ("_awaited", "_in_order", "_reason", "_route", "may_know_pid", "stream", "wire")

    wire: BareWire | JSONWire

    def __init__(self, route: PlainRoute, wire: BareWire | JSONWire) -> None:
        cid = next(_CIDS)
        super().__init__(wire, cid, cid)
        self._route = route
        self.may_know_pid = False
        """Whether the client has named its session, or said anything since it was told of it."""
        self._reason: CloseReason | None = None
        self._awaited: AwaitedLogIn | None = None
        self.stream = WebSocketStream(
            self, max_size=route.max_frame_size, max_buffer=route.max_buffer, budget=route.budget
        )
        self._in_order = InOrder(self.stream)

    # --- a Connection

    @property
    def leaves_late(self) -> bool:
        return self._in_order.busy

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

    # --- a Listener

    def message_received(self, message: Message) -> None:
        if self.closed:
            return
        self.may_know_pid = True
        if (awaited := self._stop_waiting()) is not None:
            self._in_order.put(partial(self._route.resume, self, awaited.username, message.data))
        else:
            self._in_order.overlap(partial(self._answer, message))

    def pong_received(self) -> None:
        self.may_know_pid = True
        self._route.heartbeats.answered(self)

    def too_slow(self, unsent: int) -> None:
        """Whoever reads on in time finds behind what was sent the reason why there is no more."""
        note_slow(self, self.wire.name, unsent)
        self.close(CloseReason.TOO_SLOW)
        self._route.end(self, CloseCode.ABNORMAL)

    def stream_ended(self, code: int) -> None:
        self._stop_waiting()
        self._route.seats.give_back()
        if self.session is None:
            self.closed = True
            self._route.abandon(self)
        self._in_order.overlap(partial(self._end, code))

    async def _answer(self, message: Message) -> Answer:
        answer = await self._route.answer(self, message.data)
        return partial(self.write, frame(message.opcode, answer))

    async def _end(self, code: int) -> None:
        """The client has closed. All that it asked for before has begun; nobody reads the answers."""
        self._route.end(self, code)

    # --- logging in with the first frame

    def await_log_in(self, username: str) -> None:
        """The first frame is to say which session to go on with. Whoever sends none in time is closed."""
        timer = asyncio.get_running_loop().call_later(LOG_IN_TIMEOUT, self._give_up)
        self._awaited = AwaitedLogIn(username, timer)

    def _stop_waiting(self) -> AwaitedLogIn | None:
        awaited, self._awaited = self._awaited, None
        if awaited is not None:
            awaited.timer.cancel()
        return awaited

    def _give_up(self) -> None:
        self._awaited = None
        self.refuse({}, InvalidPayload(f"No frame came within {LOG_IN_TIMEOUT:g} seconds."))

    def refuse(self, ref: Reply, error: GatewayError) -> None:
        """Say why the client cannot log in, and close."""
        self.closed = True
        self.stream.write(text_frame(_reply_frame(ref, refusal(error))))
        passing = isinstance(error, Unavailable | LimitReached)
        self.stream.close(CloseReason.RESTART.code if passing else CloseCode.POLICY_VIOLATION, error.code)

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
        pipeline: Pipeline,
        origins: OriginPolicy,
        heartbeats: Heartbeats,
        *,
        max_frame_size: int,
        max_buffer: int,
        seats: Seats,
        budget: Budget,
    ) -> None:
        self.heartbeats = heartbeats
        self.max_frame_size = max_frame_size
        self.max_buffer = max_buffer
        self.seats = seats
        self.budget = budget
        self._sessions = sessions
        self._pipeline = pipeline
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
        except GatewayError as error:
            return refuse(error)
        if not self.seats.take():
            return refuse(LimitReached.connections(self.seats.count))
        connection = PlainConnection(self, wire)
        if "resume" in request.query:
            connection.await_log_in(credentials.username)
            return take_over(request, connection.stream, accepted)
        try:
            with ConnectionWatch(request, partial(self.abandon, connection)):
                await self._log_in(connection, credentials)
        except GatewayError as error:
            self.seats.give_back()
            return refuse(error)
        except BaseException:
            self.seats.give_back()
            raise
        response = take_over(request, connection.stream, accepted)
        if response.replied:
            self.heartbeats.add(connection)
            connection.release()
        return response

    async def _log_in(self, connection: PlainConnection, credentials: Credentials) -> None:
        if credentials.pid is not None:
            connection.may_know_pid = True
        await self._sessions.connect(connection, credentials)

    async def resume(self, connection: PlainConnection, username: str, data: bytes) -> None:
        """Log a client in with its first frame, which says which session to go on with."""
        ref: Reply = {}
        try:
            value = _resume_frame(data)
            if "ref" in value:
                ref = {"ref": orjson.Fragment(raw_member(data, "ref", value["ref"]))}
            await self._log_in(connection, load_credentials({**value, "username": username}))
        except GatewayError as error:
            connection.refuse(ref, error)
            return
        except ValueError as error:
            connection.refuse({}, InvalidPayload.in_fields({"ref": [f"Is {error}."]}))
            return
        self.heartbeats.add(connection)
        connection.release()
        connection.write(text_frame(_reply_frame(ref, {"ok": True})))

    def _check(self, request: web.Request) -> BareWire | JSONWire:
        if not is_username(request.match_info["name"]):
            raise InvalidUsername
        self._origins.check(request)
        wire = WIRES.get(request.query.get("format", "bare"))
        if wire is None:
            raise InvalidPayload.in_fields({"format": [f"Must be one of {', '.join(WIRES)}."]})
        if "resume" in request.query and wire is not JSON:
            raise InvalidPayload.in_fields({"resume": ["Needs format=json."]})
        return wire

    async def answer(self, connection: PlainConnection, data: bytes) -> bytes:
        """Do what a frame says; the payload of the frame that answers it."""
        try:
            value = decode(data)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            error = InvalidPayload("A frame must be one JSON object, and not nested too deeply.")
            return connection.wire.answer(data, None, {}, refusal(error))
        action = value.get("action")
        try:
            ref = {"ref": orjson.Fragment(raw_member(data, "ref", value["ref"]))} if "ref" in value else {}
        except ValueError as error:
            return connection.wire.answer(data, None, {}, refusal(InvalidPayload.in_fields({"ref": [f"Is {error}."]})))
        reply = await self._pipeline.perform(connection.actor, action, value)
        return connection.wire.answer(data, action, ref, reply)

    def abandon(self, connection: PlainConnection) -> None:
        """The client is gone; if it is still logging in, it is not to."""
        self._sessions.abandon(connection)

    def end(self, connection: PlainConnection, code: int) -> None:
        """The client is gone; it closed with ``code``."""
        self.heartbeats.remove(connection)
        if code in LEAVING_CODES:
            self._sessions.end(connection)
        else:
            self._sessions.lose(connection)


class NoUpgrade(InvalidPayload):
    http_status = 426


def _handshake(request: web.Request) -> bytes:
    try:
        return check_handshake(request)
    except UpgradeRequired as error:
        raise NoUpgrade(f"This is a WebSocket; connect with ws:// or wss:// (RFC 6455): {error}.") from None
    except HandshakeError as error:
        raise InvalidPayload(f"This is no WebSocket handshake (RFC 6455): {error}.") from None


def _resume_frame(data: bytes) -> dict[str, Any]:
    """The object in the first frame of a client that logs in with it.

    Raises:
        InvalidPayload: it is none, or has another action.
    """
    try:
        value = decode(data)
    except ValueError:
        value = None
    if not isinstance(value, dict) or value.get("action") != RESUME:
        raise InvalidPayload(f'The first frame must be one JSON object with the action "{RESUME}".')
    return value


def _credentials(request: web.Request) -> dict[str, Any]:
    query = request.query
    resume = {name: query[name] for name in ("pid", "offset") if name in query}
    return {"username": request.match_info["name"], **resume}


async def _unknown_path(request: web.Request) -> web.Response:
    """Reply where there is no user of that name, or no GET, as a handshake is."""
    if is_username(request.match_info["rest"]):
        return refuse(NoUpgrade(f"This is a WebSocket; connect with ws:// or wss:// (RFC 6455), not {request.method}."))
    return refuse(InvalidUsername())


def refuse(error: GatewayError) -> web.Response:
    """The HTTP answer that says why not: ``{"error": {code, message, fields?, retry_after?}}``."""
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after))
    elif isinstance(error, Unavailable):
        headers["Retry-After"] = "1"
    if isinstance(error, NoUpgrade):
        headers |= {"Upgrade": "websocket", "Sec-WebSocket-Version": VERSION}
    return web.json_response(
        {"error": error.as_dict()},
        status=error.http_status,
        headers=headers,
        dumps=lambda value: orjson.dumps(value).decode(),
    )
