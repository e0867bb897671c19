"""The Socket.IO wire: stock clients, over long-polling and WebSocket; see ``docs/protocol.md``.

`ChatNamespace` is what the gateway says to them; `SocketServer`, below it, speaks the protocol.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs

import orjson
import socketio
from socketio import packet
from socketio.exceptions import ConnectionRefusedError as Refused

from gateway import events
from gateway.errors import CloseReason, GatewayError, LimitReached, Stopping, Unavailable
from gateway.manager import NAMESPACE
from gateway.schemas import load_credentials
from gateway.servers.engineio.packets import message_frame
from gateway.servers.jsonio import printable
from gateway.servers.socketio.clients import EventHandler
from gateway.servers.socketio.packets import ack_frame
from gateway.servers.socketio.server import SocketServer
from gateway.servers.websocket.rfc6455 import text_frame
from gateway.wires.connection import BaseConnection

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gateway.access.origins import OriginPolicy
    from gateway.actions import Actions
    from gateway.manager import ChatManager
    from gateway.servers.engineio.socket import EngineSocket
    from gateway.servers.inorder import Answer
    from gateway.servers.socketio.clients import Client
    from gateway.servers.websocket.stream import WebSocketStream
    from gateway.sessions import Sessions


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
        """A client that was told to disconnect before it had heard that it is connected closes without a word."""
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


class ChatNamespace(socketio.AsyncNamespace, EventHandler):  # type: ignore[misc]
    """The gateway's side of the namespace ``/``: who comes and goes, and their events, each of which is an action."""

    def __init__(self, manager: ChatManager, sessions: Sessions, actions: Actions) -> None:
        super().__init__(NAMESPACE)
        self.manager = manager
        self._sessions = sessions
        self._actions = actions

    async def on_connect(self, sid: str, environ: dict[str, Any], auth: object) -> dict[str, str]:
        """Log in with ``auth``, or with ``?username=``; returns what CONNECT tells the client of its session."""
        client: Client | None = self.server.client(sid)
        if client is None or client.socket.closed:
            raise Refused("The transport is gone.")
        socket = client.socket
        resuming = isinstance(auth, dict) and bool(auth.get("pid"))
        connection = client.data = SocketIOConnection(socket, sid, resuming=resuming)
        try:
            if not self.server.eio.has_seat(socket.sid):
                raise LimitReached.connections(self.server.eio.seats.count)
            await self._sessions.connect(connection, load_credentials(_credentials(environ, auth)))
            environ.clear()  # nothing of the handshake is needed any more
            if connection.session is None:
                raise Unavailable("The session moved to another connection.")
        except GatewayError as error:
            socket.drop_held()
            if isinstance(error, Stopping) or (isinstance(error, Unavailable | LimitReached) and resuming):
                # The stock client gives up after a CONNECT_ERROR; after a lost transport it tries again.
                socket.close(SERVER_DISCONNECT, code=CloseReason.RESTART.code, text=error.message)
            details = error.as_dict()
            raise Refused(details.pop("message"), details) from None
        return {"sid": connection.session.sid, "pid": connection.session.pid}

    async def on_disconnect(self, sid: str, reason: str) -> None:
        connection = self.manager.connection(sid)
        if connection is None:
            return
        if reason == self.server.reason.CLIENT_DISCONNECT:
            self._sessions.end(connection)
        else:
            self._sessions.lose(connection)

    # --- an `EventHandler`

    async def handle_event(self, client: Client, event: list[Any], id_: int | None) -> Answer | None:
        connection: SocketIOConnection = client.data
        if connection.closed:
            return None
        action, payload = _action_and_payload(event)
        reply = await self._actions.perform(connection, action, payload)
        if id_ is not None:
            return partial(connection.write, ack_frame(id_, orjson.dumps(reply)))
        if reply["ok"]:
            return None
        # The client asked for no ack; it still hears of a failure.
        name = printable(action) if isinstance(action, str) else None
        error = events.encode(action=name, **reply["error"])
        return partial(connection.write, SOCKETIO.encode_event(events.ERROR, error, None))

    def leaving(self, client: Client) -> None:
        if client.data is not None:
            self._sessions.leave(client.data)

    def closing(self, client: Client) -> None:
        if client.data is not None:
            self._sessions.abandon(client.data)

    def describe(self, clients: Sequence[Client]) -> Mapping[str, object]:
        connection: SocketIOConnection | None = clients[0].data if clients else None
        return {"username": None, "wire": SOCKETIO.name} if connection is None else connection.describe()


def _action_and_payload(data: list[Any]) -> tuple[object, object]:
    """What an event asks for. `socket.send` emits ``message``, whose payload names the action."""
    event, *arguments = data
    if len(arguments) > 1:
        return event, arguments  # no object, and refused as such
    payload = arguments[0] if arguments else {}
    if event == "message":
        return payload.get("action") if isinstance(payload, dict) else None, payload
    return event, payload


def _credentials(environ: dict[str, Any], auth: object) -> object:
    if auth is None:
        auth = {}
    if isinstance(auth, dict) and "username" not in auth:
        query = parse_qs(environ.get("QUERY_STRING", ""))
        if "username" in query:
            return {**auth, "username": query["username"][0]}
    return auth


def socket_server(namespace: ChatNamespace, origins: OriginPolicy, **options: Any) -> SocketServer:
    """The server for the gateway's Socket.IO clients. ``options``: those of `SocketServer`."""

    def is_allowed(origin: str, environ: dict[str, Any]) -> bool:
        return origins.allows(environ["aiohttp.request"])

    server = SocketServer(
        namespace.manager,
        event_handler=namespace,
        cors_allowed_origins=is_allowed,
        cors_credentials=origins.lists,
        **options,
    )
    server.register_namespace(namespace)
    return server
