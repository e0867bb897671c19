"""Three gateways on one Valkey server, behind a balancer without sticky sessions; stock clients with their defaults.

The balancer is one of our own or, where the machine has it, nginx as docs/deployment.md configures it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from harness.balancer import balancing, round_robin
from harness.client import make_room, succeed
from harness.names import fresh_name
from harness.node import Driver
from harness.plain import JsonClient
from harness.process import GatewayProcess, StartGateway
from harness.reverse import NGINX, nginx_balancing
from harness.stock import TRANSPORTS, SocketIOClient
from harness.valkey import ValkeyServer
from harness.waiting import until


@pytest.fixture
async def nodes(start_gateway: StartGateway, valkey: ValkeyServer) -> list[GatewayProcess]:
    store = valkey.store(fresh_name("store"))
    return [await start_gateway(store=store) for _ in range(3)]


@pytest.fixture
async def addresses(nodes: list[GatewayProcess]) -> list[str]:
    """Where the balancer sends requests, in turns."""
    return [node.url.removeprefix("http://") for node in nodes]


@pytest.fixture(params=["round robin", *NGINX])
async def balancer(request: pytest.FixtureRequest, addresses: list[str], tmp_path: Path) -> AsyncIterator[str]:
    if request.param == "nginx":
        async with nginx_balancing(addresses, tmp_path) as url:
            yield url
        return
    async with balancing(round_robin(addresses)) as url:
        yield url


@pytest.mark.parametrize("transports", ["socketio-polling", "socketio-polling-only", "socketio-websocket"])
async def test_stock_clients_need_no_sticky_sessions(balancer: str, driver: Driver, transports: str) -> None:
    """Their requests come to any node, and are passed on; the members of a room are on all of them."""
    options = {"transports": TRANSPORTS[transports]}
    clients = [SocketIOClient(driver, balancer, fresh_name(), **options) for _ in range(6)]
    try:
        await asyncio.gather(*(client.__aenter__() for client in clients))
        first, *others = clients
        room = await make_room(first, *others)
        for client in clients:
            await succeed(client, "send-msg", room=room, content=client.username)
        for client in clients:
            expected = {other.username for other in clients} - {client.username}
            await until(lambda client=client, expected=expected: _contents(client) == expected)
    finally:
        await asyncio.gather(*(client.__aexit__() for client in clients))


async def test_clients_of_a_killed_node_recover_on_others(
    balancer: str, addresses: list[str], nodes: list[GatewayProcess], driver: Driver
) -> None:
    """With the stock client's own reconnection, from long-polling on."""
    options = {"reconnection": True, "reconnectionDelay": 50, "reconnectionDelayMax": 200}
    clients = [SocketIOClient(driver, balancer, fresh_name(), **options) for _ in range(6)]
    try:
        await asyncio.gather(*(client.__aenter__() for client in clients))
        async with JsonClient(nodes[2].url, fresh_name()) as talker:
            room = await make_room(talker, *clients)
            for number in range(5):
                await succeed(talker, "send-msg", room=room, content=str(number))
            addresses.pop(0)
            await nodes[0].kill9()
            for number in range(5, 10):
                await succeed(talker, "send-msg", room=room, content=str(number))
            for client in clients:
                await until(lambda client=client: len(_contents(client)) == 10)
                assert [event.fields["content"] for event in client.events.log if event.name == "message"] == [
                    str(number) for number in range(10)
                ]
    finally:
        await asyncio.gather(*(client.__aexit__() for client in clients))


def _contents(client: SocketIOClient) -> set[str]:
    return {event.fields["content"] for event in client.events.log if event.name == "message"}
