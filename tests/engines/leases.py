"""Ending the leases of nodes on a Valkey server, without waiting until they are over."""

from __future__ import annotations

from harness.valkey import ValkeyServer


async def end_leases(server: ValkeyServer, prefix: str, *nodes: str) -> None:
    """As if these nodes of a store, or all of them, had not extended their leases for too long."""
    key = f"{{{prefix}}}:leases"
    for node in nodes or await server.command("ZRANGE", key, 0, -1):
        await server.command("ZADD", key, "XX", 0, node)
