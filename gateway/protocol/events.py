"""Every event that clients are sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final, NotRequired, TypedDict

from gateway.protocol.fields import Seconds, Text, Username
from gateway.protocol.shapes import Failure, Message, RoomInfo


@dataclass(frozen=True, slots=True)
class Event:
    """``stored``: it is in the log, has an offset, and is replayed to a client that was away. ``when`` is a phrase."""

    name: str
    fields: type
    when: str
    example: dict[str, Any]
    stored: bool


class Welcome(TypedDict):
    username: Annotated[str, Username()]
    rooms: Annotated[list[RoomInfo], "your rooms, in order of name"]
    recovered: Annotated[bool, "whether every missed event follows"]
    sid: Annotated[str, Text("the public id of the session")]
    pid: Annotated[str, Text("the secret with which the session is resumed")]
    recovery_window: Annotated[float, Seconds("seconds")]


class RoomJoined(RoomInfo):
    by: Annotated[str, Username()]


class UserJoined(TypedDict):
    room: Annotated[str, Text()]
    username: Annotated[str, Username()]
    by: Annotated[str, Username()]


class UserLeft(TypedDict):
    room: Annotated[str, Text()]
    username: Annotated[str, Username()]


class Presence(TypedDict):
    room: Annotated[str, Text()]
    username: Annotated[str, Username()]
    online: bool


class Typing(TypedDict):
    room: Annotated[str, Text()]
    username: Annotated[str, Username()]


class ActionFailed(Failure):
    action: NotRequired[Annotated[str | None, Text(minimum=0)]]


TEA: Final[dict[str, Any]] = {
    "room": "tea",
    "kind": "group",
    "history": "all",
    "members": [{"username": "alice", "online": True}, {"username": "bob", "online": True}],
    "member_count": 2,
}
"""The room of the examples: alice has created it with bob."""

HELLO: Final[dict[str, Any]] = {
    "id": "m1",
    "room": "tea",
    "from": "alice",
    "content": "Hello!",
    "ts": 1790000000000,
}
"""The message of the examples."""

WELCOME = Event(
    "welcome",
    Welcome,
    "you are logged in",
    {
        "username": "alice",
        "rooms": [],
        "recovered": False,
        "sid": "NnANOPlJxUOS",
        "pid": "D19TvSTfhmQKwgT2WvMvEg",
        "recovery_window": 120.0,
    },
    stored=True,
)
MESSAGE = Event("message", Message, "another member has sent a message", HELLO, stored=True)
ROOM_JOINED = Event(
    "room-joined", RoomJoined, "you are a member of a room from now on", {**TEA, "by": "alice"}, stored=True
)
USER_JOINED = Event(
    "user-joined",
    UserJoined,
    "somebody is a member of the room from now on",
    {"room": "tea", "username": "carol", "by": "alice"},
    stored=True,
)
USER_LEFT = Event("user-left", UserLeft, "a member has left", {"room": "tea", "username": "alice"}, stored=True)
PRESENCE = Event(
    "presence",
    Presence,
    "a member's connection is lost, or back",
    {"room": "tea", "username": "alice", "online": False},
    stored=False,
)
TYPING = Event("typing", Typing, "a member is typing", {"room": "tea", "username": "alice"}, stored=False)

EVENTS: Final = (WELCOME, MESSAGE, ROOM_JOINED, USER_JOINED, USER_LEFT, PRESENCE, TYPING)

ERROR = Event(
    "error",
    ActionFailed,
    "on Socket.IO: an event that asked for no ack has failed",
    {"action": "send-msg", "code": "room_not_found", "message": "You are not in a room named 'coffee'."},
    stored=False,
)
"""What Socket.IO has in the place of a reply."""
