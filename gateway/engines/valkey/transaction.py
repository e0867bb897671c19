"""What one run of a rule reads and writes (`gateway.engines.transaction`), on the workspace of its batch."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final

import orjson

from gateway import events
from gateway.engines.transaction import (
    Entries,
    Entry,
    Membership,
    Messages,
    RoomCounts,
    RoomId,
    RoomRecord,
    SessionRecord,
    Stream,
)
from gateway.engines.valkey.hub import Pending
from gateway.engines.valkey.records import (
    RoomState,
    encode_session,
    membership,
    pairs,
    session_key,
    split_session_key,
)
from gateway.engines.valkey.workspace import PostponedError, Read
from gateway.events import Member, Room

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gateway.engines.base import Policy
    from gateway.engines.effects import Attachment
    from gateway.engines.transaction import Invitation, Range
    from gateway.engines.valkey.node import Node
    from gateway.engines.valkey.records import UserState
    from gateway.engines.valkey.workspace import Workspace

KINDS: Final = ("m", "n")
"""Of the streams of a room: its messages, and its notices."""

MAX_ROOM_ID: Final = 2**52
"""Ids of rooms are random: 52 bits, which a script can count with, and which are looked up before one is used."""

BYTES_AT_ONCE: Final = 131_072
"""Bytes of events that are read together from one stream, about."""


class ValkeyTransaction:
    """A `gateway.engines.transaction.Transaction`. It keeps what the rule has read, for the checks of its commit, and
    what it writes.
    """

    def __init__(self, workspace: Workspace, node: Node, policy: Policy, *, ends_at: float, clock: Any) -> None:
        """``ends_at``: when the rule has no more time, by ``clock``."""
        self.workspace = workspace
        self.policy = policy
        self.node = node.id
        self.writes: list[list[Any]] = []
        self.read_users: set[str] = set()
        self.read_rooms: dict[RoomId, int] = {}
        """The rooms that were read, and how often rules of the batch had changed them by then."""
        self.read_streams: set[RoomId] = set()
        self.written_users: dict[str, dict[str, SessionRecord | None]] = {}
        """The sessions that were stored or deleted, by user."""
        self.written_rooms: dict[RoomId, RoomState] = {}
        self.pending: dict[str, Pending] = {}
        self.adds = False
        """Whether the rule adds something for which there may be no memory."""
        self._node = node
        self._ends_at = ends_at
        self._clock = clock
        self.sessions = Sessions(self)
        self.rooms = Rooms(self)
        self.members = Members(self)
        self.departures = Departures(self)
        self.history = History(self)
        self.log = Log(self)

    def running_ms(self) -> int:
        return self._node.running_ms()

    def has_time(self) -> bool:
        return bool(self._clock() < self._ends_at)

    def check_space(self) -> None:
        """The server refuses what it has no memory for when it is committed."""
        self.adds = True

    def attach(self, attachment: Attachment) -> None:
        token = secrets.token_hex(8)
        username = attachment.session.username
        user = self.workspace.users.get(username)
        places = {} if user is None else user.places
        rooms = {room_id: self.workspace.rooms[room_id].record.name for room_id in places}
        self.pending[token] = Pending(attachment, rooms, self.newest())
        former = attachment.replaces
        if former is not None and former.node != self.node:
            self.write("replace", former.node, former.connection)
        self.write("attach", token)

    # --- what its parts share

    def write(self, name: str, *arguments: Any) -> None:
        """Add a write of ``scripts/commit.lua``."""
        self.writes.append([name, *arguments])

    def newest(self) -> int:
        position = self.workspace.position
        return self._node.position if position is None else position

    @property
    def epochs(self) -> Any:
        return self._node.epochs

    async def users(self, usernames: Sequence[str]) -> dict[str, UserState]:
        await self.workspace.load_users(usernames)
        self.read_users.update(usernames)
        found = {username: self.workspace.users[username] for username in usernames}
        for user in found.values():
            for room_id in user.places:
                self.note_room(self.workspace.rooms[room_id])
        return found

    def note_room(self, room: RoomState) -> RoomState:
        self.read_rooms.setdefault(room.record.id, room.changes)
        return room

    def state_of(self, room: RoomRecord) -> RoomState:
        return self.written_rooms.get(room.id) or self.workspace.rooms[room.id]


class Part:
    """One of the verbs' groups."""

    def __init__(self, tx: ValkeyTransaction) -> None:
        self._tx = tx


