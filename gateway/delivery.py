"""Delivering events to the clients of this node.

`Delivery` is the `Subscriber` of the engine: it receives the effects of commits, in order. It encodes each event once
for each wire that has a member in the room, and writes it to the connections of the members, which `ChatManager` knows.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, cast

from gateway import events
from gateway.engines.effects import Attachment, Detachment, Movement, Publication
from gateway.errors import CloseReason
from gateway.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from gateway.connections import Connection, Wire
    from gateway.engines.effects import Effect, Session
    from gateway.manager import ChatManager
    from gateway.observe import Observer

logger = get_logger(__name__)


class Delivery:
    """Binds sessions to connections, and writes events to them."""

    def __init__(self, manager: ChatManager, observer: Observer, *, recovery_window: float) -> None:
        """``recovery_window``: in seconds, sent to clients in ``welcome``."""
        self._manager = manager
        self._observer = observer
        self._recovery_window = recovery_window
        self._by_username: dict[str, Connection] = {}

    # --- connections

    def holder(self, username: str) -> Connection | None:
        """The connection of this node on which a session of the user is live, if any."""
        return self._by_username.get(username)

    def register(self, connection: Connection) -> None:
        """Register a connection, before a session is attached to it."""
        self._manager.add(connection)

    def forget(self, connection: Connection) -> Session | None:
        """Forget a connection that is closed, and remove it from its rooms. Returns the session it had."""
        session = self.detach(connection)
        self._manager.remove(connection)
        return session

    def detach(self, connection: Connection) -> Session | None:
        """Detach a connection from its session and its rooms: it receives nothing more. Returns that session."""
        session, connection.session = connection.session, None
        if session is not None and self._by_username.get(session.username) is connection:
            del self._by_username[session.username]
        self._manager.leave_all(connection)
        return session

    def is_in_a_room(self, connection: Connection) -> bool:
        return self._manager.is_in_a_room(connection)

    # --- a Subscriber

    def committed(self, effects: Sequence[Effect]) -> None:
        """Deliver the effects of one commit. If one fails, the others are still delivered, and the connections that may
        have missed it are closed, so that their clients return and recover it.
        """
        for room, together in itertools.groupby(effects, _whole_room):
            if room is not None:
                self._publish(room, cast("list[Publication]", list(together)))
                continue
            for effect in together:
                try:
                    match effect:
                        case Publication(event=events.TYPING):
                            self._publish_volatile(effect)
                        case Publication():
                            self._send(effect)
                        case Movement():
                            self._move(effect)
                        case Attachment():
                            self._attach(effect)
                        case Detachment():
                            self._take_over(effect.connection)
                except Exception:
                    logger.exception("an effect could not be delivered", effect=type(effect).__name__)
                    self._recover(self._affected(effect))

    def missed(self, rooms: Collection[str] | None) -> None:
        if rooms is None:
            self._recover(self._by_username.values())
        else:
            for room in rooms:
                self._recover(self._manager.members(room))

    def has_session(self, sid: str, username: str) -> bool:
        connection = self._by_username.get(username)
        return connection is not None and connection.session is not None and connection.session.sid == sid

    def has_members(self, room: str) -> bool:
        return bool(self._manager.members(room))

    def _affected(self, effect: Effect) -> Iterator[Connection]:
        """The connections that may have missed an effect."""
        match effect:
            case Publication(recipients=None, room=room):
                yield from self._manager.members(room)
            case Publication(recipients=recipients):
                yield from filter(None, map(self._by_username.get, recipients or ()))
            case Movement():
                yield from filter(None, map(self._by_username.get, (*effect.joined, *effect.left)))
            case Detachment():
                yield from filter(None, [self._manager.connection(effect.connection)])
            case Attachment():
                yield from filter(
                    None,
                    map(
                        self._manager.connection,
                        (effect.holder.connection, None if effect.replaces is None else effect.replaces.connection),
                    ),
                )

    def _recover(self, connections: Iterable[Connection]) -> None:
        """Close connections whose clients have missed an event, so that they return and recover it. They must not
        receive any later event first: its offset would say that they have seen the missed one.
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
        if attachment.replaces is not None:
            self._take_over(attachment.replaces.connection)
        connection = self._manager.connection(attachment.holder.connection)
        if connection is None or connection.closed:
            return
        session = attachment.session
        connection.session = session
        self._by_username[session.username] = connection
        for room in attachment.rooms:
            self._manager.enter(connection, room.room)
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

    def _take_over(self, connection_id: str) -> None:
        """The session of a connection has moved to another one."""
        replaced = self._manager.connection(connection_id)
        if replaced is not None:
            if self.detach(replaced) is not None:
                self._observer.disconnected(replaced.wire.name)
            self._close(replaced, CloseReason.TAKEN_OVER)

    def _move(self, movement: Movement) -> None:
        for username in movement.left:
            if (connection := self._by_username.get(username)) is not None:
                self._manager.leave(connection, movement.room)
        for username in movement.joined:
            if (connection := self._by_username.get(username)) is not None:
                self._manager.enter(connection, movement.room)

    def _send(self, publication: Publication) -> None:
        """Write an event to its recipients."""
        missed: list[Connection] = []
        written = 0
        for username in publication.recipients or ():
            connection = self._by_username.get(username)
            if connection is None:
                continue
            try:
                if frame := _encode(connection.wire, publication):
                    connection.write(frame)
                    written += 1
            except Exception as error:
                _log_missed(publication.event, connection, error)
                missed.append(connection)
        self._recover(missed)
        self._observer.delivered(publication.event, written)

    def _publish_volatile(self, publication: Publication) -> None:
        """Write an event that is soon stale to the members of its room who have no unread data."""
        author = self._by_username.get(publication.author or "")
        frames: dict[Wire, bytes] = {}
        written = 0
        for connection in self._manager.members(publication.room):
            wire = connection.wire
            if wire not in frames:
                frames[wire] = _encode(wire, publication)
            if frames[wire] and connection is not author:
                connection.write_volatile(frames[wire])
                written += 1
        self._observer.delivered(publication.event, written)

    def _publish(self, room: str, publications: list[Publication]) -> None:
        """Write events to the members of a room. Each is encoded once for each wire, and all are written to a member at
        once, except those that it caused.
        """
        authors = [self._by_username.get(publication.author or "") for publication in publications]
        writers = set(authors)
        pieces: dict[Wire, list[bytes]] = {}
        joined: dict[Wire, bytes] = {}
        missed: list[Connection] = []
        reached = 0
        authors_reached: set[Connection | None] = set()
        for connection in self._manager.members(room):
            wire = connection.wire
            try:
                if wire not in joined:
                    pieces[wire] = [_encode(wire, publication) for publication in publications]
                    joined[wire] = b"".join(pieces[wire])
                frames = joined[wire]
                reached += bool(frames)
                if connection in writers:
                    authors_reached.add(connection)
                    own = [author is not connection for author in authors]
                    frames = b"".join(itertools.compress(pieces[wire], own))
                if frames:
                    connection.write(frames)
            except Exception as error:
                if not missed:
                    _log_missed(publications[0].event, connection, error)
                missed.append(connection)
        self._recover(missed)
        for publication, author in zip(publications, authors, strict=True):
            self._observer.delivered(publication.event, reached - (author in authors_reached))


def _whole_room(effect: Effect) -> str | None:
    """The room whose members all receive an effect; None if the effect is not such an event."""
    if isinstance(effect, Publication) and effect.recipients is None and effect.event != events.TYPING:
        return effect.room
    return None


def _encode(wire: Wire, publication: Publication) -> bytes:
    return wire.encode_event(publication.event, publication.body, publication.offset)


def _log_missed(event: str, connection: Connection, error: Exception) -> None:
    logger.error("an event could not be delivered", event_name=event, wire=connection.wire.name, exc_info=error)
