"""Every setting, declared once: the field is the flag, the environment variable, the help text and the validation."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import click

POSITIVE = click.IntRange(min=1)


class Number(click.FloatRange):
    """A finite number of at least ``min``."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a number of seconds or actions", param, ctx)
        return number


class StoreURL(click.ParamType[str]):
    """``sqlite:///path``, ``sqlite://`` (memory) or, once it is built, the URL of a Redis or Valkey server."""

    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        url = str(value)
        scheme, separator, rest = url.partition("://")
        if scheme in {"redis", "rediss", "unix"} and separator:
            self.fail(
                f"{scheme}:// names a Redis or Valkey store, which this version does not have yet; "
                "use --store sqlite:///gateway.db (and unset REDIS_URL)",
                param,
                ctx,
            )
        if scheme != "sqlite" or not separator or (rest and (not rest.startswith("/") or rest == "/")):
            self.fail(f"{url!r} is not sqlite:///PATH or sqlite:// (memory)", param, ctx)
        return url


class Origins(click.ParamType[tuple[str, ...]]):
    """``*``, or a list of origins such as ``https://chat.example``, separated by commas."""

    name = "origins"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        origins = tuple(origin.strip().rstrip("/") for origin in str(value).split(",") if origin.strip())
        for origin in origins:
            scheme, separator, host = origin.partition("://")
            if origin != "*" and not (scheme in {"http", "https"} and separator and host and "/" not in host):
                self.fail(f"{origin!r} is not an origin such as https://chat.example", param, ctx)
        return origins


def setting(default: Any, type_: click.ParamType[Any], metavar: str, help_: str, *, also: str | None = None) -> Any:
    """Declare a setting. ``also``: an environment variable that is read besides ``GATEWAY_<FLAG>``."""
    return dataclasses.field(default=default, metadata={"type": type_, "metavar": metavar, "help": help_, "also": also})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the person who runs the gateway can choose."""

    host: str | None = setting(
        None, click.STRING, "ADDRESS", "Where to listen.  [default: 127.0.0.1; 0.0.0.0 where PORT is set]"
    )
    port: int = setting(8080, click.IntRange(0, 65535), "N", "Port to listen on; 0 takes a free one.", also="PORT")
    allowed_origins: tuple[str, ...] = setting(
        ("*",),
        Origins(),
        "ORIGINS",
        "Web origins whose pages may connect besides the gateway's own, separated by commas; * is any.",
    )
    reserve_names: float | None = setting(
        None,
        Number(min=0),
        "SECONDS",
        "How long the name of a lost session is kept for its client; 0 lets anybody claim it at once, which ends the "
        "session.  [default: --recovery-window, and at most that]",
    )
    ping_interval: float = setting(25.0, Number(min=1), "SECONDS", "Time between two heartbeats.")
    ping_timeout: float = setting(20.0, Number(min=1), "SECONDS", "Time to answer a heartbeat.")

    store: str = setting(
        "sqlite:///gateway.db",
        StoreURL(),
        "URL",
        "Where to keep sessions, rooms and messages: sqlite:///PATH, or sqlite:// for memory.",
        also="REDIS_URL",
    )
    history_size: int = setting(1_000, POSITIVE, "N", "Messages kept for each room.")
    recovery_window: float = setting(
        120.0, Number(min=0), "SECONDS", "How long a lost session waits for its client to come back."
    )

    max_connections: int = setting(20_000, POSITIVE, "N", "Clients that are logged in at once.")
    max_frame_size: int = setting(131_072, POSITIVE, "BYTES", "One frame or long-polling body from a client.")
    max_buffer: int = setting(1_048_576, POSITIVE, "BYTES", "Unsent data at which a client is too slow and is cut.")
    max_content_length: int = setting(10_000, POSITIVE, "CHARS", "A message.")
    max_room_name_length: int = setting(64, POSITIVE, "CHARS", "The name of a room.")
    max_users: int = setting(100, POSITIVE, "N", "Users that one request adds.")
    max_rooms: int = setting(
        100, POSITIVE, "N", "Rooms that one user makes or opens, and as many more that others add the user to."
    )
    max_members: int = setting(10_000, POSITIVE, "N", "Members that one room has.")
    rate_limit: float = setting(0.0, Number(min=0), "N", "Actions a second on one connection; 0 is no limit.")
    add_limit: float = setting(
        1_000.0, Number(min=0), "N", "Users that one user adds to rooms in a minute; 0 is no limit."
    )
    decline_window: float = setting(
        3_600.0, Number(min=0), "SECONDS", "How long others cannot add a user again to a room that the user left."
    )
    list_users: str = setting(
        "prefix",
        click.Choice(["all", "prefix", "none"]),
        "WHOM",
        "Whom users find besides those they share a room with: all, by a prefix of two letters, or none.",
    )
    presence_limit: int = setting(
        100,
        click.IntRange(min=0),
        "N",
        "Members above which a room does not hear who comes, goes, types and is online.",
    )

    log_level: str = setting(
        "info",
        click.Choice(["debug", "info", "warning", "error"]),
        "LEVEL",
        "The least severe event to log: debug, info, warning or error.",
    )
    log_format: str = setting(
        "text", click.Choice(["text", "json"]), "FORMAT", "How to write log events to stderr: text or json."
    )


SECTIONS = {"host": "Network", "store": "Storage", "max_connections": "Limits", "log_level": "Other"}
"""The headings of the help, each by the first setting below it."""