class Sessions(Part):
    """See `gateway.engines.transaction.Sessions`."""

    async def of(self, usernames: Sequence[str]) -> Mapping[str, Sequence[SessionRecord]]:
        users = await self._tx.users(usernames)
        return {username: tuple(user.sessions.values()) for username, user in users.items() if user.sessions}

    async def suspended_until(self, running_ms: int, limit: int) -> Sequence[SessionRecord]:
        found = await self._named(await Read("suspended", running_ms, limit))
        return [session for session in found if (session.suspended_at or running_ms + 1) <= running_ms]

    async def orphaned(self, limit: int) -> Sequence[SessionRecord]:
        found = await self._named(await Read("orphaned", limit))
        return [session for session in found if session.holder is not None]

    async def _named(self, reply: list[Any]) -> list[SessionRecord]:
        """The sessions that an index names, as they are now."""
        keys = [split_session_key(key) for key in reply[0]]
        users = await self._tx.users([username for _, username in keys])
        return [users[username].sessions[sid] for sid, username in keys if sid in users[username].sessions]

    async def online(self, prefix: str, limit: int) -> Sequence[str]:
        (found,) = await Read("names", prefix, limit, limit, "")
        return [username for username, _ in pairs(found)]

    async def online_among(self, usernames: Sequence[str], limit: int) -> Sequence[str]:
        (found,) = await Read("online", *usernames)
        return sorted(username for username, online in pairs(found) if online)[:limit]

    def put(self, session: SessionRecord) -> None:
        tx = self._tx
        before = self._before(session)
        tx.written_users.setdefault(session.username, {})[session.sid] = session
        tx.write("put_session", session.username, session.sid, encode_session(session))
        self._index(session, before)

    def delete(self, session: SessionRecord) -> None:
        tx = self._tx
        before = self._before(session)
        tx.written_users.setdefault(session.username, {})[session.sid] = None
        tx.write("delete_session", session.username, session.sid)
        if before is not None:
            self._index(before._replace(holder=None, suspended_at=None), before)

    def _before(self, session: SessionRecord) -> SessionRecord | None:
        user = self._tx.workspace.users.get(session.username)
        return None if user is None else user.sessions.get(session.sid)

    def _index(self, session: SessionRecord, before: SessionRecord | None) -> None:
        """Keep the indexes: what is suspended, what is live on which node, and where a user is."""
        tx, key = self._tx, session_key(session)
        if session.suspended_at is not None:
            tx.write("suspend", key, session.suspended_at)
        elif before is not None and before.suspended_at is not None:
            tx.write("unsuspend", key)
        held, holds = (None if each is None else each.holder for each in (before, session))
        if held is not None and (holds is None or holds.node != held.node):
            tx.write("release", held.node, key)
        if holds is not None:
            tx.write("hold", holds.node, key)
        tx.write("set_nodes", session.username, self._nodes_of(session.username))

    def _nodes_of(self, username: str) -> list[str]:
        user = self._tx.workspace.users.get(username)
        written = self._tx.written_users.get(username, {})
        sessions = {**({} if user is None else user.sessions), **written}.values()
        holders = [session.holder for session in sessions if session is not None]
        return sorted({holder.node for holder in holders if holder is not None})


class Rooms(Part):
    """See `gateway.engines.transaction.Rooms`."""

    async def named(self, name: str) -> RoomRecord | None:
        return self._record(await self._tx.workspace.find_room("names", name))

    async def direct(self, pair: str) -> RoomRecord | None:
        return self._record(await self._tx.workspace.find_room("pairs", pair))

    def _record(self, room: RoomState | None) -> RoomRecord | None:
        return None if room is None else self._tx.note_room(room).record

    async def shapes(self, username: str, *, as_online: bool = False) -> tuple[Room, ...]:
        tx = self._tx
        user = (await tx.users([username]))[username]
        rooms = sorted((tx.workspace.rooms[room_id] for room_id in user.places), key=lambda room: room.record.name)
        if not rooms:
            return ()
        wanted = [value for room in rooms for value in (room.record.id, "")]
        shown = await Read("members", events.SHOWN_MEMBERS, *wanted)
        found = []
        for room, names in zip(rooms, shown, strict=True):
            members = [Member(name, bool(on) or (as_online and name == username)) for name, on in pairs(names)]
            record, peer = room.record, user.places[room.record.id].peer
            text = orjson.dumps(members).decode()
            found.append(Room(record.name, record.kind, record.history, text, record.member_count, peer))
        return tuple(found)

    def create(self, name: str, kind: str, history: str, pair: str | None = None) -> RoomRecord:
        record = RoomRecord(RoomId(secrets.randbelow(MAX_ROOM_ID)), name, kind, history, pair, 0)
        self._tx.written_rooms[record.id] = RoomState(record, "", "")
        self._tx.write("create_room", str(record.id), name, kind, history, pair)
        return record

    def delete(self, room: RoomRecord) -> None:
        self._tx.written_rooms[room.id] = self._tx.state_of(room)
        self._tx.write("delete_room", str(room.id))


