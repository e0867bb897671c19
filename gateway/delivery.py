"""Who is connected to this node, which rooms they are in, and how an event reaches them.

`Delivery` is python-socketio's client manager: its rooms are the native Socket.IO rooms, and they hold the
connections of every wire. It hears, in the order of the commits, what the engine publishes (it is the engine's
`Subscriber`), encodes each event once for each wire that has a member in the room, and writes it to them.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any, Protocol, cast

import socketio

from gateway import events
from gateway.engines.base import Attachment, Movement, Publication
from gateway.errors import CloseReason
from gateway.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from gateway.engines.base import Effect, Session

NAMESPACE = "/"

logger = get_logger(__name__)


class Wire(Protocol):
    """A way to write events down. All connections of a wire read the same frames, one behind the other."""

    name: str
    resumable: bool
    """Whether its clients learn the ``pid`` of their session, and so can come back to it."""

    def encode_event(self, event: str, body: bytes, offset: str | None) -> bytes:
        """The frame of an event with the JSON object ``body``; empty where this wire does not carry it."""

    def encode_welcome(self, body: bytes, offset: str) -> bytes:
        """The frame of the event ``welcome``; empty where this wire has none."""


class Connection(Protocol):
    """A client's connection on this node, as its transport offers it."""

    @property
    def wire(self) -> Wire: ...

    cid: str
    """Names the connection; on Socket.IO the ``sid`` of python-socketio."""
    engine_id: str
    """The ``eio_sid`` of python-socketio; on other wires the ``cid``."""
    session: Session | None
    """The session that is live on the connection, from `Delivery.attached` until it is detached."""
    closed: bool
    """Whether the transport is gone."""

    @property
    def may_know_pid(self) -> bool:
        """Whether there is a sign that the client can come back: that it has heard of its session."""

    @property
    def leaves_late(self) -> bool:
        """Whether the client may have left and not been able to say so yet."""

    def write(self, frames: bytes) -> None:
        """Send one frame or several. Never waits: a client that reads too slowly is cut, and comes back for what it
        missed.
        """

    def hint(self, frames: bytes) -> None:
        """Send what is worth something only now: it is dropped where the client has more to read than that."""

    def release(self) -> None:
        """The client knows that it is connected: send what was written before, and everything from now on."""

    async def finish(self) -> None:
        """Take nothing more from the client, and return when all that it asked is answered."""

    def close(self, reason: CloseReason) -> None:
        """Say why, and close."""


