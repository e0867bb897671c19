"""WebSocket connections without aiohttp: after the handshake the transport belongs to a protocol of ours.

No task, future or queue lives as long as a connection: what arrives is parsed and handled in
`WebSocketStream.data_received`. Where handling takes a coroutine, `InOrder` has a task only while it runs.
"""

from __future__ import annotations

import asyncio
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, Protocol

from aiohttp import web
from aiohttp.http import HttpVersion11

from gateway.servers.backlog import Backlog
from gateway.servers.budget import COUNTED_FROM, UNLIMITED
from gateway.servers.hooks import detach_transport
from gateway.servers.inorder import REST
from gateway.servers.pauses import Pause
from gateway.servers.states import change
from gateway.servers.websocket.rfc6455 import (
    HANDSHAKE_HEADERS,
    CloseCode,
    HandshakeError,
    Message,
    Opcode,
    Parser,
    ProtocolError,
    close_code,
    close_frame,
    frame,
    switching_protocols,
)

if TYPE_CHECKING:
    from gateway.servers.budget import Budget

MAX_AT_ONCE = 64
"""Messages of one client that are read in one event-loop iteration."""

UNBOUNDED = 2**63
"""The ``max_buffer`` of whoever sets none."""

CHANCE = 0.005
"""Seconds in which the system takes something of what is written, if the client reads."""

CLOSE_TIMEOUT = 5.0
"""Seconds that a client has to answer a close frame, and to read what was sent before it was cut."""


class StreamState(Enum):
    """Where a stream is between its handshake and its end. `CHANGES` has what may follow what."""

    OPENING = auto()
    """The handshake is not replied to; nothing can be written yet."""
    OPEN = auto()
    CLOSING = auto()
    """A close frame was sent, and the client's is awaited: nothing more is written, but messages are still read."""
    LOST = auto()
    """The transport is gone. Messages that came before may still be handled."""
    ENDED = auto()
    """The listener was told. Of the transport at most what was written is left, until it is flushed."""


CHANGES: Final[dict[StreamState, set[StreamState]]] = {
    StreamState.OPENING: {StreamState.OPEN, StreamState.LOST, StreamState.ENDED},
    StreamState.OPEN: {StreamState.CLOSING, StreamState.LOST, StreamState.ENDED},
    StreamState.CLOSING: {StreamState.LOST, StreamState.ENDED},
    StreamState.LOST: {StreamState.ENDED},
    StreamState.ENDED: set(),
}

_OPEN: Final = StreamState.OPEN
_ENDED: Final = StreamState.ENDED


class Listener(Protocol):
    """Whoever a `WebSocketStream` belongs to. None of these may wait or fail."""

    def message_received(self, message: Message) -> None:
        """A whole text or binary message."""

    def pong_received(self) -> None:
        """The client answered a ping, or just wants to be known alive."""

    def too_slow(self, unsent: int) -> None:
        """The client does not read: it is to be cut."""

    def stream_ended(self, code: int) -> None:
        """No message comes any more. ``code``: that of the client's close frame, 1005 where it had none, 1006
        without one.
        """