class Members(Part):
    """See `gateway.engines.transaction.Members`."""

    async def find(self, username: str, names: Sequence[str]) -> Membership | None:
        tx = self._tx
        user = (await tx.users([username]))[username]
        rooms = {tx.workspace.rooms[room_id].record.name: room_id for room_id in user.places}
        for name in names:
            if (room_id := rooms.get(name)) is not None:
                return membership(username, user.places[room_id], tx.workspace.rooms[room_id])
        return None

    async def among(self, room: RoomRecord, usernames: Sequence[str]) -> frozenset[str]:
        users = await self._tx.users(usernames)
        return frozenset(username for username, user in users.items() if room.id in user.places)

    async def of(self, usernames: Sequence[str]) -> Mapping[str, Sequence[Membership]]:
        users = await self._tx.users(usernames)
        rooms = self._tx.workspace.rooms
        return {
            username: [membership(username, place, rooms[room_id]) for room_id, place in user.places.items()]
            for username, user in users.items()
            if user.places
        }

    async def counts(self, usernames: Sequence[str]) -> Mapping[str, RoomCounts]:
        users = await self._tx.users(usernames)
        invited = {name: sum(place.invited for place in user.places.values()) for name, user in users.items()}
        return {name: RoomCounts(len(user.places) - invited[name], invited[name]) for name, user in users.items()}

    async def page(self, room: RoomRecord, after: str, limit: int) -> Sequence[Member]:
        state = self._tx.note_room(self._tx.workspace.rooms[room.id])
        (found,) = await Read("members", limit + len(state.removed), room.id, after)
        online = {name: bool(value) for name, value in pairs(found) if name not in state.removed}
        online |= {name: value for name, value in state.added.items() if name > after}
        return [Member(name, online[name]) for name in sorted(online, key=str.encode)[:limit]]

    async def names(self, rooms: Sequence[RoomRecord], prefix: str, *, each: int, limit: int) -> Sequence[str]:
        if not rooms:
            return []
        (found,) = await Read("names", prefix, each, limit, *(room.id for room in rooms))
        return [username for username, _ in pairs(found)]

    def add(
        self,
        room: RoomRecord,
        usernames: Sequence[str],
        *,
        invitation: Invitation | None = None,
        peer: str | None = None,
    ) -> None:
        tx = self._tx
        tx.written_rooms[room.id] = tx.state_of(room)
        for username in usernames:
            tx.written_users.setdefault(username, {})
        event, body, author = events.ROOM_JOINED, None, None
        if invitation is not None:
            body, author = invitation.body.decode(), invitation.author
        tx.write("add_members", str(room.id), list(usernames), peer, event, body, author)

    def remove(self, username: str, rooms: Sequence[RoomRecord]) -> None:
        tx = self._tx
        for room in rooms:
            tx.written_rooms[room.id] = tx.state_of(room)
        tx.written_users.setdefault(username, {})
        tx.write("remove_member", username, [str(room.id) for room in rooms])


class Departures(Part):
    """See `gateway.engines.transaction.Departures`."""

    async def among(self, place: str, usernames: Sequence[str]) -> frozenset[str]:
        if not usernames:
            return frozenset()
        (found,) = await Read("departed", int(self._tx.policy.decline_window * 1000), place, *usernames)
        return frozenset(username.decode() for username in found)

    def note(self, place: str, username: str) -> None:
        self._tx.write("note_departure", place, username)

    def forget(self, place: str, username: str) -> None:
        self._tx.write("forget_departure", place, username)

    def forget_user(self, username: str) -> None:
        self._tx.write("forget_departures", username)


