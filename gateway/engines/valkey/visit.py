"""Visiting a server without becoming one of the nodes: to read a whole store, or to write one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError

from gateway.engines.valkey.link import Link, LinkLostError
from gateway.engines.valkey.server import check_server
from gateway.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gateway.engines.valkey.address import Address

SCANNED_AT_ONCE: Final = 500
"""About how many keys, or fields of a hash, are found at once."""


async def visit(address: Address) -> Link:
    """A connection to a server that can keep a store. Raises StoreError."""
    try:
        link = Link(await address.connect())
        try:
            await link.open()
            await check_server(link)
        except BaseException:
            await link.close()
            raise
    except (RedisError, OSError, LinkLostError) as error:
        raise StoreError(f"The store {address.shown} cannot be used: {error}") from None
    return link


async def scan(link: Link, command: str, *key: str, pattern: str = "*") -> AsyncIterator[list[Any]]:
    """What SCAN, or HSCAN of a key, finds, piece by piece; some of it may be found twice."""
    cursor = b"0"
    while True:
        cursor, found = await link.call(command, *key, cursor, "MATCH", pattern, "COUNT", SCANNED_AT_ONCE)
        yield found
        if cursor == b"0":
            return
