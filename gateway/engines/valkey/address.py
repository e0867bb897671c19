"""Where the server is: the URL of a store, and connections to it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from redis.asyncio.connection import Connection, UnixDomainSocketConnection, parse_url

from gateway.addresses import without_password
from gateway.engines.valkey.sentinel import Sentinels
from gateway.errors import StoreError

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection

CONNECT_TIMEOUT: Final = 5.0
"""Seconds until an attempt to connect is given up."""

SCHEMES: Final = {"valkey": "redis", "valkeys": "rediss"}
"""Other names of what redis-py knows."""

DEFAULT_PREFIX: Final = "gateway"


@dataclass(frozen=True, slots=True)
class Address:
    """``options`` are those of redis-py's connections. All keys of the store begin with ``{prefix}:``."""

    kind: type[AbstractConnection]
    options: dict[str, Any]
    prefix: str
    shown: str
    """The URL without a password."""
    sentinels: Sentinels | None = None
    """Who knows where the server is; without them, ``options`` do."""

    @classmethod
    def parse(cls, url: str) -> Address:
        """From ``redis://HOST``, ``rediss://HOST`` (TLS), ``unix:///PATH`` or ``redis+sentinel://HOST,HOST/SERVICE``,
        with ``redis`` or ``valkey``. The parameter ``prefix`` names the store; the others are redis-py's.

        Raises:
            StoreError: it is no such URL.
        """
        scheme, _, rest = url.partition("://")
        name, _, way = scheme.partition("+")
        parts = urlsplit(f"{SCHEMES.get(name, name)}://{rest}")
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        prefix = query.pop("prefix", DEFAULT_PREFIX)
        if not prefix or "{" in prefix or "}" in prefix:
            raise StoreError("The prefix of a store must not be empty, nor contain { or }.")
        parts = parts._replace(query=urlencode(query))
        try:
            sentinels = None
            if way == "sentinel":
                login, _, hosts = parts.netloc.rpartition("@")
                service, _, database = parts.path.strip("/").partition("/")
                sentinels = Sentinels.parse(hosts, service)
                parts = parts._replace(netloc=f"{login}@primary" if login else "primary", path=f"/{database}")
            elif way:
                raise ValueError(f"{scheme!r} is not known")
            kind, options = _options(urlunsplit(parts))
        except (TypeError, ValueError) as error:
            raise StoreError(f"{without_password(url)} is not the URL of a store: {error}") from None
        return cls(kind, options, prefix, without_password(url), sentinels)

    async def connect(self) -> AbstractConnection:
        """A connection to the server, or to what is the primary now, that is not open yet. Raises RedisError."""
        if self.sentinels is None:
            return self.kind(**self.options)
        host, port = await self.sentinels.find_primary()
        return self.kind(**{**self.options, "host": host, "port": port})

    @property
    def meta(self) -> str:
        """The key of the store's hash."""
        return self.key("meta")

    def key(self, kind: str, name: str | int | None = None) -> str:
        """As ``key`` in ``scripts/common.lua``."""
        return f"{{{self.prefix}}}:{kind}" if name is None else f"{{{self.prefix}}}:{kind}:{name}"

    def pattern(self, kind: str | None = None) -> str:
        """What SCAN takes for the keys of one kind that have a name, or for all keys."""
        prefix = re.sub(r"([*?\[\]\\])", r"\\\1", self.prefix)
        return f"{{{prefix}}}:*" if kind is None else f"{{{prefix}}}:{kind}:*"

    def channel_of_room(self, room_id: int) -> str:
        return f"{{{self.prefix}}}:in:{room_id}"

    def channel_of_node(self, node: str) -> str:
        return f"{{{self.prefix}}}:to:{node}"


def _options(url: str) -> tuple[type[AbstractConnection], dict[str, Any]]:
    """A kind of redis-py's connections, and the options that a URL has for it. Raises ValueError or TypeError."""
    options: dict[str, Any] = dict(parse_url(url))
    kind: type[AbstractConnection] = options.pop("connection_class", Connection)
    # Every timeout is set: the library's own have changed between versions. `Link` has one for each reply.
    options |= {"protocol": 2, "socket_timeout": None, "socket_connect_timeout": CONNECT_TIMEOUT}
    if not issubclass(kind, UnixDomainSocketConnection):
        options.setdefault("socket_keepalive", True)
    kind(**options)  # so that an option that it does not know is found now
    return kind, options
