"""Everything that can go wrong for a client, as exceptions. `gateway.protocol.errors` declares what they mean. Each
class builds its message here, so that it is the same on every wire.
"""

from __future__ import annotations

import math
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar

from gateway.protocol import closecodes, errors
from gateway.protocol.fields import USERNAME_RULE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gateway.protocol.closecodes import CloseCode
    from gateway.protocol.errors import ErrorKind

MAX_SHOWN = 100
"""How many characters of a client's input a message quotes."""


def shown(name: str) -> str:
    """``name`` in quotation marks, truncated if it is long."""
    return repr(name if len(name) <= MAX_SHOWN else name[: MAX_SHOWN - 1] + "…")


class GatewayError(Exception):
    """Why a request fails. Each subclass has a ``kind``."""

    code: ClassVar[str]
    http_status: ClassVar[int]
    """The status if a WebSocket upgrade is refused with this error."""
    temporary: ClassVar[bool]
    """Whether the same request may succeed later."""

    def __init_subclass__(cls, *, kind: ErrorKind | None = None) -> None:
        if kind is not None:
            cls.code, cls.http_status, cls.temporary = kind.code, kind.http_status, kind.temporary

    def __init__(
        self, message: str, *, fields: Mapping[str, Any] | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.fields = fields
        self.retry_after = retry_after

    def as_dict(self) -> dict[str, Any]:
        """``{code, message, fields?, retry_after?}``: the ``error`` of a reply."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.fields is not None:
            error["fields"] = self.fields
        if self.retry_after is not None:
            error["retry_after"] = self.retry_after
        return error


class InvalidPayload(GatewayError, kind=errors.INVALID_PAYLOAD):
    @classmethod
    def in_fields(cls, fields: Mapping[str, list[str]]) -> InvalidPayload:
        """``fields`` maps the name of each invalid field to sentences that say why it is."""
        return cls("; ".join(f"{name}: {' '.join(reasons)}" for name, reasons in fields.items()), fields=fields)


class UnknownAction(GatewayError, kind=errors.UNKNOWN_ACTION):
    def __init__(self, action: str, known: Iterable[str]) -> None:
        super().__init__(f"Unknown action {shown(action)}. The actions are {', '.join(known)}.")


class InvalidUsername(GatewayError, kind=errors.INVALID_USERNAME):
    def __init__(self) -> None:
        super().__init__(USERNAME_RULE)


class UsernameTaken(GatewayError, kind=errors.USERNAME_TAKEN):
    def __init__(self, username: str, *, retry_after: float | None = None) -> None:
        """``retry_after``: in how many seconds the name is free, unless its holder returns."""
        if retry_after is None:
            super().__init__(f"The username {shown(username)} is taken.")
        else:
            seconds = math.ceil(retry_after)
            super().__init__(
                f"The username {shown(username)} is taken: its holder lost the connection and may return within "
                f"{seconds} {'second' if seconds == 1 else 'seconds'}.",
                retry_after=round(retry_after, 3),
            )


class Unauthorized(GatewayError, kind=errors.UNAUTHORIZED):
    pass


class RoomExists(GatewayError, kind=errors.ROOM_EXISTS):
    def __init__(self, room: str) -> None:
        super().__init__(f"A room named {shown(room)} already exists.")


class RoomNotFound(GatewayError, kind=errors.ROOM_NOT_FOUND):
    """The room does not exist, or the user is not in it; an outsider cannot tell which."""

    def __init__(self, room: str) -> None:
        super().__init__(f"You are not in a room named {shown(room)}.")


class Forbidden(GatewayError, kind=errors.FORBIDDEN):
    @classmethod
    def adding_to_direct(cls) -> Forbidden:
        return cls("A direct room has exactly two members; create a room for more.")


class UnknownUser(GatewayError, kind=errors.UNKNOWN_USER):
    def __init__(self, usernames: list[str]) -> None:
        super().__init__(f"No such user: {', '.join(usernames)}.", fields={"users": usernames})


class LimitReached(GatewayError, kind=errors.LIMIT_REACHED):
    @classmethod
    def own_rooms(cls, usernames: list[str], limit: int) -> LimitReached:
        return cls(
            f"A user can create or open at most {limit} rooms; leave one first.",
            fields={"users": usernames},
        )

    @classmethod
    def invitations(cls, usernames: list[str], limit: int) -> LimitReached:
        return cls(
            f"Others can add a user to at most {limit} rooms; {', '.join(usernames)} cannot be added to another.",
            fields={"users": usernames},
        )

    @classmethod
    def members_per_room(cls, room: str, limit: int) -> LimitReached:
        return cls(f"A room can have at most {limit} members; {shown(room)} would have more.")

    @classmethod
    def memory(cls) -> LimitReached:
        return cls("The store is full. Nothing can be added until rooms are deleted.")

    @classmethod
    def store(cls, limit: int) -> LimitReached:
        return cls(f"The store is full (at most {limit} bytes). Nothing can be added until rooms are deleted.")

    @classmethod
    def connections(cls, limit: int | None) -> LimitReached:
        return cls(f"The gateway is full: it accepts at most {limit} connections.")


class RateLimited(GatewayError, kind=errors.RATE_LIMITED):
    @classmethod
    def actions(cls, limit: float, retry_after: float) -> RateLimited:
        return cls(
            f"At most {limit:g} actions a second are allowed; try again later.", retry_after=round(retry_after, 3)
        )

    @classmethod
    def additions(cls, limit: float, retry_after: float) -> RateLimited:
        return cls(f"You can add at most {limit:g} users a minute; try again later.", retry_after=round(retry_after, 3))


class Unavailable(GatewayError, kind=errors.UNAVAILABLE):
    pass


class Unconfirmed(Unavailable):
    """The store's reply was lost: the call may have taken effect, or still do so."""


class Stopping(Unavailable):
    def __init__(self) -> None:
        super().__init__("The gateway is stopping; try again.")


class StoreError(Exception):
    """The store cannot be opened. The message is one line for the operator."""

    @classmethod
    def needs_redis(cls) -> StoreError:
        return cls("A store on Valkey or Redis needs the package redis; install chat-gateway with its extra: .[redis]")


class CloseReason(Enum):
    """Why the gateway closes a connection."""

    RESTART = closecodes.RESTART
    TOO_SLOW = closecodes.TOO_SLOW
    MISSED = closecodes.MISSED
    TAKEN_OVER = closecodes.TAKEN_OVER

    value: CloseCode

    @property
    def code(self) -> int:
        return self.value.code

    @property
    def text(self) -> str:
        return self.value.text
