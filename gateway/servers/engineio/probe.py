"""The WebSocket of an upgrade, until the client moves to it (Engine.IO protocol, "Upgrade")."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.servers.engineio.packets import PONG_PROBE
from gateway.servers.websocket.rfc6455 import CloseCode, Message, Opcode
from gateway.servers.websocket.stream import WebSocketStream

if TYPE_CHECKING:
    from gateway.servers.engineio.socket import EngineSocket


class Probe:
    """Listens to the WebSocket of an upgrade until the client moves to it."""

    __slots__ = ("_probed", "_socket", "stream")

    def __init__(self, socket: EngineSocket, **options: Any) -> None:
        """``options``: those of the `WebSocketStream`."""
        self.stream = WebSocketStream(self, **options)
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
            self._socket.end_upgrade(self.stream)
            self.stream.fail(CloseCode.PROTOCOL_ERROR)

    def pong_received(self) -> None:
        pass

    def too_slow(self, unsent: int) -> None:
        self.stream.abort()

    def stream_ended(self, code: int) -> None:
        self._socket.end_upgrade(self.stream)
