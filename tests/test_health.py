"""Whether the gateway is healthy, as monitoring sees it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from typing import Any

import pytest

from gateway.engines.base import Durability
from harness.client import Join, make_room, succeed
from harness.http import request
from harness.process import GatewayProcess, StartGateway
from harness.syncs import HeldSyncs
from harness.waiting import poll_until

LIVE = (200, {"status": "ok"})
IN_MEMORY = (200, {"status": "ok", "durability": Durability.MEMORY.value})
ON_DISK = (200, {"status": "ok", "durability": Durability.DISK.value})


async def ask(own: GatewayProcess, path: str = "/health") -> tuple[int, dict[str, Any]]:
    response = await request("GET", own.url + path)
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["content-type"].startswith("application/json")
    return response.status, json.loads(response.text)


async def wait_for(own: GatewayProcess, status: int) -> dict[str, Any]:
    """Ask until the response has that status; returns its body."""
    body: dict[str, Any] = {}

    async def is_it() -> bool:
        nonlocal body
        actual, body = await ask(own)
        return actual == status

    await poll_until(is_it)
    return body


@pytest.mark.parametrize(
    ("path", "response"), [("/health", IN_MEMORY), ("/health/live", LIVE), ("/health/ready", IN_MEMORY)]
)
async def test_a_healthy_gateway_is_live_and_ready(
    gateway: GatewayProcess, path: str, response: tuple[int, dict[str, Any]]
) -> None:
    """200, and when it is ready what an ack means; HEAD, which some balancers send, works too."""
    assert await ask(gateway, path) == response
    assert (await request("HEAD", gateway.url + path)).status == 200


async def test_a_full_disk_is_not_ready(start_gateway: StartGateway, join: Join) -> None:
    """503 with the reason, from the first commit that fails to the first that works again; it is live all the time."""
    own = await start_gateway(on_disk=True)
    alice = await join("json", to=own)
    room = await make_room(alice)
    own.limit_file_size(4096)
    reply = await alice.call("send-msg", room=room, content="x")
    assert reply["error"]["code"] == "unavailable"
    body = await wait_for(own, 503)
    assert body["status"] == "unavailable"
    assert "commit failed" in body["reason"]
    assert await ask(own, "/health/ready") == (503, body)
    assert await ask(own, "/health/live") == LIVE
    own.limit_file_size(-1)
    await succeed(alice, "send-msg", room=room, content="y")
    assert await ask(own) == ON_DISK


async def test_a_disk_that_hangs_is_not_ready(start_gateway: StartGateway, join: Join) -> None:
    """Although no commit has failed: the one under way takes too long. When it is done, all is well."""
    with contextlib.closing(HeldSyncs()) as syncs:
        own = await start_gateway(on_disk=True, syncs=syncs)
        alice = await join("json", to=own)
        room = await make_room(alice)
        syncs.hold()
        sending = asyncio.create_task(succeed(alice, "send-msg", room=room, content="x"))
        body = await wait_for(own, 503)
        assert body["status"] == "unavailable"
        assert body["reason"]
        assert await ask(own, "/health/live") == LIVE
        syncs.release()
        assert (await sending)["ok"]
        await wait_for(own, 200)


async def test_an_idle_gateway_notices_that_its_disk_hangs(start_gateway: StartGateway) -> None:
    """It tries by itself, although nobody writes."""
    with contextlib.closing(HeldSyncs()) as syncs:
        own = await start_gateway(on_disk=True, syncs=syncs)
        assert await ask(own) == ON_DISK
        syncs.hold()
        assert (await wait_for(own, 503))["reason"]
        syncs.release()
        await wait_for(own, 200)


async def test_a_stopping_gateway_is_live_but_not_ready(start_gateway: StartGateway, join: Join) -> None:
    own = await start_gateway()
    silent = await join("json", to=own)
    silent.socket.transport.pause_reading()
    client = await join("json", to=own)
    await own.signal(signal.SIGTERM)
    await client.wait_closed()
    assert await ask(own) == (503, {"status": "stopping", "reason": "the gateway is stopping"})
    assert await ask(own, "/health/live") == LIVE
    assert await own.wait() == 0
