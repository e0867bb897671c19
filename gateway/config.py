"""Every setting, declared once: its flag, environment variable, help text and validation."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any, ClassVar, Final

import click

from gateway.addresses import Network, parse_base_path, parse_host_port, parse_networks, parse_origin
from gateway.protocol.limits import ID_LENGTH


class Whole(click.IntRange):
    """A whole number."""

    name = "integer"


POSITIVE = Whole(min=1)


class Number(click.FloatRange):
    """A finite number of at least ``min``."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a number of seconds or actions", param, ctx)
        return number


class Size(click.ParamType[int]):
    """A number of bytes, at least ``minimum``; also as ``500MB`` (10^6) or ``10GiB`` (2^30; ``10G`` is the same)."""

    name = "size"

    def __init__(self, minimum: int = 1) -> None:
        self._minimum = minimum

    UNITS: ClassVar = {
        "": 1,
        "b": 1,
        **{f"{letter}{rest}": 1024**power for power, letter in enumerate("kmgt", 1) for rest in ("", "ib")},
        **{f"{letter}b": 1000**power for power, letter in enumerate("kmgt", 1)},
    }

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        number = re.fullmatch(r"(\d{1,15}(?:\.\d{1,6})?) ?([a-z]{0,3})", str(value).strip().lower(), re.ASCII)
        unit = None if number is None else self.UNITS.get(number[2])
        size = 0 if number is None or unit is None else int(float(number[1]) * unit)
        if size < 1:
            self.fail(f"{value!r} is not a size such as 500MB or 10GiB", param, ctx)
        if size < self._minimum:
            self.fail(f"{value!r} is too small: at least {self._minimum} bytes are needed", param, ctx)
        return size

    @staticmethod
    def shown(size: int) -> str:
        """The size as people write it."""
        for letter, power in (("T", 4), ("G", 3), ("M", 2), ("K", 1)):
            if size >= 1024**power and size % 1024**power == 0:
                return f"{size // 1024**power}{letter}iB"
        return str(size)


SERVER_SCHEMES: Final = frozenset(
    {
        "unix",
        *(f"{name}{way}" for name in ("redis", "rediss", "valkey", "valkeys") for way in ("", "+sentinel")),
    }
)
"""Of the URLs of stores on a server."""


class StoreURL(click.ParamType[str]):
    """``sqlite:///path``, ``sqlite://`` (memory), or a Valkey or Redis server: ``redis://host``, ``rediss://host`` for
    TLS, the same with ``valkey``, or ``unix:///path``.
    """

    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        url = str(value)
        if url == "sqlite:///:memory:":
            return "sqlite://"
        scheme, separator, rest = url.partition("://")
        if scheme in SERVER_SCHEMES and separator:
            if not rest.strip("/"):
                self.fail(f"{url!r} names no server; use {scheme}://HOST", param, ctx)
            return url
        wrong_path = rest and (not rest.startswith("/") or rest == "/" or rest.startswith("/file:"))
        if scheme != "sqlite" or not separator or wrong_path:
            meant = self._meant(url)
            hint = f"; did you mean {meant}?" if meant else ""
            self.fail(f"{url!r} is not sqlite:///PATH, sqlite:// (memory) or redis://HOST{hint}", param, ctx)
        return url

    @staticmethod
    def _meant(value: str) -> str | None:
        """The URL that was probably meant by ``value``, which may be a path."""
        path = value.removeprefix("sqlite:").removeprefix("//")
        if path in {"", ":memory:", "memory"}:
            return "sqlite://"
        return None if ":" in path or path.endswith("/") else f"sqlite:///{path}"


class Address(click.ParamType[str]):
    """A host name, or an IPv4 or IPv6 address."""

    name = "address"

    def split_envvar_value(self, rv: str) -> list[str]:
        return [address for address in rv.split(",") if address.strip()]

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        address = str(value).strip()
        if address.startswith("[") and address.endswith("]"):
            address = address[1:-1]
        if not address or any(character in address for character in " ,/[]"):
            self.fail(f"{value!r} is not an address such as 127.0.0.1, :: or localhost", param, ctx)
        return address


class HostPort(click.ParamType[str]):
    """A host and a port, such as ``10.0.0.5:8080`` or ``[fd00::5]:8080``."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return parse_host_port(str(value).strip())
        except ValueError:
            self.fail(f"{value!r} is not a host and a port such as 10.0.0.5:8080 or node7.example:8080", param, ctx)


class SocketPath(click.ParamType[str]):
    """The path of a Unix socket."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        path = str(value)
        if not path or "\0" in path or path.endswith("/"):
            self.fail(f"{path!r} is not the path of a socket such as /run/gateway/gateway.sock", param, ctx)
        return path


class Origins(click.ParamType[tuple[str, ...]]):
    """``*``, or a list of origins such as ``https://chat.example``, separated by commas."""

    name = "origins"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(parse_origin(origin.strip()) for origin in str(value).split(",") if origin.strip())
        except ValueError as error:
            self.fail(str(error), param, ctx)