class WebSocketStream(asyncio.Protocol):
    """One WebSocket, from the answer to its handshake until its transport is gone. A `backlog.Reader`, and a
    `budget.Holder`.
    """

    __slots__ = (
        "_backlog",
        "_budget",
        "_close_code",
        "_full",
        "_listener",
        "_max_buffer",
        "_parser",
        "_pauses",
        "_pong",
        "_transport",
        "state",
    )

    def __init__(
        self, listener: Listener, *, max_size: int, max_buffer: int = UNBOUNDED, budget: Budget = UNLIMITED
    ) -> None:
        """``max_size``: bytes in a message from the client; more closes the socket with 1009. ``max_buffer``: unsent
        bytes at which the client is too slow (`backlog`).
        """
        self._listener: Listener | None = listener
        self._parser = Parser(max_size)
        self._transport: asyncio.Transport | None = None
        self._max_buffer = max_buffer
        self._budget = budget
        self._backlog: Backlog | None = None
        self._pauses = Pause(0)
        self._close_code = CloseCode.ABNORMAL.value
        self._full = False
        """Whether the transport's buffer is above its high-water mark."""
        self._pong: bytes | None = None
        """What the last ping that could not be answered for that said."""
        self.state = StreamState.OPENING

    def open(self, transport: asyncio.Transport, accepted: bytes) -> None:
        """Reply to a handshake, which `check_handshake` has accepted. What the client sent after it is for
        `data_received`.
        """
        transport.write(accepted)
        self._transport = transport
        self._change(StreamState.OPEN)
        transport.set_protocol(self)
        if self._pauses:
            transport.pause_reading()

    def _change(self, state: StreamState) -> None:
        self.state = change(CHANGES, self.state, state)

    def listen(self, listener: Listener) -> None:
        """Give the stream to another listener."""
        self._listener = listener

    # --- out

    def write(self, frames: bytes) -> None:
        """Write frames. What is written to a socket that is closing or gone is dropped."""
        transport = self._transport
        if transport is None or self.state is not _OPEN:
            return
        transport.write(frames)
        unsent = transport.get_write_buffer_size()
        if unsent > COUNTED_FROM:
            self._wait_for_reader(len(frames), unsent)

    def _wait_for_reader(self, size: int, unsent: int) -> None:
        self._budget.count(self)
        if unsent > self._max_buffer:
            if self._backlog is None:
                self._backlog = Backlog(self, self._max_buffer, chance=CHANCE)
            self._backlog.wrote(size, unsent)

    def unsent(self) -> int:
        """Bytes that were written and have not left this process."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def too_slow(self, unsent: int) -> None:
        if self._listener is not None:
            self._listener.too_slow(unsent)
        else:
            self.abort()

    def close(self, code: int, reason: str = "") -> None:
        """Send a close frame, after all that was written, and wait `CLOSE_TIMEOUT` seconds for the client's."""
        transport = self._transport
        if transport is None or self.state is not StreamState.OPEN:
            return
        self._send_close(close_frame(code, reason))
        asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, transport.abort)
        self.resume(Pause.HANDLING)  # the client's close frame comes after what waits

    def fail(self, code: int, reason: str = "") -> None:
        """Say why the client cannot go on, after all that was written, and close without waiting for it
        (section 7.1.7).
        """
        self._send_close(close_frame(code, reason))
        self._end()

    def _send_close(self, frame: bytes) -> None:
        """Send a close frame, unless one was sent."""
        if self.state is StreamState.OPEN:
            self.write(frame)
            self._change(StreamState.CLOSING)

    def abort(self) -> None:
        """Drop the transport and what is unsent."""
        if self._transport is not None:
            self._transport.abort()

    # --- in

    def data_received(self, data: bytes) -> None:
        self._parser.feed(data)
        self._read()
        if self._parser.pending > COUNTED_FROM:
            self._budget.count(self)

    def _read(self) -> None:
        """Handle what is here already; a great many messages not in one event-loop iteration."""
        try:
            for _ in range(MAX_AT_ONCE):
                if self._pauses or self.state is _ENDED:
                    return
                message = self._parser.next_message()
                if message is None:
                    if self.state is StreamState.LOST:
                        self._end()
                    return
                self._handle(message)
            self.pause(Pause.FAIRNESS)
            asyncio.get_running_loop().call_later(REST, self.resume, Pause.FAIRNESS)
        except ProtocolError as error:
            self.fail(error.code, error.reason)

    def pause(self, reason: Pause) -> None:
        """Read nothing more for now (`Pausable`)."""
        if not self._pauses and self._transport is not None:
            self._transport.pause_reading()
        self._pauses |= reason

    def resume(self, reason: Pause) -> None:
        """Go on, with what is here already, if there is no other reason not to."""
        if not self._pauses & reason:
            return
        self._pauses &= ~reason
        if not self._pauses:
            if self._transport is not None and not self._transport.is_closing():
                self._transport.resume_reading()
            self._read()

    def _handle(self, message: Message) -> None:
        opcode = message.opcode
        if opcode <= Opcode.BINARY:
            if self._listener is not None:
                self._listener.message_received(message)
        elif opcode == Opcode.PING:
            self._answer_ping(message.data)
        elif opcode == Opcode.PONG:
            if self._listener is not None:
                self._listener.pong_received()
        else:
            self._close_code = close_code(message.data)
            self._send_close(frame(Opcode.CLOSE, message.data[:2]))
            self._end()

    def _answer_ping(self, data: bytes) -> None:
        """Where the client does not read, only its last ping is answered, once it does (section 5.5.3)."""
        if self._full:
            self._pong = data
        else:
            self.write(frame(Opcode.PONG, data))

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        data, self._pong = self._pong, None
        if data is not None:
            self.write(frame(Opcode.PONG, data))

    def _end(self) -> None:
        """No message comes any more: both sides have sent a close frame, the client cannot be understood, or the
        transport is lost. The server closes the transport first (section 7.1.1).
        """
        if self.state is StreamState.ENDED:
            return
        self._change(StreamState.ENDED)
        transport = self._transport
        if transport is not None:
            transport.close()
            if transport.get_write_buffer_size():
                asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, transport.abort)
        self._parser.drop()
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.stream_ended(self._close_code)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._budget.forget(self)
        if self._backlog is not None:
            self._backlog.close()
        if self.state is not StreamState.ENDED:
            self._change(StreamState.LOST)
            self._pauses &= ~Pause.MEMORY
            self._read()

    # --- a Holder, which is paused for its memory

    def held(self) -> int:
        return self._parser.pending + self.unsent()

    def cut(self) -> None:
        self.abort()


class TakenOver(web.StreamResponse):
    """What aiohttp gets for a request whose transport is not its own any more: nothing is left to send. Its status is
    what the access log has.
    """

    def __init__(self, *, replied: bool) -> None:
        super().__init__(status=101)
        self.replied = replied
        """Whether the handshake was replied to; it is not where the client was gone before."""

    async def prepare(self, request: web.BaseRequest) -> None:
        pass

    async def write_eof(self, data: bytes = b"") -> None:
        pass


def check_handshake(request: web.BaseRequest) -> bytes:
    """The reply that accepts a handshake.

    Raises:
        HandshakeError: it is none, and why.
    """
    headers = request.headers
    accepted = switching_protocols(
        {name: ", ".join(headers.getall(name)) for name in HANDSHAKE_HEADERS if name in headers}
    )
    if request.version != HttpVersion11:
        raise HandshakeError("a handshake is HTTP/1.1")
    if request.body_exists:
        raise HandshakeError("a handshake has no body")
    return accepted


def take_over(request: web.Request, stream: WebSocketStream, accepted: bytes) -> TakenOver:
    """Reply to a handshake and give its transport to ``stream``."""
    connection = detach_transport(request)
    if connection is None:
        stream.connection_lost(None)
    else:
        transport, unread = connection
        stream.open(transport, accepted)
        stream.data_received(unread)
    return TakenOver(replied=connection is not None)
