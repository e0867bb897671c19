"""Asking Sentinels which server is the primary now (the Sentinel client protocol of the Redis documentation)."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from redis.asyncio.connection import Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

if TYPE_CHECKING:
    from collections.abc import Sequence

TIMEOUT: Final = 1.0
"""Seconds that a Sentinel has to reply before the next one is asked."""

DEFAULT_PORT: Final = 26379


@dataclass(frozen=True, slots=True)
class Sentinels:
    """``hosts`` with their ports are asked in order; ``service`` is the name under which they watch the primary."""

    hosts: tuple[tuple[str, int], ...]
    service: str

    @classmethod
    def parse(cls, netloc: str, service: str) -> Sentinels:
        """From ``host[:port],host[:port]…``. Raises ValueError."""
        if not service:
            raise ValueError("it must end with the name of the service, as in redis+sentinel://HOST:26379/SERVICE")
        hosts = []
        for part in netloc.split(","):
            host, _, port = part.rpartition(":") if ":" in part.rpartition("]")[2] else (part, "", str(DEFAULT_PORT))
            if not host or not port.isdecimal():
                raise ValueError(f"{part!r} is not HOST or HOST:PORT")
            hosts.append((host.strip("[]"), int(port)))
        return cls(tuple(hosts), service)

    async def find_primary(self) -> tuple[str, int]:
        """Its host and port. Raises RedisError: no Sentinel can be reached that knows it."""
        problems = []
        for host, port in self.hosts:
            try:
                found = await self._ask(host, port)
            except (RedisError, OSError) as error:
                problems.append(f"{host}:{port}: {error}")
                continue
            if found:
                return found[0].decode(), int(found[1])
            problems.append(f"{host}:{port} does not know {self.service!r}")
        raise RedisConnectionError(f"no Sentinel says where the primary is ({'; '.join(problems)})")

    async def _ask(self, host: str, port: int) -> Sequence[Any]:
        connection = Connection(
            host=host, port=port, protocol=2, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT
        )
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            await connection.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)
            return await connection.read_response(disable_decoding=True) or ()
        finally:
            with contextlib.suppress(RedisError, OSError):
                await connection.disconnect(nowait=True)
