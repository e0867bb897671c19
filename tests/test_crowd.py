"""Many clients in one room, and many that send at the same moment."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from typing import TYPE_CHECKING

import pytest

from harness.client import GROUP, succeed
from harness.inbox import TIMEOUT
from harness.names import WIRES
from harness.stock import SocketIOClient
from harness.syncs import HeldSyncs

if TYPE_CHECKING:
    from harness.client import ChatClient, Join
    from harness.plain import JsonClient
    from harness.process import GatewayProcess, StartGateway

CROWD = 1000
MESSAGES = 20
REASONABLE = 60.0
"""Seconds for a fan-out that takes about one on an idle machine: the tests may share two cores with others."""


async def come_together(join: Join, gateway: GatewayProcess, count: int) -> list[JsonClient]:
    """Clients of the JSON form, 50 at a time."""
    crowd: list[JsonClient] = []
    while len(crowd) < count:
        crowd += await asyncio.gather(*(join("json", to=gateway) for _ in range(min(50, count - len(crowd)))))
    return crowd


async def fill_room(host: ChatClient, names: list[str]) -> None:
    await succeed(host, "create-room", room="crowd")
    for start in range(0, len(names), 100):
        reply = await succeed(host, "add-user", room="crowd", users=names[start : start + 100])
        assert len(reply["added"]) == len(names[start : start + 100])


@pytest.mark.timeout(300)
async def test_a_thousand_clients_in_one_room_receive_every_message(start_gateway: StartGateway, join: Join) -> None:
    """Clients of all wires, a thousand in one room: everybody gets every message, in one order, soon."""
    own = await start_gateway()
    stock: list[ChatClient] = [await join("socketio-websocket", to=own) for _ in range(15)]
    stock += [await join("socketio-polling", to=own) for _ in range(5)]
    bare = [await join("bare", to=own) for _ in range(30)]
    plain = await come_together(join, own, CROWD - len(stock) - len(bare))
    host = stock[0]
    guests = [*(client.username for client in [*stock[1:], *plain]), *(client.username for client in bare)]
    assert len(guests) == CROWD - 1
    await fill_room(host, guests)

    senders: list[ChatClient] = [host, stock[-1], plain[0], plain[-1]]
    listeners: list[ChatClient] = [client for client in [*stock, *plain] if client not in senders]

    async def talk(sender: ChatClient) -> None:
        for number in range(MESSAGES // len(senders)):
            await succeed(sender, "send-msg", room="crowd", content=f"{sender.username} {number}")

    began = time.monotonic()
    await asyncio.gather(*(talk(sender) for sender in senders))
    received = [[await listener.next_event("message") for _ in range(MESSAGES)] for listener in listeners]
    contents = [[await client.next_frame() for _ in range(MESSAGES)] for client in bare]
    assert time.monotonic() - began < REASONABLE

    assert len({event.fields["content"] for event in received[0]}) == MESSAGES
    assert all(events == received[0] for events in received)
    assert all(frames == [event.fields["content"] for event in received[0]] for frames in contents)
    for listener in listeners:
        assert "message" not in [event.name for event in await listener.drain()]
    for client in bare:
        assert await client.drain() == []


@pytest.mark.timeout(300)
async def test_a_large_room_is_listed_in_pages(start_gateway: StartGateway, join: Join) -> None:
    """Replies and events hold the first 10 members and the count, and list-members pages through all."""
    own = await start_gateway()
    host = await join("socketio-websocket", "host", to=own)
    names = [f"m{number:03}" for number in range(250)]
    crowd = [await join("json", name, to=own) for name in names]
    await fill_room(host, names)
    joined = await crowd[-1].next_event("room-joined")
    first_page = [{"username": name, "online": True} for name in ["host", *names[:9]]]
    assert (joined.fields["members"], joined.fields["member_count"]) == (first_page, 251)
    assert (await succeed(host, "list-rooms"))["rooms"] == [
        {"room": "crowd", **GROUP, "members": first_page, "member_count": 251}
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
async def test_a_thousand_clients_recover_after_a_restart(start_gateway: StartGateway, join: Join) -> None:
    """Killed under 200 clients in a room, the gateway takes them all back at once, and nobody has missed anything."""
    own = await start_gateway(on_disk=True)
    crowd = await come_together(join, own, 200)
    host = crowd[0]
    await fill_room(host, [client.username for client in crowd[1:]])
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

    received = await asyncio.gather(*(come_back(client) for client in crowd[1:]))
    assert all(contents == [str(number) for number in range(10)] for contents in received)


@pytest.mark.skipif(sys.platform != "linux", reason="holds system calls back as Linux can")
async def test_messages_of_one_batch_have_one_order_for_everybody(start_gateway: StartGateway, join: Join) -> None:
    """A client that sends at the same moment as others receives each message of theirs once; on every wire all see
    the same order.
    """
    syncs = HeldSyncs()
    with contextlib.closing(syncs):
        own = await start_gateway(on_disk=True, syncs=syncs)
        host, bare = await join("json", to=own), await join("bare", to=own)
        senders = [await join(wire, to=own) for wire in (*WIRES, *WIRES, "socketio-polling-only")]
        await succeed(host, "create-room", room="r", users=[bare.username, *(one.username for one in senders)])
        syncs.hold()
        saying = [asyncio.create_task(succeed(host, "send-msg", room="r", content="first"))]
        async with asyncio.timeout(TIMEOUT):
            await syncs.came.wait()
        saying += [
            asyncio.create_task(succeed(sender, "send-msg", room="r", content=f"{number} {sender.username}"))
            for number in range(3)
            for sender in senders
        ]
        for sender in senders:
            if isinstance(sender, SocketIOClient):
                await sender.state()  # Node has sent everything
        await own.has_read_everything()
        syncs.release()
        await asyncio.gather(*saying)
        received = [(await host.next_event("message")).fields["content"] for _ in saying[1:]]
        assert len(set(received)) == len(received)
        for sender in senders:
            others = ["first", *(content for content in received if not content.endswith(f" {sender.username}"))]
            assert [(await sender.next_event("message")).fields["content"] for _ in others] == others
        assert [await bare.next_frame() for _ in saying] == ["first", *received]
        for client in (host, *senders):
            assert "message" not in [event.name for event in await client.drain()]
