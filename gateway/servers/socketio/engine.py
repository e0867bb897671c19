"""The Engine.IO server below a Socket.IO server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from gateway.servers.engineio.server import EngineServer

if TYPE_CHECKING:
    from gateway.servers.engineio.packets import Packet
    from gateway.servers.engineio.socket import EngineSocket
    from gateway.servers.inorder import InOrder


class Owner(Protocol):
    """The Socket.IO server."""

    def transport_opened(self, socket: EngineSocket, environ: dict[str, Any]) -> None: ...
    def packet_received(self, socket: EngineSocket, data: Packet, in_order: InOrder) -> None: ...
    def transport_closing(self, socket: EngineSocket) -> None: ...
    def transport_too_slow(self, socket: EngineSocket, unsent: int) -> bool: ...


class SocketEngine(EngineServer):
    """Hands everything to its `SocketServer`, without a task for each message."""

    def __init__(self, server: Owner, **options: Any) -> None:
        super().__init__(**options)
        self._server = server
        self.instrumented = False
        """Whether the Admin UI is told of new clients: it has put a handler of its own in the place of ``connect``."""

    @property
    def asks_application(self) -> bool:
        return self.instrumented

    def opened(self, socket: EngineSocket, environ: dict[str, Any]) -> None:
        self._server.transport_opened(socket, environ)

    def receive(self, socket: EngineSocket, data: Packet, in_order: InOrder) -> None:
        self._server.packet_received(socket, data, in_order)

    def closing(self, socket: EngineSocket) -> None:
        self._server.transport_closing(socket)

    def too_slow(self, socket: EngineSocket, unsent: int) -> None:
        if not self._server.transport_too_slow(socket, unsent):
            super().too_slow(socket, unsent)
