"""The leases of nodes on a Valkey server: they end without a wait."""

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


async def age(server: ValkeyServer, prefix: str, seconds: int) -> None:
    """As if no node had reached the server for that time."""
    for node in await server.command("ZRANGE", f"{{{prefix}}}:leases", 0, -1):
        await server.command("ZINCRBY", f"{{{prefix}}}:leases", -1000 * seconds, node)
    await server.command("HINCRBY", f"{{{prefix}}}:meta", "beat", -1000 * seconds)
