"""The Socket.IO wire: stock clients, over long-polling and WebSocket; see ``docs/protocol.md``.

`ChatNamespace` is what the gateway says to its clients. `SocketServer` is python-socketio's server with its
holes closed: it overrides private methods; ``tests/test_hooks.py`` fails when one of them is gone, and a later
server of our own takes its place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs

import orjson
import socketio
from engineio import packet as engine_packet
from socketio import packet
from socketio.exceptions import ConnectionRefusedError as Refused

from gateway import events
from gateway.delivery import NAMESPACE
from gateway.errors import CloseReason, GatewayError, Unavailable
from gateway.schemas import load_credentials
from gateway.transports.connection import BaseConnection
from gateway.transports.engineio import LIBRARY_LOGGER, EngineServer, packet_size
from gateway.transports.jsonio import decode, printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.actions import Actions, Reply
    from gateway.delivery import Delivery
    from gateway.engines.base import Session
    from gateway.sessions import Sessions
    from gateway.transports.origins import OriginPolicy

RESERVED_EVENTS: Final = frozenset(
    {"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"}
)
"""Names that a client must not send (the list of socket.io-parser 4.2)."""

MAX_ATTACHMENTS: Final = 10
"""Binary attachments in one packet (as socket.io-parser 4.2)."""


class PacketJSON:
    """Our JSON, as the Socket.IO libraries call their JSON module."""

    @staticmethod
    def dumps(value: Any, **_: Any) -> str:
        return orjson.dumps(value).decode()

    loads = staticmethod(decode)


class SocketIOWire:
    """Events as Socket.IO packets, ready for the queue of any client."""

    name = "socketio"

    def encode_event(self, event: str, body: bytes, offset: str | None) -> engine_packet.Packet:
        """The offset is the last argument, where the stock client looks for it."""
        arguments = orjson.dumps([event])[:-1] + b"," + body
        if offset is not None:
            arguments += b"," + orjson.dumps(offset)
        return engine_packet.Packet(engine_packet.MESSAGE, f"{packet.EVENT}{arguments.decode()}]")

    def encode_welcome(self, body: bytes, session: Session, offset: str) -> engine_packet.Packet:
        return self.encode_event(events.WELCOME, body, offset)


SOCKETIO = SocketIOWire()


class SocketIOConnection(BaseConnection):
    """A client in the namespace ``/``."""

    __slots__ = ("_engine",)

    def __init__(self, engine: EngineServer, sid: str, eio_sid: str, *, max_buffer: int) -> None:
        super().__init__(SOCKETIO, sid, eio_sid, max_buffer=max_buffer)
        self._engine = engine

    def close(self, reason: CloseReason) -> None:
        self.closed = True
        if reason is CloseReason.TAKEN_OVER:
            # The stock client stays away after a DISCONNECT, and comes back after anything else.
            goodbye = engine_packet.Packet(engine_packet.MESSAGE, str(packet.DISCONNECT))
            self._engine.send_now(self.engine_id, goodbye)
        self._engine.finish(self.engine_id, reason)

    def _send(self, frame: engine_packet.Packet) -> None:
        self._engine.send_now(self.engine_id, frame)

    @staticmethod
    def _size(frame: engine_packet.Packet) -> int:
        return packet_size(frame)

    def _unsent(self) -> int:
        return self._engine.unsent(self.engine_id)

    def _cut(self) -> None:
        self._engine.cut(self.engine_id)


class ChatNamespace(socketio.AsyncNamespace):  # type: ignore[misc]
    """The gateway's side of the namespace ``/``."""

    def __init__(self, delivery: Delivery, sessions: Sessions, actions: Actions, *, max_buffer: int) -> None:
        super().__init__(NAMESPACE)
        self._delivery = delivery
        self._sessions = sessions
        self._actions = actions
        self._max_buffer = max_buffer

    async def on_connect(self, sid: str, environ: dict[str, Any], auth: object) -> dict[str, str]:
        """Log in with ``auth``, or with ``?username=``; returns what CONNECT tells the client of its session."""
        connection = SocketIOConnection(
            self.server.eio,
            sid,
            self._delivery.eio_sid_from_sid(sid, NAMESPACE),
            max_buffer=self._max_buffer,
        )
        try:
            await self._sessions.connect(connection, load_credentials(_credentials(environ, auth)))
            if connection.session is None:
                raise Unavailable("The session moved to another connection.")
        except GatewayError as error:
            details = error.as_dict()
            raise Refused(details.pop("message"), details) from None
        return {"sid": connection.session.sid, "pid": connection.session.pid}

    async def on_disconnect(self, sid: str, reason: str) -> None:
        connection = self._delivery.connection(sid)
        if connection is None:
            return
        if reason == self.server.reason.CLIENT_DISCONNECT:
            self._sessions.end(connection)
        else:
            self._sessions.suspend(connection)

    async def trigger_event(self, event: str, *args: Any) -> Any:
        """``connect`` and ``disconnect`` come from the server; every other event is an action."""
        if event in {"connect", "disconnect"}:
            return await super().trigger_event(event, *args)
        sid, *arguments = args
        connection = self._delivery.connection(sid)
        if not isinstance(connection, SocketIOConnection):
            return None
        return await self._actions.perform(connection, *_action_and_payload(event, arguments))

    async def on_unacked(self, sid: str, data: list[Any], reply: Reply | None) -> None:
        """The client asked for no ack; it still hears of a failure."""
        connection = self._delivery.connection(sid)
        if connection is not None and reply is not None and not reply["ok"]:
            action, _ = _action_and_payload(data[0], data[1:])
            name = printable(action) if isinstance(action, str) else None
            error = events.encode(action=name, **reply["error"])
            connection.write(SOCKETIO.encode_event(events.ERROR, error, None))


