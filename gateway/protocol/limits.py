"""Every limit that a client can meet, and the setting that sets it. `gateway.config` has the values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

LimitValues: TypeAlias = "Mapping[str, object]"
"""The values of limits, by the names of their settings."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A bound that an operator chooses. ``setting`` is its name in `gateway.config.Settings`."""

    setting: str
    unit: str
    of: str
    """What is bounded, as a phrase."""

    @property
    def flag(self) -> str:
        return f"--{self.setting.replace('_', '-')}"

    def value(self, values: LimitValues) -> int:
        value = values[self.setting]
        assert isinstance(value, int)  # noqa: S101 - the type of each bound that a schema has
        return value


ROOM_NAME = Limit("max_room_name_length", "characters", "the name of a room")
CONTENT = Limit("max_content_length", "characters", "the content of a message")
USERS = Limit("max_users", "usernames", "`users` in one request")

LIMITS: Final = (
    ROOM_NAME,
    CONTENT,
    USERS,
    Limit("max_rooms", "rooms", "rooms that a user has made or opened, and as many that others added the user to"),
    Limit("max_members", "members", "members of a room"),
    Limit("rate_limit", "actions a second", "actions of one connection; 0 is no limit"),
    Limit("add_limit", "users a minute", "users that one user adds to rooms; 0 is no limit"),
    Limit("decline_window", "seconds", "how long others cannot add a user again to a room that the user left"),
    Limit("presence_limit", "members", "the largest room in which presence, typing, joining and leaving are broadcast"),
    Limit("history_size", "messages", "messages kept for each room"),
    Limit("history_bytes", "bytes", "the size of the messages kept for each room"),
    Limit("recovery_window", "seconds", "how long a session outlives its connection"),
    Limit("reserve_names", "seconds", "how long the name of a suspended session is reserved"),
    Limit("max_connections", "connections", "connections to the gateway, logged in or not"),
    Limit("max_frame_size", "bytes", "a WebSocket frame or a long-polling body from a client"),
    Limit("max_buffer", "bytes", "data waiting for a client that does not read"),
    Limit("max_memory", "bytes", "what all connections have half sent or not read, together"),
    Limit("max_store", "bytes", "the store"),
)

USERNAME_LENGTH: Final = 32
"""The longest username, in characters."""

ID_LENGTH: Final = 64
"""The longest ``id`` that a client may give a message, in characters."""

CREDENTIAL_LENGTH: Final = 256
"""The longest ``pid`` or ``offset`` in a log-in, in characters."""

PAGE_SIZE: Final = 100
"""Entries in one page of members, messages or users: the most, and the default."""
