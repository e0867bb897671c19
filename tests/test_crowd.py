"""One thousand clients in one room."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from harness.client import succeed
from harness.inbox import PATIENCE

if TYPE_CHECKING:
    from harness.client import ChatClient, Join
    from harness.plain import BareClient, JsonClient
    from harness.process import StartGateway

CROWD = 1000
MESSAGES = 20
REASONABLE = 30.0
"""Seconds for a fan-out that takes less than one on an idle machine: the tests may share two cores with others."""


@pytest.mark.timeout(300)
async def test_a_thousand_clients_in_one_room(start_gateway: StartGateway, join: Join) -> None:
    """Clients of all wires, a thousand in one room: everybody gets every message, in one order, soon."""
    own = await start_gateway()
    stock: list[ChatClient] = [await join("socketio-websocket", to=own) for _ in range(15)]
    stock += [await join("socketio-polling", to=own) for _ in range(5)]
    bare: list[BareClient] = [await join("bare", to=own) for _ in range(30)]
    plain: list[JsonClient] = []
    while len(plain) < CROWD - len(stock) - len(bare):
        plain += await asyncio.gather(*(join("json", to=own) for _ in range(50)))
    everybody = [*stock, *bare, *plain]
    assert len(everybody) == CROWD

    host = stock[0]
    names = [client.username for client in everybody if client is not host]
    await succeed(host, "create-room", room="crowd")
    for start in range(0, len(names), 100):
        reply = await succeed(host, "add-user", room="crowd", users=names[start : start + 100])
        assert len(reply["added"]) == len(names[start : start + 100])

    senders: list[ChatClient] = [host, stock[-1], plain[0], plain[-1]]
    began = time.monotonic()

    async def talk(sender: ChatClient) -> None:
        for number in range(MESSAGES // len(senders)):
            await succeed(sender, "send-msg", room="crowd", content=f"{sender.username} {number}")

    await asyncio.gather(*(talk(sender) for sender in senders))
    listeners = [client for client in [*stock, *plain] if client not in senders]
    for listener in listeners:
        for _ in range(MESSAGES):
            await listener.next_event("message")
    for client in bare:
        for _ in range(MESSAGES):
            await client.next_frame()
    took = time.monotonic() - began

    order = [(event.offset, event.fields) for event in listeners[0].events.log if event.name == "message"]
    assert len(order) == MESSAGES
    for listener in listeners:
        heard = [(event.offset, event.fields) for event in listener.events.log if event.name == "message"]
        assert heard == order
    for client in bare:
        assert client.frames.log == [fields["content"] for _, fields in order]
    assert took < REASONABLE < PATIENCE + 1


@pytest.mark.timeout(300)
async def test_a_crowd_is_listed_in_pages(start_gateway: StartGateway, join: Join) -> None:
    """Above 100 members replies and events hold the first 100 and the count, and list-members pages through all."""
    own = await start_gateway()
    host = await join("socketio-websocket", "host", to=own)
    crowd: list[JsonClient] = []
    while len(crowd) < 250:
        crowd += await asyncio.gather(*(join("json", f"m{len(crowd) + n:03}", to=own) for n in range(50)))
    names = [f"m{number:03}" for number in range(250)]
    await succeed(host, "create-room", room="crowd", users=names[:100])
    await succeed(host, "add-user", room="crowd", users=names[100:200])
    await succeed(host, "add-user", room="crowd", users=names[200:])
    joined = await crowd[-1].next_event("room-joined")
    first_page = [{"username": name, "online": True} for name in ["host", *names[:99]]]
    assert (joined.fields["members"], joined.fields["member_count"]) == (first_page, 251)
    assert (await succeed(host, "list-rooms"))["rooms"] == [
        {"room": "crowd", "members": first_page, "member_count": 251}
    ]

    pages: list[list[str]] = []
    after: dict[str, str] = {}
    more = True
    while more:
        reply = await succeed(host, "list-members", room="crowd", **after)
        assert reply["member_count"] == 251
        pages.append([member["username"] for member in reply["members"]])
        after, more = {"after": pages[-1][-1]}, reply["more"]
    assert [len(page) for page in pages] == [100, 100, 51]
    assert [name for page in pages for name in page] == ["host", *names]


@pytest.mark.timeout(300)
async def test_a_crowd_comes_back(start_gateway: StartGateway, join: Join) -> None:
    """Killed under 200 clients in a room, the gateway takes them all back at once, and nobody has missed anything."""
    own = await start_gateway(on_disk=True)
    crowd: list[JsonClient] = []
    while len(crowd) < 200:
        crowd += await asyncio.gather(*(join("json", to=own) for _ in range(50)))
    host = crowd[0]
    names = [client.username for client in crowd[1:]]
    await succeed(host, "create-room", room="crowd", users=names[:100])
    await succeed(host, "add-user", room="crowd", users=names[100:])
    for number in range(10):
        await succeed(host, "send-msg", room="crowd", content=str(number))
    await own.kill9()
    for client in crowd:
        await client.wait_closed()
    await own.restart()

    async def come_back(client: JsonClient) -> list[str]:
        query = {"pid": client.pid, "offset": client.offset}
        back = await join("json", client.username, to=own, query=query)
        assert back.welcome.fields["recovered"] is True
        missed = await back.drain()
        return [event.fields["content"] for event in [*client.events.log, *missed] if event.name == "message"]

    heard = await asyncio.gather(*(come_back(client) for client in crowd[1:]))
    assert all(contents == [str(number) for number in range(10)] for contents in heard)
