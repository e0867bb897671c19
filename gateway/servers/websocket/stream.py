"""WebSocket connections without aiohttp: after the handshake the transport belongs to a protocol of ours.

No task, future or queue lives as long as a connection: what arrives is parsed and handled in
`WebSocketStream.data_received`. Where handling takes a coroutine, `InOrder` has a task only while it runs.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from aiohttp import web
from aiohttp.http import HttpVersion11

from gateway.servers.backlog import Backlog
from gateway.servers.budget import COUNTED_FROM, UNLIMITED
from gateway.servers.hooks import detach_transport
from gateway.servers.inorder import REST
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
"""Messages of one client that are read in one turn of the loop."""

PAUSED, RESTING, HELD_BACK = 1, 2, 4
"""Why a stream reads nothing: its listener has enough, others are to have their turn, the `Budget` is spent."""

UNBOUNDED = 2**63
"""The ``max_buffer`` of whoever sets none."""

CHANCE = 0.005
"""Seconds in which the system takes something of what is written, if the client reads."""

CLOSE_TIMEOUT = 5.0
"""Seconds that a client has to answer a close frame, and to read what was sent before it was cut."""


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
        "_close_sent",
        "_eof",
        "_full",
        "_halted",
        "_listener",
        "_max_buffer",
        "_parser",
        "_pong",
        "_transport",
        "answered",
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
        self._halted = 0
        self._close_sent = False
        self._close_code = CloseCode.ABNORMAL.value
        self._eof = False
        self._full = False
        self._pong: bytes | None = None
        self.answered = False
        """Whether the handshake was answered; it is not where the client was gone before."""

    def open(self, transport: asyncio.Transport, accepted: bytes) -> None:
        """Reply to a handshake, which `check_handshake` has accepted. What the client sent after it is for
        `data_received`.
        """
        transport.write(accepted)
        self._transport = transport
        self.answered = True
        transport.set_protocol(self)
        if self._halted:
            transport.pause_reading()

    @property
    def is_open(self) -> bool:
        """Whether what is written may still arrive."""
        return self._transport is not None and not self._transport.is_closing()

    def listen(self, listener: Listener) -> None:
        """Give the stream to another listener."""
        self._listener = listener

    # --- out

    def write(self, frames: bytes) -> None:
        """Write frames. What is written to a socket that is closing or gone is dropped."""
        transport = self._transport
        if transport is None or self._close_sent:
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
        """Say goodbye, behind all that was written, and wait `CLOSE_TIMEOUT` for the client to answer."""
        transport = self._transport
        if transport is None or self._close_sent:
            return
        self._say_goodbye(close_frame(code, reason))
        asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, transport.abort)
        self.resume()  # to hear the answer

    def fail(self, code: int, reason: str = "") -> None:
        """Say why the client cannot go on, behind all that was written, and close without waiting for it
        (section 7.1.7).
        """
        if self._transport is not None and not self._close_sent:
            self._say_goodbye(close_frame(code, reason))
        self._hang_up()

    def _say_goodbye(self, frame: bytes) -> None:
        self.write(frame)
        self._close_sent = True

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
        """Handle what is here already; a great many messages not in one turn of the loop."""
        try:
            for _ in range(MAX_AT_ONCE):
                if self._halted or self._listener is None:
                    return
                message = self._parser.next_message()
                if message is None:
                    if self._eof:
                        self._finish()
                    return
                self._handle(message)
            self._rest()
        except ProtocolError as error:
            self.fail(error.code, error.reason)

    def _rest(self) -> None:
        """Let others have their turn."""
        self._halt(RESTING)
        asyncio.get_running_loop().call_later(REST, self._go_on, RESTING)

    def _halt(self, why: int) -> None:
        """Read nothing more, until all who want that `_go_on`."""
        if not self._halted and self._transport is not None:
            self._transport.pause_reading()
        self._halted |= why

    def _go_on(self, why: int) -> None:
        """Go on reading, with what is here already."""
        if self._halted & why:
            self._halted &= ~why
            if not self._halted:
                if self._transport is not None and not self._transport.is_closing():
                    self._transport.resume_reading()
                self._read()

    def pause(self) -> None:
        """Read nothing more for now: too much of the client waits."""
        self._halt(PAUSED)

    def resume(self) -> None:
        self._go_on(PAUSED)

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
            self._say_goodbye(frame(Opcode.CLOSE, message.data[:2]))
            self._hang_up()

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

    def _hang_up(self) -> None:
        """Both sides have said goodbye, or the client cannot be understood: the server closes first (section 7.1.1)."""
        transport = self._transport
        if transport is not None:
            transport.close()
            if transport.get_write_buffer_size():
                asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, transport.abort)
        self._finish()

    def _finish(self) -> None:
        self._parser.drop()
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.stream_ended(self._close_code)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._budget.forget(self)
        if self._backlog is not None:
            self._backlog.close()
        self._eof = True
        self._halted &= ~HELD_BACK
        self._read()

    # --- a Holder

    def held(self) -> int:
        return self._parser.pending + self.unsent()

    def hold_back(self) -> None:
        self._halt(HELD_BACK)

    def let_go_on(self) -> None:
        self._go_on(HELD_BACK)

    def cut(self) -> None:
        self.abort()


class TakenOver(web.StreamResponse):
    """What aiohttp gets for a request whose transport is not its own any more: nothing is left to send. Its status is
    what the access log has.
    """

    def __init__(self) -> None:
        super().__init__(status=101)

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
    return TakenOver()
