"""A store in dictionaries, as small as can be: what the rules are tried on in microseconds.

It is strict where engines differ: what a rule writes is kept only when the rule returns, so that nothing can be read
after a write; each rule is run twice, and the first run leaves no trace, as on an engine whose commit may be
refused.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from gateway import events
from gateway.engines.base import Receipt, Rule
from gateway.engines.effects import Attachment, Effect, Movement, Publication, Subscriber
from gateway.engines.transaction import (
    Entries,
    Entry,
    Invitation,
    Membership,
    Messages,
    Range,
    RoomCounts,
    RoomId,
    RoomRecord,
    SessionRecord,
    Stream,
)
from gateway.errors import LimitReached, RoomNotFound
from gateway.events import Member, Room

T = TypeVar("T")

MESSAGES, NOTICES = 0, 1


@dataclass(slots=True)
class Row:
    """An event. ``recipient``: who alone receives it. ``kind`` is None for such an event."""

    position: int
    room_id: RoomId
    event: str
    body: bytes
    author: str
    kind: int | None
    recipient: str | None = None
    message_id: str | None = None


@dataclass(slots=True)
class Place:
    """A member of a room."""

    joined: int
    invited: bool
    peer: str | None


@dataclass(slots=True)
class Data:
    """Everything there is."""

    sessions: dict[str, SessionRecord] = field(default_factory=dict)
    """By sid."""
    rooms: dict[RoomId, RoomRecord] = field(default_factory=dict)
    members: dict[RoomId, dict[str, Place]] = field(default_factory=dict)
    left: dict[tuple[str, str], int] = field(default_factory=dict)
    """When a user left a place."""
    log: list[Row] = field(default_factory=list)
    trimmed: dict[RoomId, dict[tuple[int | None, str], int]] = field(default_factory=dict)
    """The newest position of each kind and author that was trimmed off a room."""
    newest: int = 0
    last_room: int = 0
    full: bool = False

    def record(self, room_id: RoomId) -> RoomRecord:
        return self.rooms[room_id]._replace(member_count=len(self.members[room_id]))

    def is_online(self, username: str) -> bool:
        return any(s.holder is not None for s in self.sessions.values() if s.username == username)

    def newest_by_others(self, room_id: RoomId, username: str) -> int:
        """The position of the newest event in a room that another author caused, trimmed or not; or 0."""
        trimmed = [at for (_, by), at in self.trimmed[room_id].items() if by != username]
        kept = [r.position for r in self.log if r.room_id == room_id and r.kind is not None and r.author != username]
        return max([0, *trimmed, *kept])

    def rooms_of(self, username: str) -> list[RoomRecord]:
        found = [self.record(room_id) for room_id, members in self.members.items() if username in members]
        return sorted(found, key=lambda room: room.name)


class DictTransaction:
    """A `gateway.engines.transaction.Transaction` on `Data`."""

    node = "here"

    def __init__(self, data: Data, now: Callable[[], int], window: int) -> None:
        self._data = data
        self._now = now
        self._window = window
        self.writes: list[Callable[[Data], None]] = []
        self.effects: list[Effect] = []
        self.time_left = True
        self.sessions = DictSessions(self)
        self.rooms = DictRooms(self)
        self.members = DictMembers(self)
        self.departures = DictDepartures(self)
        self.history = DictHistory(self)
        self.log = DictLog(self)

    def read(self) -> Data:
        assert not self.writes, "a rule reads after it has written"
        return self._data

    def write(self, change: Callable[[Data], None]) -> None:
        self.writes.append(change)

    async def is_here(self, username: str) -> bool:
        return True

    def running_ms(self) -> int:
        return self._now()

    def has_time(self) -> bool:
        return self.time_left

    def check_space(self) -> None:
        if self._data.full:
            raise LimitReached.store(0)

    def attach(self, attachment: Attachment) -> None:
        self.write(lambda _: self.effects.append(attachment))

    @property
    def window(self) -> int:
        return self._window

    @property
    def now(self) -> int:
        return self._now()

    @property
    def data(self) -> Data:
        """For writes, which see those before them."""
        return self._data


class Part:
    def __init__(self, tx: DictTransaction) -> None:
        self.tx = tx


class DictSessions(Part):
    async def of(self, usernames: Sequence[str]) -> Mapping[str, Sequence[SessionRecord]]:
        found: dict[str, list[SessionRecord]] = {}
        for session in self.tx.read().sessions.values():
            if session.username in usernames:
                found.setdefault(session.username, []).append(session)
        return found

    async def suspended_until(self, running_ms: int, limit: int) -> Sequence[SessionRecord]:
        sessions = self.tx.read().sessions.values()
        found = [s for s in sessions if s.suspended_at is not None and s.suspended_at <= running_ms]
        return sorted(found, key=lambda session: session.suspended_at or 0)[:limit]

    async def orphaned(self, limit: int) -> Sequence[SessionRecord]:
        held = [s for s in self.tx.read().sessions.values() if s.holder is not None and s.holder.node != self.tx.node]
        return held[:limit]

    async def online(self, prefix: str, limit: int) -> Sequence[str]:
        data = self.tx.read()
        names = {s.username for s in data.sessions.values() if s.holder is not None and s.username.startswith(prefix)}
        return sorted(names)[:limit]

    async def online_among(self, usernames: Sequence[str], limit: int) -> Sequence[str]:
        return [name for name in sorted(usernames) if self.tx.read().is_online(name)][:limit]

    def put(self, session: SessionRecord) -> None:
        self.tx.write(lambda data: data.sessions.__setitem__(session.sid, session))

    def delete(self, session: SessionRecord) -> None:
        self.tx.write(lambda data: data.sessions.__delitem__(session.sid))

    def note_leaving(self, membership: Membership) -> None:
        def note(data: Data) -> None:
            received = membership.received(data.newest_by_others(membership.room.id, membership.username))
            for session in list(data.sessions.values()):
                if session.username == membership.username and session.missed_by_leaving < received:
                    data.sessions[session.sid] = session._replace(missed_by_leaving=received)

        self.tx.write(note)


class DictRooms(Part):
    async def named(self, name: str) -> RoomRecord | None:
        data = self.tx.read()
        return next((data.record(room.id) for room in data.rooms.values() if room.name == name), None)

    async def direct(self, pair: str) -> RoomRecord | None:
        data = self.tx.read()
        return next((data.record(room.id) for room in data.rooms.values() if room.pair == pair), None)

    async def shapes(self, username: str, *, as_online: bool = False) -> tuple[Room, ...]:
        data = self.tx.read()
        shapes = []
        for room in data.rooms_of(username):
            members = data.members[room.id]
            shown = [
                {"username": name, "online": data.is_online(name) or (as_online and name == username)}
                for name in sorted(members)[: events.SHOWN_MEMBERS]
            ]
            text = events.encode(members=shown).decode()[len('{"members":') : -1]
            shapes.append(Room(room.name, room.kind, room.history, text, len(members), members[username].peer))
        return tuple(shapes)

    def create(self, name: str, kind: str, history: str, pair: str | None = None) -> RoomRecord:
        room = RoomRecord(RoomId(self.tx.data.last_room + 1), name, kind, history, pair, 0)

        def create(data: Data) -> None:
            assert all(room.name != name for room in data.rooms.values()), "two rooms of one name"
            data.last_room += 1
            data.rooms[room.id], data.members[room.id], data.trimmed[room.id] = room, {}, {}

        self.tx.write(create)
        return room

    def delete(self, room: RoomRecord) -> None:
        def delete(data: Data) -> None:
            assert not data.members.pop(room.id), "a room with members is deleted"
            del data.rooms[room.id]
            data.log = [row for row in data.log if row.room_id != room.id]

        self.tx.write(delete)


class DictMembers(Part):
    async def find(self, username: str, names: Sequence[str]) -> Membership | None:
        for name in names:
            for membership in self._of(username):
                if membership.room.name == name:
                    return membership
        return None

    def _of(self, username: str) -> list[Membership]:
        data = self.tx.read()
        return [
            Membership(room, username, data.members[room.id][username].joined, data.members[room.id][username].invited)
            for room in data.rooms_of(username)
        ]

    async def among(self, room: RoomRecord, usernames: Sequence[str]) -> frozenset[str]:
        return frozenset(self.tx.read().members[room.id]) & frozenset(usernames)

    async def of(self, usernames: Sequence[str]) -> Mapping[str, Sequence[Membership]]:
        return {name: found for name in usernames if (found := self._of(name))}

    async def counts(self, usernames: Sequence[str]) -> Mapping[str, RoomCounts]:
        found = {name: [membership.invited for membership in self._of(name)] for name in usernames}
        return {name: RoomCounts(invited.count(False), invited.count(True)) for name, invited in found.items()}

    async def page(self, room: RoomRecord, after: str, limit: int) -> Sequence[Member]:
        data = self.tx.read()
        names = sorted(name for name in data.members[room.id] if name > after)
        return [Member(name, data.is_online(name)) for name in names[:limit]]

    async def names(self, rooms: Sequence[RoomRecord], prefix: str, *, each: int, limit: int) -> Sequence[str]:
        data = self.tx.read()
        found = [sorted(name for name in data.members[room.id] if name.startswith(prefix))[:each] for room in rooms]
        return [name for names in found for name in names][:limit]

    def add(
        self,
        room: RoomRecord,
        usernames: Sequence[str],
        *,
        invitation: Invitation | None = None,
        peer: str | None = None,
    ) -> None:
        def add(data: Data) -> None:
            for username in usernames:
                assert username not in data.members[room.id], "a member is added again"
                data.newest += invitation is not None
                data.members[room.id][username] = Place(data.newest, invitation is not None, peer)
                if invitation is not None:
                    event, body, author = events.ROOM_JOINED, invitation.body, invitation.author
                    data.log.append(Row(data.newest, room.id, event, body, author, None, username))
                    self.tx.effects.append(Publication(event, body, room.name, str(data.newest), author, (username,)))
            self.tx.effects.append(Movement(room.name, joined=tuple(usernames)))

        self.tx.write(add)

    def remove(self, username: str, rooms: Sequence[RoomRecord]) -> None:
        def remove(data: Data) -> None:
            for room in rooms:
                del data.members[room.id][username]
                data.log = [row for row in data.log if not (row.room_id == room.id and row.recipient == username)]
                self.tx.effects.append(Movement(room.name, left=(username,)))

        self.tx.write(remove)


class DictDepartures(Part):
    async def among(self, place: str, usernames: Sequence[str]) -> frozenset[str]:
        data, since = self.tx.read(), self.tx.now - self.tx.window
        return frozenset(name for name in usernames if data.left.get((place, name), since) > since)

    def note(self, place: str, username: str) -> None:
        now = self.tx.now
        self.tx.write(lambda data: data.left.__setitem__((place, username), now))

    def forget(self, place: str, username: str) -> None:
        self.tx.write(lambda data: data.left.pop((place, username), None))

    def forget_user(self, username: str) -> None:
        def forget(data: Data) -> None:
            data.left = {key: at for key, at in data.left.items() if key[1] != username}

        self.tx.write(forget)


class DictHistory(Part):
    async def streams(self, memberships: Sequence[Membership]) -> Sequence[Stream]:
        data = self.tx.read()
        found = []
        for membership in memberships:
            room, reader = membership.room, membership.username
            for kind in (MESSAGES, NOTICES):
                others = [at for (of, by), at in data.trimmed[room.id].items() if of == kind and by != reader]
                trimmed = max(others, default=0)
                rows = [r for r in data.log if r.room_id == room.id and r.kind == kind and r.author != reader]
                found.append(Stream(room, kind, max(trimmed, rows[-1].position if rows else 0), trimmed))
        return found

    async def read_back(self, ranges: Sequence[Range], reader: str, limit: int) -> Sequence[Entries]:
        share = max(1, limit // len(ranges))
        found = []
        for wanted in ranges:
            rows = [
                Entry(row.position, row.event, row.body)
                for row in reversed(self.tx.read().log)
                if (row.room_id, row.kind) == (wanted.stream.room.id, wanted.stream.kind)
                and wanted.low < row.position <= wanted.high
                and row.author != reader
            ]
            found.append(Entries(tuple(rows[:share]), complete=len(rows) <= share))
        return found

    async def invitations(self, memberships: Sequence[Membership]) -> Sequence[Entry]:
        rows = {row.position: row for row in self.tx.read().log}
        found = [rows[membership.joined] for membership in memberships]
        return [Entry(row.position, row.event, row.body) for row in found]

    async def messages(self, room: RoomRecord, *, after: int, before: int | None, limit: int) -> Messages:
        data = self.tx.read()
        end = data.newest + 1 if before is None else before
        rows = [r for r in data.log if r.room_id == room.id and r.kind == MESSAGES and after < r.position < end]
        bodies = [events.with_field(row.body, "offset", str(row.position)) for row in rows[-limit:]]
        return Messages(tuple(bodies), more=len(rows) > limit)

    async def find_message(self, room: RoomRecord, message_id: str, *, after: int) -> Sequence[int]:
        rows = self.tx.read().log
        return [
            row.position
            for row in rows
            if row.room_id == room.id and row.message_id == message_id and row.position > after
        ][:2]


class DictLog(Part):
    def newest(self) -> int:
        return self.tx.data.newest

    def offset(self, position: int) -> str:
        return str(position)

    def position(self, offset: str) -> int | None:
        return int(offset) if offset.isdigit() and int(offset) <= self.tx.data.newest else None

    def append(self, room: RoomRecord, event: str, body: bytes, *, author: str) -> None:
        self.append_row(room, event, body, author, NOTICES)

    def append_row(
        self, room: RoomRecord, event: str, body: bytes, author: str, kind: int, message_id: str | None = None
    ) -> None:
        def append(data: Data) -> None:
            data.newest += 1
            data.log.append(Row(data.newest, room.id, event, body, author, kind, None, message_id))
            self.tx.effects.append(Publication(event, body, room.name, str(data.newest), author))

        self.tx.write(append)

    def publish(self, room: RoomRecord, event: str, body: bytes, *, author: str) -> None:
        publication = Publication(event, body, room.name, None, author)
        self.tx.write(lambda _: self.tx.effects.append(publication))


class DictEngine:
    """A `gateway.engines.base.Engine`. It never waits."""

    def __init__(self, *, window_ms: int = 3_600_000) -> None:
        self.data = Data()
        self.now = 0
        self.runs_short = False
        """Whether rules have no time for more than one step of longer work."""
        self.between: Callable[[], None] = lambda: None
        """What others do after each transaction."""
        self.transactions = 0
        self._window = window_ms
        self._subscriber: Subscriber | None = None

    async def open(self, subscriber: Subscriber) -> None:
        self._subscriber = subscriber

    async def close(self, timeout: float) -> bool:  # noqa: ASYNC109 - see `Engine.close`
        return True

    def problem(self) -> str | None:
        return None

    def running_ms(self) -> int:
        return self.now

    async def run(self, client: str, rule: Rule[T], *, low_priority: bool = False) -> T:
        await rule(self._begin())  # its commit is refused: it is run again
        tx = self._begin()
        result = await rule(tx)
        for write in tx.writes:
            write(self.data)
        if tx.effects and self._subscriber is not None:
            self._subscriber.committed(tx.effects)
        self.transactions += 1
        self.between()
        return result

    def _begin(self) -> DictTransaction:
        tx = DictTransaction(self.data, lambda: self.now, self._window)
        tx.time_left = not self.runs_short
        return tx

    async def append_message(
        self, actor: str, room_names: Sequence[str], content: str, message_id: str | None
    ) -> Receipt:
        async def append(tx: Any) -> Receipt:
            membership = await tx.members.find(actor, room_names)
            if membership is None:
                raise RoomNotFound(room_names[-1])
            key = (membership.room.id, actor, message_id)
            if message_id is not None and any((r.room_id, r.author, r.message_id) == key for r in tx.read().log):
                return Receipt(message_id or "", 0, duplicate=True)
            id_ = message_id or f"m{self.data.newest + 1}"
            body = events.message(id_, membership.room.name, actor, content, 0)
            tx.log.append_row(membership.room, events.MESSAGE, body, actor, MESSAGES, message_id)
            return Receipt(id_, 0, duplicate=False)

        return await self.run(actor, append)

    def trim(self, number: int) -> None:
        """Forget the oldest events of the whole log."""
        rows = [row for row in self.data.log if row.recipient is None]
        for row in rows[:number]:
            self.data.trimmed[row.room_id][row.kind, row.author] = row.position
            self.data.log.remove(row)


def call(coroutine: Coroutine[Any, Any, T]) -> T:
    """What a call of a store on this engine returns; it never waits."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError("a call waits")
