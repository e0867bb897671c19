"""The life of a session in the store: live, suspended, live again, ended (see the diagram in `gateway.sessions`).

A username has one session at most: the data can hold several, and the rules here would keep them apart, but `attach`
begins no second one. (`gateway.delivery`, too, knows one connection of a user.)
"""

from __future__ import annotations

import hmac
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gateway import events
from gateway.engines.base import CLOCKS_DIFFER
from gateway.engines.effects import Attachment, Holder, Session
from gateway.engines.transaction import SessionRecord
from gateway.errors import Unavailable, UsernameTaken
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

ORPHANED_AT_ONCE: Final = 20
"""How many sessions one transaction of `suspend_orphaned` suspends."""

EXPIRED_AT_ONCE: Final = 10
"""How many sessions one transaction of `end_expired` ends."""

PLACES_AT_ONCE: Final = 64
"""How many memberships those sessions may have in all; a single session may have more."""

_sids = tokens(15)
_pids = tokens(24)


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Where a returning client wants to continue: its session, and the offset of the last event it saw."""

    pid: str
    offset: str | None


@dataclass(frozen=True, slots=True)
class Claim:
    """A client on ``connection`` claims ``username``, in the session that ``resume`` names or in a new one.

    ``resumable``: the client is sent the ``pid`` of a new session. If it is not, it cannot return, and the session ends
    soon after the store is next opened. ``sid``: of the new session, if the claim begins one.
    """

    username: str
    connection: str
    resume: ResumePoint | None = None
    resumable: bool = True
    sid: str = field(default_factory=lambda: next(_sids))

    def is_for(self, session: SessionRecord) -> bool:
        """Whether the claim names that session by its pid."""
        return self.resume is not None and any(
            _is_same(self.resume.pid, known) for known in (session.pid_hash, session.previous_pid_hash)
        )


async def attach(
    tx: Transaction, policy: Policy, claim: Claim, came: int, replay: Replay | None = None
) -> Session | Replay:
    """Log a client in that came at ``came`` (in the store's running time, ms). Returns its session; or, if more of what
    it missed has to be read first, the replay so far: then nothing was written, and `attach` is to be called again with
    that replay, in another transaction.

    A valid ``pid`` wins over the connection that holds the session, unless a client that came later has had it: one
    that gave up waiting, and came back on another node, does not lose its session to its own first attempt. (Where the
    times that two nodes know differ by more than usual, a client that is fast has to try once more.)

    If not every missed event can be replayed, the session keeps its rooms but gets a new ``pid``. The name of a
    suspended session is reserved for `Policy.reserve_names` seconds; if it is claimed after that, the session ends.

    Raises:
        UsernameTaken: the name has a live session, or is reserved, and the claim does not have its ``pid``.
        Unavailable: a later log-in has had the session.
    """
    sessions = await _sessions_of(tx, claim.username)
    for session in sessions:
        if claim.resume is not None and claim.is_for(session):
            if session.claimed_at > came + CLOCKS_DIFFER:
                raise Unavailable("A later log-in has had the session; try again.")
            replay = replay or recovery.begin(tx, claim.username, claim.resume.offset)
            steps_before, caught_up = replay.steps, replay.done
            memberships = (await tx.members.of([claim.username])).get(claim.username, ())
            replay = await recovery.read_on(tx, policy, session, memberships, replay)
            steps = replay.steps - steps_before
            if not replay.done or (not caught_up and (steps > FEW_STEPS or (steps and not tx.has_time()))):
                return replay
            was_online = any(other.holder is not None for other in sessions)
            rooms = () if was_online else _rooms(memberships)
            return await _resume(tx, policy, claim, came, session, replay, rooms)
    for session in sessions:
        _check_claimable(tx, policy, session)
    if sessions:
        _end_user(tx, policy, sessions, await _rooms_of(tx, claim.username))
    return _begin(tx, claim, came)


def _begin(tx: Transaction, claim: Claim, came: int) -> Session:
    """Begin a new session."""
    session = Session(claim.sid, next(_pids), claim.username)
    holder, newest = Holder(claim.connection, tx.node), tx.log.newest()
    tx.sessions.put(
        SessionRecord(
            session.sid,
            session.username,
            hash_token(session.pid),
            None,
            holder,
            None,
            claim.resumable,
            began=newest,
            claimed_at=min(came, tx.running_ms()),  # a node that could not reach the store knows a later time
        )
    )
    tx.attach(Attachment(session, holder, (), tx.log.offset(newest), recovered=False))
    return session


async def _resume(
    tx: Transaction,
    policy: Policy,
    claim: Claim,
    came: int,
    record: SessionRecord,
    replay: Replay,
    rooms: Sequence[RoomRecord],
) -> Session:
    """Attach a session to the connection of the claim. ``rooms``: those that are notified that its user is online."""
    recovered = not replay.lost
    shapes = await tx.rooms.shapes(claim.username, as_online=True)
    # The stock client takes an unchanged pid for a recovery.
    pid = claim.resume.pid if recovered and claim.resume is not None else next(_pids)
    session = Session(record.sid, pid, record.username)
    holder = Holder(claim.connection, tx.node)
    tx.sessions.put(
        record._replace(
            pid_hash=hash_token(pid),
            previous_pid_hash=None if recovered or claim.resume is None else hash_token(claim.resume.pid),
            holder=holder,
            suspended_at=None,
            resumable=True,
            claimed_at=min(came, tx.running_ms()),  # a node that could not reach the store knows a later time
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
    """Suspend a session whose transport was lost. Does nothing if it is not live on ``connection``."""
    sessions = await _sessions_of(tx, session.username)
    for record in sessions:
        if record.sid == session.sid and _is_on(record, connection):
            await _suspend(tx, policy, record, sessions)
            return


async def end(tx: Transaction, policy: Policy, session: Session, connection: str) -> None:
    """End a session whose client left on purpose. Does nothing if it is not live on ``connection``."""
    sessions = await _sessions_of(tx, session.username)
    for record in sessions:
        if record.sid == session.sid and _is_on(record, connection):
            await _end(tx, policy, record, sessions)
            return


async def abandon(tx: Transaction, policy: Policy, claim: Claim) -> None:
    """Undo `attach`: the connection of ``claim`` was closed before its client could learn the outcome.

    A new session ends, even if it is suspended by now, since nobody can return to it. One that the claim has resumed is
    suspended again. Does nothing if there is no such session.
    """
    sessions = await _sessions_of(tx, claim.username)
    for record in sessions:
        if record.sid == claim.sid:
            await _end(tx, policy, record, sessions)
            return
        if _is_on(record, claim.connection):
            await _suspend(tx, policy, record, sessions)
            return


async def suspend_orphaned(tx: Transaction, policy: Policy) -> int:
    """Suspend some of the sessions that were live on nodes that are gone. Returns how many.

    One to which no client can return expires at once.
    """
    orphaned = await tx.sessions.orphaned(ORPHANED_AT_ONCE)
    if not orphaned:
        return 0
    usernames = list(dict.fromkeys(session.username for session in orphaned))
    sessions = await tx.sessions.of(usernames)
    memberships = await tx.members.of(usernames)
    gone = {session.sid for session in orphaned}
    now = tx.running_ms()
    for session in orphaned:
        expired = 0 if session.resumable else int(policy.recovery_window * 1000)
        tx.sessions.put(session._replace(holder=None, suspended_at=now - expired))
    for username in usernames:
        if all(session.holder is None or session.sid in gone for session in sessions[username]):
            _publish_presence(tx, policy, username, _rooms(memberships.get(username, ())), online=False)
    return len(orphaned)


async def end_expired(tx: Transaction, policy: Policy) -> int:
    """End some of the sessions that have been suspended for longer than the recovery window. Returns how many."""
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
    """How many members each room has lost in this transaction, since the rooms were read."""
    for username in usernames:
        ending = [session for session in sessions[username] if session.sid in sids]
        rooms = [_without(room, left[room.id]) for room in _rooms(memberships.get(username, ()))]
        if _end_some(tx, policy, sessions[username], ending, rooms):
            left.update(room.id for room in rooms)
        ended += len(ending)
        if not tx.has_time():
            break
    return ended


async def _sessions_of(tx: Transaction, username: str) -> Sequence[SessionRecord]:
    return (await tx.sessions.of([username])).get(username, ())


async def _rooms_of(tx: Transaction, username: str) -> Sequence[RoomRecord]:
    return _rooms((await tx.members.of([username])).get(username, ()))


def _rooms(memberships: Sequence[Membership]) -> Sequence[RoomRecord]:
    """In order of name."""
    return sorted((membership.room for membership in memberships), key=lambda room: room.name)


def _check_claimable(tx: Transaction, policy: Policy, session: SessionRecord) -> None:
    """Check that the name of a session may be claimed: its holder cannot return, or has had the time to."""
    if session.suspended_at is None:
        raise UsernameTaken(session.username)
    left = policy.reserve_names - (tx.running_ms() - session.suspended_at) / 1000
    if session.resumable and left > 0:
        raise UsernameTaken(session.username, retry_after=left)


async def _suspend(tx: Transaction, policy: Policy, session: SessionRecord, sessions: Sequence[SessionRecord]) -> None:
    """Suspend one of the ``sessions`` of a user."""
    stays_online = any(other.holder is not None for other in sessions if other.sid != session.sid)
    rooms = () if stays_online else await _rooms_of(tx, session.username)
    tx.sessions.put(session._replace(holder=None, suspended_at=tx.running_ms()))
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
    """End some of the ``sessions`` of a user. Returns whether it was all of them, and the user left its ``rooms``."""
    if len(ending) < len(sessions):
        for session in ending:
            tx.sessions.delete(session)
        return False
    _end_user(tx, policy, sessions, rooms)
    return True


def _end_user(tx: Transaction, policy: Policy, sessions: Sequence[SessionRecord], rooms: Sequence[RoomRecord]) -> None:
    """End all ``sessions`` of a user, and remove the user from its ``rooms``."""
    username = sessions[0].username
    tx.departures.forget_user(username)
    if rooms:
        tx.members.remove(username, rooms)
        for room in rooms:
            publish_leaving(tx, policy, room, username)
    for session in sessions:
        tx.sessions.delete(session)


def _without(room: RoomRecord, left: int) -> RoomRecord:
    """A room after that many of its members have left."""
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
    """Compare a pid with the stored hash of one, in constant time."""
    return kept is not None and hmac.compare_digest(hash_token(given), kept)