class Delivery(socketio.AsyncManager):  # type: ignore[misc]
    """The register of this node's connections and rooms, and the way of an event to its readers."""

    def __init__(self, *, recovery_window: float) -> None:
        """``recovery_window``: seconds, for clients to know."""
        super().__init__()
        self._recovery_window = recovery_window
        self._connections: dict[str, Connection] = {}
        self._by_username: dict[str, Connection] = {}
        self._empty = asyncio.Event()
        self._empty.set()
        self._rooms_of: dict[str, set[str | None]] = {}
        """The native rooms of each sid: what `basic_disconnect` would otherwise search all rooms for."""

    # --- connections

    @property
    def connection_count(self) -> int:
        return len(self._connections)

    def connections(self) -> tuple[Connection, ...]:
        return tuple(self._connections.values())

    async def drained(self, seconds: float) -> bool:
        """Wait until the last connection is gone, so many seconds at most; whether it is."""
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True

    def connection(self, cid: str) -> Connection | None:
        return self._connections.get(cid)

    def holder(self, username: str) -> Connection | None:
        """The connection on this node that a session is live on."""
        return self._by_username.get(username)

    def register(self, connection: Connection) -> None:
        """Take a connection up, before a session is attached to it."""
        self._connections[connection.cid] = connection
        self._empty.clear()
        if not self.is_sid_room(NAMESPACE, connection.cid):
            # Not Socket.IO: python-socketio has entered its own into the namespace before.
            self.basic_enter_room(connection.cid, NAMESPACE, None, eio_sid=connection.engine_id)
            self.basic_enter_room(connection.cid, NAMESPACE, connection.cid, eio_sid=connection.engine_id)

    def forget(self, connection: Connection) -> Session | None:
        """Let go of a connection that is closed, and of its places in the rooms; the session it had."""
        session = self.detach(connection)
        self._connections.pop(connection.cid, None)
        self.basic_disconnect(connection.cid, NAMESPACE)
        if not self._connections:
            self._empty.set()
        return session

    def detach(self, connection: Connection) -> Session | None:
        """Take the session from a connection, which hears nothing more of its rooms; the session it had."""
        session, connection.session = connection.session, None
        if session is not None and self._by_username.get(session.username) is connection:
            del self._by_username[session.username]
        for room in tuple(self._rooms_of.get(connection.cid, ())):
            if room is not None and room != connection.cid:
                self.basic_leave_room(connection.cid, NAMESPACE, room)
        return session

    def is_in_a_room(self, connection: Connection) -> bool:
        return any(room not in {None, connection.cid} for room in self._rooms_of.get(connection.cid, ()))

    # --- what the engine says (its Subscriber)

    def committed(self, effects: Sequence[Effect]) -> None:
        """What one commit did. An effect that fails costs only itself: the others are delivered, and a connection that
        may have missed it is closed, so that its client comes back for it.
        """
        for room, together in itertools.groupby(effects, _whole_room):
            if room is not None:
                self._publish(room, cast("list[Publication]", list(together)))
                continue
            for effect in together:
                try:
                    match effect:
                        case Publication(event=events.TYPING):
                            self._hint(effect)
                        case Publication():
                            self._tell(effect)
                        case Movement():
                            self._move(effect)
                        case Attachment():
                            self._attach(effect)
                except Exception:
                    logger.exception("an effect could not be delivered", effect=type(effect).__name__)
                    self._recover(self._concerned(effect))

    def _concerned(self, effect: Effect) -> Iterator[Connection]:
        """The connections that may have missed an effect."""
        match effect:
            case Publication(recipients=None, room=room):
                yield from self._members(room)
            case Publication(recipients=recipients):
                yield from filter(None, map(self._by_username.get, recipients or ()))
            case Movement():
                yield from filter(None, map(self._by_username.get, (*effect.joined, *effect.left)))
            case Attachment():
                yield from filter(None, map(self._connections.get, (effect.connection, effect.replaces or "")))

    def _recover(self, connections: Iterable[Connection]) -> None:
        """Close connections so that their clients come back for what they missed. Nothing later may reach them before:
        they would take it for all there was.
        """
        for connection in tuple(connections):
            if not connection.closed:
                self._close(connection, CloseReason.MISSED)

    def _close(self, connection: Connection, reason: CloseReason) -> None:
        try:
            connection.close(reason)
        except Exception:
            connection.closed = True  # nothing more is written to it
            logger.exception("a connection could not be closed", wire=connection.wire.name)

    def _attach(self, attachment: Attachment) -> None:
        if attachment.replaces is not None and (replaced := self._connections.get(attachment.replaces)) is not None:
            self.detach(replaced)
            self._close(replaced, CloseReason.TAKEN_OVER)
        connection = self._connections.get(attachment.connection)
        if connection is None or connection.closed:
            return
        session = attachment.session
        connection.session = session
        self._by_username[session.username] = connection
        for room in attachment.rooms:
            self._enter(connection, room.room)
        wire = connection.wire
        body = events.welcome(
            session.username,
            attachment.rooms,
            recovered=attachment.recovered,
            sid=session.sid,
            pid=session.pid,
            recovery_window=self._recovery_window,
        )
        missed = (_encode(wire, publication) for publication in attachment.missed)
        connection.write(b"".join((wire.encode_welcome(body, attachment.offset), *missed)))

    def _move(self, movement: Movement) -> None:
        for username in movement.left:
            if (connection := self._by_username.get(username)) is not None:
                self.basic_leave_room(connection.cid, NAMESPACE, native_room(movement.room))
        for username in movement.joined:
            if (connection := self._by_username.get(username)) is not None:
                self._enter(connection, movement.room)

    def _tell(self, publication: Publication) -> None:
        """Write an event to its recipients."""
        missed: list[Connection] = []
        for username in publication.recipients or ():
            connection = self._by_username.get(username)
            if connection is None:
                continue
            try:
                if frame := _encode(connection.wire, publication):
                    connection.write(frame)
            except Exception as error:
                _log_missed(publication.event, connection, error)
                missed.append(connection)
        self._recover(missed)

    def _hint(self, publication: Publication) -> None:
        """Write an event that is soon worth nothing to those members of its room who have read everything."""
        origin = self._by_username.get(publication.origin or "")
        frames: dict[Wire, bytes] = {}
        for cid in tuple(self.rooms.get(NAMESPACE, {}).get(native_room(publication.room), ())):
            connection = self._connections[cid]
            wire = connection.wire
            if wire not in frames:
                frames[wire] = _encode(wire, publication)
            if frames[wire] and connection is not origin:
                connection.hint(frames[wire])

    def _publish(self, room: str, publications: list[Publication]) -> None:
        """Write events to the members of a room: each is encoded once for each wire, and all go to a member in one
        piece, without those that are its own deed.
        """
        members = self._members(room)
        origins = [self._by_username.get(publication.origin or "") for publication in publications]
        speakers = set(origins)
        pieces: dict[Wire, list[bytes]] = {}
        joined: dict[Wire, bytes] = {}
        missed: list[Connection] = []
        for connection in members:
            wire = connection.wire
            try:
                if wire not in joined:
                    pieces[wire] = [_encode(wire, publication) for publication in publications]
                    joined[wire] = b"".join(pieces[wire])
                frames = joined[wire]
                if connection in speakers:
                    own = [origin is not connection for origin in origins]
                    frames = b"".join(itertools.compress(pieces[wire], own))
                if frames:
                    connection.write(frames)
            except Exception as error:
                if not missed:
                    _log_missed(publications[0].event, connection, error)
                missed.append(connection)
        self._recover(missed)

    def _members(self, room: str) -> list[Connection]:
        cids = self.rooms.get(NAMESPACE, {}).get(native_room(room), ())
        return [self._connections[cid] for cid in cids if cid in self._connections]

    def _enter(self, connection: Connection, room: str) -> None:
        self.basic_enter_room(connection.cid, NAMESPACE, native_room(room))

    # --- python-socketio's manager

    def basic_enter_room(self, sid: str, namespace: str, room: str | None, eio_sid: str | None = None) -> None:
        super().basic_enter_room(sid, namespace, room, eio_sid=eio_sid)
        if namespace == NAMESPACE:
            self._rooms_of.setdefault(sid, set()).add(room)

    def basic_leave_room(self, sid: str, namespace: str, room: str | None) -> None:
        super().basic_leave_room(sid, namespace, room)
        if namespace == NAMESPACE and (rooms := self._rooms_of.get(sid)) is not None:
            rooms.discard(room)

    def basic_disconnect(self, sid: str, namespace: str, **kwargs: Any) -> None:
        """As python-socketio's, without its search through all rooms."""
        if namespace != NAMESPACE:
            super().basic_disconnect(sid, namespace, **kwargs)
            return
        for room in self._rooms_of.pop(sid, ()):
            super().basic_leave_room(sid, namespace, room)
        self.callbacks.pop(sid, None)
        for pending in (self.pending_connect, self.pending_disconnect):
            waiting = pending.get(namespace, [])
            if sid in waiting:
                waiting.remove(sid)
                if not waiting:
                    del pending[namespace]

    async def connect(self, sid: str, namespace: str) -> str:
        """python-socketio has told the client that it is connected."""
        sid = await super().connect(sid, namespace)
        if namespace == NAMESPACE and (connection := self._connections.get(sid)) is not None:
            connection.release()
        return sid


def _whole_room(effect: Effect) -> str | None:
    """The room all of whose members hear of an effect; None where it is not such an event."""
    if isinstance(effect, Publication) and effect.recipients is None and effect.event != events.TYPING:
        return effect.room
    return None


def _encode(wire: Wire, publication: Publication) -> bytes:
    return wire.encode_event(publication.event, publication.body, publication.offset)


def native_room(room: str) -> str:
    """The native room of a chat room. Native rooms are also named by every ``sid``, which a chat room could be
    named like.
    """
    return f"room:{room}"


def _log_missed(event: str, connection: Connection, error: Exception) -> None:
    logger.error("an event could not be delivered", event_name=event, wire=connection.wire.name, exc_info=error)
