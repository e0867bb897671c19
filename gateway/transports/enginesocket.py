"""A client's Engine.IO session: on long-polling, on a WebSocket, and on its way from the one to the other."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from gateway.transports.enginepackets import CLOSE, NOOP, PING, PONG_PROBE, Packet, encode_payload
from gateway.transports.inorder import InOrder
from gateway.transports.rfc6455 import CloseCode, Message, Opcode
from gateway.transports.stream import WebSocketStream

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.transports.heartbeats import Heartbeats
    from gateway.transports.inorder import Work

LINGER: Final = 2.0
"""Seconds for which a session that the server has ended can be polled for what was written to it."""

UPGRADE_TIMEOUT: Final = 10.0
"""Seconds from the WebSocket of an upgrade to its UPGRADE packet (as the JavaScript server)."""


class Host(Protocol):
    """What a session needs of its server."""

    heartbeats: Heartbeats
    reason: Any
    """python-engineio's reasons for the end of a session."""

    receive: Callable[[str, Packet, InOrder], None]
    """Takes a message, and puts into the order of the client's messages what is to be done with it."""

    def forget(self, socket: EngineSocket) -> None: ...
    def ending(self, socket: EngineSocket) -> None: ...
    async def end(self, socket: EngineSocket, reason: str) -> None: ...


