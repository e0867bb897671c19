"""The Engine.IO server below a Socket.IO server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from gateway.servers.engineio.server import EngineServer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.servers.engineio.packets import Packet
    from gateway.servers.engineio.socket import EngineSocket
    from gateway.servers.inorder import InOrder


class Owner(Protocol):
    """The Socket.IO server."""

    def transport_opened(self, socket: EngineSocket, environ: dict[str, Any]) -> None: ...
    def packet_received(self, socket: EngineSocket, data: Packet, in_order: InOrder) -> None: ...
    def transport_closing(self, socket: EngineSocket) -> None: ...
    def describe_transport(self, socket: EngineSocket) -> Mapping[str, object]: ...


class SocketEngine(EngineServer):
    """Passes everything to its `SocketServer`, without a task for each message."""

    def __init__(self, server: Owner, **options: Any) -> None:
        super().__init__(**options)
        self._server = server
        self.instrumented = False
        """Whether the Admin UI reports new clients: it puts a handler of its own in the place of ``connect``."""

    @property
    def asks_application(self) -> bool:
        return self.instrumented

    def opened(self, socket: EngineSocket, environ: dict[str, Any]) -> None:
        self._server.transport_opened(socket, environ)

    def receive(self, socket: EngineSocket, data: Packet, in_order: InOrder) -> None:
        self._server.packet_received(socket, data, in_order)

    def closing(self, socket: EngineSocket) -> None:
        self._server.transport_closing(socket)

    def describe(self, socket: EngineSocket) -> Mapping[str, object]:
        return self._server.describe_transport(socket) or super().describe(socket)
