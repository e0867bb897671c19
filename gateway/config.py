"""Every setting, declared once: the field is the flag, the environment variable, the help text and the validation."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

POSITIVE = click.IntRange(min=1)


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


def setting(default: Any, type_: click.ParamType[Any], help_: str, *, env: Sequence[str] = ()) -> Any:
    """Declare a setting. ``env``: environment variables that are read besides ``GATEWAY_<FLAG>``."""
    return dataclasses.field(default=default, metadata={"type": type_, "help": help_, "env": tuple(env)})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the person who runs the gateway can choose."""

    host: str | None = setting(
        None, click.STRING, "Address to listen on.  [default: 127.0.0.1; 0.0.0.0 where the variable PORT is set]"
    )
    port: int = setting(8080, click.IntRange(0, 65535), "Port to listen on; 0 takes a free one.", env=["PORT"])
    store: str = setting(
        "sqlite:///gateway.db",
        StoreURL(),
        "Where sessions, rooms and messages are kept: sqlite:///PATH, or sqlite:// for memory (nothing kept).",
        env=["REDIS_URL"],
    )
    allowed_origins: tuple[str, ...] = setting(
        ("*",),
        Origins(),
        "Web origins whose pages may connect besides the gateway's own, separated by commas; * is any.",
    )
    log_level: str = setting(
        "info", click.Choice(["debug", "info", "warning", "error"]), "The least severe event that is logged."
    )
    log_format: str = setting("text", click.Choice(["text", "json"]), "How events are written to stderr.")

    ping_interval: float = setting(25.0, click.FloatRange(min=1), "Seconds between two heartbeats.")
    ping_timeout: float = setting(20.0, click.FloatRange(min=1), "Seconds that a client has to answer a heartbeat.")
    recovery_window: float = setting(
        120.0, click.FloatRange(min=0), "Seconds for which a session waits for its client to come back."
    )

    max_connections: int = setting(20_000, POSITIVE, "Clients that may be logged in at once.")
    max_frame_size: int = setting(131_072, POSITIVE, "Bytes in one frame or long-polling body from a client.")
    max_buffer: int = setting(1_048_576, POSITIVE, "Unsent bytes at which a client counts as too slow and is cut.")
    max_content_length: int = setting(10_000, POSITIVE, "Characters in a message.")
    max_room_name_length: int = setting(64, POSITIVE, "Characters in the name of a room.")
    max_users: int = setting(100, POSITIVE, "Users that one request may add.")
    max_rooms: int = setting(100, POSITIVE, "Rooms that one user may be in.")
    max_members: int = setting(10_000, POSITIVE, "Members that one room may have.")
    rate_limit: float = setting(0.0, click.FloatRange(min=0), "Actions a second for one connection; 0 is no limit.")
    history_size: int = setting(1_000, POSITIVE, "Messages kept for each room.")
    presence_limit: int = setting(
        100, click.IntRange(min=0), "Members above which a room no longer hears who comes, goes and is online."
    )


def command_line_options() -> list[click.Parameter]:
    """One option for each setting, in the order of their declaration."""
    return [_option(field) for field in dataclasses.fields(Settings)]


def _option(field: dataclasses.Field[Any]) -> click.Option:
    default = field.default
    return click.Option(
        [f"--{field.name.replace('_', '-')}"],
        type=field.metadata["type"],
        default=",".join(default) if isinstance(default, tuple) else default,
        show_default=default is not None,
        help=field.metadata["help"],
        envvar=[f"GATEWAY_{field.name.upper()}", *field.metadata["env"]],
        show_envvar=True,
    )


def settings_from(values: dict[str, Any], *, port_from_platform: bool) -> Settings:
    """Settings from the parsed options. A platform that sets ``PORT`` routes to the machine, not to its loopback."""
    if values["host"] is None:
        values = {**values, "host": "0.0.0.0" if port_from_platform else "127.0.0.1"}  # noqa: S104 - what PORT asks for
    return Settings(**values)
