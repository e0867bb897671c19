"""A client's Engine.IO session: on long-polling, on a WebSocket, and on its way from the one to the other."""

from __future__ import annotations

import asyncio
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from gateway.servers.engineio.packets import (
    CLOSE,
    PING,
    Packet,
    decode_base64,
    decode_payload,
    encode_payload,
    in_base64,
)
from gateway.servers.engineio.polling import Polling
from gateway.servers.inorder import REST, InOrder
from gateway.servers.pauses import Pause
from gateway.servers.states import change
from gateway.servers.websocket.rfc6455 import CloseCode, Message, Opcode
from gateway.servers.websocket.stream import MAX_AT_ONCE, WebSocketStream

if TYPE_CHECKING:
    from aiohttp import web

    from gateway.servers.budget import Budget
    from gateway.servers.heartbeats import Heartbeats
    from gateway.servers.inorder import Work

LINGER: Final = 2.0
"""Seconds for which a session that the server has ended can be polled for what was written to it."""

UPGRADE_TIMEOUT: Final = 10.0
"""Seconds from the WebSocket of an upgrade to its UPGRADE packet (as the JavaScript server)."""


class EngineState(Enum):
    """Where a session is. `CHANGES` has what may follow what."""

    OPENING = auto()
    """It is on no transport yet."""
    POLLING = auto()
    PROBING = auto()
    """On long-polling still; the client tries a WebSocket."""
    STRANDED = auto()
    """As `PROBING`, but the connection of its poll was lost: it is closed if the upgrade fails."""
    ARRIVING = auto()
    """On a WebSocket, to which it has moved, and on which nothing was heard of it yet."""
    WEBSOCKET = auto()
    CLOSED = auto()
    """Nothing more is taken from the client or written to it. What waits for a poll may be polled for a while."""


CHANGES: Final[dict[EngineState, set[EngineState]]] = {
    EngineState.OPENING: {EngineState.POLLING, EngineState.WEBSOCKET, EngineState.CLOSED},
    EngineState.POLLING: {EngineState.PROBING, EngineState.CLOSED},
    EngineState.PROBING: {EngineState.POLLING, EngineState.STRANDED, EngineState.ARRIVING, EngineState.CLOSED},
    EngineState.STRANDED: {EngineState.PROBING, EngineState.ARRIVING, EngineState.CLOSED},
    EngineState.ARRIVING: {EngineState.WEBSOCKET, EngineState.CLOSED},
    EngineState.WEBSOCKET: {EngineState.CLOSED},
    EngineState.CLOSED: set(),
}

_CLOSED: Final = EngineState.CLOSED
_ARRIVING: Final = EngineState.ARRIVING


class Host(Protocol):
    """What a session needs of its server."""

    heartbeats: Heartbeats
    max_buffer: int
    budget: Budget
    reason: Any
    """python-engineio's reasons for the end of a session."""

    def receive(self, socket: EngineSocket, data: Packet, in_order: InOrder) -> None:
        """Take a message, and put into the order of the client's messages what is to be done with it."""

    def too_slow(self, socket: EngineSocket, unsent: int) -> None:
        """A client is cut with ``unsent`` bytes that it did not read."""

    def forget(self, socket: EngineSocket) -> None: ...
    def ending(self, socket: EngineSocket) -> None: ...
    async def end(self, socket: EngineSocket, reason: str) -> None: ...


