"""A WebSocket without aiohttp: after the handshake (`handshake`) its transport belongs to a protocol of ours.

No task, future or queue lives as long as a connection: what arrives is parsed and handled in
`WebSocketStream.data_received`. Where handling takes a coroutine, `InOrder` has a task only while it runs.
"""

from __future__ import annotations

import asyncio
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, Protocol

from gateway.servers.budget import COUNTED_FROM
from gateway.servers.cork import Cork
from gateway.servers.inorder import PAUSE
from gateway.servers.limits import NO_LIMITS
from gateway.servers.pauses import Pause
from gateway.servers.states import change
from gateway.servers.websocket.rfc6455 import (
    CloseCode,
    Message,
    Opcode,
    Parser,
    ProtocolError,
    close_code,
    close_frame,
    frame,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.servers.limits import Limits

MAX_AT_ONCE = 64
"""Messages of one client that are read in one event-loop iteration."""

GRACE: Final = 0.005
"""Seconds in which the system takes something of what is written, if the client reads (`backlog.Reader.grace`)."""

CLOSE_TIMEOUT = 5.0
"""How long a client may take to reply to a close frame, and to read what was sent before it, in seconds. Then its
transport is aborted.
"""


class StreamState(Enum):
    """Where a stream is between its handshake and its end. `CHANGES` has what may follow what."""

    OPENING = auto()
    """The handshake is not replied to, and there is no transport. What is written is held until there is."""
    OPEN = auto()
    CLOSING = auto()
    """A close frame was sent, or is held as in `OPENING`: nothing more is written. Messages are still read until the
    client's close frame comes.
    """
    LOST = auto()
    """The transport is gone. Messages that came before may still be handled."""
    ENDED = auto()
    """The listener was called for the end. Of the transport only unsent bytes are left, until they are flushed."""


CHANGES: Final[dict[StreamState, set[StreamState]]] = {
    StreamState.OPENING: {StreamState.OPEN, StreamState.CLOSING, StreamState.LOST, StreamState.ENDED},
    StreamState.OPEN: {StreamState.CLOSING, StreamState.LOST, StreamState.ENDED},
    StreamState.CLOSING: {StreamState.LOST, StreamState.ENDED},
    StreamState.LOST: {StreamState.ENDED},
    StreamState.ENDED: set(),
}

_OPEN: Final = StreamState.OPEN
_ENDED: Final = StreamState.ENDED


class Listener(Protocol):
    """What a `WebSocketStream` belongs to. None of its methods may wait or fail."""

    def message_received(self, message: Message) -> None:
        """A whole text or binary message."""

    def pong_received(self) -> None:
        """The client replied to a ping, or shows unasked that it is alive."""

    def describe(self) -> Mapping[str, object]:
        """Who the client is, for the log."""

    def too_slow(self) -> None:
        """Close the client, which does not read what it is sent."""

    def stream_ended(self, code: int) -> None:
        """No message follows. ``code``: that of the client's close frame; 1005 if the frame has none, 1006 if no close
        frame came.
        """


class WebSocketStream(asyncio.Protocol):
    """One WebSocket, from before the reply to its handshake until its transport is gone (`limits.Writable`)."""

    __slots__ = (
        "_close_code",
        "_cork",
        "_full",
        "_limits",
        "_listener",
        "_parser",
        "_pauses",
        "_pong",
        "_transport",
        "state",
    )

    def __init__(self, listener: Listener, *, max_size: int, limits: Limits = NO_LIMITS) -> None:
        """``max_size``: bytes in a message from the client; a larger one closes the socket with 1009."""
        self._listener: Listener | None = listener
        self._parser = Parser(max_size)
        self._transport: asyncio.Transport | None = None
        self._limits = limits
        self._cork: Cork | None = Cork(limits.max_buffer)
        """Holds what is written before there is a transport."""
        self._pauses = Pause(0)
        self._close_code = CloseCode.ABNORMAL.value
        self._full = False
        """Whether the transport's buffer is above its high-water mark."""
        self._pong: bytes | None = None
        """The data of the last ping that was not replied to for that reason."""
        self.state = StreamState.OPENING

    def open(self, transport: asyncio.Transport, reply: bytes) -> None:
        """Take a transport, whose handshake is accepted with ``reply``; what was written before follows it. What the
        client sent after the handshake is for `data_received`.
        """
        held = [] if self._cork is None else self._cork.take()
        self._cork = None
        self._transport = transport
        transport.set_protocol(self)
        first = b"".join((reply, *held))
        if self.state is StreamState.OPENING:
            self._change(StreamState.OPEN)
            self.write(first)
        else:
            transport.write(first)
            asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, transport.abort)
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
            if self._cork is not None and self.state is StreamState.OPENING:
                self._hold(frames, self._cork)
            return
        transport.write(frames)
        unsent = transport.get_write_buffer_size()
        if unsent > COUNTED_FROM:
            self._limits.wrote(self, len(frames), unsent)

    def _hold(self, frames: bytes, cork: Cork) -> None:
        if cork.is_full:
            self._limits.cut(self, cork.size)
        else:
            cork.add(frames)

    def close(self, code: int, reason: str = "") -> None:
        """Send a close frame, after all that was written, and wait `CLOSE_TIMEOUT` seconds for the client's."""
        if self.state not in {StreamState.OPENING, StreamState.OPEN}:
            return
        self._send_close(close_frame(code, reason))
        if self._transport is not None:
            asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, self._transport.abort)
        self.resume(Pause.HANDLING)  # the client's close frame comes after what waits

    def fail(self, code: int, reason: str = "") -> None:
        """Send a close frame after all that was written, and close without waiting for the client's (section 7.1.7)."""
        self._send_close(close_frame(code, reason))
        self._end()

    def _send_close(self, frame: bytes) -> None:
        """Send a close frame, unless one was sent."""
        if self.state not in {StreamState.OPENING, StreamState.OPEN}:
            return
        if self._cork is not None:
            self._cork.add(frame)
        else:
            self.write(frame)
        self._change(StreamState.CLOSING)
        self._limits.stop_judging(self)

    def abort(self) -> None:
        """Drop the transport and what is unsent."""
        if self._transport is not None:
            self._transport.abort()

    # --- in

    def data_received(self, data: bytes) -> None:
        self._parser.feed(data)
        self._read()
        if self._parser.pending > COUNTED_FROM:
            self._limits.received(self)

    def _read(self) -> None:
        """Handle the messages that were received, at most `MAX_AT_ONCE` in one event-loop iteration."""
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
            asyncio.get_running_loop().call_later(PAUSE, self.resume, Pause.FAIRNESS)
        except ProtocolError as error:
            self.fail(error.code, error.reason)

    def pause(self, reason: Pause) -> None:
        """Read nothing more for now (`Pausable`)."""
        if not self._pauses and self._transport is not None:
            self._transport.pause_reading()
        self._pauses |= reason

    def resume(self, reason: Pause) -> None:
        """Go on reading, first what was received already, if there is no other reason not to (`Pausable`)."""
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
            self._reply_to_ping(message.data)
        elif opcode == Opcode.PONG:
            if self._listener is not None:
                self._listener.pong_received()
        else:
            self._close_code = close_code(message.data)
            self._send_close(frame(Opcode.CLOSE, message.data[:2]))
            self._end()

    def _reply_to_ping(self, data: bytes) -> None:
        """A client that does not read gets a pong for its last ping alone, once it reads (section 5.5.3)."""
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
        """No message follows: both sides have sent a close frame, the client broke the protocol, or the transport is
        lost. The server closes the transport first (section 7.1.1).
        """
        if self.state is StreamState.ENDED:
            return
        self._change(StreamState.ENDED)
        transport = self._transport
        if transport is not None:
            transport.close()
            if transport.get_write_buffer_size():
                asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, transport.abort)
        self._limits.stop_judging(self)
        self._parser.drop()
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.stream_ended(self._close_code)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._limits.forget(self)
        if self.state is not StreamState.ENDED:
            self._change(StreamState.LOST)
            self._pauses &= ~Pause.MEMORY
            self._read()

    # --- what its limits ask (`limits.Writable`)

    @property
    def grace(self) -> float:
        return GRACE

    def unsent(self) -> int:
        """Bytes that were written and have not left this process."""
        if self._transport is not None:
            return self._transport.get_write_buffer_size()
        return 0 if self._cork is None else self._cork.size

    def describe(self) -> Mapping[str, object]:
        return {} if self._listener is None else self._listener.describe()

    def too_slow(self) -> None:
        if self._listener is not None:
            self._listener.too_slow()

    def held(self) -> int:
        return self._parser.pending + self.unsent()

    def cut(self) -> None:
        self.abort()
