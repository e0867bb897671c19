"""A client of a `SocketServer`, and the interface of an application that handles its clients' events itself."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gateway.servers.engineio.socket import EngineSocket
    from gateway.servers.inorder import Answer


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


class EventHandler(Protocol):
    """Takes the events of all clients, in all namespaces, in the place of python-socketio's handlers: past its packets
    and its dispatch, with a client's next event begun before the last one is done. ``connect`` and ``disconnect`` stay
    with python-socketio's handlers. To be extended; only `handle_event` must be there.
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

    def describe(self, clients: Sequence[Client]) -> Mapping[str, object]:
        """Fields for a line that the server logs about a transport with ``clients`` in its namespaces, such as that it
        is closed because its client does not read.
        """
        return {}
