"""Every action: what clients may ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, NamedTuple, NotRequired, TypeAlias, TypedDict

from gateway.protocol import errors, events
from gateway.protocol.errors import ErrorKind
from gateway.protocol.events import HELLO, TEA, Event
from gateway.protocol.fields import (
    Content,
    Integer,
    MessageId,
    NewRoomName,
    PageLimit,
    RoomName,
    Text,
    Username,
    Usernames,
)
from gateway.protocol.limits import CONTENT, ID_LENGTH, PAGE_SIZE, USERNAME_LENGTH, USERS
from gateway.protocol.shapes import History, Member, RoomInfo, StoredMessage

ALWAYS: Final = (errors.INVALID_PAYLOAD, errors.UNAUTHORIZED, errors.RATE_LIMITED, errors.UNAVAILABLE)
"""How any action may fail."""


@dataclass(frozen=True, slots=True)
class Sent:
    """An event that an action causes, and to whom it is sent, as a phrase."""

    event: Event
    to: str


class Example(NamedTuple):
    """A payload and the reply to it, in the room `TEA` with the message `HELLO`."""

    request: dict[str, Any]
    reply: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """``request`` is the dataclass that a valid payload becomes, ``reply`` the shape of a reply besides ``ok``.

    ``errors``: how it may fail besides `ALWAYS`. ``cost``: how much of ``--rate-limit`` one request uses.
    """

    name: str
    summary: str
    request: type
    reply: type
    example: Example
    aliases: tuple[str, ...] = ()
    errors: tuple[ErrorKind, ...] = ()
    sends: tuple[Sent, ...] = ()
    cost: float = 1.0

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, *self.aliases)


class Request:
    """What a valid payload becomes."""

    __slots__ = ()

    def additions(self, actor: str) -> int:
        """How many users ``actor`` asks to add to a room, as ``--add-limit`` counts them."""
        return 0


class Done(TypedDict):
    """A reply that has nothing but ``ok``."""


# --- rooms


@dataclass(frozen=True, slots=True)
class CreateRoom(Request):
    room: Annotated[str, NewRoomName()]
    users: Annotated[tuple[str, ...], Usernames(USERS, minimum=0)] = ()
    history: History = "all"

    def additions(self, actor: str) -> int:
        return len(self.users)


CREATE_ROOM = Action(
    name="create-room",
    summary="Create a room, and add users to it.",
    request=CreateRoom,
    reply=RoomInfo,
    errors=(errors.ROOM_EXISTS, errors.UNKNOWN_USER, errors.LIMIT_REACHED),
    sends=(Sent(events.ROOM_JOINED, "each added user"),),
    example=Example({"room": "tea", "users": ["bob"]}, TEA),
)


@dataclass(frozen=True, slots=True)
class AddUsers(Request):
    room: Annotated[str, RoomName()]
    users: Annotated[tuple[str, ...], Usernames(USERS, minimum=1)]

    def additions(self, actor: str) -> int:
        return len(self.users)


class AddUsersReply(TypedDict):
    added: list[str]
    already: list[str]
    declined: NotRequired[Annotated[list[str], "who left the room not long ago, and was not added again"]]


ADD_USER = Action(
    name="add-user",
    aliases=("add-users",),
    summary="Add users to a room.",
    request=AddUsers,
    reply=AddUsersReply,
    errors=(errors.ROOM_NOT_FOUND, errors.FORBIDDEN, errors.UNKNOWN_USER, errors.LIMIT_REACHED),
    sends=(Sent(events.ROOM_JOINED, "the added"), Sent(events.USER_JOINED, "the other members")),
    example=Example({"room": "tea", "users": ["carol", "bob"]}, {"added": ["carol"], "already": ["bob"]}),
)


@dataclass(frozen=True, slots=True)
class OpenDirect(Request):
    user: Annotated[str, Username()]

    def additions(self, actor: str) -> int:
        return int(self.user != actor)


class OpenDirectReply(RoomInfo):
    declined: NotRequired[Annotated[list[str], "the other, who left it not long ago, and was not added again"]]


OPEN_DIRECT = Action(
    name="open-direct",
    summary="Open the room of the caller and another user.",
    request=OpenDirect,
    reply=OpenDirectReply,
    errors=(errors.UNKNOWN_USER, errors.LIMIT_REACHED),
    sends=(
        Sent(events.ROOM_JOINED, "the other, unless in it already"),
        Sent(events.USER_JOINED, "the other, if in it already"),
    ),
    example=Example(
        {"user": "bob"},
        {**TEA, "room": "@5f1d3c9a2b7e4d68", "kind": "direct", "user": "bob"},
    ),
)


# --- messages


@dataclass(frozen=True, slots=True)
class SendMessage(Request):
    room: Annotated[str, RoomName()]
    content: Annotated[str, Content(maximum=CONTENT)]
    id: Annotated[str | None, MessageId("of your choice; the same one again stores nothing")] = None


class SendMessageReply(TypedDict):
    id: Annotated[str, Text()]
    ts: Annotated[int, Integer("Unix time in milliseconds")]
    duplicate: NotRequired[Annotated[Literal[True], "the message was there before"]]


SEND_MESSAGE = Action(
    name="send-msg",
    summary="Send a message to a room.",
    request=SendMessage,
    reply=SendMessageReply,
    errors=(errors.ROOM_NOT_FOUND, errors.LIMIT_REACHED),
    sends=(Sent(events.MESSAGE, "the other members"),),
    example=Example(
        {"room": "tea", "content": HELLO["content"], "id": HELLO["id"]},
        {"id": HELLO["id"], "ts": HELLO["ts"]},
    ),
)


# --- rooms again


@dataclass(frozen=True, slots=True)
class LeaveRoom(Request):
    room: Annotated[str, RoomName()]


LEAVE_ROOM = Action(
    name="leave-room",
    summary="Leave a room.",
    request=LeaveRoom,
    reply=Done,
    errors=(errors.ROOM_NOT_FOUND,),
    sends=(Sent(events.USER_LEFT, "the remaining members"),),
    example=Example({"room": "tea"}, {}),
)


@dataclass(frozen=True, slots=True)
class ListRooms(Request):
    pass


class ListRoomsReply(TypedDict):
    rooms: Annotated[list[RoomInfo], "in order of name"]


LIST_ROOMS = Action(
    name="list-rooms",
    summary="List the caller's rooms.",
    request=ListRooms,
    reply=ListRoomsReply,
    example=Example({}, {"rooms": [TEA]}),
)


@dataclass(frozen=True, slots=True)
class ListMembers(Request):
    room: Annotated[str, RoomName()]
    after: Annotated[str, Text("the last name of the page before", minimum=0, maximum=USERNAME_LENGTH)] = ""
    limit: Annotated[int, PageLimit()] = PAGE_SIZE


class ListMembersReply(TypedDict):
    members: Annotated[list[Member], "in order of name"]
    member_count: int
    more: Annotated[bool, "whether another page follows"]


LIST_MEMBERS = Action(
    name="list-members",
    summary="List the members of a room, page by page.",
    request=ListMembers,
    reply=ListMembersReply,
    errors=(errors.ROOM_NOT_FOUND,),
    example=Example({"room": "tea"}, {"members": TEA["members"], "member_count": 2, "more": False}),
)


@dataclass(frozen=True, slots=True)
class ReadHistory(Request):
    room: Annotated[str, RoomName()]
    before: Annotated[str | None, Text("the `offset` or `id` of the oldest message you have", maximum=ID_LENGTH)] = None
    limit: Annotated[int, PageLimit()] = PAGE_SIZE


class ReadHistoryReply(TypedDict):
    messages: Annotated[list[StoredMessage], "oldest first"]
    more: Annotated[bool, "whether there are older ones"]


READ_HISTORY = Action(
    name="history",
    summary="Read the messages of a room, from the newest back.",
    request=ReadHistory,
    reply=ReadHistoryReply,
    errors=(errors.ROOM_NOT_FOUND,),
    example=Example({"room": "tea"}, {"messages": [{**HELLO, "offset": "5f1d3c9a2b7e-4"}], "more": False}),
)


# --- people


@dataclass(frozen=True, slots=True)
class FindUsers(Request):
    prefix: Annotated[str, Text(minimum=0, maximum=USERNAME_LENGTH)] = ""
    limit: Annotated[int, PageLimit()] = PAGE_SIZE


class FindUsersReply(TypedDict):
    users: Annotated[list[str], "names online, sorted"]
    more: bool


FIND_USERS = Action(
    name="find-users",
    summary="Find users who are online.",
    request=FindUsers,
    reply=FindUsersReply,
    example=Example({"prefix": "bo"}, {"users": ["bob"], "more": False}),
)


@dataclass(frozen=True, slots=True)
class ShowTyping(Request):
    room: Annotated[str, RoomName()]


TYPING = Action(
    name="typing",
    summary="Show the other members of a room that the caller is typing.",
    request=ShowTyping,
    reply=Done,
    errors=(errors.ROOM_NOT_FOUND,),
    sends=(Sent(events.TYPING, "the other members"),),
    example=Example({"room": "tea"}, {}),
)


ACTIONS: Final = (
    CREATE_ROOM,
    ADD_USER,
    OPEN_DIRECT,
    SEND_MESSAGE,
    LEAVE_ROOM,
    LIST_ROOMS,
    LIST_MEMBERS,
    READ_HISTORY,
    FIND_USERS,
    TYPING,
)

AnyRequest: TypeAlias = (
    CreateRoom
    | AddUsers
    | OpenDirect
    | SendMessage
    | LeaveRoom
    | ListRooms
    | ListMembers
    | ReadHistory
    | FindUsers
    | ShowTyping
)
"""The requests of `ACTIONS`: `gateway.chat.Chat.perform` must know each of them, as mypy checks."""