class BasePath(click.ParamType[str]):
    """A path such as ``/chat``; the root is ``/``."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return parse_base_path(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Networks(click.ParamType[tuple[Network, ...]]):
    """Addresses and networks, separated by commas; ``*`` stands for all."""

    name = "networks"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Network, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return parse_networks(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def setting(
    default: Any,
    type_: click.ParamType[Any],
    metavar: str,
    help_: str,
    *,
    also: str | None = None,
    repeatable: bool = False,
    without_value: str | None = None,
) -> Any:
    """Declare a setting. ``also``: an environment variable that is read besides ``GATEWAY_<FLAG>``. ``repeatable``: the
    flag may be given several times; then the variable holds a list, and the setting is a tuple. ``without_value``: the
    value if the flag is given without one; by default that is an error.
    """
    metadata = {
        "type": type_,
        "metavar": metavar,
        "help": help_,
        "also": also,
        "repeatable": repeatable,
        "without_value": without_value,
    }
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the operator of the gateway can choose."""

    host: tuple[str, ...] = setting(
        (),
        Address(),
        "ADDRESS",
        "The address to listen on; may be given several times (the variable: separated by commas). 0.0.0.0 is every "
        "IPv4 address of the machine, :: every IPv6 address.  [default: 127.0.0.1, only this machine; 0.0.0.0 if PORT "
        "is set]",
        repeatable=True,
    )
    port: int = setting(8080, Whole(0, 65535), "N", "The port to listen on; 0 chooses a free one.", also="PORT")
    unix_socket: str | None = setting(
        None,
        SocketPath(),
        "PATH",
        "Listen on this Unix socket, for a proxy on the same machine; on a port as well only if --host or --port is "
        "given.",
    )
    allowed_origins: tuple[str, ...] = setting(
        ("*",),
        Origins(),
        "ORIGINS",
        "The origins whose pages may connect, besides the gateway's own, separated by commas: https://chat.example, "
        "https://*.chat.example for its subdomains, capacitor://localhost, null; * allows all.",
    )
    base_path: str = setting("/", BasePath(), "PATH", "The path under which everything is served, such as /chat.")
    trust_proxy: tuple[Network, ...] | None = setting(
        None,
        Networks(),
        "ADDRESSES",
        "The proxies whose X-Forwarded headers are trusted: addresses or networks, separated by commas; * (or no "
        "value) trusts all.  [default: none]",
        without_value="*",
    )
    transports: str = setting(
        "polling,websocket",
        click.Choice(["polling,websocket", "websocket"]),
        "LIST",
        "How Socket.IO clients may connect: polling,websocket or only websocket. Long-polling over several nodes needs "
        "nodes that reach each other.",
    )
    node_address: str | None = setting(
        None,
        HostPort(),
        "HOST:PORT",
        "Where other nodes of the same store reach this one, over plain HTTP.  [default: where it listens; if that is "
        "every address, the one from which it reaches the store]",
    )
    keep_alive: float = setting(
        75.0, Number(min=1), "SECONDS", "How long an HTTP connection may wait for its next request."
    )
    ping_interval: float = setting(25.0, Number(min=1), "SECONDS", "How often each client is pinged.")
    ping_timeout: float = setting(20.0, Number(min=1), "SECONDS", "How long a client has to reply to a ping.")
    workers: int = setting(
        1,
        Whole(1, 256),
        "N",
        "How many processes serve clients on the same port (Linux); one for each core is usual. They share a store on "
        "Redis or Valkey or, with the extra `local`, a Valkey server that they run for themselves; if --store is "
        "sqlite:///PATH, its files are in PATH.valkey.",
        also="WEB_CONCURRENCY",
    )

    store: str = setting(
        "sqlite:///gateway.db",
        StoreURL(),
        "URL",
        "Where to keep sessions, rooms and messages: sqlite:///PATH, sqlite:// for memory, or redis://HOST.",
        also="REDIS_URL",
    )
    require_durable: bool = setting(
        False,
        click.BOOL,
        "yes|no",
        "Refuse to start where an ack does not mean on disk: in memory, or on a server that does not sync each write.",
        without_value="yes",
    )
    max_store: int = setting(
        10 * 1024**3,
        Size(1_000_000),
        "SIZE",
        "How large the store may be, such as 500MB or 10GiB; above that, nothing is added. Its log takes 32 MiB more.",
    )
    history_size: int = setting(
        1_000,
        POSITIVE,
        "N",
        "How many messages are kept for each room, and as many other events (who joined, who left).",
    )
    history_bytes: int = setting(
        16 * 1024**2,
        Size(),
        "SIZE",
        "How many bytes of messages are kept for each room; the newest message is always kept.",
    )
    recovery_window: float = setting(
        120.0,
        Number(min=0),
        "SECONDS",
        "How long a session outlives a lost connection, so that its client can return.",
    )
    reserve_names: float | None = setting(
        None,
        Number(min=0),
        "SECONDS",
        "How long the name of a session that lost its connection is reserved for its client; 0 lets anyone claim it at "
        "once, which ends the session.  [default: --recovery-window, which is the maximum]",
    )

    max_connections: int = setting(
        20_000,
        POSITIVE,
        "N",
        "How many connections may be open at once, logged in or not; with --workers, of all together.",
    )
    max_memory: int | None = setting(
        None,
        Size(),
        "SIZE",
        "How much memory all clients together may take for what they have half sent or not read, such as 512MiB; above "
        "that, those that take the most are paused, then disconnected.  [default: half of the memory of the machine or "
        "container]",
    )
    max_frame_size: int = setting(
        131_072, POSITIVE, "BYTES", "The largest WebSocket frame or long-polling body that a client may send."
    )
    max_buffer: int = setting(
        1_048_576,
        POSITIVE,
        "BYTES",
        "How much data may wait for a client that does not read; above that, it is disconnected as too slow.",
    )
    max_content_length: int = setting(10_000, POSITIVE, "CHARS", "The longest message.")
    max_room_name_length: int = setting(64, POSITIVE, "CHARS", "The longest name of a room.")
    max_users: int = setting(100, POSITIVE, "N", "How many users one request may add to a room.")
    max_rooms: int = setting(
        100, POSITIVE, "N", "How many rooms a user may create or open; others may add the user to as many more."
    )
    max_members: int = setting(10_000, POSITIVE, "N", "How many members a room may have.")
    rate_limit: float = setting(
        0.0, Number(min=0), "N", "How many actions a second a client may perform; 0 is no limit."
    )
    add_limit: float = setting(
        1_000.0, Number(min=0), "N", "How many users a user may add to rooms in a minute; 0 is no limit."
    )
    decline_window: float = setting(
        3_600.0, Number(min=0), "SECONDS", "How long a user who left a room cannot be added to it again by others."
    )
    list_users: str = setting(
        "prefix",
        click.Choice(["all", "prefix", "none"]),
        "WHOM",
        "Whom users can find besides those they share a room with: all, by a prefix of two letters, or none.",
    )
    presence_limit: int = setting(
        100,
        Whole(min=0),
        "N",
        "The largest room, in members, that is notified of who joins, leaves, types or is online.",
    )

    log_level: str = setting(
        "info",
        click.Choice(["debug", "info", "warning", "error"]),
        "LEVEL",
        "What to log: debug (everything), info, warning or error (the least).",
    )
    log_format: str = setting(
        "text",
        click.Choice(["text", "json"]),
        "FORMAT",
        "The format of the log, which is written to stderr: text or json.",
    )


