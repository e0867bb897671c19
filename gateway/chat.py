"""What each action does, independent of wires and storage: a validated request in, the fields of the reply out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, assert_never

import orjson

from gateway.errors import InvalidPayload
from gateway.protocol.actions import (
    AddUsers,
    CreateRoom,
    FindUsers,
    LeaveRoom,
    ListMembers,
    ListRooms,
    OpenDirect,
    ReadHistory,
    SendMessage,
    ShowTyping,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from gateway.protocol.actions import AnyRequest
    from gateway.rules.store import Store

Fields: TypeAlias = dict[str, Any]
"""The fields of a reply, except ``ok``, as `gateway.protocol.actions` declares them."""


class Chat:
    """The actions. ``actor`` is the username that acts."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def perform(self, actor: str, request: AnyRequest) -> Awaitable[Fields]:  # noqa: C901, PLR0911 - a case each
        """Do what ``request`` asks for. The most frequent actions come first."""
        match request:
            case SendMessage():
                return self.send_message(actor, request)
            case ShowTyping():
                return self.show_typing(actor, request)
            case CreateRoom():
                return self.create_room(actor, request)
            case AddUsers():
                return self.add_users(actor, request)
            case OpenDirect():
                return self.open_direct(actor, request)
            case LeaveRoom():
                return self.leave_room(actor, request)
            case ListRooms():
                return self.list_rooms(actor)
            case ListMembers():
                return self.list_members(actor, request)
            case ReadHistory():
                return self.read_history(actor, request)
            case FindUsers():
                return self.find_users(actor, request)
            case _:
                assert_never(request)

    async def create_room(self, actor: str, request: CreateRoom) -> Fields:
        room = await self._store.create_room(actor, request.room, request.users, request.history)
        return room.as_dict()

    async def open_direct(self, actor: str, request: OpenDirect) -> Fields:
        if request.user == actor:
            raise InvalidPayload.in_fields({"user": ["Must be another user than yourself."]})
        opened = await self._store.open_direct(actor, request.user)
        return {**opened.room.as_dict(), **_declined(opened.declined)}

    async def add_users(self, actor: str, request: AddUsers) -> Fields:
        result = await self._store.add_members(actor, request.room, request.users)
        return {"added": result.added, "already": result.already, **_declined(result.declined)}

    async def send_message(self, actor: str, request: SendMessage) -> Fields:
        receipt = await self._store.append_message(actor, request.room, request.content, request.id)
        reply: Fields = {"id": receipt.id, "ts": receipt.ts}
        if receipt.duplicate:
            reply["duplicate"] = True
        return reply

    async def leave_room(self, actor: str, request: LeaveRoom) -> Fields:
        await self._store.remove_member(actor, request.room)
        return {}

    async def list_rooms(self, actor: str) -> Fields:
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

    async def show_typing(self, actor: str, request: ShowTyping) -> Fields:
        await self._store.publish_typing(actor, request.room)
        return {}


def _declined(usernames: tuple[str, ...]) -> Fields:
    return {"declined": usernames} if usernames else {}
