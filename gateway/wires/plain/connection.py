"""A client of the plain wire, from its handshake to the end of its WebSocket."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from gateway.errors import CloseReason, GatewayError, InvalidPayload, LimitReached, Unavailable
from gateway.pipeline import refusal
from gateway.servers.deadline import Deadline
from gateway.servers.inorder import InOrder
from gateway.servers.websocket.rfc6455 import CloseCode, Message, Opcode, frame, text_frame
from gateway.servers.websocket.stream import WebSocketStream
from gateway.tokens import tokens
from gateway.wires.connection import BaseConnection
from gateway.wires.plain.formats import BareWire, JSONWire, reply_object

if TYPE_CHECKING:
    from gateway.pipeline import Reply
    from gateway.servers.heartbeats import Heartbeats
    from gateway.servers.inorder import Answer, Work
    from gateway.servers.limits import Limits

LOG_IN_TIMEOUT: Final = 5.0
"""How long a client that logs in with its first frame may take to send it, in seconds."""

PING: Final = frame(Opcode.PING, b"")

_IDS: Final = tokens(15)


class Host(Protocol):
    """What a connection needs of its route."""

    heartbeats: Heartbeats
    limits: Limits
    max_frame_size: int

    async def reply_to(self, connection: PlainConnection, data: bytes) -> bytes:
        """Do what a frame asks for; returns the payload of the frame that replies to it."""

    async def resume(self, connection: PlainConnection, username: str, data: bytes) -> None:
        """Log the client in with its first frame."""

    def closing(self, connection: PlainConnection) -> None:
        """The client's WebSocket has ended: if it is still logging in, the log-in is abandoned. `end` follows when all
        that it asked for before has begun.
        """

    def end(self, connection: PlainConnection, code: int) -> None:
        """The client closed with ``code``; `CloseCode.ABNORMAL` without a close frame."""


class AwaitedLogIn(NamedTuple):
    """A log-in with the first frame, which has not come yet."""

    username: str
    deadline: Deadline


class PlainConnection(BaseConnection):
    """A client of the plain wire; the `Listener` of its stream."""

    __slots__ = ("_awaited", "_in_order", "_route", "may_know_pid", "stream")

    wire: BareWire | JSONWire

    def __init__(self, route: Host, wire: BareWire | JSONWire) -> None:
        connection_id = next(_IDS)
        super().__init__(wire, connection_id, connection_id)
        self._route = route
        self.may_know_pid = False
        """Whether the client has named its session, or has sent anything since ``welcome`` was written to it."""
        self._awaited: AwaitedLogIn | None = None
        self.stream = WebSocketStream(self, max_size=route.max_frame_size, limits=route.limits)
        """Holds what is written, and a close, until the handshake is replied to."""
        self._in_order = InOrder(self.stream)

    # --- a Connection

    @property
    def leaves_late(self) -> bool:
        return self._in_order.busy

    def write(self, frames: bytes) -> None:
        if not self.closed:
            self.stream.write(frames)

    def unsent(self) -> int:
        return self.stream.unsent()

    async def finish(self) -> None:
        await self._in_order.finish()

    def close(self, reason: CloseReason) -> None:
        self.closed = True
        self.stream.close(reason.code, reason.text)

    # --- a Listener

    def message_received(self, message: Message) -> None:
        if self.closed:
            return
        self.may_know_pid = True
        if (awaited := self._stop_waiting()) is not None:
            self._in_order.put(partial(self._route.resume, self, awaited.username, message.data))
        else:
            self._in_order.overlap(partial(self._reply_to, message))

    def pong_received(self) -> None:
        self.may_know_pid = True
        self._route.heartbeats.answered(self)

    def too_slow(self) -> None:
        """A client that reads on in time finds the reason after what was sent."""
        self.close(CloseReason.TOO_SLOW)
        self._route.end(self, CloseCode.ABNORMAL)

    def stream_ended(self, code: int) -> None:
        self._stop_waiting()
        if self.session is None:
            self.closed = True
        self._route.closing(self)
        self._in_order.overlap(partial(self._end, code))

    async def _reply_to(self, message: Message) -> Answer:
        reply = await self._route.reply_to(self, message.data)
        return partial(self.write, frame(message.opcode, reply))

    async def _end(self, code: int) -> None:
        """All earlier requests of the client have been started; their replies are not read any more."""
        self._route.end(self, code)

    # --- logging in

    def log_in(self, work: Work) -> None:
        """Do ``work``, which logs the client in, before anything that it asks for."""
        self._in_order.put(work)

    def await_log_in(self, username: str) -> None:
        """Wait for the first frame, which names the session to resume. A client that sends none in time is closed."""
        deadline = Deadline(LOG_IN_TIMEOUT, self._refuse_silence)
        self._awaited = AwaitedLogIn(username, deadline)

    def _stop_waiting(self) -> AwaitedLogIn | None:
        awaited, self._awaited = self._awaited, None
        if awaited is not None:
            awaited.deadline.cancel()
        return awaited

    def _refuse_silence(self) -> None:
        self._awaited = None
        self.refuse({}, InvalidPayload(f"No frame came within {LOG_IN_TIMEOUT:g} seconds."))

    def refuse(self, ref: Reply, error: GatewayError) -> None:
        """Send why the client cannot log in, and close."""
        self.closed = True
        self.stream.write(text_frame(reply_object(ref, refusal(error))))
        temporary = isinstance(error, Unavailable | LimitReached)
        self.stream.close(CloseReason.RESTART.code if temporary else CloseCode.POLICY_VIOLATION, error.code)

    # --- a Heartbeat

    def ping(self) -> None:
        self.write(PING)

    def timed_out(self) -> None:
        self.stream.abort()