class EngineSocket:
    """A client's session, on whichever transport it is now. `Listener` of its stream, and a `Heartbeat`."""

    __slots__ = (
        "_corked",
        "_corked_size",
        "_in_order",
        "_polling",
        "_probe",
        "_probe_timer",
        "_server",
        "_stream",
        "base64",
        "heard",
        "left_unheard",
        "seated",
        "session",
        "sid",
        "state",
    )

    def __init__(self, server: Host, sid: str) -> None:
        self.sid = sid
        self.session: dict[str, Any] = {}
        """What the application keeps for the client (``eio.session(sid)``)."""
        self.state = EngineState.OPENING
        self.base64 = False
        """Whether the client wants binary data as text on a WebSocket too (``b64=1``), as it is on long-polling."""
        self.seated = False
        """Whether it has one of the server's `Seats`."""
        self.heard = False
        """Whether the client has said anything. To learn whether it goes on after a certain thing, set it back then."""
        self.left_unheard = False
        """Whether the client closed, on purpose, without having been heard."""
        self._server = server
        self._stream: WebSocketStream | None = None
        self._polling: Polling | None = None
        self._corked: list[bytes] | None = None
        self._corked_size = 0
        self._probe: WebSocketStream | None = None
        self._probe_timer: asyncio.TimerHandle | None = None
        self._in_order = InOrder(self)

    def open(self, stream: WebSocketStream) -> None:
        """The session is on a WebSocket from the start."""
        self._stream = stream
        self._change(EngineState.WEBSOCKET)

    def open_polling(self) -> Polling:
        """The session is on long-polling, to begin with."""
        self._polling = Polling(self, self._server.max_buffer, self._server.budget)
        self._change(EngineState.POLLING)
        return self._polling

    def _change(self, state: EngineState) -> None:
        self.state = change(CHANGES, self.state, state)

    @property
    def closed(self) -> bool:
        return self.state is _CLOSED

    @property
    def upgraded(self) -> bool:
        """Whether the client is on a WebSocket."""
        return self._stream is not None

    @property
    def polling(self) -> Polling | None:
        """Where its requests go, while the client is on long-polling, and a little longer."""
        return self._polling

    @property
    def leaves_late(self) -> bool:
        """Whether the client may have left already: the stock one says so only when its requests are answered, and an
        upgrade that has begun is done; and what it said before is done first.
        """
        return self._stream is None or self.state is _ARRIVING or self._in_order.busy

    @property
    def outlet(self) -> WebSocketStream | None:
        """Where packets go straight to: the client's WebSocket, unless they are held or to be written another way."""
        return self._stream if self._corked is None and not self.base64 else None

    # --- out

    @property
    def unsent(self) -> int:
        """Bytes that were written and have not left this process."""
        transport = self._polling if self._stream is None else self._stream
        return self._corked_size + (0 if transport is None else transport.unsent())

    def write(self, frame: bytes) -> None:
        """Send a packet, given as its WebSocket frame. One for a client that is gone is dropped."""
        if self._corked is None:
            self.write_through(frame)
            return
        if self._corked_size > self._server.max_buffer:
            self.too_slow(self.unsent)
            return
        self._corked.append(frame)
        self._corked_size += len(frame)

    def cork(self) -> None:
        """Hold what is written until `uncork`."""
        self._corked = []

    def uncork(self) -> None:
        held, self._corked, self._corked_size = self._corked or [], None, 0
        for frame in held:
            self.write_through(frame)

    def write_through(self, frame: bytes) -> None:
        """Send a packet past those that are held."""
        if self.closed:
            return
        if self._stream is not None:
            self._stream.write(in_base64(frame) if self.base64 else frame)
        elif self._polling is not None:
            self._polling.write(frame)

    def too_slow(self, unsent: int) -> None:
        """The client does not read what is written to it."""
        if not self.closed:
            self._server.too_slow(self, unsent)
            self.cut()

    def take_rest(self) -> bytes:
        """What a session that is over still has for a poll: what was written, and then CLOSE.

        Not in one payload: the stock client drops acks that CLOSE comes with.
        """
        if self._polling is not None and self._polling.has_unread:
            return self._polling.take_payload()
        self._server.forget(self)
        return encode_payload(CLOSE)

    async def poll(self, request: web.Request) -> bytes:
        """The payload that answers a poll.

        Raises:
            ValueError: the client is on a WebSocket, or there is a poll already; the session is closed for it.
        """
        polling = self._polling
        if self._stream is not None or polling is None:
            raise ValueError("not on long-polling any more")
        if polling.is_polled:
            # The poll before is answered with CLOSE.
            polling.take_all()
            polling.write(CLOSE)
            self.close(self._server.reason.TRANSPORT_ERROR)
            raise ValueError("duplicate poll")
        if self.state is EngineState.STRANDED:
            self._change(EngineState.PROBING)
        return await polling.poll(request)

    def request_lost(self, *, poll: bool) -> None:
        """The connection of a request was lost: so is the client, unless it is on its way to a WebSocket."""
        if self.closed or self._stream is not None:
            return
        if poll and self.state is EngineState.PROBING:
            self._change(EngineState.STRANDED)
        elif not poll or self.state is not EngineState.STRANDED:
            self.close(self._server.reason.TRANSPORT_CLOSE)

    def close(self, reason: str, *, code: int = CloseCode.NORMAL, text: str = "") -> None:
        """End the session. What was written goes out before; the application hears of it behind the last message."""
        if self.closed:
            return
        self._end(reason)
        for stream in filter(None, (self._stream, self._probe)):
            stream.close(code, text)

    def _end(self, reason: str) -> None:
        """Nothing more is taken from the client or written to it."""
        self._change(EngineState.CLOSED)
        polling = self._polling
        by_server = reason == self._server.reason.SERVER_DISCONNECT
        if polling is not None and (by_server or (polling.has_unread and not polling.is_polled)):
            asyncio.get_running_loop().call_later(LINGER, self._stop_lingering, polling)
        else:
            self._server.forget(self)
        self._server.ending(self)
        self._server.heartbeats.remove(self)
        if polling is not None:
            polling.end_poll()
            polling.close()
        self._in_order.put(partial(self._server.end, self, reason))

    def _stop_lingering(self, polling: Polling) -> None:
        """What the client has not read by now is not for it any more."""
        polling.take_all()
        self._server.forget(self)

    def discard(self) -> None:
        """The application does not want the client, so that there is no session of whose end it is to be told."""
        if not self.closed:
            self._change(EngineState.CLOSED)
        self._server.forget(self)
        if self._polling is not None:
            self._polling.close()

    def fail(self) -> None:
        """End the session of a client that broke the protocol."""
        if self._polling is not None:
            self._polling.take_all()
        if not self.closed:
            self._end(self._server.reason.TRANSPORT_ERROR)
        for stream in filter(None, (self._stream, self._probe)):
            stream.fail(CloseCode.PROTOCOL_ERROR)

    def cut(self) -> None:
        """End the session and drop what is unsent."""
        if self._stream is not None:
            self._stream.abort()
        if self._polling is not None:
            self._polling.drop()
        self.close(self._server.reason.TRANSPORT_ERROR)

    # --- in

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
        if self.state is _ARRIVING:
            self._change(EngineState.WEBSOCKET)
        if kind == "4":
            self._receive(data[1:])
        elif isinstance(data, bytes):
            self._receive(data)
        elif kind == "3":
            self._server.heartbeats.answered(self)
        elif kind == "b":
            self._receive(decode_base64(data[1:]))
        elif kind not in {"0", "2", "5", "6"}:
            raise ValueError("not an Engine.IO packet")

    def _left(self) -> None:
        """The client closes its transport, which says nothing of whether it comes back."""
        self.left_unheard = not self.heard
        self.close(self._server.reason.CLIENT_DISCONNECT)

    def _receive(self, data: Packet) -> None:
        if not self._in_order.finishing:
            self._server.receive(self, data, self._in_order)

    async def take_body(self, polling: Polling, body: bytes) -> None:
        """Handle the packets of a long-polling body; but for a log-in, which the client may want to give up. Raises
        ValueError where it holds something else.
        """
        for number, data in enumerate(decode_payload(body), 1):
            self.packet_received(data)
            await polling.ready()
            if number % MAX_AT_ONCE == 0:
                await asyncio.sleep(REST)  # others are not to wait for a body of very many packets
        await asyncio.sleep(0)  # by then a log-in has begun
        if self._corked is None:
            await self._in_order.idle()

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

    async def finish(self) -> None:
        """Receive nothing more, and wait until all that was received is handled."""
        await self._in_order.finish()
        if self._polling is not None:
            self._polling.resume(Pause.HANDLING)

    async def shut_down(self) -> None:
        """Send the client away, and wait for what the application still does for it; cancelled, that is too."""
        self.close(self._server.reason.SERVER_DISCONNECT, code=CloseCode.GOING_AWAY)
        try:
            await self._in_order.idle()
        except asyncio.CancelledError:
            self._in_order.cancel()
            raise

    def pause(self, reason: Pause) -> None:
        """Read nothing more for now (`Pausable`)."""
        if self._stream is not None:
            self._stream.pause(reason)
        elif self._polling is not None:
            self._polling.pause(reason)

    def resume(self, reason: Pause) -> None:
        if self._stream is not None:
            self._stream.resume(reason)
        elif self._polling is not None:
            self._polling.resume(reason)

    # --- upgrade

    @property
    def can_upgrade(self) -> bool:
        return self.state is EngineState.POLLING

    def start_upgrade(self, stream: WebSocketStream) -> None:
        self._change(EngineState.PROBING)
        self._probe = stream
        self._probe_timer = asyncio.get_running_loop().call_later(UPGRADE_TIMEOUT, self._give_up, stream)

    def probed(self) -> None:
        """The client's WebSocket works: end its poll, so that it can let go of long-polling."""
        if self._polling is not None:
            self._polling.start_moving()

    def finish_upgrade(self, stream: WebSocketStream) -> None:
        """The client is on ``stream`` from here on; what still waited for a poll goes there."""
        if self._probe is not stream or self.closed:
            return
        self._stop_probe()
        self._change(EngineState.ARRIVING)
        polling, self._polling, self._stream = self._polling, None, stream
        if polling is not None:
            polling.end_poll()
            for frame in polling.take_all():
                self.write_through(frame)
            polling.close()

    def _give_up(self, stream: WebSocketStream) -> None:
        if self._probe is stream:
            self.end_upgrade(stream)
            stream.close(CloseCode.PROTOCOL_ERROR)

    def end_upgrade(self, stream: WebSocketStream) -> None:
        """It has failed: the client goes on with long-polling, if it is still there. A WebSocket with which no upgrade
        was begun, for there was another, ends nothing.
        """
        if self._probe is not stream:
            return
        self._stop_probe()
        if self._polling is not None:
            self._polling.stop_moving()
        if self.state is EngineState.STRANDED:
            self.close(self._server.reason.TRANSPORT_CLOSE)
        elif self.state is EngineState.PROBING:
            self._change(EngineState.POLLING)

    def _stop_probe(self) -> None:
        self._probe = None
        if self._probe_timer is not None:
            self._probe_timer.cancel()
            self._probe_timer = None

    # --- heartbeat

    def ping(self) -> None:
        self.write_through(PING)

    def timed_out(self) -> None:
        if self._polling is not None:
            self._polling.take_all()
        self.close(self._server.reason.PING_TIMEOUT)
