"""Ending the leases of nodes on a Valkey server, without waiting until they are over."""

from __future__ import annotations

from harness.valkey import ValkeyServer


async def end_lease(server: ValkeyServer, prefix: str, node: str) -> None:
    """As if a node of a store had not extended its lease for too long: the next to show that it lives takes it."""
    await server.command("ZADD", f"{{{prefix}}}:leases", "XX", 0, node)


async def take_leases(server: ValkeyServer, prefix: str) -> None:
    """As if the leases of all nodes had been over, and taken."""
    for node in await server.command("ZRANGE", f"{{{prefix}}}:leases", 0, -1):
        await server.command("ZREM", f"{{{prefix}}}:leases", node)
        await server.command("SADD", f"{{{prefix}}}:gone", node)
