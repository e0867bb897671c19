"""A client's Engine.IO session: on long-polling, on a WebSocket, and on its way from the one to the other."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from gateway.servers.cork import Cork
from gateway.servers.engineio.inbox import Inbox
from gateway.servers.engineio.packets import CLOSE, PING, Packet, encode_payload, in_base64
from gateway.servers.engineio.polling import Polling
from gateway.servers.engineio.state import EngineState
from gateway.servers.engineio.transports import Transports
from gateway.servers.pauses import Pause
from gateway.servers.websocket.rfc6455 import CloseCode, Message, Opcode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.servers.heartbeats import Heartbeats
    from gateway.servers.inorder import InOrder
    from gateway.servers.limits import Limits
    from gateway.servers.websocket.stream import WebSocketStream

LINGER: Final = 2.0
"""How long a session that the server has ended can be polled for what was written to it, in seconds."""


class Host(Protocol):
    """What a session needs of its server."""

    heartbeats: Heartbeats
    limits: Limits
    reason: Any
    """python-engineio's reasons for the end of a session."""

    def receive(self, socket: EngineSocket, data: Packet, in_order: InOrder) -> None:
        """Take a message, and put into the order of the client's messages what is to be done with it."""

    def describe(self, socket: EngineSocket) -> Mapping[str, object]:
        """Who the client is, for the log."""

    def forget(self, socket: EngineSocket) -> None: ...
    def ending(self, socket: EngineSocket) -> None: ...
    async def end(self, socket: EngineSocket, reason: str) -> None: ...


