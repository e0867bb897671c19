"""What each action does, free of wires and storage: a validated request in, the fields of the reply out."""

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
"""A reply, besides ``ok``, in the shape that `gateway.protocol.actions` declares."""


class Chat:
    """What users do in rooms. ``author`` is the username that acts."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def perform(self, author: str, request: AnyRequest) -> Awaitable[Fields]:  # noqa: C901, PLR0911 - a case each
        """Do what ``request`` asks for. The most frequent comes first."""
        match request:
            case SendMessage():
                return self.send_message(author, request)
            case ShowTyping():
                return self.show_typing(author, request)
            case CreateRoom():
                return self.create_room(author, request)
            case AddUsers():
                return self.add_users(author, request)
            case OpenDirect():
                return self.open_direct(author, request)
            case LeaveRoom():
                return self.leave_room(author, request)
            case ListRooms():
                return self.list_rooms(author)
            case ListMembers():
                return self.list_members(author, request)
            case ReadHistory():
                return self.read_history(author, request)
            case FindUsers():
                return self.find_users(author, request)
            case _:
                assert_never(request)

    async def create_room(self, author: str, request: CreateRoom) -> Fields:
        room = await self._store.create_room(author, request.room, request.users, request.history)
        return room.as_dict()

    async def open_direct(self, author: str, request: OpenDirect) -> Fields:
        if request.user == author:
            raise InvalidPayload.in_fields({"user": ["Must be another user than yourself."]})
        opened = await self._store.open_direct(author, request.user)
        return {**opened.room.as_dict(), **_declined(opened.declined)}

    async def add_users(self, author: str, request: AddUsers) -> Fields:
        result = await self._store.add_members(author, request.room, request.users)
        return {"added": result.added, "already": result.already, **_declined(result.declined)}

    async def send_message(self, author: str, request: SendMessage) -> Fields:
        receipt = await self._store.append_message(author, request.room, request.content, request.id)
        reply: Fields = {"id": receipt.id, "ts": receipt.ts}
        if receipt.duplicate:
            reply["duplicate"] = True
        return reply

    async def leave_room(self, author: str, request: LeaveRoom) -> Fields:
        await self._store.remove_member(author, request.room)
        return {}

    async def list_rooms(self, author: str) -> Fields:
        return {"rooms": [room.as_dict() for room in await self._store.list_rooms(author)]}

    async def list_members(self, author: str, request: ListMembers) -> Fields:
        page = await self._store.list_members(author, request.room, request.after, request.limit)
        return {"members": page.members, "member_count": page.member_count, "more": page.more}

    async def read_history(self, author: str, request: ReadHistory) -> Fields:
        page = await self._store.read_history(author, request.room, request.before, request.limit)
        return {"messages": [orjson.Fragment(message) for message in page.bodies], "more": page.more}

    async def find_users(self, author: str, request: FindUsers) -> Fields:
        page = await self._store.find_users(author, request.prefix, request.limit)
        return {"users": page.users, "more": page.more}

    async def show_typing(self, author: str, request: ShowTyping) -> Fields:
        await self._store.publish_typing(author, request.room)
        return {}


def _declined(usernames: tuple[str, ...]) -> Fields:
    return {"declined": usernames} if usernames else {}
