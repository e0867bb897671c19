"""The use cases: what users do in rooms, free of wires and storage.

Each takes the username that acts and a validated request, and returns the fields of the reply.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from gateway.errors import InvalidPayload

if TYPE_CHECKING:
    from gateway.engines.base import Engine
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
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def create_room(self, actor: str, request: CreateRoom) -> Fields:
        room = await self._engine.create_room(actor, request.room, request.users, request.history)
        return room.as_dict()

    async def open_direct(self, actor: str, request: OpenDirect) -> Fields:
        if request.user == actor:
            raise InvalidPayload.in_fields({"user": ["Must be another user than yourself."]})
        opened = await self._engine.open_direct(actor, request.user)
        return {**opened.room.as_dict(), **_declined(opened.declined)}

    async def add_users(self, actor: str, request: AddUsers) -> Fields:
        result = await self._engine.add_members(actor, request.room, request.users)
        return {"added": result.added, "already": result.already}

    async def send_message(self, actor: str, request: SendMessage) -> Fields:
        receipt = await self._engine.append_message(actor, request.room, request.content, request.id)
        reply: Fields = {"id": receipt.id, "ts": receipt.ts}
        if receipt.duplicate:
            reply["duplicate"] = True
        return reply

    async def leave_room(self, actor: str, request: InRoom) -> Fields:
        await self._engine.remove_member(actor, request.room)
        return {}

    async def list_rooms(self, actor: str, request: Nothing) -> Fields:
        return {"rooms": [room.as_dict() for room in await self._engine.list_rooms(actor)]}

    async def list_members(self, actor: str, request: ListMembers) -> Fields:
        page = await self._engine.list_members(actor, request.room, request.after, request.limit)
        return {"members": page.members, "member_count": page.member_count, "more": page.more}

    async def read_history(self, actor: str, request: ReadHistory) -> Fields:
        page = await self._engine.read_history(actor, request.room, request.before, request.limit)
        return {"messages": [orjson.Fragment(message) for message in page.messages], "more": page.more}

    async def find_users(self, actor: str, request: FindUsers) -> Fields:
        page = await self._engine.find_users(actor, request.prefix, request.limit)
        return {"users": page.users, "more": page.more}

    async def show_typing(self, actor: str, request: InRoom) -> Fields:
        await self._engine.publish_typing(actor, request.room)
        return {}


def _declined(usernames: tuple[str, ...]) -> Fields:
    return {"declined": usernames} if usernames else {}
