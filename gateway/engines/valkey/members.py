"""Who is in which room, and who left a place on purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway import events
from gateway.engines.transaction import RoomCounts
from gateway.engines.valkey.records import membership, pairs
from gateway.engines.valkey.workspace import Read
from gateway.events import Member

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gateway.engines.transaction import Invitation, Membership, RoomRecord
    from gateway.engines.valkey.draft import Draft


class Members:
    """See `gateway.engines.transaction.Members`."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft

    async def find(self, username: str, names: Sequence[str]) -> Membership | None:
        draft = self._draft
        user = (await draft.users([username]))[username]
        rooms = {draft.workspace.rooms[room_id].record.name: room_id for room_id in user.places}
        for name in names:
            if (room_id := rooms.get(name)) is not None:
                return membership(username, user.places[room_id], draft.workspace.rooms[room_id])
        return None

    async def among(self, room: RoomRecord, usernames: Sequence[str]) -> frozenset[str]:
        users = await self._draft.users(usernames)
        return frozenset(username for username, user in users.items() if room.id in user.places)

    async def of(self, usernames: Sequence[str]) -> Mapping[str, Sequence[Membership]]:
        users = await self._draft.users(usernames)
        rooms = self._draft.workspace.rooms
        return {
            username: [membership(username, place, rooms[room_id]) for room_id, place in user.places.items()]
            for username, user in users.items()
            if user.places
        }

    async def counts(self, usernames: Sequence[str]) -> Mapping[str, RoomCounts]:
        users = await self._draft.users(usernames)
        invited = {name: sum(place.invited for place in user.places.values()) for name, user in users.items()}
        return {name: RoomCounts(len(user.places) - invited[name], invited[name]) for name, user in users.items()}

    async def page(self, room: RoomRecord, after: str, limit: int) -> Sequence[Member]:
        state = self._draft.note_room(self._draft.workspace.rooms[room.id])
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
        draft = self._draft
        draft.write_room(room)
        for username in usernames:
            draft.written_users.setdefault(username, {})
        event, body, author = events.ROOM_JOINED, None, None
        if invitation is not None:
            body, author = invitation.body.decode(), invitation.author
        draft.write("add_members", str(room.id), list(usernames), peer, event, body, author)

    def remove(self, username: str, rooms: Sequence[RoomRecord]) -> None:
        draft = self._draft
        for room in rooms:
            draft.write_room(room)
        draft.written_users.setdefault(username, {})
        draft.write("remove_member", username, [str(room.id) for room in rooms])


class Departures:
    """See `gateway.engines.transaction.Departures`."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft

    async def among(self, place: str, usernames: Sequence[str]) -> frozenset[str]:
        if not usernames:
            return frozenset()
        (found,) = await Read("departed", int(self._draft.policy.decline_window * 1000), place, *usernames)
        return frozenset(username.decode() for username in found)

    def note(self, place: str, username: str) -> None:
        self._draft.write("note_departure", place, username)

    def forget(self, place: str, username: str) -> None:
        self._draft.write("forget_departure", place, username)

    def forget_user(self, username: str) -> None:
        self._draft.write("forget_departures", username)
