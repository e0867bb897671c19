"""What an engine ought to do, in plain Python: one order of events, no storage, no concurrency.

`World` has the verbs of `gateway.rules.store.Store`. Each takes effect at once, and returns what the call returns or
raises `Refused`; what connected users receive is put into `World.sent`. It knows no limits of memory or time, so it can
be read from top to bottom as the contract in code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from gateway.engines.base import Policy

SHOWN_MEMBERS = 10
"""Members in a room's shape, at most."""

Shape = dict[str, Any]


class Receipt(NamedTuple):
    id: str
    ts: int
    duplicate: bool


class Moment(int):
    """A time in ms that is not known exactly: it equals all from itself up to ``latest``."""

    latest: int

    def __new__(cls, earliest: int, latest: int) -> Moment:
        moment = super().__new__(cls, earliest)
        moment.latest = latest
        return moment

    def __eq__(self, other: object) -> bool:
        return isinstance(other, int) and int(self) <= int(other) <= self.latest

    __hash__ = int.__hash__

    def __deepcopy__(self, _: object) -> Moment:
        return self


class Refused(Exception):
    """A call is refused. ``codes``: the error codes that say so; any of them is right where several reasons hold."""

    def __init__(self, *codes: str) -> None:
        super().__init__(*codes)
        self.codes = frozenset(codes)


@dataclass(slots=True)
class Entry:
    """A stored event; ``number`` is its place in the one order. ``recipient``: who alone receives it."""

    number: int
    room: Room
    event: str
    body: dict[str, Any]
    author: str
    recipient: str | None = None

    def is_for(self, username: str, membership: Membership) -> bool:
        """Whether a member receives it."""
        if self.author == username:
            return False
        return self.recipient == username or (self.recipient is None and self.number > membership.joined)


@dataclass(slots=True)
class Membership:
    joined: int
    """The number of the last event that the member does not receive."""
    by_others: bool
    """Whether somebody else made this user a member."""


@dataclass(slots=True, eq=False)
class Room:
    name: str
    kind: str
    history: str
    members: dict[str, Membership] = field(default_factory=dict)
    log: list[Entry] = field(default_factory=list)
    left: dict[str, float] = field(default_factory=dict)
    """When users left, by the monotonic clock."""
    pair: frozenset[str] = frozenset()
    """Whose direct room it is."""
    last_ts: int = 0


@dataclass(slots=True)
class Session:
    sid: str
    pids: list[str]
    """The valid ones, newest first: the one before works until the client has used the newest."""
    connection: str | None
    began: int
    suspended_at: float = 0.0
    missed_by_leaving: int = 0
    """The number of the newest event that was for the user in a room that the user has left."""
    welcome: str | None = None
    """The offset that the session began with."""


@dataclass(slots=True)
class Sent:
    """An event on its way to a connection. ``entry`` is None where it is volatile."""

    connection: str
    event: str
    body: dict[str, Any]
    entry: Entry | None


@dataclass(slots=True)
class Missed:
    """What a returning client gets. ``certain``: an engine that cannot replay all of it has forgotten too early."""

    entries: list[Entry]
    complete: bool
    certain: bool


