"""The life of a session, as the store has it: claimed, live, suspended, live again, ended.

A username has one session at most. That is decided here and nowhere else: the data could hold several.
"""

from __future__ import annotations

import hmac
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from gateway import events
from gateway.engines.effects import Attachment, Holder, Session
from gateway.engines.transaction import SessionRecord
from gateway.errors import UsernameTaken
from gateway.rules import recovery
from gateway.rules.rooms import is_announced, publish_leaving
from gateway.tokens import hash_token, tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.engines.base import Policy
    from gateway.engines.transaction import Membership, RoomRecord, Transaction
    from gateway.rules.recovery import Replay

FEW_STEPS: Final = 50
"""How many steps of a replay may be read in the transaction that resumes the session: it has enough to do as it is."""

EXPIRED_AT_ONCE: Final = 10
"""How many sessions end in one transaction of `end_expired`, at most."""

PLACES_AT_ONCE: Final = 64
"""In how many rooms those sessions are, at most, where there is more than one session."""

_sids = tokens(15)
_pids = tokens(24)


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Where a returning client wants to go on: its session, and the offset of the last event it saw."""

    pid: str
    offset: str | None


@dataclass(frozen=True, slots=True)
class Claim:
    """A client on ``connection`` wants to be ``username``, in the session that ``resume`` names or in a new one.

    ``resumable``: the client learns the ``pid`` of a new session. Where it does not, the session ends soon after the
    store is opened again, and its name is free from then on.
    """

    username: str
    connection: str
    resume: ResumePoint | None = None
    resumable: bool = True

    def is_for(self, session: SessionRecord) -> bool:
        """Whether it names that session."""
        return self.resume is not None and any(
            _is_same(self.resume.pid, known) for known in (session.pid_hash, session.previous_pid_hash)
        )


async def attach(tx: Transaction, policy: Policy, claim: Claim, replay: Replay | None = None) -> Session | Replay:
    """The session of a client that logs in; or, where there is more to read of what it missed, that replay so far: then
    nothing is done yet, and `attach` is to be called with it again.

    A valid ``pid`` wins over the connection that holds the session. Where not every missed event can be replayed, the
    session goes on with its rooms but gets a new ``pid``. A suspended session keeps its name for
    `Policy.reserve_names` seconds; when the name is claimed after that, the session ends.

    Raises:
        UsernameTaken: a session of the name is live, or the name is reserved, and the claim does not name it.
    """
    sessions = await _sessions_of(tx, claim.username)
    for session in sessions:
        if claim.resume is not None and claim.is_for(session):
            replay = replay or recovery.begin(tx, claim.username, claim.resume.offset)
            steps_before = replay.steps
            memberships = (await tx.members.of([claim.username])).get(claim.username, ())
            replay = await recovery.read_on(tx, policy, session, memberships, replay)
            steps = replay.steps - steps_before
            if not replay.done or steps > FEW_STEPS or (steps and not tx.has_time()):
                return replay
            was_online = any(other.holder is not None for other in sessions)
            rooms = () if was_online else _rooms(memberships)
            return await _resume(tx, policy, claim, session, replay, rooms)
    for session in sessions:
        _check_claimable(tx, policy, session)
    if sessions:
        _end_user(tx, policy, sessions, await _rooms_of(tx, claim.username))
    return _begin(tx, claim)


def _begin(tx: Transaction, claim: Claim) -> Session:
    """Begin a new session."""
    session = Session(next(_sids), next(_pids), claim.username)
    holder, newest = Holder(claim.connection, tx.node), tx.log.newest()
    tx.sessions.put(
        SessionRecord(
            session.sid, session.username, hash_token(session.pid), None, holder, None, claim.resumable, began=newest
        )
    )
    tx.attach(Attachment(session, holder, (), tx.log.offset(newest), recovered=False))
    return session


async def _resume(
    tx: Transaction,
    policy: Policy,
    claim: Claim,
    record: SessionRecord,
    replay: Replay,
    rooms: Sequence[RoomRecord],
) -> Session:
    """Have a session live on the connection of the claim. ``rooms``: those whose members receive that it is online."""
    recovered = not replay.lost
    shapes = await tx.rooms.shapes(claim.username, as_online=True)
    # The stock client takes an unchanged pid for a recovery.
    pid = claim.resume.pid if recovered and claim.resume is not None else next(_pids)
    session = Session(record.sid, pid, record.username)
    holder = Holder(claim.connection, tx.node)
    tx.sessions.put(
        replace(
            record,
            pid_hash=hash_token(pid),
            previous_pid_hash=None if recovered or claim.resume is None else hash_token(claim.resume.pid),
            holder=holder,
            suspended_at=None,
            resumable=True,
        )
    )
    tx.attach(
        Attachment(
            session,
            holder,
            shapes,
            tx.log.offset(replay.position if recovered else tx.log.newest()),
            recovered,
            replay.missed() if recovered else (),
            replaces=record.holder,
        )
    )
    _publish_presence(tx, policy, claim.username, rooms, online=True)
    return session


async def suspend(tx: Transaction, policy: Policy, session: Session, connection: str) -> None:
    """The transport of ``connection`` was lost. Does nothing where the session is not live on it."""
    sessions = await _sessions_of(tx, session.username)
    for record in sessions:
        if record.sid == session.sid and _is_on(record, connection):
            await _suspend(tx, policy, record, sessions)
            return


async def end(tx: Transaction, policy: Policy, session: Session, connection: str) -> None:
    """The client left on purpose. Does nothing where the session is not live on ``connection``."""
    sessions = await _sessions_of(tx, session.username)
    for record in sessions:
        if record.sid == session.sid and _is_on(record, connection):
            await _end(tx, policy, record, sessions)
            return


async def abandon(tx: Transaction, policy: Policy, claim: Claim) -> None:
    """The connection of ``claim`` was closed before its client could know how `attach` came out.

    A session that the claim does not name ends: nobody could come back to it. The one that it names is suspended. Does
    nothing where no session of the user is live on the connection.
    """
    sessions = await _sessions_of(tx, claim.username)
    for record in sessions:
        if _is_on(record, claim.connection):
            undo = _suspend if claim.is_for(record) else _end
            await undo(tx, policy, record, sessions)
            return


async def end_expired(tx: Transaction, policy: Policy) -> int:
    """End sessions that were suspended longer than the recovery window ago; how many, a bounded number in one call."""
    window = int(policy.recovery_window * 1000)
    expired = await tx.sessions.suspended_until(tx.running_ms() - window, EXPIRED_AT_ONCE)
    if not expired:
        return 0
    usernames = list(dict.fromkeys(session.username for session in expired))
    counts = await tx.members.counts(usernames)
    places = 0
    for number, username in enumerate(usernames):
        places += counts[username].own + counts[username].invited if username in counts else 0
        if number and places > PLACES_AT_ONCE:
            usernames = usernames[:number]
            break
    sessions = await tx.sessions.of(usernames)
    memberships = await tx.members.of(usernames)
    sids = {session.sid for session in expired}
    ended = 0
    left: Counter[int] = Counter()
    """How many have left each room in this transaction, which has read the rooms before."""
    for username in usernames:
        ending = [session for session in sessions[username] if session.sid in sids]
        rooms = [_without(room, left[room.id]) for room in _rooms(memberships.get(username, ()))]
        if _end_some(tx, policy, sessions[username], ending, rooms):
            left.update(room.id for room in rooms)
        ended += len(ending)
    return ended


async def _sessions_of(tx: Transaction, username: str) -> Sequence[SessionRecord]:
    return (await tx.sessions.of([username])).get(username, ())


async def _rooms_of(tx: Transaction, username: str) -> Sequence[RoomRecord]:
    return _rooms((await tx.members.of([username])).get(username, ()))


def _rooms(memberships: Sequence[Membership]) -> Sequence[RoomRecord]:
    """In order of name."""
    return sorted((membership.room for membership in memberships), key=lambda room: room.name)


def _check_claimable(tx: Transaction, policy: Policy, session: SessionRecord) -> None:
    """See that the name of a session may be claimed: its holder may come back no more, or has had the time to."""
    if session.suspended_at is None:
        raise UsernameTaken(session.username)
    left = policy.reserve_names - (tx.running_ms() - session.suspended_at) / 1000
    if session.resumable and left > 0:
        raise UsernameTaken(session.username, retry_after=left)


async def _suspend(tx: Transaction, policy: Policy, session: SessionRecord, sessions: Sequence[SessionRecord]) -> None:
    """Suspend one of the ``sessions`` of a user."""
    stays_online = any(other.holder is not None for other in sessions if other.sid != session.sid)
    rooms = () if stays_online else await _rooms_of(tx, session.username)
    tx.sessions.put(replace(session, holder=None, suspended_at=tx.running_ms()))
    _publish_presence(tx, policy, session.username, rooms, online=False)


async def _end(tx: Transaction, policy: Policy, session: SessionRecord, sessions: Sequence[SessionRecord]) -> None:
    """End one of the ``sessions`` of a user."""
    _end_some(tx, policy, sessions, [session], await _rooms_of(tx, session.username))


def _end_some(
    tx: Transaction,
    policy: Policy,
    sessions: Sequence[SessionRecord],
    ending: Sequence[SessionRecord],
    rooms: Sequence[RoomRecord],
) -> bool:
    """End some of the ``sessions`` of a user, who is in these ``rooms``, and leaves them with the last session; whether
    that is so.
    """
    if len(ending) < len(sessions):
        for session in ending:
            tx.sessions.delete(session)
        return False
    _end_user(tx, policy, sessions, rooms)
    return True


def _end_user(tx: Transaction, policy: Policy, sessions: Sequence[SessionRecord], rooms: Sequence[RoomRecord]) -> None:
    """End all ``sessions`` of a user, who is in these ``rooms``."""
    username = sessions[0].username
    tx.departures.forget_user(username)
    if rooms:
        tx.members.remove(username, rooms)
        for room in rooms:
            publish_leaving(tx, policy, room, username)
    for session in sessions:
        tx.sessions.delete(session)


def _without(room: RoomRecord, left: int) -> RoomRecord:
    """A room after some of its members have left."""
    return room._replace(member_count=room.member_count - left) if left else room


def _publish_presence(
    tx: Transaction, policy: Policy, username: str, rooms: Sequence[RoomRecord], *, online: bool
) -> None:
    for room in rooms:
        if is_announced(policy, room.member_count):
            body = events.presence(room.name, username, online=online)
            tx.log.publish(room, events.PRESENCE, body, author=username)


def _is_on(session: SessionRecord, connection: str) -> bool:
    """Whether a session is live on a connection."""
    return session.holder is not None and session.holder.connection == connection


def _is_same(given: str, kept: str | None) -> bool:
    """Compare a pid with the hash of one, without telling by the time it takes how much was right."""
    return kept is not None and hmac.compare_digest(hash_token(given), kept)
