"""A Socket.IO client, and how events are encoded for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import socketio
from socketio import packet

from gateway import events
from gateway.errors import CloseReason
from gateway.servers.engineio.packets import message_frame
from gateway.servers.websocket.rfc6455 import text_frame
from gateway.wires.connection import BaseConnection

if TYPE_CHECKING:
    from gateway.servers.engineio.socket import EngineSocket
    from gateway.servers.websocket.stream import WebSocketStream


class SocketIOWire:
    """Events as Socket.IO packets, in the WebSocket frames that carry them; long-polling takes them out again."""

    name = "socketio"
    resumable = True

    def encode_event(self, event: str, body: bytes, offset: str | None) -> bytes:
        """The offset is the last argument, where the stock client looks for it."""
        if offset is None:
            return text_frame(b'42["%b",%b]' % (event.encode(), body))
        return text_frame(b'42["%b",%b,"%b"]' % (event.encode(), body, offset.encode()))

    def encode_welcome(self, body: bytes, offset: str) -> bytes:
        return self.encode_event(events.WELCOME, body, offset)


SOCKETIO = SocketIOWire()
SERVER_DISCONNECT: Final = socketio.AsyncServer.reason.SERVER_DISCONNECT


class SocketIOConnection(BaseConnection):
    """A client in the namespace ``/``."""

    __slots__ = ("_outlet", "_resuming", "_socket")

    def __init__(self, socket: EngineSocket, sid: str, *, resuming: bool) -> None:
        super().__init__(SOCKETIO, sid, socket.sid)
        self._socket = socket
        self._resuming = resuming
        self._outlet: WebSocketStream | None = None
        """The client's WebSocket, once it is there: the short way of nearly all that is delivered."""

    @property
    def may_know_pid(self) -> bool:
        """A client that disconnects before the reply to CONNECT has arrived sends nothing at all."""
        return self._resuming or not self._socket.inbox.left_unheard

    @property
    def leaves_late(self) -> bool:
        return self._socket.leaves_late

    def write(self, frames: bytes) -> None:
        outlet = self._outlet
        if self.closed:
            return
        if outlet is not None:
            outlet.write(frames)
        else:
            self._socket.write(frames)
            self._outlet = self._socket.outlet

    def unsent(self) -> int:
        return self._socket.unsent

    async def finish(self) -> None:
        await self._socket.finish()

    def close(self, reason: CloseReason) -> None:
        self.closed = True
        if reason is CloseReason.TAKEN_OVER:
            # The stock client stays away after a DISCONNECT, and comes back after anything else.
            self._socket.write(message_frame(str(packet.DISCONNECT)))
        self._socket.close(SERVER_DISCONNECT, code=reason.code, text=reason.text)