class EngineSocket:
    """A client's session, on whichever transport it is now. `Listener` of its stream, and a `Heartbeat`."""

    __slots__ = (
        "_buffer",
        "_buffered",
        "_corked",
        "_in_order",
        "_moving",
        "_paused",
        "_poll",
        "_probe",
        "_probe_timer",
        "_server",
        "_stream",
        "closed",
        "heard",
        "left_unheard",
        "moved",
        "posting",
        "session",
        "sid",
    )

    def __init__(self, server: Host, sid: str) -> None:
        self.sid = sid
        self.session: dict[str, Any] = {}
        """What the application keeps for the client (``eio.session(sid)``)."""
        self.closed = False
        self.heard = False
        """Whether the client has said anything. To learn whether it goes on after a certain thing, set it back then."""
        self.left_unheard = False
        """Whether the client closed, on purpose, without having been heard."""
        self.moved = False
        """Whether the client has moved from long-polling to a WebSocket."""
        self.posting = False
        """Whether a long-polling body is being handled."""
        self._server = server
        self._stream: WebSocketStream | None = None
        self._buffer: list[bytes] | None = None
        self._buffered = 0
        self._corked: list[bytes] | None = None
        self._poll: asyncio.Future[None] | None = None
        self._probe: WebSocketStream | None = None
        self._probe_timer: asyncio.TimerHandle | None = None
        self._moving = False
        self._paused: asyncio.Future[None] | None = None
        self._in_order = InOrder(self)

    @property
    def upgraded(self) -> bool:
        """Whether the client is on a WebSocket."""
        return self._stream is not None

    @property
    def leaves_late(self) -> bool:
        """Whether the client may have left already: the stock one says so only when its requests are answered, and an
        upgrade that has begun is done.
        """
        return self._stream is None or (self.moved and not self.heard)

    @property
    def outlet(self) -> WebSocketStream | None:
        """Where packets go straight to: the client's WebSocket, unless they are held."""
        return self._stream if self._corked is None else None

    # --- out

    @property
    def unsent(self) -> int:
        """Bytes that were written and have not left this process."""
        corked = 0 if self._corked is None else sum(map(len, self._corked))
        return corked + (self._buffered if self._stream is None else self._stream.unsent())

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
        return encode_payload(b"".join(frames))

    def take_rest(self) -> bytes:
        """What a session that is over still has for a poll: what was written, and then CLOSE.

        Not in one payload: the stock client drops acks that CLOSE comes with.
        """
        if self._buffer is not None:
            return self.take_payload()
        self._server.forget(self)
        return encode_payload(CLOSE)

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
        if self._buffer is None and not self._moving:
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
        by_server = reason == self._server.reason.SERVER_DISCONNECT
        if self._stream is None and (by_server or (self._poll is None and self._buffer is not None)):
            asyncio.get_running_loop().call_later(LINGER, self._server.forget, self)
        else:
            self._server.forget(self)
        self._server.ending(self)
        self._server.heartbeats.remove(self)
        self._answer_poll()
        self._in_order.put(partial(self._server.end, self, reason))

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
        kind = data[:1]
        if kind == "1":
            self._left()
            return
        self.heard = True
        if kind == "4":
            self._receive(data[1:])
        elif isinstance(data, bytes):
            self._receive(data)
        elif kind == "3":
            self._server.heartbeats.answered(self)
        elif kind not in {"0", "2", "5", "6"}:
            raise ValueError("not an Engine.IO packet")

    def _left(self) -> None:
        """The client closes its transport, which says nothing of whether it comes back."""
        self.left_unheard = not self.heard
        self.close(self._server.reason.CLIENT_DISCONNECT)

    def _receive(self, data: Packet) -> None:
        if not self._in_order.finishing:
            self._server.receive(self.sid, data, self._in_order)

    def message_received(self, message: Message) -> None:
        try:
            self.packet_received(message.data.decode() if message.opcode == Opcode.TEXT else message.data)
        except ValueError:
            self.fail()

    def pong_received(self) -> None:
        """A WebSocket pong; Engine.IO has its own."""

    def stream_ended(self, code: int) -> None:
        if code != CloseCode.ABNORMAL and not self.closed:
            self.left_unheard = not self.heard
        self.close(self._server.reason.TRANSPORT_CLOSE)

    def do(self, work: Work) -> None:
        """Do ``work`` behind the client's messages so far, and before those to come."""
        self._in_order.put(work)

    async def ready(self) -> None:
        """Wait while too much of the client waits already."""
        if self._paused is not None:
            await self._paused

    async def finished(self) -> None:
        """Wait until all that was received is handled."""
        await self._in_order.idle()

    async def handled(self) -> None:
        """Wait until all that was received is handled; but for a log-in, which the client may want to give up."""
        await asyncio.sleep(0)  # by then it has begun
        if self._corked is None:
            await self._in_order.idle()

    async def finish(self) -> None:
        """Receive nothing more, and wait until all that was received is handled."""
        await self._in_order.finish()
        self._let_post()

    async def shut_down(self) -> None:
        """Send the client away, and wait for what the application still does for it; cancelled, that is too."""
        self.close(self._server.reason.SERVER_DISCONNECT, code=CloseCode.GOING_AWAY)
        try:
            await self.finished()
        except asyncio.CancelledError:
            self._in_order.cancel()
            raise

    def pause(self) -> None:
        """Read no more from the client for now: too much of it waits."""
        if self._stream is not None:
            self._stream.pause()
        elif self._paused is None:
            self._paused = asyncio.get_running_loop().create_future()

    def resume(self) -> None:
        self._let_post()
        if self._stream is not None:
            self._stream.resume()

    def _let_post(self) -> None:
        paused, self._paused = self._paused, None
        if paused is not None and not paused.done():
            paused.set_result(None)

    # --- upgrade

    @property
    def can_upgrade(self) -> bool:
        return not self.closed and self._stream is None and self._probe is None

    def start_upgrade(self, stream: WebSocketStream) -> None:
        self._probe = stream
        self._probe_timer = asyncio.get_running_loop().call_later(UPGRADE_TIMEOUT, self._give_up, stream)

    def probed(self) -> None:
        """The client's WebSocket works: end its poll, so that it can let go of long-polling."""
        self._moving = True
        self._answer_poll()

    def finish_upgrade(self, stream: WebSocketStream) -> None:
        """The client is on ``stream`` from here on; what still waited for a poll goes there."""
        self.end_upgrade()
        self.moved = True
        self._stream = stream
        self._answer_poll()
        frames, self._buffer, self._buffered = self._buffer or [], None, 0
        for frame in frames:
            stream.write(frame)

    def _give_up(self, stream: WebSocketStream) -> None:
        if self._probe is stream:
            self.end_upgrade()
            stream.close(CloseCode.PROTOCOL_ERROR)

    def end_upgrade(self) -> None:
        """It is over; unless it came to its end, the client goes on with long-polling."""
        self._probe, self._moving = None, False
        if self._probe_timer is not None:
            self._probe_timer.cancel()
            self._probe_timer = None

    # --- heartbeat

    def ping(self) -> None:
        self.write_through(PING)

    def timed_out(self) -> None:
        self._buffer, self._buffered = None, 0
        self.close(self._server.reason.PING_TIMEOUT)


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
            self.stream.fail(CloseCode.PROTOCOL_ERROR)

    def pong_received(self) -> None:
        pass

    def stream_ended(self, code: int) -> None:
        self._socket.end_upgrade()
