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
from socketio.exceptions import ConnectionRefusedError as Refused
from socketio.exceptions import TimeoutError as CallTimeout

from gateway.servers.engineio.packets import message_frame
from gateway.servers.handlers import call_handler
from gateway.servers.jsonio import shorten
from gateway.servers.msgpack import ADVICE, REFUSAL, MsgpackRefused, is_msgpack
from gateway.servers.notices import Notice
from gateway.servers.socketio.adminqueue import AdminQueue
from gateway.servers.socketio.clients import Client, Peer
from gateway.servers.socketio.engine import SocketEngine
from gateway.servers.socketio.packets import packet_class
from gateway.servers.socketio.reader import MAX_ATTACHED, MAX_ATTACHMENTS, PacketReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.servers.engineio.packets import Packet
    from gateway.servers.engineio.socket import EngineSocket
    from gateway.servers.inorder import Answer, InOrder
    from gateway.servers.socketio.clients import EventHandler

NAMESPACE: Final = "/"
logger = logging.getLogger(__name__)

LIBRARY_LOGGER: Final = logging.getLogger("gateway.socketio")


class SocketServer(socketio.AsyncServer):  # type: ignore[misc]
    """A ``socketio.AsyncServer`` on aiohttp that handles one client's packets in order and closes on what is none.

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
        seconds until a client that has asked for no namespace is closed. ``max_attachments``: binary attachments in one
        packet; ``max_attachments_size``: bytes in all of them. ``serializer``, ``json``: as python-socketio's, but for
        this server alone. ``options``: those of the base class and of `EngineServer`; ``async_handlers`` is not heeded:
        one client's events are handled in order, those of different clients side by side.

        Raises:
            ValueError: an option has a value that this server cannot do; the message says what to do.
        """
        for name, number in (("max_attachments", max_attachments), ("max_attachments_size", max_attachments_size)):
            if type(number) is not int or number < 0:
                raise ValueError(f"{name}= must be an integer of 0 or more, not {number!r}; a large one is no limit")
        chosen = packet_class(serializer, json)
        self._connect_timeout = connect_timeout
        self._event_handler = event_handler
        self._peers: dict[str, Peer] = {}
        """By the ids of their Engine.IO sessions."""
        self._other_parser = Notice(logger, "refused a client with another parser", ADVICE)
        defaults = {"logger": LIBRARY_LOGGER, "engineio_logger": LIBRARY_LOGGER}
        super().__init__(client_manager, **{**defaults, **options, "serializer": chosen, "async_handlers": False})
        self._reader = PacketReader(
            self.packet_class,
            self.eio.budget,
            max_attachments=max_attachments,
            max_attachments_size=max_attachments_size,
        )

    def _engineio_server_class(self) -> Callable[..., SocketEngine]:
        return partial(SocketEngine, self)

    def client(self, sid: str, namespace: str = NAMESPACE) -> Client | None:
        """A client that is in a namespace, or is about to join it."""
        peer = self._peers.get(self.manager.eio_sid_from_sid(sid, namespace))
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
        """As python-socketio's; also from a handler, although the client's events wait for that."""
        if to is None and sid is None:
            raise ValueError("Cannot use call() to broadcast.")
        answer: asyncio.Future[tuple[Any, ...]] = asyncio.get_running_loop().create_future()

        def answered(*values: Any) -> None:
            if not answer.done():
                answer.set_result(values)

        await self.emit(event, data, to=to or sid, namespace=namespace, callback=answered, ignore_queue=ignore_queue)
        try:
            async with asyncio.timeout(timeout):
                values = await answer
        except TimeoutError:
            raise CallTimeout from None
        return values if len(values) > 1 else values[0] if values else None

    # --- what the `SocketEngine` says

    def transport_opened(self, socket: EngineSocket, environ: dict[str, Any]) -> None:
        """There is a new transport. It is closed if it joins no namespace in time."""
        if not self.manager_initialized:
            self.manager_initialized = True
            self.manager.initialize()
        self.environ[socket.sid] = environ
        peer = self._peers[socket.sid] = Peer(socket)
        self._await_join(peer)

    def packet_received(self, socket: EngineSocket, data: Packet, in_order: InOrder) -> None:
        """Put what is to be done with a packet into its turn, if ``data`` completes one.

        An ack is not made to wait behind events, whose handlers may wait for it, unless what it calls takes time.

        Raises:
            ValueError: not a packet (Socket.IO protocol v5).
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
        except Exception as error:  # whatever a serializer makes of what is no packet
            if self.packet_class.uses_binary_events and peer.incoming is None and is_msgpack(data):
                self._other_parser.give()
                socket.write_through(message_frame(REFUSAL))
                raise MsgpackRefused from None
            self._reader.drop(peer)
            raise ValueError("not a Socket.IO packet") from error
        if pkt is not None:
            self._dispatch(peer, pkt, in_order)

    def transport_closing(self, socket: EngineSocket) -> None:
        """A transport is closed. ``disconnect`` is handled in its turn."""
        peer = self._peers.get(socket.sid)
        if peer is not None and self._event_handler is not None:
            for client in tuple(peer.clients.values()):
                self._event_handler.closing(client)

    def transport_too_slow(self, socket: EngineSocket, unsent: int) -> bool:
        """A transport is cut because its client does not read. Returns whether the application has logged that."""
        if self._event_handler is None:
            return False
        peer = self._peers.get(socket.sid)
        return self._event_handler.too_slow(() if peer is None else tuple(peer.clients.values()), unsent)

    # --- packets

    def _dispatch(self, peer: Peer, pkt: packet.Packet, in_order: InOrder) -> None:
        """Put what is to be done with a packet into its turn."""
        namespace = pkt.namespace or NAMESPACE
        if pkt.packet_type in {packet.ACK, packet.BINARY_ACK}:
            self._take_ack(peer, pkt, in_order)
        elif pkt.packet_type == packet.EVENT and self._event_handler is not None and peer.joined(namespace) is not None:
            in_order.overlap(partial(self._perform, peer, namespace, pkt.data, pkt.id))
        else:
            if pkt.packet_type == packet.DISCONNECT:
                # The application hears of it when all that the client asked for before has begun.
                client = peer.clients.get(namespace)
                asyncio.get_running_loop().call_soon(self._note_leaving, peer, namespace, client)
            in_order.put(partial(self._handle_eio_message, peer.socket.sid, pkt))

    def _note_leaving(self, peer: Peer, namespace: str, client: Client | None) -> None:
        """``client``: as it was when DISCONNECT came; None where its CONNECT waited before that."""
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
        """Give an event to the application. The client may be there by another ``sid`` than when it sent it."""
        client = peer.joined(namespace)
        if client is None or self._event_handler is None:
            await self._handle_event(peer.socket.sid, namespace, id_, event)
            return None
        return await self._event_handler.handle_event(client, event, id_)

    async def _handle_eio_message(self, eio_sid: str, pkt: packet.Packet) -> None:
        """Handle a packet, in its turn."""
        if pkt.packet_type == packet.CONNECT:
            await self._handle_connect(eio_sid, pkt.namespace, pkt.data)
        elif pkt.packet_type == packet.DISCONNECT:
            if self._is_somewhere(self._peers[eio_sid]):
                await self._handle_disconnect(eio_sid, pkt.namespace, self.reason.CLIENT_DISCONNECT)
            else:
                self.eio.refuse(eio_sid)
        elif pkt.packet_type in {packet.EVENT, packet.BINARY_EVENT}:
            await self._handle_event(eio_sid, pkt.namespace, pkt.id, pkt.data)
        else:
            await self._handle_ack(eio_sid, pkt.namespace, pkt.id, pkt.data)

    async def _handle_connect(self, eio_sid: str, namespace: str | None, data: object) -> None:
        namespace = namespace or NAMESPACE
        peer = self._peers[eio_sid]
        served = (*self.handlers, *self.namespace_handlers, *self.namespaces)
        if namespace not in served and self.namespaces != "*":
            self._reply(peer, packet.CONNECT_ERROR, {"message": "Invalid namespace"}, shorten(namespace))
            return
        deadline = self._stop_awaiting(peer)
        sid = await self.manager.pre_connect(eio_sid, namespace)
        if sid is None:
            peer.socket.fail()
            return
        client = peer.clients[namespace] = Client(peer.socket, sid, namespace)
        if self.always_connect:
            await self._welcome(peer, client, {})
        else:
            # What the handler emits to the client must not reach it before it knows that it is connected.
            peer.socket.cork()
        try:
            fields = await self._accept(client, data)
        except Refused as refusal:
            await self._refuse(peer, client, refusal.error_args, deadline)
        except BaseException:
            await self._refuse(peer, client, {"message": "Internal server error"}, deadline)
            raise
        else:
            if not self.always_connect:
                await self._welcome(peer, client, fields)
        finally:
            peer.socket.uncork()

    async def _accept(self, client: Client, data: object) -> dict[str, Any]:
        """Ask the application. Raises python-socketio's ConnectionRefusedError."""
        environ = self.environ[client.socket.sid]
        try:
            answer = await self._trigger_event("connect", client.namespace, client.sid, environ, data or None)
        except ConnectionRefusedError:
            raise Refused("Connection refused by server") from None
        if answer is False:
            raise Refused
        return answer if isinstance(answer, dict) else {}

    async def _welcome(self, peer: Peer, client: Client, fields: dict[str, Any]) -> None:
        self._stop_awaiting(peer)
        self._reply(peer, packet.CONNECT, {"sid": client.sid, **fields}, client.namespace)
        await self.manager.connect(client.sid, client.namespace)
        client.joined = True

    async def _refuse(self, peer: Peer, client: Client, error: dict[str, Any], deadline: float | None) -> None:
        """Take a client out that the application does not want; with ``always_connect`` it was in. Having asked wins it
        no time: its ``deadline`` stays, unless it joins before.
        """
        await self.manager.disconnect(client.sid, client.namespace)
        if self.always_connect:
            self._reply(peer, packet.DISCONNECT, error, client.namespace)
        else:
            self._reply(peer, packet.CONNECT_ERROR, error, client.namespace)
        self._left(peer, client.namespace, deadline)

    def _reply(self, peer: Peer, kind: int, data: dict[str, Any] | None, namespace: str) -> None:
        pkt = self.packet_class(kind, data, namespace=namespace)
        peer.socket.write_through(message_frame(pkt.encode()))

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

    # --- a transport is in a namespace, or is closed

    def _await_join(self, peer: Peer, deadline: float | None = None) -> None:
        """Close a client that is in no namespace, unless it joins one until ``deadline``, a time of the loop's clock
        (None: `connect_timeout` from now).
        """
        if peer.socket.sid not in self.environ or peer.deadline is not None or self._is_somewhere(peer):
            return
        loop = asyncio.get_running_loop()
        if deadline is None:
            deadline = loop.time() + self._connect_timeout
        if deadline <= loop.time():
            self.eio.refuse(peer.socket.sid)
        else:
            peer.deadline = loop.call_at(deadline, self._close_unjoined, peer)

    def _stop_awaiting(self, peer: Peer) -> float | None:
        """The client has joined, or tries to. Returns its deadline, if it had one."""
        timer, peer.deadline = peer.deadline, None
        if timer is None:
            return None
        timer.cancel()
        return timer.when()

    def _close_unjoined(self, peer: Peer) -> None:
        peer.deadline = None
        peer.socket.fail()

    def _is_somewhere(self, peer: Peer) -> bool:
        """Whether a client is in a namespace, or about to join one."""
        manager, eio_sid = self.manager, peer.socket.sid
        return any(manager.sid_from_eio_sid(eio_sid, namespace) for namespace in manager.get_namespaces())

    def _left(self, peer: Peer, namespace: str, deadline: float | None = None) -> None:
        """A client has left a namespace; if it is in no other, it has a ``deadline`` (see `_await_join`)."""
        peer.clients.pop(namespace, None)
        self._await_join(peer, deadline)

    async def _handle_event(self, eio_sid: str, namespace: str | None, id: int | None, data: list[Any]) -> None:  # noqa: A002
        """An event for python-socketio's handlers, or one that came before its client had joined."""
        peer = self._peers[eio_sid]
        client = peer.joined(namespace or NAMESPACE)
        if not self._is_somewhere(peer):
            self.eio.refuse(eio_sid)  # nobody is there who could answer, and the client is to know that
        elif self._event_handler is not None and client is not None:
            if (answer := await self._event_handler.handle_event(client, data, id)) is not None:
                answer()
        else:
            await super()._handle_event(eio_sid, namespace, id, data)

    async def _handle_disconnect(self, eio_sid: str, namespace: str | None, reason: str | None = None) -> None:
        sid = self.manager.sid_from_eio_sid(eio_sid, namespace or NAMESPACE)
        try:
            await super()._handle_disconnect(eio_sid, namespace, reason)
        except Exception:
            logger.exception("the handler of disconnect failed")
            await self.manager.disconnect(sid, namespace or NAMESPACE, ignore_queue=True)
        self._left(self._peers[eio_sid], namespace or NAMESPACE)

    async def disconnect(self, sid: str, namespace: str | None = None, ignore_queue: bool = False) -> None:
        peer = self._peers.get(self.manager.eio_sid_from_sid(sid, namespace or NAMESPACE))
        try:
            await super().disconnect(sid, namespace, ignore_queue)
        except Exception:  # of the handler
            await self.manager.disconnect(sid, namespace or NAMESPACE, ignore_queue=True)
            raise
        finally:
            if peer is not None:
                self._left(peer, namespace or NAMESPACE)

    async def _handle_eio_disconnect(self, eio_sid: str, reason: str) -> None:
        """A transport that closes, in whatever way, is lost: only a DISCONNECT packet leaves."""
        peer = self._peers.get(eio_sid)
        if peer is None:
            return
        self._reader.drop(peer)
        if reason == self.reason.CLIENT_DISCONNECT:
            reason = self.reason.TRANSPORT_CLOSE
        try:
            await super()._handle_eio_disconnect(eio_sid, reason)
        finally:
            self._stop_awaiting(peer)
            del self._peers[eio_sid]
