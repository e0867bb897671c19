"""The gateway's side of the namespace ``/``: log-ins, and events, each of which is an action. `SocketServer`, below it,
implements the protocol.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import orjson
import socketio
from socketio.exceptions import ConnectionRefusedError as Refused

from gateway import events
from gateway.errors import CloseReason, GatewayError, LimitReached, Stopping, Unavailable
from gateway.manager import NAMESPACE
from gateway.payloads import load_credentials
from gateway.servers.jsonio import printable
from gateway.servers.socketio.clients import EventHandler
from gateway.servers.socketio.packets import ack_frame
from gateway.servers.socketio.server import SocketServer
from gateway.wires.socketio.connection import SERVER_DISCONNECT, SOCKETIO, SocketIOConnection

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gateway.access.origins import OriginPolicy
    from gateway.manager import ChatManager
    from gateway.pipeline import Pipeline
    from gateway.servers.inorder import Answer
    from gateway.servers.socketio.clients import Client
    from gateway.sessions import Sessions


class ChatNamespace(socketio.AsyncNamespace, EventHandler):  # type: ignore[misc]
    server: SocketServer

    def __init__(self, manager: ChatManager, sessions: Sessions, pipeline: Pipeline) -> None:
        super().__init__(NAMESPACE)
        self.manager = manager
        self._sessions = sessions
        self._pipeline = pipeline

    async def on_connect(self, sid: str, environ: dict[str, Any], auth: object) -> dict[str, str]:
        """Log in with ``auth``, or with ``?username=``. Returns the data of CONNECT, which names the session."""
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
        reply = await self._pipeline.perform(connection.actor, action, payload)
        if id_ is not None:
            return partial(connection.write, ack_frame(id_, orjson.dumps(reply)))
        if reply["ok"]:
            return None
        # The client asked for no ack; it still learns of a failure.
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
