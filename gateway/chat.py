"""The use cases: what users do in rooms, free of wires and storage.

Each takes the username that acts and a validated request, and returns the fields of the reply.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from gateway.engines.base import Engine
    from gateway.schemas import (
        AddUsers,
        CreateRoom,
        FindUsers,
        InRoom,
        ListMembers,
        Nothing,
        ReadHistory,
        SendMessage,
    )

    Fields = dict[str, Any]


class Chat:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def create_room(self, actor: str, request: CreateRoom) -> Fields:
        room = await self._engine.create_room(actor, request.room, request.users)
        return {"room": room.room, "members": room.members, "member_count": room.member_count}

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
        return {"rooms": await self._engine.list_rooms(actor)}

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
