"""Socket.IO v5 on `EngineServer` (docs/socket.io-protocol of socketio/socket.io).

`SocketServer` takes the place of ``socketio.AsyncServer`` on aiohttp, for the gateway and for any other
python-socketio application; ``docs/servers.md`` says what differs, ``tests/servers/test_hooks.py`` what it overrides.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import socketio
from socketio import packet
from socketio.exceptions import TimeoutError as CallTimeout

from gateway.servers.engineio.packets import message_frame
from gateway.servers.handlers import call_handler
from gateway.servers.msgpack import ADVICE, REFUSAL, MsgpackRefused, is_msgpack
from gateway.servers.notices import Notice
from gateway.servers.socketio.adminqueue import AdminQueue
from gateway.servers.socketio.engine import SocketEngine
from gateway.servers.socketio.joining import Joining
from gateway.servers.socketio.packets import packet_class
from gateway.servers.socketio.peers import Peer, Peers
from gateway.servers.socketio.reader import MAX_ATTACHED, MAX_ATTACHMENTS, PacketReader

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gateway.servers.engineio.packets import Packet
    from gateway.servers.engineio.socket import EngineSocket
    from gateway.servers.inorder import Answer, InOrder
    from gateway.servers.socketio.clients import Client, EventHandler

NAMESPACE: Final = "/"
logger = logging.getLogger(__name__)

LIBRARY_LOGGER: Final = logging.getLogger("gateway.socketio")


class SocketServer(socketio.AsyncServer):  # type: ignore[misc]
    """A ``socketio.AsyncServer`` on aiohttp that handles one client's packets in their order, and closes a client that
    sends something else.

    A ``connect`` handler may return an object: its fields go into the CONNECT packet, beside or instead of
    ``sid``.
    """

    packet_class: type[packet.Packet]
    manager_initialized: bool
    eio: SocketEngine

    def __init__(
        self,
        client_manager: Any = None,
        *,
        event_handler: EventHandler | None = None,
        connect_timeout: float = 5.0,
        max_attachments: int = MAX_ATTACHMENTS,
        max_attachments_size: int = MAX_ATTACHED,
        serializer: Any = "default",
        json: Any = None,
        **options: Any,
    ) -> None:
        """``event_handler``: what takes all events, in the place of python-socketio's handlers. ``connect_timeout``:
        seconds until a client that has joined no namespace is closed. ``max_attachments``: binary attachments in one
        packet; ``max_attachments_size``: bytes in all of them. ``serializer``, ``json``: as python-socketio's, but for
        this server alone. ``options``: those of the base class and of `EngineServer`; ``async_handlers`` is ignored:
        one client's events are handled in their order, those of different clients concurrently.

        Raises:
            ValueError: an option has a value that this server does not support; the message says what to do.
        """
        for name, number in (("max_attachments", max_attachments), ("max_attachments_size", max_attachments_size)):
            if type(number) is not int or number < 0:
                raise ValueError(f"{name}= must be an integer of 0 or more, not {number!r}; a large one is no limit")
        chosen = packet_class(serializer, json)
        self._event_handler = event_handler
        self._other_parser = Notice(logger, "refused a client with another parser", ADVICE)
        defaults = {"logger": LIBRARY_LOGGER, "engineio_logger": LIBRARY_LOGGER}
        super().__init__(client_manager, **{**defaults, **options, "serializer": chosen, "async_handlers": False})
        self._peers = Peers(self.manager, connect_timeout)
        self._joining = Joining(self, self._peers)
        self._reader = PacketReader(
            self.packet_class,
            self.eio.limits.budget,
            max_attachments=max_attachments,
            max_attachments_size=max_attachments_size,
        )

    def _engineio_server_class(self) -> Callable[..., SocketEngine]:
        return partial(SocketEngine, self)

    def client(self, sid: str, namespace: str = NAMESPACE) -> Client | None:
        """A client that is in a namespace, or is about to join it."""
        peer = self._peers.of_client(sid, namespace)
        return None if peer is None else peer.clients.get(namespace)

    def ack(self, client: Client, id_: int, *values: Any) -> None:
        """Ack an event that an `EventHandler` was given. ``values``: the arguments of the client's callback."""
        pkt = self.packet_class(packet.ACK, list(values), namespace=client.namespace, id=id_)
        self._write(client.socket, pkt)

    async def _send_packet(self, eio_sid: str, pkt: packet.Packet) -> None:
        peer = self._peers.get(eio_sid)
        if peer is not None:
            self._write(peer.socket, pkt)

    @staticmethod
    def _write(socket: EngineSocket, pkt: packet.Packet) -> None:
        encoded = pkt.encode()
        for part in encoded if isinstance(encoded, list) else [encoded]:
            socket.write(message_frame(part))

    async def call(
        self,
        event: str,
        data: Any = None,
        to: str | None = None,
        sid: str | None = None,
        namespace: str | None = None,
        timeout: float = 60,  # noqa: ASYNC109 - as python-socketio's
        ignore_queue: bool = False,
    ) -> Any:
        """As python-socketio's. A handler may call it as well: acks do not wait for it, as the client's events do."""
        if to is None and sid is None:
            raise ValueError("Cannot use call() to broadcast.")
        ack: asyncio.Future[tuple[Any, ...]] = asyncio.get_running_loop().create_future()

        def acked(*values: Any) -> None:
            if not ack.done():
                ack.set_result(values)

        await self.emit(event, data, to=to or sid, namespace=namespace, callback=acked, ignore_queue=ignore_queue)
        try:
            async with asyncio.timeout(timeout):
                values = await ack
        except TimeoutError:
            raise CallTimeout from None
        return values if len(values) > 1 else values[0] if values else None

    # --- what the `SocketEngine` calls

    def transport_opened(self, socket: EngineSocket, environ: dict[str, Any]) -> None:
        """There is a new transport."""
        if not self.manager_initialized:
            self.manager_initialized = True
            self.manager.initialize()
        self.environ[socket.sid] = environ
        self._peers.add(socket)

    def packet_received(self, socket: EngineSocket, data: Packet, in_order: InOrder) -> None:
        """Put what is to be done with a packet into the client's order, if ``data`` completes one.

        An ack does not wait for the events before it, whose handlers may wait for the ack, unless its callback is a
        coroutine function.

        Raises:
            ValueError: ``data`` is not a packet (Socket.IO protocol v5).
        """
        peer = self._peers.get(socket.sid)
        if peer is None:
            return
        try:
            if self._event_handler is not None and (client := peer.joined(NAMESPACE)) is not None:
                event = self._reader.read_event(peer, data)
                if event is not None:
                    in_order.overlap(partial(self._perform, peer, client.namespace, *event))
                    return
            pkt = self._reader.read(peer, data)
        except Exception as error:  # a serializer may raise anything for what is not a packet
            if self.packet_class.uses_binary_events and peer.incoming is None and is_msgpack(data):
                self._other_parser.give()
                socket.write_through(message_frame(REFUSAL))
                raise MsgpackRefused from None
            self._reader.drop(peer)
            raise ValueError("not a Socket.IO packet") from error
        if pkt is not None:
            self._dispatch(peer, pkt, in_order)

    def transport_closing(self, socket: EngineSocket) -> None:
        """A transport is closed. ``disconnect`` follows in the client's order."""
        peer = self._peers.get(socket.sid)
        if peer is not None and self._event_handler is not None:
            for client in tuple(peer.clients.values()):
                self._event_handler.closing(client)

    def describe_transport(self, socket: EngineSocket) -> Mapping[str, object]:
        """What the application adds to what is logged about a transport."""
        if self._event_handler is None:
            return {}
        peer = self._peers.get(socket.sid)
        return self._event_handler.describe(() if peer is None else tuple(peer.clients.values()))

    # --- packets

    def _dispatch(self, peer: Peer, pkt: packet.Packet, in_order: InOrder) -> None:
        """Put what is to be done with a packet into the client's order."""
        namespace = pkt.namespace or NAMESPACE
        if pkt.packet_type in {packet.ACK, packet.BINARY_ACK}:
            self._take_ack(peer, pkt, in_order)
        elif pkt.packet_type == packet.EVENT and self._event_handler is not None and peer.joined(namespace) is not None:
            in_order.overlap(partial(self._perform, peer, namespace, pkt.data, pkt.id))
        else:
            if pkt.packet_type == packet.DISCONNECT:
                # The application is notified once all earlier requests of the client have been started.
                client = peer.clients.get(namespace)
                asyncio.get_running_loop().call_soon(self._note_leaving, peer, namespace, client)
            in_order.put(partial(self._handle_eio_message, peer.socket.sid, pkt))

    def _note_leaving(self, peer: Peer, namespace: str, client: Client | None) -> None:
        """``client``: as it was when DISCONNECT came; None if its CONNECT was not handled yet."""
        client = client or peer.clients.get(namespace)
        if client is not None and self._event_handler is not None:
            self._event_handler.leaving(client)

    def _take_ack(self, peer: Peer, pkt: packet.Packet, in_order: InOrder) -> None:
        sid = self.manager.sid_from_eio_sid(peer.socket.sid, pkt.namespace or NAMESPACE)
        callbacks = self.manager.callbacks.get(sid, {})
        if pkt.id not in callbacks:
            return
        if inspect.iscoroutinefunction(callbacks[pkt.id]):
            in_order.put(partial(self._handle_eio_message, peer.socket.sid, pkt))
            return
        try:
            callbacks.pop(pkt.id)(*pkt.data)
        except Exception:
            self.logger.exception("ack callback error")

    async def _perform(self, peer: Peer, namespace: str, event: list[Any], id_: int | None) -> Answer | None:
        """Give an event to the application. The client may have another ``sid`` by now than when it sent the event."""
        client = peer.joined(namespace)
        if client is None or self._event_handler is None:
            await self._handle_event(peer.socket.sid, namespace, id_, event)
            return None
        return await self._event_handler.handle_event(client, event, id_)

    async def _handle_eio_message(self, eio_sid: str, pkt: packet.Packet) -> None:
        """Handle a packet, in the client's order."""
        if pkt.packet_type == packet.CONNECT:
            await self._handle_connect(eio_sid, pkt.namespace, pkt.data)
        elif pkt.packet_type == packet.DISCONNECT:
            if self._peers.is_somewhere(peer := self._peers[eio_sid]):
                await self._handle_disconnect(eio_sid, pkt.namespace, self.reason.CLIENT_DISCONNECT)
            else:
                peer.socket.refuse()
        elif pkt.packet_type in {packet.EVENT, packet.BINARY_EVENT}:
            await self._handle_event(eio_sid, pkt.namespace, pkt.id, pkt.data)
        else:
            await self._handle_ack(eio_sid, pkt.namespace, pkt.id, pkt.data)

    async def _handle_connect(self, eio_sid: str, namespace: str | None, data: object) -> None:
        await self._joining.join(self._peers[eio_sid], namespace or NAMESPACE, data)

    def serves(self, namespace: str) -> bool:
        """Whether a client may ask for a namespace."""
        return self.namespaces == "*" or namespace in (*self.handlers, *self.namespace_handlers, *self.namespaces)

    async def ask(self, client: Client, auth: object) -> Any:
        """What the application's handler of ``connect`` returns."""
        environ = self.environ[client.socket.sid]
        return await self._trigger_event("connect", client.namespace, client.sid, environ, auth or None)

    async def _trigger_event(self, event: str, namespace: str, *args: Any) -> Any:
        """As python-socketio's, but that no handler is called twice."""
        handler, arguments = self._get_event_handler(event, namespace, args)
        if handler is None:
            owner, arguments = self._get_namespace_handler(namespace, args)
            if owner is None:
                return self.not_handled
            if type(owner).trigger_event is not socketio.AsyncNamespace.trigger_event:
                return await owner.trigger_event(event, *arguments)
            handler = getattr(owner, f"on_{event or ''}", None)
            if handler is None:
                return None
        return await call_handler(event, handler, arguments)

    def instrument(self, *args: Any, **options: Any) -> Any:
        """As python-socketio's: report to the Socket.IO Admin UI."""
        admin = super().instrument(*args, **options)
        admin.admin_queue = AdminQueue()
        self.eio.instrumented = True
        return admin

    async def _handle_eio_connect(self, eio_sid: str, environ: dict[str, Any]) -> None:
        self.transport_opened(self.eio.sockets[eio_sid], environ)

    async def _handle_event(self, eio_sid: str, namespace: str | None, id: int | None, data: list[Any]) -> None:  # noqa: A002
        """An event for python-socketio's handlers, or one that came before its client had joined."""
        peer = self._peers[eio_sid]
        client = peer.joined(namespace or NAMESPACE)
        if not self._peers.is_somewhere(peer):
            peer.socket.refuse()  # nothing would reply to the event, and the client is to know that
        elif self._event_handler is not None and client is not None:
            if (give_ack := await self._event_handler.handle_event(client, data, id)) is not None:
                give_ack()
        else:
            await super()._handle_event(eio_sid, namespace, id, data)

    async def _handle_disconnect(self, eio_sid: str, namespace: str | None, reason: str | None = None) -> None:
        sid = self.manager.sid_from_eio_sid(eio_sid, namespace or NAMESPACE)
        try:
            await super()._handle_disconnect(eio_sid, namespace, reason)
        except Exception:
            logger.exception("the handler of disconnect failed")
            await self.manager.disconnect(sid, namespace or NAMESPACE, ignore_queue=True)
        self._peers.left(self._peers[eio_sid], namespace or NAMESPACE)

    async def disconnect(self, sid: str, namespace: str | None = None, ignore_queue: bool = False) -> None:
        peer = self._peers.of_client(sid, namespace or NAMESPACE)
        try:
            await super().disconnect(sid, namespace, ignore_queue)
        except Exception:  # of the handler
            await self.manager.disconnect(sid, namespace or NAMESPACE, ignore_queue=True)
            raise
        finally:
            if peer is not None:
                self._peers.left(peer, namespace or NAMESPACE)

    async def _handle_eio_disconnect(self, eio_sid: str, reason: str) -> None:
        """A transport that closes, in whatever way, is lost: a client leaves only with a DISCONNECT packet."""
        peer = self._peers.get(eio_sid)
        if peer is None:
            return
        self._reader.drop(peer)
        if reason == self.reason.CLIENT_DISCONNECT:
            reason = self.reason.TRANSPORT_CLOSE
        try:
            await super()._handle_eio_disconnect(eio_sid, reason)
        finally:
            self._peers.remove(peer)