SECTIONS = {"host": "Network", "store": "Storage", "max_connections": "Limits", "log_level": "Other"}
"""The headings of --help, by the first setting under each."""

MAX_CHARACTER_SIZE: Final = 12
"""The most bytes of JSON for one character: an emoji is ``\\ud83d\\ude00`` in clients that escape all but ASCII."""

ENVELOPE_SIZE: Final = 256
"""A bound on the bytes of a request besides its values: field names, ack id or ``ref``, some spaces."""

USERNAME_SIZE: Final = 36
"""The most bytes of a username in a list: 32 letters or digits, two quotes, a comma and a space."""


def contradiction(settings: Settings) -> str | None:
    """Which settings contradict each other, and what to change; None if none do."""
    reserved, window = settings.reserve_names, settings.recovery_window
    if reserved is not None and reserved > window:
        return (
            f"--reserve-names {reserved:g} is longer than --recovery-window {window:g}, after which a session ends; "
            f"choose 0 to {window:g}"
        )
    return _too_large_for_a_frame(settings)


def _too_large_for_a_frame(settings: Settings) -> str | None:
    """Why a client cannot send what other settings allow, and what to change; None if it can."""
    limit, room = settings.max_frame_size, settings.max_room_name_length
    others = ENVELOPE_SIZE + MAX_CHARACTER_SIZE * room
    message = others + MAX_CHARACTER_SIZE * (ID_LENGTH + settings.max_content_length)
    if message > limit:
        fits = (limit - others) // MAX_CHARACTER_SIZE - ID_LENGTH
        lower = f" or lower --max-content-length to {fits}" if fits > 0 else ""
        return (
            f"--max-frame-size {limit} cannot carry what --max-content-length {settings.max_content_length} allows: "
            f"such a message can take {message} bytes ({MAX_CHARACTER_SIZE} for a character that JSON escapes). "
            f"Raise --max-frame-size to {message}{lower}."
        )
    users = others + USERNAME_SIZE * settings.max_users
    if users > limit:
        return (
            f"--max-frame-size {limit} cannot carry what --max-users {settings.max_users} allows: "
            f"such a request can take {users} bytes. "
            f"Raise --max-frame-size to {users} or lower --max-users to {(limit - others) // USERNAME_SIZE}."
        )
    return None
