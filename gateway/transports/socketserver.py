"""Socket.IO v5 on `EngineServer` (docs/socket.io-protocol of socketio/socket.io).

`SocketServer` takes the place of ``socketio.AsyncServer`` on aiohttp, for the gateway and for any other
python-socketio application; ``docs/servers.md`` says what differs, ``tests/test_hooks.py`` what it overrides.
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

from gateway.transports.adminqueue import AdminQueue
from gateway.transports.engineio import EngineServer
from gateway.transports.enginepackets import message_frame
from gateway.transports.handlers import call_handler
from gateway.transports.jsonio import shorten
from gateway.transports.msgpack import ADVICE, REFUSAL, MsgpackRefused, is_msgpack
from gateway.transports.notices import Notice
from gateway.transports.packetreader import MAX_ATTACHED, MAX_ATTACHMENTS, PacketReader
from gateway.transports.socketpackets import packet_class

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gateway.transports.inorder import Answer, InOrder

    EventHandler = Callable[[list[Any], int | None], Awaitable[Answer | None]]

NAMESPACE: Final = "/"
logger = logging.getLogger(__name__)

LIBRARY_LOGGER: Final = logging.getLogger("gateway.socketio")


class SocketServer(socketio.AsyncServer):  # type: ignore[misc]
    """A ``socketio.AsyncServer`` on aiohttp that handles one client's packets in order and closes on what is none.

    A ``connect`` handler may return an object: its fields go into the CONNECT packet, beside or instead of
    ``sid``.

    A namespace ``/`` may have ``event_handler(sid)``, which returns a coroutine function ``handle(data, id)``. This is
    called with the list of name and arguments of each of the client's events, and returns a function that acks it
    (`ack_frame`), or None: the short way, past python-socketio's packets and dispatch. Events are begun in their
    order, and acked in their order, but one need not be done before the next is begun.

    It may have ``leaving(sid)`` and ``closing(sid)`` as well, which are called as soon as a client leaves it or loses
    its transport. The handler of ``disconnect`` is called when all that the client sent before is done.
    """

    packet_class: type[packet.Packet]
    manager_initialized: bool

    def __init__(
        self,
        client_manager: Any = None,
        *,
        connect_timeout: float = 5.0,
        max_attachments: int = MAX_ATTACHMENTS,
        max_attachments_size: int = MAX_ATTACHED,
        serializer: Any = "default",
        json: Any = None,
        **options: Any,
    ) -> None:
        """``connect_timeout``: seconds until a client that has asked for no namespace is closed. ``max_attachments``:
        binary attachments in one packet; ``max_attachments_size``: bytes in all of them. ``serializer``, ``json``: as
        python-socketio's, but for this server alone. ``options``: those of the base class and of `EngineServer`;
        ``async_handlers`` is not heeded: one client's events are handled in order, those of different clients side by
        side.

        Raises:
            ValueError: an option has a value that this server cannot do; the message says what to do.
        """
        for name, number in (("max_attachments", max_attachments), ("max_attachments_size", max_attachments_size)):
            if type(number) is not int or number < 0:
                raise ValueError(f"{name}= must be an integer of 0 or more, not {number!r}; a large one is no limit")
        chosen = packet_class(serializer, json)
        self._connect_timeout = connect_timeout
        self._joining: dict[str, asyncio.TimerHandle] = {}
        self._other_parser = Notice(logger, "refused a client with another parser", ADVICE)
        self._event_handlers: dict[str, EventHandler] = {}
        defaults = {"logger": LIBRARY_LOGGER, "engineio_logger": LIBRARY_LOGGER}
        super().__init__(client_manager, **{**defaults, **options, "serializer": chosen, "async_handlers": False})
        self._reader = PacketReader(
            self.packet_class,
            self.eio.fail,
            self.eio.budget,
            max_attachments=max_attachments,
            max_attachments_size=max_attachments_size,
        )
        self.eio.connected = self._connected
        self.eio.receive = self._receive
        self.eio.closing = self._closing

    def _engineio_server_class(self) -> type[EngineServer]:
        return EngineServer

    async def _send_packet(self, eio_sid: str, pkt: packet.Packet) -> None:
        encoded = pkt.encode()
        for part in encoded if isinstance(encoded, list) else [encoded]:
            self.eio.write(eio_sid, message_frame(part))

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

    def _receive(self, eio_sid: str, data: str | bytes, in_order: InOrder) -> None:
        """Put what is to be done with a packet into its turn, if ``data`` completes one.

        An ack is not made to wait behind events, whose handlers may wait for it, unless what it calls takes time.

        Raises:
            ValueError: it is none (Socket.IO protocol v5).
        """
        handle = self._event_handlers.get(eio_sid)
        try:
            if handle is not None and (event := self._reader.read_event(eio_sid, data)) is not None:
                in_order.overlap(partial(self._perform, eio_sid, *event))
                return
            pkt = self._reader.read(eio_sid, data)
        except Exception as error:  # whatever a serializer makes of what is none
            if self.packet_class.uses_binary_events and not self._reader.is_amid(eio_sid) and is_msgpack(data):
                self._other_parser.give()
                self.eio.write_through(eio_sid, message_frame(REFUSAL))
                raise MsgpackRefused from None
            self._reader.drop(eio_sid)
            raise ValueError("not a Socket.IO packet") from error
        if pkt is None:
            return
        if pkt.packet_type == packet.DISCONNECT:
            self._leaving(eio_sid, pkt.namespace or NAMESPACE)
        if pkt.packet_type not in {packet.ACK, packet.BINARY_ACK}:
            in_order.put(partial(self._handle_eio_message, eio_sid, pkt))
            return
        sid = self.manager.sid_from_eio_sid(eio_sid, pkt.namespace or NAMESPACE)
        callbacks = self.manager.callbacks.get(sid, {})
        if pkt.id not in callbacks:
            return
        if inspect.iscoroutinefunction(callbacks[pkt.id]):
            in_order.put(partial(self._handle_eio_message, eio_sid, pkt))
            return
        try:
            callbacks.pop(pkt.id)(*pkt.data)
        except Exception:
            self.logger.exception("ack callback error")

    async def _perform(self, eio_sid: str, event: list[Any], id_: int | None) -> Answer | None:
        """Give an event to the namespace, in which the client may be by another ``sid`` than when it sent it."""
        handle = self._event_handlers.get(eio_sid)
        if handle is None:
            await self._handle_event(eio_sid, None, id_, event)
            return None
        return await handle(event, id_)

    def _leaving(self, eio_sid: str, namespace: str) -> None:
        """The client leaves a namespace. ``/`` hears of it when all that the client asked for before has begun."""
        sid = self.manager.sid_from_eio_sid(eio_sid, namespace)
        if namespace == NAMESPACE:
            asyncio.get_running_loop().call_soon(self._tell, "leaving", eio_sid, sid)

    def _closing(self, eio_sid: str) -> None:
        """The client's transport is closed. ``/`` hears of it at once; ``disconnect`` is handled in its turn."""
        self._tell("closing", eio_sid, None)

    def _tell(self, what: str, eio_sid: str, sid: str | None) -> None:
        """Call a method of the namespace ``/``, if it has it, for ``sid`` or the one that the client has now."""
        sid = sid or self.manager.sid_from_eio_sid(eio_sid, NAMESPACE)
        method = getattr(self.namespace_handlers.get(NAMESPACE), what, None)
        if sid is not None and method is not None:
            method(sid)

    async def _handle_eio_message(self, eio_sid: str, pkt: packet.Packet) -> None:
        """Handle a packet that `_receive` has found."""
        if pkt.packet_type == packet.CONNECT:
            await self._handle_connect(eio_sid, pkt.namespace, pkt.data)
        elif pkt.packet_type == packet.DISCONNECT:
            if self._is_somewhere(eio_sid):
                await self._handle_disconnect(eio_sid, pkt.namespace, self.reason.CLIENT_DISCONNECT)
            else:
                self.eio.refuse(eio_sid)
        elif pkt.packet_type in {packet.EVENT, packet.BINARY_EVENT}:
            await self._handle_event(eio_sid, pkt.namespace, pkt.id, pkt.data)
        else:
            await self._handle_ack(eio_sid, pkt.namespace, pkt.id, pkt.data)

    async def _handle_connect(self, eio_sid: str, namespace: str | None, data: object) -> None:
        namespace = namespace or NAMESPACE
        served = (*self.handlers, *self.namespace_handlers, *self.namespaces)
        if namespace not in served and self.namespaces != "*":
            self._answer(eio_sid, packet.CONNECT_ERROR, {"message": "Invalid namespace"}, shorten(namespace))
            return
        due = self._joined(eio_sid)
        sid = await self.manager.pre_connect(eio_sid, namespace)
        if sid is None:
            self.eio.fail(eio_sid)
            return
        if self.always_connect:
            await self._welcome(eio_sid, namespace, sid, {})
        else:
            # What the handler emits to the client must not reach it before it knows that it is connected.
            self.eio.cork(eio_sid)
        try:
            fields = await self._accept(eio_sid, namespace, sid, data)
        except Refused as refusal:
            await self._refuse(eio_sid, namespace, sid, refusal.error_args, due)
        except BaseException:
            await self._refuse(eio_sid, namespace, sid, {"message": "Internal server error"}, due)
            raise
        else:
            if not self.always_connect:
                await self._welcome(eio_sid, namespace, sid, fields)
        finally:
            self.eio.uncork(eio_sid)

    async def _accept(self, eio_sid: str, namespace: str, sid: str, data: object) -> dict[str, Any]:
        """Ask the application. Raises python-socketio's ConnectionRefusedError."""
        try:
            answer = await self._trigger_event("connect", namespace, sid, self.environ[eio_sid], data or None)
        except ConnectionRefusedError:
            raise Refused("Connection refused by server") from None
        if answer is False:
            raise Refused
        return answer if isinstance(answer, dict) else {}

    async def _welcome(self, eio_sid: str, namespace: str, sid: str, fields: dict[str, Any]) -> None:
        self._joined(eio_sid)
        self._answer(eio_sid, packet.CONNECT, {"sid": sid, **fields}, namespace)
        await self.manager.connect(sid, namespace)
        event_handler = getattr(self.namespace_handlers.get(NAMESPACE), "event_handler", None)
        if namespace == NAMESPACE and event_handler is not None:
            self._event_handlers[eio_sid] = event_handler(sid)

    async def _refuse(self, eio_sid: str, namespace: str, sid: str, error: dict[str, Any], due: float | None) -> None:
        """Take a client out that the application does not want; with ``always_connect`` it was in. Having asked wins it
        no time: it is still ``due`` to be closed, unless it joins before.
        """
        await self.manager.disconnect(sid, namespace)
        if self.always_connect:
            self._answer(eio_sid, packet.DISCONNECT, error, namespace)
        else:
            self._answer(eio_sid, packet.CONNECT_ERROR, error, namespace)
        self._left(eio_sid, namespace, due)

    def _answer(self, eio_sid: str, kind: int, data: dict[str, Any] | None, namespace: str) -> None:
        pkt = self.packet_class(kind, data, namespace=namespace)
        self.eio.write_through(eio_sid, message_frame(pkt.encode()))

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
        # It has put a handler of its own in the place of the one for new clients, which has to be called from now on.
        self.eio.connected = None
        return admin

    async def _handle_eio_connect(self, eio_sid: str, environ: dict[str, Any]) -> None:
        self._connected(eio_sid, environ)

    def _connected(self, eio_sid: str, environ: dict[str, Any]) -> None:
        """What python-socketio does in `_handle_eio_connect`, and a timer."""
        if not self.manager_initialized:
            self.manager_initialized = True
            self.manager.initialize()
        self.environ[eio_sid] = environ
        self._await_join(eio_sid)

    def _await_join(self, eio_sid: str, due: float | None = None) -> None:
        """Close a client that is in no namespace, unless it joins one until ``due``, a time of the loop's clock (None:
        `connect_timeout` from now).
        """
        if eio_sid not in self.environ or eio_sid in self._joining or self._is_somewhere(eio_sid):
            return
        loop = asyncio.get_running_loop()
        if due is None:
            due = loop.time() + self._connect_timeout
        if due <= loop.time():
            self.eio.refuse(eio_sid)
        else:
            self._joining[eio_sid] = loop.call_at(due, self._give_up, eio_sid)

    def _is_somewhere(self, eio_sid: str) -> bool:
        """Whether a client is in a namespace."""
        return any(self.manager.sid_from_eio_sid(eio_sid, namespace) for namespace in self.manager.get_namespaces())

    def _left(self, eio_sid: str, namespace: str, due: float | None = None) -> None:
        """A client has left a namespace; if it is in no other, it is ``due`` to be closed (see `_await_join`)."""
        if namespace == NAMESPACE:
            self._event_handlers.pop(eio_sid, None)
        self._await_join(eio_sid, due)

    def _joined(self, eio_sid: str) -> float | None:
        """A client has joined, or tries to. Returns when it would have been closed; None where it would not."""
        timer = self._joining.pop(eio_sid, None)
        if timer is None:
            return None
        timer.cancel()
        return timer.when()

    def _give_up(self, eio_sid: str) -> None:
        del self._joining[eio_sid]
        self.eio.fail(eio_sid)

    async def _handle_event(self, eio_sid: str, namespace: str | None, id: int | None, data: list[Any]) -> None:  # noqa: A002
        """An event that came before its client was in, had attachments, or is for another namespace."""
        handle = self._event_handlers.get(eio_sid)
        if not self._is_somewhere(eio_sid):
            self.eio.refuse(eio_sid)  # nobody is there who could answer, and the client is to know that
        elif handle is not None and (namespace or NAMESPACE) == NAMESPACE:
            if (answer := await handle(data, id)) is not None:
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
        self._left(eio_sid, namespace or NAMESPACE)

    async def disconnect(self, sid: str, namespace: str | None = None, ignore_queue: bool = False) -> None:
        eio_sid = self.manager.eio_sid_from_sid(sid, namespace or NAMESPACE)
        try:
            await super().disconnect(sid, namespace, ignore_queue)
        except Exception:  # of the handler
            await self.manager.disconnect(sid, namespace or NAMESPACE, ignore_queue=True)
            raise
        finally:
            if eio_sid is not None:
                self._left(eio_sid, namespace or NAMESPACE)

    async def _handle_eio_disconnect(self, eio_sid: str, reason: str) -> None:
        """A transport that closes, in whatever way, is lost: only a DISCONNECT packet says goodbye."""
        self._reader.drop(eio_sid)
        self._event_handlers.pop(eio_sid, None)
        if reason == self.reason.CLIENT_DISCONNECT:
            reason = self.reason.TRANSPORT_CLOSE
        try:
            await super()._handle_eio_disconnect(eio_sid, reason)
        finally:
            self._joined(eio_sid)
