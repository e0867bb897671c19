"""Who is connected to a `SocketServer`: its clients' transports, and the namespaces that each of them is in."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from gateway.servers.deadline import Deadline

if TYPE_CHECKING:
    from gateway.servers.engineio.socket import EngineSocket
    from gateway.servers.socketio.attachments import Incoming
    from gateway.servers.socketio.clients import Client


class Peer:
    """A client's transport, and the namespaces that it is in."""

    __slots__ = ("clients", "deadline", "incoming", "socket")

    def __init__(self, socket: EngineSocket) -> None:
        self.socket = socket
        self.clients: dict[str, Client] = {}
        """By namespace."""
        self.incoming: Incoming | None = None
        """The packet whose attachments are on their way."""
        self.deadline: Deadline | None = None
        """When it is closed for being in no namespace."""

    def joined(self, namespace: str) -> Client | None:
        client = self.clients.get(namespace)
        return client if client is not None and client.joined else None

    def stop_deadline(self) -> float | None:
        """The client has joined, or tries to. Returns its deadline, a time of the loop's clock, if it had one."""
        deadline, self.deadline = self.deadline, None
        if deadline is None:
            return None
        deadline.cancel()
        return deadline.at


class Peers:
    """The peers of one server. One that is in no namespace is closed, unless it joins one in time."""

    def __init__(self, manager: Any, connect_timeout: float) -> None:
        """``manager``: python-socketio's. ``connect_timeout``: how long a peer may be in no namespace, in seconds."""
        self._manager = manager
        self._connect_timeout = connect_timeout
        self._peers: dict[str, Peer] = {}
        """By the ids of their Engine.IO sessions."""

    def get(self, eio_sid: str | None) -> Peer | None:
        return None if eio_sid is None else self._peers.get(eio_sid)

    def of_client(self, sid: str, namespace: str) -> Peer | None:
        """The peer of a client that is in a namespace, or about to join it."""
        return self.get(self._manager.eio_sid_from_sid(sid, namespace))

    def __getitem__(self, eio_sid: str) -> Peer:
        return self._peers[eio_sid]

    def add(self, socket: EngineSocket) -> Peer:
        """There is a new transport, which is in no namespace."""
        peer = self._peers[socket.sid] = Peer(socket)
        self._start_deadline(peer, None)
        return peer

    def remove(self, peer: Peer) -> None:
        """The transport is closed, and the application was notified."""
        peer.stop_deadline()
        del self._peers[peer.socket.sid]

    def left(self, peer: Peer, namespace: str, deadline: float | None = None) -> None:
        """A client has left a namespace. If it is in no other, it is closed at ``deadline``, a time of the loop's clock
        (None: ``connect_timeout`` from now).
        """
        peer.clients.pop(namespace, None)
        if not peer.socket.closed and peer.deadline is None and not self.is_somewhere(peer):
            self._start_deadline(peer, deadline)

    def is_somewhere(self, peer: Peer) -> bool:
        """Whether a peer is in a namespace, or about to join one."""
        manager, eio_sid = self._manager, peer.socket.sid
        return any(manager.sid_from_eio_sid(eio_sid, namespace) for namespace in manager.get_namespaces())

    def _start_deadline(self, peer: Peer, deadline: float | None) -> None:
        seconds = self._connect_timeout
        if deadline is not None:
            seconds = deadline - asyncio.get_running_loop().time()
        if seconds <= 0:
            peer.socket.refuse()
        else:
            peer.deadline = Deadline(seconds, partial(self._close_unjoined, peer))

    def _close_unjoined(self, peer: Peer) -> None:
        peer.deadline = None
        peer.socket.fail()
