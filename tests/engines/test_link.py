"""A connection to the server."""

from __future__ import annotations

import hashlib

import pytest

from gateway.engines.valkey.address import Address
from gateway.engines.valkey.link import Link, LinkLostError
from gateway.engines.valkey.scripts import Script
from harness.valkey import ValkeyServer

SOURCE = "return redis.call('RPUSH', KEYS[1], ARGV[1])"


async def test_a_script_that_the_server_has_forgotten_is_not_run_out_of_order(server: ValkeyServer) -> None:
    """Another node may have sent it in the meantime, so that a later call is run: the first is not tried again."""
    link = Link(await Address.parse(server.url).connect())
    await link.open()
    script = Script("push", SOURCE, hashlib.sha1(SOURCE.encode(), usedforsecurity=False).hexdigest())
    first = link.run(script, 1, "{list}", "first")
    with pytest.raises(LinkLostError):
        await first
    assert link.is_lost
    await link.close()
    assert await server.command("EXISTS", "{list}") == 0
    assert await server.command("SCRIPT", "EXISTS", script.sha) == [0]
