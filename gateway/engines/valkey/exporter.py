"""Reading a store into records (`gateway.engines.dump`), while no node has a lease."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import orjson
from redis.exceptions import ResponseError

from gateway.engines import dump
from gateway.engines.transaction import RoomId
from gateway.engines.valkey.address import Address
from gateway.engines.valkey.link import LinkLostError
from gateway.engines.valkey.records import decode_room, decode_user
from gateway.engines.valkey.visit import scan, visit
from gateway.errors import StoreError
from gateway.events import MESSAGE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

    from gateway.engines.valkey.link import Link
    from gateway.engines.valkey.records import UserState

EVENTS_AT_ONCE: Final = 200
"""How many events of each kind are read at once."""

IDS_AT_ONCE: Final = 500
"""How many ids of trimmed messages are read at once."""

ROOM_FIELDS: Final = ("v", "name", "kind", "history", "pair", "count", "last")
"""As `decode_room` expects them."""

TRIMMED_FIELDS: Final = ("mt", "nt")
"""What was trimmed of the messages, and of the notices (``scripts/log.lua``)."""


@dataclass(frozen=True, slots=True)
class Use:
    """Whether a store is used: ``state`` changes whenever a node does anything."""

    state: tuple[bytes | None, ...]
    has_leases: bool


class ValkeyExporter:
    """An `Exporter`."""

    def __init__(self, url: str) -> None:
        self._address = Address.parse(url)
        self._use = Use((), has_leases=False)
        self._link: Link

    async def __aenter__(self) -> Self:
        self._link = await visit(self._address)
        try:
            await self._check_unused()
        except BaseException:
            await self._link.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._link.close()

    async def _check_unused(self) -> None:
        shown, meta = self._address.shown, self._address.meta
        exists, is_importing = await self._call_all(("EXISTS", meta), ("HEXISTS", meta, "importing"))
        if not exists:
            raise StoreError(f"There is no store {shown} with the prefix {self._address.prefix}.")
        if is_importing:
            raise StoreError(f"A migration into the store {shown} was not completed.")
        self._use = await self._read_use()
        if self._use.has_leases:
            raise StoreError(
                f"The store {shown} is used by a gateway; stop it first, or wait 10 seconds if it was killed."
            )

    async def _read_use(self) -> Use:
        (seconds, microseconds), state = await self._call_all(
            ("TIME",), ("HMGET", self._address.meta, "position", "running", "beat", "epoch", "run")
        )
        now = int(seconds) * 1000 + int(microseconds) // 1000
        leases = await self._link.call("ZCOUNT", self._address.key("leases"), now, "+inf")
        return Use(tuple(state), leases > 0)

    async def _call_all(self, *commands: tuple[str | bytes | int, ...]) -> list[Any]:
        return await asyncio.gather(*(self._link.call(*command) for command in commands))

    async def records(self) -> AsyncIterator[dump.Record]:
        try:
            async for record in self._records():
                yield record
            if await self._read_use() != self._use:
                raise StoreError(f"A gateway has begun to use the store {self._address.shown}; stop it first.")
        except (LinkLostError, ResponseError) as error:
            raise StoreError(f"The store {self._address.shown} cannot be read: {error}.") from None

    async def _records(self) -> AsyncIterator[dump.Record]:
        position, running, *_ = self._use.state
        epochs = await self._link.call("LRANGE", self._address.key("epochs"), 0, -1)
        named = zip([name.decode() for name in epochs[::2]], map(int, epochs[1::2]), strict=True)
        yield dump.Start(int(position or 0), int(running or 0) or 1, tuple(named))
        seen: set[bytes] = set()  # a scan may find a thing twice
        async for pairs in scan(self._link, "HSCAN", self._address.key("names")):
            for room_id in pairs[1::2]:
                if room_id not in seen:
                    seen.add(room_id)
                    async for record in self._room(RoomId(int(room_id))):
                        yield record
        seen.clear()
        async for keys in scan(self._link, "SCAN", pattern=self._address.pattern("user")):
            fresh = [key for key in dict.fromkeys(keys) if key not in seen]
            seen.update(fresh)
            for record in await self._users([key[len(self._address.key("user", "")) :].decode() for key in fresh]):
                yield record

    # --- rooms

    async def _room(self, room_id: RoomId) -> AsyncIterator[dump.Record]:
        key = self._address.key("room", room_id)
        fields, trimmed = await self._call_all(("HMGET", key, *ROOM_FIELDS), ("HMGET", key, *TRIMMED_FIELDS))
        state = decode_room(room_id, fields)
        if state is None:
            raise StoreError(f"The store {self._address.shown} is damaged: room {room_id} has a name and nothing else.")
        messages, notices = map(_trimmed, trimmed)
        yield dump.Room(state.record, messages, notices)
        async for event in self._events(room_id):
            yield event
        if messages is not None:
            async for message in self._trimmed_messages(room_id, messages.position):
                yield message

    async def _events(self, room_id: RoomId) -> AsyncIterator[dump.Event]:
        """Both kinds are read side by side, each up to where the other was read."""
        after, keys = 0, [self._address.key(kind, room_id) for kind in ("logm", "logn")]
        while True:
            rest = (f"({after}-0", "+", "COUNT", EVENTS_AT_ONCE)
            pages = await self._call_all(*(("XRANGE", key, *rest) for key in keys))
            read = [[_event(room_id, *entry) for entry in page] for page in pages]
            ends = [page[-1].position for page in read if len(page) == EVENTS_AT_ONCE]
            end = min(ends, default=None)
            found = [event for page in read for event in page if end is None or event.position <= end]
            for event in sorted(found, key=lambda event: event.position):
                yield event
            if end is None:
                return
            after = end

    async def _trimmed_messages(self, room_id: RoomId, newest: int) -> AsyncIterator[dump.TrimmedMessage]:
        """``newest``: the position of the newest message that was trimmed."""
        times = await self._link.call("ZRANGE", self._address.key("trimmed ids", room_id), 0, -1, "WITHSCORES")
        for start in range(0, len(times), 2 * IDS_AT_ONCE):
            ids, scores = times[start : start + 2 * IDS_AT_ONCE : 2], times[start + 1 : start + 2 * IDS_AT_ONCE : 2]
            sent = await self._link.call("HMGET", self._address.key("sent ids", room_id), *ids)
            for message_id, score, by in zip(ids, scores, sent, strict=True):
                for author, position, ts in orjson.loads(by or b"[]"):
                    if position <= newest:
                        name, at = orjson.loads(message_id), int(float(score))
                        yield dump.TrimmedMessage(room_id, author, name, position, ts, at)

    # --- users

    async def _users(self, usernames: list[str]) -> list[dump.Record]:
        hashes = await self._call_all(*(("HGETALL", self._address.key("user", name)) for name in usernames))
        users = {name: decode_user(name, fields, 0) for name, fields in zip(usernames, hashes, strict=True)}
        sessions = [
            dump.Session(
                session.sid,
                session.username,
                session.pid_hash,
                session.previous_pid_hash,
                session.resumable,
                session.began,
                session.missed_by_leaving,
            )
            for user in users.values()
            for session in user.sessions.values()
        ]
        return [*sessions, *await self._members(users), *await self._departures(usernames)]

    async def _members(self, users: dict[str, UserState]) -> list[dump.Member]:
        places = [(name, room_id, place) for name, user in users.items() for room_id, place in user.places.items()]
        invitations = await self._call_all(
            *(("HGET", self._address.key("invitations", room_id), name) for name, room_id, _ in places)
        )
        return [
            dump.Member(room_id, name, place.joined, place.peer, invitation and invitation.partition(b"\n")[2])
            for (name, room_id, place), invitation in zip(places, invitations, strict=True)
        ]

    async def _departures(self, usernames: list[str]) -> list[dump.Departure]:
        keys = [self._address.key("departures", name) for name in usernames]
        lists = await self._call_all(*(("ZRANGE", key, 0, -1, "WITHSCORES") for key in keys))
        found = [
            dump.Departure(place.decode(), name, int(float(left_at)))
            for name, places in zip(usernames, lists, strict=True)
            for place, left_at in zip(places[::2], places[1::2], strict=True)
        ]
        rooms = [departure.place for departure in found if " " not in departure.place]
        exist = await self._call_all(*(("EXISTS", self._address.key("room", room)) for room in rooms))
        gone = {room for room, exists in zip(rooms, exist, strict=True) if not exists}
        return [departure for departure in found if departure.place not in gone]


def _trimmed(state: bytes | None) -> dump.Trimmed | None:
    if state is None:
        return None
    position, _, _, other, _, author = state.decode().split(" ", 5)
    return dump.Trimmed(int(position), author or None, int(other))


def _event(room_id: RoomId, entry_id: bytes, values: list[bytes]) -> dump.Event:
    fields = dict(zip(values[::2], values[1::2], strict=True))
    return dump.Event(
        room_id,
        int(entry_id.removesuffix(b"-0")),
        fields[b"e"].decode() if b"e" in fields else MESSAGE,
        fields[b"a"].decode(),
        fields[b"b"],
        int(fields[b"k"].rpartition(b" ")[2]),
        orjson.loads(fields[b"i"]) if b"i" in fields else None,
    )
