"""The gateway without its store, to see what the store costs: who is in which room is in dictionaries, no more.

It is not part of the product: it keeps no messages, recovers nothing and lists nothing.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, cast

from gateway import app, cli, events
from gateway.engines.base import Durability, Receipt
from gateway.engines.effects import Attachment, Holder, Movement, Publication, Session
from gateway.errors import RoomExists, RoomNotFound, UnknownUser, UsernameTaken
from gateway.events import Room
from gateway.rules.rooms import Added

if TYPE_CHECKING:
    from gateway.config import Settings
    from gateway.engines.effects import Effect, Subscriber
    from gateway.observe import Observer
    from gateway.rules.sessions import Claim
    from gateway.rules.store import Store


class NoStore:
    """The part of `Store` that the load generator calls."""

    _subscriber: Subscriber

    def __init__(self) -> None:
        self._users: set[str] = set()
        self._rooms: dict[str, set[str]] = {}
        self._position = 0

    async def open(self, subscriber: Subscriber) -> None:
        self._subscriber = subscriber

    async def close(self, timeout: float) -> bool:  # noqa: ASYNC109 - as `Store.close`
        return True

    def problem(self) -> str | None:
        return None

    def durability(self) -> Durability:
        return Durability.MEMORY

    def cluster(self) -> None:
        """There is one node."""

    async def attach_session(self, claim: Claim) -> Session:
        if claim.username in self._users:
            raise UsernameTaken(claim.username)
        self._users.add(claim.username)
        session = Session(secrets.token_urlsafe(15), secrets.token_urlsafe(24), claim.username)
        self._publish(Attachment(session, Holder(claim.connection, "local"), (), "none-0", recovered=False))
        return session

    async def suspend_session(self, session: Session, connection: str) -> None:
        self._users.discard(session.username)

    end_session = suspend_session

    async def abandon_session(self, claim: Claim) -> None:
        self._users.discard(claim.username)

    async def suspend_orphaned_sessions(self) -> int:
        return 0

    async def end_expired_sessions(self) -> int:
        return 0

    async def create_room(self, actor: str, room: str, users: tuple[str, ...], history: str = events.ALL) -> Room:
        if room in self._rooms:
            raise RoomExists(room)
        self._rooms[room] = {actor}
        self._publish(Movement(room, joined=(actor,)))
        await self.add_members(actor, room, users)
        member = events.encode(username=actor, online=True).decode()
        return Room(room, events.GROUP, history, f"[{member}]", len(self._rooms[room]))

    async def add_members(self, actor: str, room: str, users: tuple[str, ...]) -> Added:
        members = self._members(actor, room)
        if unknown := [name for name in users if name not in self._users]:
            raise UnknownUser(unknown)
        members.update(users)
        self._publish(Movement(room, joined=users))
        body = events.room_joined(Room(room, events.GROUP, events.ALL, "[]", len(members)), actor)
        self._publish(Publication(events.ROOM_JOINED, body, room, self._next(), actor, users))
        return Added(users, ())

    async def append_message(self, actor: str, room: str, content: str, message_id: str | None) -> Receipt:
        self._members(actor, room)
        id_, ts = message_id or secrets.token_urlsafe(12), int(time.time() * 1000)
        body = events.message(id_, room, actor, content, ts)
        self._publish(Publication(events.MESSAGE, body, room, self._next(), actor))
        return Receipt(id_, ts, duplicate=False)

    def _members(self, actor: str, room: str) -> set[str]:
        members = self._rooms.get(room)
        if members is None or actor not in members:
            raise RoomNotFound(room)
        return members

    def _publish(self, effect: Effect) -> None:
        self._subscriber.committed([effect])

    def _next(self) -> str:
        self._position += 1
        return f"none-{self._position}"


def main() -> None:
    """The command `gateway`, on `NoStore`."""

    def create_store(settings: Settings, observer: Observer) -> Store:
        return cast("Store", NoStore())

    app.create_store = create_store
    cli.main()
