"""Who is connected to a `SocketServer`, and what an application may do with their events itself."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from gateway.servers.engineio.socket import EngineSocket
    from gateway.servers.inorder import Answer
    from gateway.servers.socketio.attachments import Incoming


class Client:
    """A client in one namespace."""

    __slots__ = ("data", "joined", "namespace", "sid", "socket")

    def __init__(self, socket: EngineSocket, sid: str, namespace: str) -> None:
        self.socket = socket
        """Its Engine.IO session."""
        self.sid = sid
        self.namespace = namespace
        self.joined = False
        """Whether its CONNECT was accepted; until then the ``connect`` handler has it."""
        self.data: Any = None
        """What the application keeps for it."""


class Peer:
    """A client's transport, and the namespaces that it is in."""

    __slots__ = ("clients", "deadline", "incoming", "socket")

    def __init__(self, socket: EngineSocket) -> None:
        self.socket = socket
        self.clients: dict[str, Client] = {}
        """By namespace."""
        self.incoming: Incoming | None = None
        """The packet whose attachments are on their way."""
        self.deadline: asyncio.TimerHandle | None = None
        """When it is closed for being in no namespace."""

    def joined(self, namespace: str) -> Client | None:
        client = self.clients.get(namespace)
        return client if client is not None and client.joined else None


class EventHandler(Protocol):
    """Takes the events of all clients, in all namespaces, in the place of python-socketio's handlers: past its packets
    and its dispatch, with a client's next event begun before the last one is done. Handlers of ``connect`` and
    ``disconnect`` are the application's as ever. To be extended; only `handle_event` has to be there.
    """

    @abstractmethod
    async def handle_event(self, client: Client, event: list[Any], id_: int | None) -> Answer | None:
        """Handle one event: its name and its arguments, and the id of the ack that the client wants, if it wants one.

        Events of a client are begun in the order in which they came, and need not be done in it. The function that is
        returned acks the event (see `SocketServer.ack`): it is called when those before it were acked.
        """

    def leaving(self, client: Client) -> None:
        """The client has sent DISCONNECT. ``disconnect`` is handled when all that it sent before is."""

    def closing(self, client: Client) -> None:
        """The client's transport is closed. ``disconnect`` is handled when all that it sent before is."""

    def too_slow(self, clients: Sequence[Client], unsent: int) -> bool:
        """A transport, with ``clients`` in its namespaces, is cut because it does not read what it is sent;
        ``unsent`` bytes wait for it. Returns whether the application has logged that; else the server does.
        """
        return False
