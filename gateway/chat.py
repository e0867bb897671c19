"""The use cases: what users do in rooms, free of wires and storage.

Each takes the username that acts and a validated request, and returns the fields of the reply.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import orjson

from gateway.buckets import Buckets
from gateway.errors import InvalidPayload, RateLimited

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.rules.store import Store
    from gateway.schemas import (
        AddUsers,
        CreateRoom,
        FindUsers,
        InRoom,
        ListMembers,
        Nothing,
        OpenDirect,
        ReadHistory,
        SendMessage,
    )

    Fields = dict[str, Any]


class Chat:
    def __init__(self, store: Store, *, add_limit: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        """``add_limit``: users that one user may add to rooms in a minute; 0 is no limit."""
        self._store = store
        self._add_limit = add_limit
        self._adds = Buckets(add_limit / 60, add_limit, clock=clock)

    async def create_room(self, actor: str, request: CreateRoom) -> Fields:
        self._check_adds(actor, request.users)
        room = await self._store.create_room(actor, request.room, request.users, request.history)
        return room.as_dict()

    async def open_direct(self, actor: str, request: OpenDirect) -> Fields:
        if request.user == actor:
            raise InvalidPayload.in_fields({"user": ["Must be another user than yourself."]})
        self._check_adds(actor, (request.user,))
        opened = await self._store.open_direct(actor, request.user)
        return {**opened.room.as_dict(), **_declined(opened.declined)}

    async def add_users(self, actor: str, request: AddUsers) -> Fields:
        self._check_adds(actor, request.users)
        result = await self._store.add_members(actor, request.room, request.users)
        return {"added": result.added, "already": result.already, **_declined(result.declined)}

    async def send_message(self, actor: str, request: SendMessage) -> Fields:
        receipt = await self._store.append_message(actor, request.room, request.content, request.id)
        reply: Fields = {"id": receipt.id, "ts": receipt.ts}
        if receipt.duplicate:
            reply["duplicate"] = True
        return reply

    async def leave_room(self, actor: str, request: InRoom) -> Fields:
        await self._store.remove_member(actor, request.room)
        return {}

    async def list_rooms(self, actor: str, request: Nothing) -> Fields:
        return {"rooms": [room.as_dict() for room in await self._store.list_rooms(actor)]}

    async def list_members(self, actor: str, request: ListMembers) -> Fields:
        page = await self._store.list_members(actor, request.room, request.after, request.limit)
        return {"members": page.members, "member_count": page.member_count, "more": page.more}

    async def read_history(self, actor: str, request: ReadHistory) -> Fields:
        page = await self._store.read_history(actor, request.room, request.before, request.limit)
        return {"messages": [orjson.Fragment(message) for message in page.bodies], "more": page.more}

    async def find_users(self, actor: str, request: FindUsers) -> Fields:
        page = await self._store.find_users(actor, request.prefix, request.limit)
        return {"users": page.users, "more": page.more}

    async def show_typing(self, actor: str, request: InRoom) -> Fields:
        await self._store.publish_typing(actor, request.room)
        return {}

    def _check_adds(self, actor: str, users: tuple[str, ...]) -> None:
        """See that ``actor`` does not add too many; whether they can be added is not known yet, and not asked."""
        if users and self._add_limit:
            retry_after = self._adds.take(actor, len(users))
            if retry_after:
                raise RateLimited.adds(self._add_limit, retry_after)


def _declined(usernames: tuple[str, ...]) -> Fields:
    return {"declined": usernames} if usernames else {}