class History(Part):
    """See `gateway.engines.transaction.History`. What is read is as of when the batch began to read."""

    async def streams(self, memberships: Sequence[Membership]) -> Sequence[Stream]:
        tx = self._tx
        if any(tx.workspace.rooms[membership.room.id].changes for membership in memberships):
            raise PostponedError
        tx.read_streams.update(membership.room.id for membership in memberships)
        replies = iter(await Read("streams", tx.newest(), *(membership.room.id for membership in memberships)))
        return [_stream(membership, kind, next(replies)) for membership in memberships for kind in range(len(KINDS))]

    async def read_back(self, ranges: Sequence[Range], reader: str, limit: int) -> Sequence[Entries]:
        share = max(1, limit // max(1, len(ranges)))
        wanted = [
            value for each in ranges for value in (each.stream.room.id, KINDS[each.stream.kind], each.low, each.high)
        ]
        replies = await Read("backwards", reader, share, BYTES_AT_ONCE, *wanted)
        return [_entries(is_complete, rest) for is_complete, *rest in replies]

    async def invitations(self, memberships: Sequence[Membership]) -> Sequence[Entry]:
        wanted = [value for each in memberships for value in (each.room.id, each.username)]
        return [_invitation(reply) for reply in await Read("invitations", *wanted)]

    async def messages(self, room: RoomRecord, *, after: int, before: int | None, limit: int) -> Messages:
        policy, end = self._tx.policy, "+" if before is None else before
        newest_count, newest_size, *rest = await Read("messages", room.id, after, end, limit + 1)
        found: list[bytes] = []
        bytes_left = policy.replay_size
        for position, count, size, body in zip(*(iter(rest),) * 4, strict=True):
            kept = count > newest_count - policy.history_size and (
                count == newest_count or newest_size - size + len(body) <= policy.history_bytes
            )
            if not kept:
                break
            if len(found) == limit or (found and len(body) > bytes_left):
                return Messages(tuple(reversed(found)), more=True)
            bytes_left -= len(body)
            found.append(events.with_field(body, "offset", self._tx.epochs.offset(position)))
        return Messages(tuple(reversed(found)), more=False)

    async def find_message(self, room: RoomRecord, message_id: str, *, after: int) -> Sequence[int]:
        digits = message_id.rpartition(".")[2]
        own = digits if digits.isascii() and digits.isdigit() and len(digits) < 16 and int(digits) > after else "0"
        found, body = await Read("find_message", room.id, orjson.dumps(message_id), after, own)
        positions = [int(position) for position in found][:2]
        if body and orjson.loads(body)["id"] == message_id:
            positions.append(int(own))
        return positions


class Log(Part):
    """See `gateway.engines.transaction.Log`."""

    def newest(self) -> int:
        return self._tx.newest()

    def offset(self, position: int) -> str:
        return str(self._tx.epochs.offset(position))

    def position(self, offset: str) -> int | None:
        found: int | None = self._tx.epochs.position(offset, self._tx.newest())
        return found

    def append(self, room: RoomRecord, event: str, body: bytes, *, author: str) -> None:
        self._tx.written_rooms[room.id] = self._tx.state_of(room)
        self._tx.write("append", str(room.id), event, author, body.decode())

    def publish(self, room: RoomRecord, event: str, body: bytes, *, author: str) -> None:
        self._tx.write("publish", str(room.id), event, author, body.decode())


def _stream(membership: Membership, kind: int, reply: list[Any]) -> Stream:
    newest, author, other, trimmed, trimmed_author, trimmed_other = reply
    reader = membership.username.encode()
    return Stream(
        membership.room,
        kind,
        other if author == reader else newest,
        trimmed_other if trimmed_author == reader else trimmed,
    )


def _entries(is_complete: int, rest: list[Any]) -> Entries:
    found = [Entry(position, event.decode(), body) for position, event, body in zip(*(iter(rest),) * 3, strict=True)]
    return Entries(tuple(found), bool(is_complete))


def _invitation(reply: bytes) -> Entry:
    head, _, body = reply.partition(b"\n")
    position, _, event = head.decode().partition(" ")
    return Entry(int(position), event, body)
