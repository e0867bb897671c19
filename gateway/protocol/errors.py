"""Every error that a client may be sent. The sentences are in `gateway.errors`, whose exceptions carry these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """``http_status`` is that of a refusal before a WebSocket upgrade. ``temporary``: the same request may succeed
    later. ``when`` is a phrase.
    """

    code: str
    http_status: int
    when: str
    temporary: bool = False


INVALID_PAYLOAD = ErrorKind(
    "invalid_payload",
    400,
    "not JSON, not an object, or a field is missing, of the wrong type or too long: `fields` says which and why",
)
UNKNOWN_ACTION = ErrorKind("unknown_action", 400, "no such action")
INVALID_USERNAME = ErrorKind("invalid_username", 404, "not `[a-z0-9]{1,32}`")
USERNAME_TAKEN = ErrorKind(
    "username_taken",
    409,
    "somebody holds the name. With `retry_after` (seconds), which makes it temporary: its holder has lost the "
    "connection, and the name is reserved for that long",
)
UNAUTHORIZED = ErrorKind(
    "unauthorized",
    403,
    "the origin is not allowed (on Socket.IO, HTTP 403 before the connection), or the session moved elsewhere",
)
ROOM_EXISTS = ErrorKind("room_exists", 400, "`create-room` with a name in use")
ROOM_NOT_FOUND = ErrorKind("room_not_found", 400, "you are in no such room, whether it exists or not")
FORBIDDEN = ErrorKind("forbidden", 403, "adding somebody to a direct room")
UNKNOWN_USER = ErrorKind("unknown_user", 400, "a name in `users` has no session: `fields.users` lists them")
LIMIT_REACHED = ErrorKind(
    "limit_reached",
    503,
    "rooms that a user has made, or was added to: `fields.users` says who; members per room; connections "
    "(`--max-connections` counts every transport, logged in or not; a hundred more are accepted for five seconds "
    "at most, to be refused on their own wire); the store is full (`--max-store`), which refuses messages, rooms and "
    "members",
)
RATE_LIMITED = ErrorKind(
    "rate_limited",
    400,
    "more than `--rate-limit` actions a second, or more than `--add-limit` users added in a minute: `retry_after` is "
    "in seconds",
    temporary=True,
)
TOO_LARGE = ErrorKind(
    "too_large", 413, "a long-polling body over `--max-frame-size` (HTTP 413); on a WebSocket, close 1009"
)
UNAVAILABLE = ErrorKind(
    "unavailable",
    503,
    "the store cannot write now (its disk fails or is full, or its file is gone), or the gateway is stopping",
    temporary=True,
)

ERRORS: Final = (
    INVALID_PAYLOAD,
    UNKNOWN_ACTION,
    INVALID_USERNAME,
    USERNAME_TAKEN,
    UNAUTHORIZED,
    ROOM_EXISTS,
    ROOM_NOT_FOUND,
    FORBIDDEN,
    UNKNOWN_USER,
    LIMIT_REACHED,
    RATE_LIMITED,
    TOO_LARGE,
    UNAVAILABLE,
)
