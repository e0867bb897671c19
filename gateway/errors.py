"""Everything that can go wrong for a client, as data: a code, a sentence, and whether trying again may help.

The codes are the contract of ``docs/protocol.md``, section "Errors". Each class builds its own sentence, so
that every wire says the same thing in the same words.
"""

from __future__ import annotations

import math
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


MAX_SHOWN = 100
"""How many characters of a name that a client has sent an error shows."""


def shown(name: str) -> str:
    """``name`` in quotation marks, or its beginning where it is long."""
    return repr(name if len(name) <= MAX_SHOWN else name[: MAX_SHOWN - 1] + "…")


class GatewayError(Exception):
    """What a client is told when its request cannot be met."""

    code: ClassVar[str]
    http_status: ClassVar[int] = 400
    """The status of a refusal before a WebSocket upgrade."""

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


class InvalidPayload(GatewayError):
    code = "invalid_payload"

    @classmethod
    def in_fields(cls, fields: Mapping[str, list[str]]) -> InvalidPayload:
        """``fields`` maps the name of each wrong field to sentences that say what is wrong with it."""
        return cls("; ".join(f"{name}: {' '.join(reasons)}" for name, reasons in fields.items()), fields=fields)


class UnknownAction(GatewayError):
    code = "unknown_action"

    def __init__(self, action: str, known: Iterable[str]) -> None:
        super().__init__(f"There is no action {shown(action)}; there are {', '.join(known)}.")


class InvalidUsername(GatewayError):
    code = "invalid_username"
    http_status = 404

    def __init__(self) -> None:
        super().__init__("A username is 1 to 32 characters, each a lower-case letter a-z or a digit.")


class UsernameTaken(GatewayError):
    code = "username_taken"
    http_status = 409

    def __init__(self, username: str, *, retry_after: float | None = None) -> None:
        """``retry_after``: seconds until the name is free, unless its holder comes back."""
        if retry_after is None:
            super().__init__(f"The username {shown(username)} is taken.")
        else:
            seconds = math.ceil(retry_after)
            super().__init__(
                f"The username {shown(username)} is taken: its holder has lost the connection, and may come back for "
                f"{seconds} {'second' if seconds == 1 else 'seconds'}.",
                retry_after=round(retry_after, 3),
            )


class Unauthorized(GatewayError):
    code = "unauthorized"
    http_status = 403


class RoomExists(GatewayError):
    code = "room_exists"

    def __init__(self, room: str) -> None:
        super().__init__(f"A room named {shown(room)} exists already.")


class RoomNotFound(GatewayError):
    code = "room_not_found"

    """No such room, or none that the user is in: strangers do not learn which rooms there are."""

    def __init__(self, room: str) -> None:
        super().__init__(f"You are in no room named {shown(room)}.")


class Forbidden(GatewayError):
    code = "forbidden"
    http_status = 403

    @classmethod
    def adding_to_direct(cls) -> Forbidden:
        return cls("A direct room is for two; create a room for more.")


class UnknownUser(GatewayError):
    code = "unknown_user"

    def __init__(self, usernames: list[str]) -> None:
        super().__init__(f"Nobody is here by the name of {', '.join(usernames)}.", fields={"users": usernames})


class LimitReached(GatewayError):
    code = "limit_reached"
    http_status = 503

    @classmethod
    def own_rooms(cls, usernames: list[str], limit: int) -> LimitReached:
        return cls(
            f"A user can have made or opened at most {limit} rooms; leave one to enter another.",
            fields={"users": usernames},
        )

    @classmethod
    def invitations(cls, usernames: list[str], limit: int) -> LimitReached:
        return cls(
            f"A user can have been added to at most {limit} rooms, and {', '.join(usernames)} cannot be to another.",
            fields={"users": usernames},
        )

    @classmethod
    def members_per_room(cls, room: str, limit: int) -> LimitReached:
        return cls(f"A room can have at most {limit} members, and {shown(room)} would have more.")

    @classmethod
    def store(cls, limit: int) -> LimitReached:
        return cls(f"The store is full: it takes at most {limit} bytes. Nothing can be added until rooms have ended.")

    @classmethod
    def connections(cls, limit: int | None) -> LimitReached:
        return cls(f"The gateway is full: it takes at most {limit} connections.")


class RateLimited(GatewayError):
    code = "rate_limited"

    @classmethod
    def actions(cls, limit: float, retry_after: float) -> RateLimited:
        return cls(f"At most {limit:g} actions a second; try again.", retry_after=round(retry_after, 3))

    @classmethod
    def adds(cls, limit: float, retry_after: float) -> RateLimited:
        return cls(f"You can add at most {limit:g} users a minute; try again.", retry_after=round(retry_after, 3))


class Unavailable(GatewayError):
    code = "unavailable"
    http_status = 503


class Stopping(Unavailable):
    def __init__(self) -> None:
        super().__init__("The gateway is stopping; try again.")


class StoreError(Exception):
    """The store cannot be opened. The message is one line for the person who starts the gateway."""


class CloseReason(Enum):
    """Why the gateway closes a connection: the WebSocket close code (RFC 6455, section 7.4) and its text."""

    RESTART = 1012, "The gateway restarts; come back."
    TOO_SLOW = 4008, "Too much was unsent; come back for what you missed."
    MISSED = 4008, "Something could not be delivered; come back for what you missed."
    TAKEN_OVER = 4001, "The session was resumed on another connection."

    @property
    def code(self) -> int:
        return self.value[0]

    @property
    def text(self) -> str:
        return self.value[1]