class World:
    def __init__(self, policy: Policy, wall: float, monotonic: float) -> None:
        self.policy = policy
        self.wall = wall
        self.monotonic = monotonic
        self.ahead = 0.0
        """By how many seconds the engine's time may be ahead of ours."""
        self.stepped = False
        """Whether the system clock was ever set."""
        self.count = 0
        """The number of the newest stored event."""
        self.restored = 0
        """Up to which number the events are those of a backup that was put back."""
        self.sessions: dict[str, Session] = {}
        self.rooms: dict[str, Room] = {}
        self.direct: dict[frozenset[str], Room] = {}
        self.left_direct: dict[frozenset[str], dict[str, float]] = {}
        """When users left the direct room of a pair: the next room of the two has it from the last one."""
        self.sent: list[Sent] = []
        self.appended: list[Entry] = []
        """What happened since these two were emptied."""

    # --- sessions

    def is_claimable(self, session: Session) -> bool:
        """Whether the name of a suspended session is not reserved for its client any more."""
        return session.connection is None and self.monotonic >= session.suspended_at + self.policy.reserve_names

    def claim(self, username: str, connection: str, sid: str, pid: str) -> None:
        """A log-in without a valid pid, where nobody holds the name, or it is claimable."""
        if username in self.sessions:
            self._end(username)
        self.sessions[username] = Session(sid, [pid], connection, self.count)

    def resume(self, username: str, pid: str, connection: str) -> str | None:
        """A log-in with a valid pid; the connection that held the session. Which pid is valid now is up to
        `recovered` and `not_recovered`.
        """
        session = self.sessions[username]
        assert pid in session.pids
        replaced, session.connection = session.connection, connection
        if replaced is None:
            self._publish_presence(username, online=True)
        return replaced

    def recovered(self, username: str, pid: str) -> None:
        self.sessions[username].pids = [pid]

    def not_recovered(self, username: str, pid: str, new_pid: str) -> None:
        self.sessions[username].pids = [new_pid, pid]

    def missed(self, username: str, number: int | None, offset: str | None) -> Missed:
        """What a user has not received after the event ``number``; None is an ``offset`` that is not valid."""
        session = self.sessions[username]
        if number is None or number > self.count or session.missed_by_leaving > number:
            return Missed([], complete=False, certain=False)
        since = max(number, session.began)  # what a former holder of the name was sent is not this one's
        entries: list[Entry] = []
        certain = number > session.began or offset == session.welcome
        for room in self.rooms_of(username):
            membership = room.members[username]
            mine = [entry for entry in room.log if entry.number > since and entry.is_for(username, membership)]
            certain = certain and all(self._is_kept(room, entry) for entry in mine)
            entries += mine
        return Missed(sorted(entries, key=lambda entry: entry.number), complete=True, certain=certain)

    def _is_kept(self, room: Room, entry: Entry) -> bool:
        """Whether the history of the room surely reaches back to an event."""
        same = [other for other in room.log if (other.event == "message") == (entry.event == "message")]
        return entry in same[-self.policy.history_size :]

    def suspend(self, username: str, connection: str) -> None:
        session = self.sessions.get(username)
        if session is not None and session.connection == connection:
            session.connection, session.suspended_at = None, self.monotonic
            self._publish_presence(username, online=False)

    def end(self, username: str, connection: str) -> None:
        session = self.sessions.get(username)
        if session is not None and session.connection == connection:
            self._end(username)

    def over(self) -> list[str]:
        """Users whose recovery window is over."""
        return [name for name, session in self.sessions.items() if session.connection is None and self.is_over(session)]

    def expire(self, order: list[str]) -> None:
        """End the sessions whose window is over, in that order."""
        for username in sorted(self.over(), key=order.index):
            self._end(username)

    def is_over(self, session: Session) -> bool:
        return self.monotonic >= session.suspended_at + self.policy.recovery_window

    def restart(self) -> None:
        """The engine was closed, or killed, and opened again: all windows start again."""
        for session in self.sessions.values():
            session.connection, session.suspended_at = None, self.monotonic

    def _end(self, username: str) -> None:
        for room in self.rooms_of(username):
            self._remove(room, username)
        for pair in [pair for pair in self.direct if username in pair]:
            del self.direct[pair]
        for pair in [pair for pair in self.left_direct if username in pair]:
            del self.left_direct[pair]
        for room in self.rooms.values():
            room.left.pop(username, None)
        del self.sessions[username]

    # --- rooms

    def rooms_of(self, username: str) -> list[Room]:
        return sorted((room for room in self.rooms.values() if username in room.members), key=lambda room: room.name)

    def room_of(self, username: str, name: str) -> Room:
        room = self.rooms.get(name)
        if room is None or username not in room.members:
            raise Refused("room_not_found")
        return room

    def create_room(self, actor: str, name: str, users: tuple[str, ...], history: str) -> Shape:
        others = tuple(user for user in users if user != actor)
        if name in self.rooms:
            raise Refused("room_exists")
        codes = self._reasons_against(others, by_others=True) | self._reasons_against((actor,), by_others=False)
        if 1 + len(others) > self.policy.max_members:
            codes.add("limit_reached")
        if codes:
            raise Refused(*codes)
        room = self.rooms[name] = Room(name, "group", history)
        room.members[actor] = Membership(self.count, by_others=False)
        self._join(room, others, by=actor)
        return self.shape(room, actor)

    def add_members(
        self, actor: str, name: str, users: tuple[str, ...], declined: tuple[str, ...]
    ) -> dict[str, tuple[str, ...]]:
        """``declined``: who did, as the engine has it; it counts where a clock was set and a store opened since."""
        room = self.room_of(actor, name)
        if room.kind == "direct":
            raise Refused("forbidden")
        already = tuple(user for user in users if user in room.members)
        declined = tuple(user for user in users if user not in already and self._declines(room.left, user, declined))
        added = tuple(user for user in users if user not in already and user not in declined)
        codes = self._reasons_against(added, by_others=True)
        if any(user not in self.sessions for user in users):
            codes.add("unknown_user")
        if len(room.members) + len(added) > self.policy.max_members:
            codes.add("limit_reached")
        if codes:
            raise Refused(*codes)
        if self._is_announced(len(room.members) + len(added)):
            for user in added:
                body = {"room": name, "username": user, "by": actor}
                self._append(room, "user-joined", body, actor)
        self._join(room, added, by=actor)
        return {"added": added, "already": already, "declined": declined}

    def remove_member(self, actor: str, name: str) -> None:
        room = self.room_of(actor, name)
        session, membership = self.sessions[actor], room.members[actor]
        mine = [entry.number for entry in room.log if entry.is_for(actor, membership)]
        session.missed_by_leaving = max(session.missed_by_leaving, *mine, 0)
        room.left[actor] = self.monotonic
        self._remove(room, actor)

    def open_direct(self, actor: str, user: str, name: str, declined: tuple[str, ...]) -> tuple[Shape, tuple[str, ...]]:
        """``name``: what the room is called where it is new. Returns its shape, and who declined; see `add_members`."""
        if user == actor:
            raise Refused("invalid_payload")
        if user not in self.sessions:
            raise Refused("unknown_user")
        pair = frozenset((actor, user))
        room = self.direct.get(pair)
        missing = [name for name in (actor, user) if room is None or name not in room.members]
        left = self.left_direct.get(pair, {})
        declined = (user,) if user in missing and self._declines(left, user, declined) else ()
        codes: set[str] = set()
        if actor in missing:
            codes |= self._reasons_against((actor,), by_others=False)
        if user in missing and not declined:
            codes |= self._reasons_against((user,), by_others=True)
        if codes:
            raise Refused(*codes)
        if room is None:
            self.left_direct[pair] = left
            room = self.rooms[name] = self.direct[pair] = Room(name, "direct", "all", pair=pair, left=left)
        if actor in missing:
            room.members[actor] = Membership(self.count, by_others=False)
            if len(room.members) > 1:
                self._append(room, "user-joined", {"room": room.name, "username": actor, "by": actor}, actor)
        if user in missing and not declined:
            self._join(room, (user,), by=actor)
        return self.shape(room, actor), declined

    def shape(self, room: Room, reader: str) -> Shape:
        """A room as replies and events show it to ``reader``."""
        shown = sorted(room.members)[:SHOWN_MEMBERS]
        members = [{"username": name, "online": self.sessions[name].connection is not None} for name in shown]
        shape = {"room": room.name, "kind": room.kind, "history": room.history}
        shape |= {"members": members, "member_count": len(room.members)}
        if room.kind == "direct":
            (shape["user"],) = room.pair - {reader}
        return shape

    def _reasons_against(self, users: tuple[str, ...], *, by_others: bool) -> set[str]:
        codes = set()
        for user in users:
            if user not in self.sessions:
                codes.add("unknown_user")
            joined = [room for room in self.rooms_of(user) if room.members[user].by_others == by_others]
            if len(joined) >= self.policy.max_rooms:
                codes.add("limit_reached")
        return codes

    def _declines(self, left: dict[str, float], user: str, declined: tuple[str, ...]) -> bool:
        since = left.get(user)
        if since is not None and self.stepped:
            return user in declined
        return since is not None and self.monotonic < since + self.policy.decline_window

    def _join(self, room: Room, users: tuple[str, ...], *, by: str) -> None:
        """Make ``users`` members: each receives the room from its own ``room-joined`` on."""
        for index, user in enumerate(users, 1):
            room.members[user] = Membership(self.count + index, by_others=True)
        for user in users:
            self._append(room, "room-joined", {**self.shape(room, user), "by": by}, by, recipient=user)

    def _remove(self, room: Room, username: str) -> None:
        announced = self._is_announced(len(room.members))
        del room.members[username]
        if not room.members:
            del self.rooms[room.name]
            for pair in [pair for pair, other in self.direct.items() if other is room]:
                del self.direct[pair]
        elif announced:
            self._append(room, "user-left", {"room": room.name, "username": username}, username)

    def _is_announced(self, member_count: int) -> bool:
        return member_count <= self.policy.presence_limit

    # --- messages

    def append_message(
        self, actor: str, name: str, content: str, message_id: str | None, got: Receipt | None
    ) -> Receipt:
        """``got``: what the engine returned; the id that it gave a message, and the time, are its own to choose."""
        room = self.room_of(actor, name)
        earlier = self._earlier(room, actor, message_id)
        if earlier and self._is_remembered(room, earlier[-1], got):
            return Receipt(earlier[-1].body["id"], earlier[-1].body["ts"], duplicate=True)
        given = got.id if message_id is None and got is not None else message_id
        body = {"id": given, "room": name, "from": actor, "content": content}
        body["ts"] = room.last_ts = self._time_of_message(room, got)
        self._append(room, "message", body, actor)
        return Receipt(body["id"], body["ts"], duplicate=False)

    def _time_of_message(self, room: Room, got: Receipt | None) -> int:
        earliest = max(room.last_ts, int(self.wall * 1000))
        time = Moment(earliest, earliest + math.ceil(self.ahead * 1000))
        return time if got is None or time != got.ts else got.ts

    def _earlier(self, room: Room, actor: str, message_id: str | None) -> list[Entry]:
        """What a member sent with an id, in this membership."""
        joined = room.members[actor].joined
        earlier = [entry for entry in room.log if entry.event == "message" and entry.author == actor]
        return [entry for entry in earlier if entry.body["id"] == message_id and entry.number > joined]

    def _is_remembered(self, room: Room, entry: Entry, got: Receipt | None) -> bool:
        """Whether the engine knows a message by its id; where it need not, it may."""
        recent = (self.wall + self.ahead) * 1000 - entry.body["ts"] < 2000 * self.policy.recovery_window
        if self._is_kept(room, entry) or (recent and not self.stepped):
            return True
        return got is not None and got.duplicate

    def publish_typing(self, actor: str, name: str) -> None:
        room = self.room_of(actor, name)
        if self._is_announced(len(room.members)):
            self._publish(room, "typing", {"room": name, "username": actor}, actor)

    def history(self, actor: str, name: str) -> tuple[list[Entry], int]:
        """All messages that a member may ever read, oldest first, and how many of the newest surely are there."""
        room = self.room_of(actor, name)
        reach = room.members[actor].joined if room.history == "joined" else 0
        messages = [entry for entry in room.log if entry.event == "message" and entry.number > reach]
        return messages, min(self.policy.history_size, len(messages))

    # --- sending

    def _append(self, room: Room, event: str, body: dict[str, Any], author: str, recipient: str | None = None) -> None:
        self.count += 1
        entry = Entry(self.count, room, event, body, author, recipient)
        room.log.append(entry)
        self.appended.append(entry)
        self._send(entry.room, event, body, author, recipient, entry)

    def _publish(self, room: Room, event: str, body: dict[str, Any], author: str) -> None:
        self._send(room, event, body, author, None, None)

    def _publish_presence(self, username: str, *, online: bool) -> None:
        for room in self.rooms_of(username):
            if self._is_announced(len(room.members)):
                body = {"room": room.name, "username": username, "online": online}
                self._publish(room, "presence", body, username)

    def _send(
        self, room: Room, event: str, body: dict[str, Any], author: str, recipient: str | None, entry: Entry | None
    ) -> None:
        for username in (recipient,) if recipient is not None else tuple(room.members):
            session = self.sessions[username]
            late = entry is not None and recipient is None and entry.number <= room.members[username].joined
            if session.connection is not None and username != author and not late:
                self.sent.append(Sent(session.connection, event, body, entry))