def _action_and_payload(event: str, arguments: list[Any]) -> tuple[object, object]:
    """What an event asks for. `socket.send` emits ``message``, whose payload names the action."""
    if len(arguments) > 1:
        return event, arguments  # no object, and refused as such
    payload = arguments[0] if arguments else {}
    if event == "message":
        return payload.get("action") if isinstance(payload, dict) else None, payload
    return event, payload


def _credentials(environ: dict[str, Any], auth: object) -> object:
    query = parse_qs(environ.get("QUERY_STRING", ""))
    if auth is None:
        auth = {}
    if isinstance(auth, dict) and "username" not in auth and "username" in query:
        return {**auth, "username": query["username"][0]}
    return auth


class SocketServer(socketio.AsyncServer):  # type: ignore[misc]
    """A ``socketio.AsyncServer`` on aiohttp that handles one client's packets in order and closes on what is none.

    A ``connect`` handler may return an object: its fields go into the CONNECT packet, beside or instead of
    ``sid``. A namespace may have ``on_unacked(sid, data, result)``, which is called with what a handler
    returned where the client asked for no ack.
    """

    def __init__(self, client_manager: Delivery, **options: Any) -> None:
        super().__init__(
            client_manager=client_manager,
            async_handlers=False,
            json=PacketJSON,
            logger=LIBRARY_LOGGER,
            engineio_logger=LIBRARY_LOGGER,
            **options,
        )

    def _engineio_server_class(self) -> type[EngineServer]:
        return EngineServer

    async def _send_packet(self, eio_sid: str, pkt: packet.Packet) -> None:
        encoded = pkt.encode()
        for part in encoded if isinstance(encoded, list) else [encoded]:
            self.eio.send_now(eio_sid, engine_packet.Packet(engine_packet.MESSAGE, part))

    async def _handle_eio_message(self, eio_sid: str, data: str | bytes) -> None:
        if eio_sid not in self.environ:
            return  # closed, and what it sent before is still coming in
        try:
            pkt = self._read_packet(eio_sid, data)
        except (ValueError, TypeError, IndexError, KeyError, AttributeError):
            self.eio.cut(eio_sid)
            return
        if pkt is None:
            return
        if pkt.packet_type == packet.CONNECT:
            await self._handle_connect(eio_sid, pkt.namespace, pkt.data)
        elif pkt.packet_type == packet.DISCONNECT:
            await self._handle_disconnect(eio_sid, pkt.namespace, self.reason.CLIENT_DISCONNECT)
        elif pkt.packet_type in {packet.EVENT, packet.BINARY_EVENT}:
            await self._handle_event(eio_sid, pkt.namespace, pkt.id, pkt.data)
        else:
            await self._handle_ack(eio_sid, pkt.namespace, pkt.id, pkt.data)

    def _read_packet(self, eio_sid: str, data: str | bytes) -> packet.Packet | None:
        """The packet that ``data`` completes, or None. Raises where it is none (Socket.IO protocol v5)."""
        if isinstance(data, bytes):
            pkt = self._binary_packet[eio_sid]
            if not pkt.add_attachment(data):
                return None
            del self._binary_packet[eio_sid]
        else:
            if eio_sid in self._binary_packet:
                raise ValueError("an attachment is missing")
            # python-engineio decodes text that looks like JSON.
            pkt = self.packet_class(encoded_packet=data if isinstance(data, str) else PacketJSON.dumps(data))
            if pkt.packet_type in {packet.BINARY_EVENT, packet.BINARY_ACK} and pkt.attachment_count:
                if pkt.attachment_count > MAX_ATTACHMENTS:
                    raise ValueError("too many attachments")
                _check_shape(pkt)
                self._binary_packet[eio_sid] = pkt
                return None
        _check_shape(pkt)
        return pkt

    async def _handle_connect(self, eio_sid: str, namespace: str | None, data: object) -> None:
        namespace = namespace or NAMESPACE
        if namespace not in self.handlers and namespace not in self.namespace_handlers:
            await self._refuse(eio_sid, namespace, {"message": "Invalid namespace"})
            return
        sid = await self.manager.pre_connect(eio_sid, namespace)
        if sid is None:
            self.eio.cut(eio_sid)
            return
        try:
            fields = await self._trigger_event("connect", namespace, sid, self.environ[eio_sid], data)
        except Refused as refusal:
            await self.manager.disconnect(sid, namespace)
            await self._refuse(eio_sid, namespace, refusal.error_args)
            return
        if eio_sid not in self.environ:
            # The transport went in the meantime, when the client was not connected yet.
            await self._trigger_event("disconnect", namespace, sid, self.reason.TRANSPORT_CLOSE)
            await self.manager.disconnect(sid, namespace)
            return
        answer = {"sid": sid, **(fields if isinstance(fields, dict) else {})}
        await self._send_packet(eio_sid, self.packet_class(packet.CONNECT, answer, namespace=namespace))
        await self.manager.connect(sid, namespace)

    async def _refuse(self, eio_sid: str, namespace: str, error: dict[str, Any]) -> None:
        await self._send_packet(eio_sid, self.packet_class(packet.CONNECT_ERROR, error, namespace=namespace))

    async def _handle_event_internal(
        self,
        server: Any,
        sid: str,
        eio_sid: str,
        data: list[Any],
        namespace: str,
        id: int | None,  # noqa: A002
    ) -> None:
        if id is not None:
            await super()._handle_event_internal(server, sid, eio_sid, data, namespace, id)
            return
        result = await self._trigger_event(data[0], namespace, sid, *data[1:])
        on_unacked: Callable[..., Any] | None = getattr(self.namespace_handlers.get(namespace), "on_unacked", None)
        if on_unacked is not None:
            await on_unacked(sid, data, result)

    async def _handle_eio_disconnect(self, eio_sid: str, reason: str) -> None:
        """A transport that closes, in whatever way, is lost: only a DISCONNECT packet says goodbye."""
        self._binary_packet.pop(eio_sid, None)
        if reason == self.reason.CLIENT_DISCONNECT:
            reason = self.reason.TRANSPORT_CLOSE
        await super()._handle_eio_disconnect(eio_sid, reason)
        self.eio.release(eio_sid)


def _check_shape(pkt: packet.Packet) -> None:
    """Raises ValueError where a packet's data does not fit its type."""
    data = pkt.data
    if pkt.packet_type in {packet.EVENT, packet.BINARY_EVENT}:
        if not isinstance(data, list) or not data or not isinstance(data[0], str) or data[0] in RESERVED_EVENTS:
            raise ValueError("not an event")
    elif pkt.packet_type in {packet.ACK, packet.BINARY_ACK}:
        if not isinstance(data, list) or pkt.id is None:
            raise ValueError("not an ack")
    elif pkt.packet_type == packet.DISCONNECT:
        if data is not None:
            raise ValueError("not a disconnect")
    elif pkt.packet_type != packet.CONNECT:
        raise ValueError("not a client's packet")


def socket_server(delivery: Delivery, origins: OriginPolicy, **options: Any) -> SocketServer:
    """The server for the gateway's Socket.IO clients. ``options``: those of ``engineio.AsyncServer``."""

    def is_allowed(origin: str, environ: dict[str, Any]) -> bool:
        return origins.allows(origin, environ.get("HTTP_HOST", ""))

    return SocketServer(delivery, cors_allowed_origins=is_allowed, cors_credentials=False, **options)
