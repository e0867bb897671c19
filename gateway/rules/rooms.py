"""Rooms and their members: who may create, join and leave one, who is notified, and when it ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from gateway import events
from gateway.engines.transaction import Invitation
from gateway.errors import Forbidden, LimitReached, RoomExists, RoomNotFound, Unauthorized, UnknownUser
from gateway.events import Member, Room
from gateway.protocol.names import spellings
from gateway.tokens import tokens

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gateway.engines.base import Policy
    from gateway.engines.transaction import Membership, RoomRecord, SessionRecord, Transaction

_direct_names = tokens(12)


@dataclass(frozen=True, slots=True)
class Added:
    """Who became a member, who already was one, and who left recently and was not added again; each in the order of
    the request.
    """

    added: tuple[str, ...]
    already: tuple[str, ...]
    declined: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Opened:
    """A direct room. ``declined``: the other user, if it left recently and was not added again."""

    room: Room
    declined: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MemberPage:
    members: tuple[Member, ...]
    member_count: int
    more: bool


async def find_membership(tx: Transaction, actor: str, room: str) -> Membership:
    """The membership of ``actor`` in ``room``, in any spelling of its name.

    Raises:
        RoomNotFound: ``actor`` is not in such a room. Whether it exists is not disclosed.
    """
    names = spellings(room)
    membership = await tx.members.find(actor, names)
    if membership is None:
        raise RoomNotFound(names[-1])
    return membership


async def create(tx: Transaction, policy: Policy, actor: str, name: str, users: Sequence[str], history: str) -> Room:
    """Create a room with ``actor`` and ``users`` in it. ``history``: how far back its members can read, `ALL` or
    `JOINED` of `gateway.events`.

    Raises:
        RoomExists, UnknownUser, LimitReached
    """
    if await tx.rooms.named(name) is not None:
        raise RoomExists(name)
    users = [user for user in users if user != actor]
    sessions = await tx.sessions.of([actor, *users])
    _check_present(actor, sessions)
    _check_known(users, sessions)
    await _check_allowance(tx, policy, [actor], invited=False)
    await _check_allowance(tx, policy, users, invited=True)
    if 1 + len(users) > policy.max_members:
        raise LimitReached.members_per_room(name, policy.max_members)
    room = tx.rooms.create(name, events.GROUP, history)
    tx.members.add(room, [actor])
    shape = _shape(room, [actor, *users], sessions, 1 + len(users))
    if users:
        tx.members.add(room, users, invitation=Invitation(events.room_joined(shape, actor), actor))
    return shape


async def open_direct(tx: Transaction, policy: Policy, actor: str, user: str) -> Opened:
    """The direct room of these two users, which is created if it does not exist. If one of them is not in it, it joins.

    It is the same room as long as both their sessions last, regardless of who opens it and how often. A later holder of
    either name opens another one. Nobody else can be added to it.

    Raises:
        UnknownUser, LimitReached
    """
    sessions = await tx.sessions.of([actor, user])
    _check_present(actor, sessions)
    _check_known([user], sessions)
    pair = " ".join(sorted(_first_sid(sessions[name]) for name in (actor, user)))
    room = await tx.rooms.direct(pair)
    present = frozenset() if room is None else await tx.members.among(room, [actor, user])
    declined = await tx.departures.among(pair, [user]) - present
    joins = user not in present | declined
    if actor not in present:
        await _check_allowance(tx, policy, [actor], invited=False)
    if joins:
        await _check_allowance(tx, policy, [user], invited=True)
    if room is None:
        room = tx.rooms.create(events.DIRECT_MARK + next(_direct_names), events.DIRECT, events.ALL, pair)
    if actor not in present:
        tx.departures.forget(pair, actor)
        if present and is_announced(policy, 1 + len(present)):
            body = events.user_joined(room.name, actor, actor)
            tx.log.append(room, events.USER_JOINED, body, author=actor)
        tx.members.add(room, [actor], peer=user)
    members = {actor, *present} | ({user} if joins else set())
    if joins:
        shape = _shape(room, members, sessions, len(members), user=actor)
        tx.members.add(room, [user], invitation=Invitation(events.room_joined(shape, actor), actor), peer=actor)
    return Opened(_shape(room, members, sessions, len(members), user=user), tuple(declined))


async def add_members(tx: Transaction, policy: Policy, actor: str, name: str, users: Sequence[str]) -> Added:
    """Add users, except those who have left the room within `Policy.decline_window`.

    Raises:
        RoomNotFound, UnknownUser, LimitReached
        Forbidden: the room is a direct one.
    """
    room = (await find_membership(tx, actor, name)).room
    if room.pair is not None:
        raise Forbidden.adding_to_direct()
    members = await tx.members.among(room, users)
    others = [user for user in users if user not in members]
    sessions = await tx.sessions.of(others)
    _check_known(others, sessions)
    declined = await tx.departures.among(str(room.id), others)
    added = [user for user in others if user not in declined]
    await _check_allowance(tx, policy, added, invited=True)
    member_count = room.member_count + len(added)
    if member_count > policy.max_members:
        raise LimitReached.members_per_room(room.name, policy.max_members)
    if added:
        first = await tx.members.page(room, "", events.SHOWN_MEMBERS)
        if is_announced(policy, member_count):
            for user in added:
                body = events.user_joined(room.name, user, actor)
                tx.log.append(room, events.USER_JOINED, body, author=actor)
        shape = _shape(room, added, sessions, member_count, others=first)
        tx.members.add(room, added, invitation=Invitation(events.room_joined(shape, actor), actor))
    already, refused = (tuple(user for user in users if user in names) for names in (members, declined))
    return Added(tuple(added), already, refused)


async def leave(tx: Transaction, policy: Policy, actor: str, name: str) -> None:
    """Remove ``actor`` from a room. With its last member, the room and its log are deleted.

    Raises:
        RoomNotFound
    """
    membership = await find_membership(tx, actor, name)
    room = membership.room
    tx.sessions.note_leaving(membership)
    if room.pair is not None or room.member_count > 1:
        tx.departures.note(room.pair or str(room.id), actor)
    tx.members.remove(actor, [room])
    publish_leaving(tx, policy, room, actor)


def publish_leaving(tx: Transaction, policy: Policy, room: RoomRecord, username: str) -> None:
    """Publish that a user was removed from ``room``, as it was before; or delete the room if it is empty now."""
    if room.member_count == 1:
        tx.rooms.delete(room)
    elif is_announced(policy, room.member_count):
        tx.log.append(room, events.USER_LEFT, events.user_left(room.name, username), author=username)


async def list_members(tx: Transaction, actor: str, name: str, after: str, limit: int) -> MemberPage:
    """Members in order of name, beginning after the name ``after``.

    Raises:
        RoomNotFound
    """
    room = (await find_membership(tx, actor, name)).room
    members = await tx.members.page(room, after, limit + 1)
    return MemberPage(tuple(members[:limit]), room.member_count, more=len(members) > limit)


def is_announced(policy: Policy, member_count: int) -> bool:
    """Whether a room of that size is notified of who joins, leaves, is online and types."""
    return member_count <= policy.presence_limit


def _check_present(actor: str, sessions: Mapping[str, Sequence[SessionRecord]]) -> None:
    if actor not in sessions:
        raise Unauthorized("Your session has ended.")


def _check_known(users: Iterable[str], sessions: Mapping[str, Sequence[SessionRecord]]) -> None:
    """Check that each of ``users`` has a session.

    Raises:
        UnknownUser: with the names of those who have none.
    """
    unknown = [user for user in users if user not in sessions]
    if unknown:
        raise UnknownUser(unknown)


async def _check_allowance(tx: Transaction, policy: Policy, users: Sequence[str], *, invited: bool) -> None:
    """Check that each of ``users`` may be in one more room. Rooms that others added them to are counted separately
    from those that they created or opened, so that others cannot use up a user's own allowance.

    Raises:
        LimitReached: with the names of those who may not; or because the store is full.
    """
    if not users:
        return
    counts = await tx.members.counts(users)
    full = [
        user
        for user in users
        if user in counts and (counts[user].invited if invited else counts[user].own) >= policy.max_rooms
    ]
    if full:
        limited = LimitReached.invitations if invited else LimitReached.own_rooms
        raise limited(full, policy.max_rooms)
    tx.check_space()


def _shape(
    room: RoomRecord,
    users: Iterable[str],
    sessions: Mapping[str, Sequence[SessionRecord]],
    member_count: int,
    *,
    others: Sequence[Member] = (),
    user: str | None = None,
) -> Room:
    """The room as a member sees it. ``users`` and ``others`` are in it, of whom the first by name are shown. ``user``:
    the other user of a direct room.
    """
    members = [*others, *(Member(name, _is_online(sessions[name])) for name in users)]
    members.sort(key=lambda member: member.username)
    shown = orjson.dumps(members[: events.SHOWN_MEMBERS]).decode()
    return Room(room.name, room.kind, room.history, shown, member_count, user)


def _first_sid(sessions: Sequence[SessionRecord]) -> str:
    """Names a user as long as it is here: by the session with which it came."""
    return min(sessions, key=lambda session: (session.began, session.sid)).sid


def _is_online(sessions: Sequence[SessionRecord]) -> bool:
    return any(session.holder is not None for session in sessions)
