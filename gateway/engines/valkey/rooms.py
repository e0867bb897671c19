"""Rooms, and how they are shown to their members."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

import orjson

from gateway import events
from gateway.engines.transaction import RoomId, RoomRecord
from gateway.engines.valkey.records import RoomState, pairs
from gateway.engines.valkey.workspace import Read
from gateway.events import Member, Room

if TYPE_CHECKING:
    from gateway.engines.valkey.draft import Draft

MAX_ROOM_ID: Final = 2**52
"""Ids of rooms are random: 52 bits, which a script can count with. The commit checks that an id is new."""


class Rooms:
    """See `gateway.engines.transaction.Rooms`."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft

    async def named(self, name: str) -> RoomRecord | None:
        return self._record(await self._draft.workspace.find_room("names", name))

    async def direct(self, pair: str) -> RoomRecord | None:
        return self._record(await self._draft.workspace.find_room("pairs", pair))

    def _record(self, room: RoomState | None) -> RoomRecord | None:
        return None if room is None else self._draft.note_room(room).record

    async def shapes(self, username: str, *, as_online: bool = False) -> tuple[Room, ...]:
        draft = self._draft
        user = (await draft.users([username]))[username]
        rooms = sorted((draft.workspace.rooms[room_id] for room_id in user.places), key=lambda room: room.record.name)
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
        self._draft.written_rooms[record.id] = RoomState(record, "", "")
        self._draft.write("create_room", str(record.id), name, kind, history, pair)
        return record

    def delete(self, room: RoomRecord) -> None:
        self._draft.write_room(room)
        self._draft.write("delete_room", str(room.id))
