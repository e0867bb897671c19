"""What a server must be to keep a store, and what it promises."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from redis.exceptions import ResponseError

from gateway.engines.base import Durability
from gateway.errors import StoreError

if TYPE_CHECKING:
    from gateway.engines.valkey.link import Link


async def durability_of(link: Link) -> Durability:
    """What holds of what the server has replied to."""
    try:
        appendonly, fsync = [(await link.call("CONFIG", "GET", name))[1] for name in ("appendonly", "appendfsync")]
    except (ResponseError, IndexError):  # managed servers do not let their configuration be read
        return Durability.UNKNOWN
    if appendonly != b"yes":
        return Durability.MEMORY
    return {b"always": Durability.DISK, b"everysec": Durability.SECOND}.get(fsync, Durability.MEMORY)


async def check_server(link: Link) -> str:
    """The run of the server. Raises StoreError: it cannot keep a store."""
    info = dict(re.findall(r"(\w+):([^\r\n]*)", (await link.call("INFO")).decode(errors="replace")))
    if info.get("role") == "slave":
        raise StoreError("The server is a replica; the store needs the primary.")
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction" and info.get("maxmemory", "0") != "0":
        raise StoreError(f"The server may evict keys (maxmemory-policy {policy}); set it to noeviction.")
    return str(info["run_id"])