class EngineSocket(Transports):
    """A client's session, on whichever transport it is now: the `Listener` of its stream, the owner of its `Polling`
    and its `Inbox`, and a `Heartbeat`.
    """

    __slots__ = (
        "_cork",
        "_server",
        "base64",
        "inbox",
        "session",
        "sid",
    )

    def __init__(self, server: Host, sid: str) -> None:
        super().__init__()
        self.sid = sid
        self.session: dict[str, Any] = {}
        """What the application keeps for the client (``eio.session(sid)``)."""
        self.base64 = False
        """Whether the client wants binary data as text on a WebSocket too (``b64=1``), as it is on long-polling."""
        self.inbox = Inbox(self)
        self._server = server
        self._cork: Cork | None = None

    def open_polling(self) -> Polling:
        """The session is on long-polling, to begin with."""
        polling = Polling(self, self._server.limits)
        self._open_polling(polling)
        return polling

    @property
    def leaves_late(self) -> bool:
        """Whether the client may have left already, and its packet was not handled yet. The stock client sends it only
        when its requests are replied to and an upgrade that has begun is done, and what it sent before comes first.
        """
        return self._stream is None or self.state is EngineState.ARRIVING or self.inbox.busy

    @property
    def outlet(self) -> WebSocketStream | None:
        """The stream that packets can be written to past this session: once the client is on a WebSocket, unless they
        are held, or to be written as text. A session that is closed has closed its stream, which drops them.
        """
        return self._stream if self._cork is None and not self.base64 else None

    # --- out

    @property
    def unsent(self) -> int:
        """Bytes that were written and have not left this process."""
        transport = self._polling if self._stream is None else self._stream
        held = 0 if self._cork is None else self._cork.size
        return held + (0 if transport is None else transport.unsent())

    def write(self, frame: bytes) -> None:
        """Send a packet, given as its WebSocket frame. One for a client that is gone is dropped."""
        if self._cork is not None:
            self._hold(frame, self._cork)
        else:
            self.write_through(frame)

    def _hold(self, frame: bytes, cork: Cork) -> None:
        if not cork.is_full:
            cork.add(frame)
        elif not self.closed:
            self._server.limits.cut(self, self.unsent)

    def write_through(self, frame: bytes) -> None:
        """Send a packet past those that are held."""
        if self.closed:
            return
        if self._stream is not None:
            self._stream.write(in_base64(frame) if self.base64 else frame)
        elif self._polling is not None:
            self._polling.write(frame)

    def cork(self) -> None:
        """Hold what is written until `uncork`."""
        self._cork = Cork(self._server.limits.max_buffer)

    def drop_held(self) -> None:
        """Drop what was written since `cork`."""
        if self._cork is not None:
            self._cork.take()

    def uncork(self) -> None:
        """Send what was held."""
        cork, self._cork = self._cork, None
        if cork is not None:
            for frame in cork.take():
                self.write_through(frame)

    def take_rest(self) -> bytes:
        """What a session that is over still has for a poll: what was written, and then CLOSE.

        Not in one payload: the stock client drops acks that CLOSE comes with.
        """
        if self._polling is not None and self._polling.has_unread:
            return self._polling.take_payload()
        self._server.forget(self)
        return encode_payload(CLOSE)

    # --- the end

    def close(self, reason: str, *, code: int = CloseCode.NORMAL, text: str = "") -> None:
        """End the session. What was written is sent first, and the application is notified once the client's last
        message has been handled.
        """
        if self.closed:
            return
        self._end(reason)
        for stream in self._streams():
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
        self.inbox.put(partial(self._server.end, self, reason))

    def _stop_lingering(self, polling: Polling) -> None:
        """Drop what the client has not polled by now."""
        polling.take_all()
        self._server.forget(self)

    def discard(self) -> None:
        """The application refused the client, so it is not notified that a session ends."""
        if not self.closed:
            self._change(EngineState.CLOSED)
        self._server.forget(self)
        if self._polling is not None:
            self._polling.close()

    def refuse(self) -> None:
        """End the session of a client that asked for what it may not have, after all that was written."""
        if self.closed:
            return
        if self.upgraded:
            self.fail()
        else:
            self.close(self._server.reason.TRANSPORT_ERROR)

    def fail(self) -> None:
        """End the session of a client that broke the protocol."""
        if self._polling is not None:
            self._polling.take_all()
        if not self.closed:
            self._end(self._server.reason.TRANSPORT_ERROR)
        for stream in self._streams():
            stream.fail(CloseCode.PROTOCOL_ERROR)

    def cut(self) -> None:
        """End the session and drop what is unsent."""
        if self._stream is not None:
            self._stream.abort()
        if self._polling is not None:
            self._polling.drop()
        self.close(self._server.reason.TRANSPORT_ERROR)

    # --- in

    async def finish(self) -> None:
        """Receive nothing more, and wait until all that was received is handled."""
        await self.inbox.finish()
        if self._polling is not None:
            self._polling.resume(Pause.HANDLING)

    async def shut_down(self) -> None:
        """Close the session, and wait for what the application still does for it; if this is cancelled, so is that."""
        self.close(self._server.reason.SERVER_DISCONNECT, code=CloseCode.GOING_AWAY)
        try:
            await self.inbox.idle()
        except asyncio.CancelledError:
            self.inbox.cancel()
            raise

    # --- the owner of an `Inbox`

    @property
    def is_joining(self) -> bool:
        return self._cork is not None

    def receive(self, data: Packet) -> None:
        self._server.receive(self, data, self.inbox)

    def pong(self) -> None:
        self._server.heartbeats.answered(self)

    def client_closed(self) -> None:
        self.close(self._server.reason.CLIENT_DISCONNECT)

    # --- a `Listener`, and the owner of a `Polling`

    def message_received(self, message: Message) -> None:
        try:
            self.inbox.take(message.data.decode() if message.opcode == Opcode.TEXT else message.data)
        except ValueError:
            self.fail()

    def pong_received(self) -> None:
        """A WebSocket pong; Engine.IO has its own."""

    def describe(self) -> Mapping[str, object]:
        return self._server.describe(self)

    def too_slow(self) -> None:
        self.cut()

    def stream_ended(self, code: int) -> None:
        if code != CloseCode.ABNORMAL and not self.closed:
            self.inbox.note_left()
        self.lost()

    def lost(self) -> None:
        self.close(self._server.reason.TRANSPORT_CLOSE)

    def move_to(self, stream: WebSocketStream) -> None:
        """The client is on ``stream`` from now on; what still waited for a poll goes there."""
        self._upgrade = None
        if not self.closed:
            waiting = self._move(stream)
            stream.listen(self)
            for frame in waiting:
                self.write_through(frame)

    # --- a `Heartbeat`

    def ping(self) -> None:
        self.write_through(PING)

    def timed_out(self) -> None:
        if self._polling is not None:
            self._polling.take_all()
        self.close(self._server.reason.PING_TIMEOUT)
