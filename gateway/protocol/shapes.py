"""The shapes that several replies and events share."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, NotRequired, TypedDict

from gateway.protocol.errors import ERRORS
from gateway.protocol.fields import Choice, Integer, Seconds, Text, Username

Kind = Literal["group", "direct"]
KINDS: Final[tuple[Kind, Kind]] = ("group", "direct")
"""The kinds of rooms: those that clients create, and the server's own for two."""

History = Literal["all", "joined"]
HISTORIES: Final[tuple[History, History]] = ("all", "joined")
"""How far the history of a room reaches back for a member: to the first message kept, or to where the member joined."""


class Member(TypedDict):
    """A member of a room."""

    username: Annotated[str, Username()]
    online: bool


class RoomInfo(TypedDict):
    """A room, as replies and events show it."""

    room: Annotated[str, Text()]
    kind: Kind
    history: Annotated[History, "how far back a new member can read"]
    members: Annotated[list[Member], "at most 10, in order of name"]
    member_count: int
    user: NotRequired[Annotated[str, Username("the other user of a direct room")]]


Message = TypedDict(
    "Message",
    {
        "id": Annotated[str, Text("chosen by its author, or else by the gateway")],
        "room": Annotated[str, Text()],
        "from": Annotated[str, Username()],
        "content": Annotated[str, Text()],
        "ts": Annotated[int, Integer("Unix time in milliseconds")],
    },
)
Message.__doc__ = "A message in a room."


class StoredMessage(Message):
    """A message in the history of a room."""

    offset: Annotated[str, Text("its place in the order of events; opaque")]


ERROR_CODES: Final = tuple(error.code for error in ERRORS)


class Failure(TypedDict):
    """Why a request failed."""

    code: Annotated[str, Choice(*ERROR_CODES)]
    message: Annotated[str, Text("a sentence for people")]
    fields: NotRequired[Annotated[dict[str, Any], "which fields are wrong, and why"]]
    retry_after: NotRequired[Annotated[float, Seconds("seconds")]]
