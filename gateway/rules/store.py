"""The store, as the rest of the gateway sees it: each call is one rule, run by an engine in a transaction.

`gateway.engines.base` has the guarantees: the order of calls, and what is true when a call returns. If a call has an
``actor`` and a ``room``, that user must be a member of the room; if not, `RoomNotFound` is raised, as it is if there is
no such room. A ``room`` may be given in any spelling of its name (`gateway.protocol.names.spellings`), except to
`create_room`. Any call may raise `Unavailable`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from gateway import events
from gateway.engines.base import NOBODY
from gateway.engines.effects import Session
from gateway.errors import Unavailable
from gateway.protocol.names import spellings
from gateway.rules import messages, people, rooms, sessions

if TYPE_CHECKING:
    from gateway.engines.base import Cluster, Durability, Engine, Policy, Receipt, Rule
    from gateway.engines.effects import Subscriber
    from gateway.engines.transaction import Messages, Transaction
    from gateway.events import Room
    from gateway.rules.people import UserPage
    from gateway.rules.recovery import Replay
    from gateway.rules.rooms import Added, MemberPage, Opened
    from gateway.rules.sessions import Claim

T = TypeVar("T")


class Store:
    """The rules, on an engine."""

    def __init__(self, engine: Engine, policy: Policy) -> None:
        self._engine = engine
        self._policy = policy

    async def open(self, subscriber: Subscriber) -> None:
        """See `Engine.open`. What was live on nodes that are gone is suspended before anybody can log in."""
        await self._engine.open(subscriber)
        while await self.suspend_orphaned_sessions():
            pass

    async def close(self, timeout: float) -> bool:  # noqa: ASYNC109 - see `Engine.close`
        """See `Engine.close`."""
        return await self._engine.close(timeout)

    def cluster(self) -> Cluster | None:
        """See `Engine.cluster`."""
        return self._engine.cluster()

    def durability(self) -> Durability:
        """See `Engine.durability`."""
        return self._engine.durability()

    def problem(self) -> str | None:
        """See `Engine.problem`."""
        return self._engine.problem()

    # sessions

    async def attach_session(self, claim: Claim) -> Session:
        """See `gateway.rules.sessions.attach`. If the client has missed much, this takes several transactions, and then
        another log-in may overtake it.
        """
        came = self._engine.running_ms()
        replay: Replay | None = None

        async def attach(tx: Transaction) -> Session | Replay:
            return await sessions.attach(tx, self._policy, claim, came, replay)

        while not isinstance(attached := await self._engine.run(claim.username, attach), Session):
            replay = attached  # as far as it has been read
        return attached

    async def suspend_session(self, session: Session, connection: str) -> None:
        """See `gateway.rules.sessions.suspend`."""
        await self._engine.run(
            session.username,
            lambda tx: sessions.suspend(tx, self._policy, session, connection),
            low_priority=True,
        )

    async def end_session(self, session: Session, connection: str) -> None:
        """See `gateway.rules.sessions.end`."""
        await self._engine.run(
            session.username, lambda tx: sessions.end(tx, self._policy, session, connection), low_priority=True
        )

    async def abandon_session(self, claim: Claim) -> None:
        """See `gateway.rules.sessions.abandon`."""
        await self._engine.run(claim.username, lambda tx: sessions.abandon(tx, self._policy, claim), low_priority=True)

    async def suspend_orphaned_sessions(self) -> int:
        """See `gateway.rules.sessions.suspend_orphaned`."""
        return await self._engine.run(NOBODY, lambda tx: sessions.suspend_orphaned(tx, self._policy), low_priority=True)

    async def end_expired_sessions(self) -> int:
        """See `gateway.rules.sessions.end_expired`."""
        return await self._engine.run(NOBODY, lambda tx: sessions.end_expired(tx, self._policy))

    async def _act(self, actor: str, rule: Rule[T]) -> T:
        """Run what a client does. Raises Unavailable: its session has moved to another node, and a later call of the
        client may have taken effect there.
        """

        async def act(tx: Transaction) -> T:
            if not await tx.is_here(actor):
                raise Unavailable("The session moved to another connection; try again.")
            return await rule(tx)

        return await self._engine.run(actor, act)

    # rooms

    async def create_room(self, actor: str, room: str, users: tuple[str, ...], history: str = events.ALL) -> Room:
        """See `gateway.rules.rooms.create`."""
        return await self._act(actor, lambda tx: rooms.create(tx, self._policy, actor, room, users, history))

    async def open_direct(self, actor: str, user: str) -> Opened:
        """See `gateway.rules.rooms.open_direct`."""
        return await self._act(actor, lambda tx: rooms.open_direct(tx, self._policy, actor, user))

    async def add_members(self, actor: str, room: str, users: tuple[str, ...]) -> Added:
        """See `gateway.rules.rooms.add_members`."""
        return await self._act(actor, lambda tx: rooms.add_members(tx, self._policy, actor, room, users))

    async def remove_member(self, actor: str, room: str) -> None:
        """See `gateway.rules.rooms.leave`."""
        await self._act(actor, lambda tx: rooms.leave(tx, self._policy, actor, room))

    async def list_rooms(self, username: str) -> tuple[Room, ...]:
        """The rooms of a user, in order of name."""
        return await self._engine.run(username, lambda tx: tx.rooms.shapes(username))

    async def list_members(self, actor: str, room: str, after: str, limit: int) -> MemberPage:
        """See `gateway.rules.rooms.list_members`."""
        return await self._engine.run(actor, lambda tx: rooms.list_members(tx, actor, room, after, limit))

    async def find_users(self, actor: str, prefix: str, limit: int) -> UserPage:
        """See `gateway.rules.people.find_users`."""
        return await self._engine.run(actor, lambda tx: people.find_users(tx, self._policy, actor, prefix, limit))

    # messages

    async def append_message(self, actor: str, room: str, content: str, message_id: str | None) -> Receipt:
        """See `Engine.append_message`."""
        return await self._engine.append_message(actor, spellings(room), content, message_id)

    async def publish_typing(self, actor: str, room: str) -> None:
        """See `gateway.rules.messages.publish_typing`."""
        await self._engine.run(actor, lambda tx: messages.publish_typing(tx, self._policy, actor, room))

    async def read_history(self, actor: str, room: str, before: str | None, limit: int) -> Messages:
        """See `gateway.rules.messages.read_history`."""
        return await self._engine.run(actor, lambda tx: messages.read_history(tx, actor, room, before, limit))
