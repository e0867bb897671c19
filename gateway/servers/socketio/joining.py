"""How a client joins a namespace (Socket.IO protocol, "Connection to a namespace"): the application accepts or refuses.

While the application decides, what is written to the client is held (`EngineSocket.cork`), so that what a ``connect``
handler emits comes after CONNECT. With ``always_connect`` CONNECT is sent first, and nothing is held.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from socketio import packet
from socketio.exceptions import ConnectionRefusedError as Refused

from gateway.servers.engineio.packets import message_frame
from gateway.servers.jsonio import shorten
from gateway.servers.socketio.clients import Client

if TYPE_CHECKING:
    from gateway.servers.socketio.peers import Peer, Peers


class Host(Protocol):
    """What joining needs of its server."""

    packet_class: type[packet.Packet]
    manager: Any
    always_connect: bool

    def serves(self, namespace: str) -> bool: ...

    async def ask(self, client: Client, auth: object) -> Any:
        """What the application's handler of ``connect`` returns."""


class Joining:
    """Lets the clients of one server into namespaces."""

    def __init__(self, server: Host, peers: Peers) -> None:
        self._server = server
        self._peers = peers

    async def join(self, peer: Peer, namespace: str, auth: object) -> None:
        """Handle a CONNECT packet."""
        server = self._server
        if not server.serves(namespace):
            self._send(peer, packet.CONNECT_ERROR, {"message": "Invalid namespace"}, shorten(namespace))
            return
        deadline = peer.stop_deadline()
        sid = await server.manager.pre_connect(peer.socket.sid, namespace)
        if sid is None:
            peer.socket.fail()
            return
        client = peer.clients[namespace] = Client(peer.socket, sid, namespace)
        if server.always_connect:
            await self._welcome(peer, client, {})
        else:
            peer.socket.cork()
        try:
            fields = await self._ask(client, auth)
        except Refused as refusal:
            await self._refuse(peer, client, refusal.error_args, deadline)
        except BaseException:
            await self._refuse(peer, client, {"message": "Internal server error"}, deadline)
            raise
        else:
            if not server.always_connect:
                await self._welcome(peer, client, fields)
        finally:
            peer.socket.uncork()

    async def _ask(self, client: Client, auth: object) -> dict[str, Any]:
        """The fields that the application adds to CONNECT. Raises python-socketio's ConnectionRefusedError."""
        try:
            answer = await self._server.ask(client, auth)
        except ConnectionRefusedError:
            raise Refused("Connection refused by server") from None
        if answer is False:
            raise Refused
        return answer if isinstance(answer, dict) else {}

    async def _welcome(self, peer: Peer, client: Client, fields: dict[str, Any]) -> None:
        peer.stop_deadline()
        self._send(peer, packet.CONNECT, {"sid": client.sid, **fields}, client.namespace)
        peer.socket.inbox.heard = False
        await self._server.manager.connect(client.sid, client.namespace)
        client.joined = True

    async def _refuse(self, peer: Peer, client: Client, error: dict[str, Any], deadline: float | None) -> None:
        """Take a client out that the application refused; with ``always_connect`` it was in. Having asked wins it no
        time: its ``deadline`` stays, unless it joins before.
        """
        await self._server.manager.disconnect(client.sid, client.namespace)
        kind = packet.DISCONNECT if self._server.always_connect else packet.CONNECT_ERROR
        self._send(peer, kind, error, client.namespace)
        self._peers.left(peer, client.namespace, deadline)

    def _send(self, peer: Peer, kind: int, data: dict[str, Any], namespace: str) -> None:
        """Send a packet past those that are held."""
        pkt = self._server.packet_class(kind, data, namespace=namespace)
        peer.socket.write_through(message_frame(pkt.encode()))
