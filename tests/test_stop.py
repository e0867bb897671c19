"""Stopping: clients are closed with 1012 after their replies, not all at once, and the process exits soon."""

from __future__ import annotations

import asyncio
import json
import signal
import time

import pytest

from gateway.signals import REPEAT_WINDOW
from harness.client import Join, RefusedError, make_room, succeed
from harness.http import request
from harness.plain import JsonClient
from harness.process import StartGateway
from harness.raw import ENGINE, RawSocketIO
from harness.waiting import until

STOCK = ("socketio-websocket", "socketio-polling", "socketio-polling-only")


async def test_a_stop_closes_every_client_and_exits_soon(start_gateway: StartGateway, join: Join) -> None:
    """SIGTERM with clients of all kinds: each connection is closed, plain ones with 1012; the exit status is 0."""
    own = await start_gateway()
    plain = [await join("json", to=own), await join("bare", to=own)]
    stock = [await join(wire, to=own) for wire in STOCK]
    started = time.monotonic()
    assert await own.stop() == 0
    assert time.monotonic() - started < 5
    assert [await client.wait_closed() for client in plain] == [1012, 1012]
    for client in stock:
        assert not (await client.state())["connected"]


async def test_a_second_signal_exits_at_once(start_gateway: StartGateway, join: Join) -> None:
    """An operator who does not wait for an unresponsive client sends the signal again; nothing acked is lost."""
    own = await start_gateway(on_disk=True)
    silent, alice = await join("json", to=own), await join("json", to=own)
    silent.socket.transport.pause_reading()
    room = await make_room(alice)
    acked = [await succeed(alice, "send-msg", room=room, content="x") for _ in range(50)]
    process = await own.signal(signal.SIGTERM)
    await alice.wait_closed()  # the first stop is under way, and waits for the silent client
    await asyncio.sleep(2 * REPEAT_WINDOW)  # signals that are closer are one
    assert process.returncode is None
    started = time.monotonic()
    process.terminate()
    assert await own.wait() == -signal.SIGTERM
    assert time.monotonic() - started < 2
    await own.restart()
    back = await join("json", alice.username, to=own, query={"pid": alice.pid, "offset": alice.offset})
    history = await succeed(back, "history", room=room, limit=100)
    assert [message["id"] for message in history["messages"]] == [reply["id"] for reply in acked]


@pytest.mark.parametrize("wire", ["json", *STOCK])
async def test_actions_under_way_are_replied_to_before_the_end(
    start_gateway: StartGateway, join: Join, wire: str
) -> None:
    """A client in the middle of a burst has an ack for each message that is kept: it need not send one twice."""
    own = await start_gateway(on_disk=True)
    bob, client = await join("json", to=own), await join(wire, to=own)
    if wire == "socketio-polling":
        await client.wait_for_transport("websocket")
    room = await make_room(bob, client)
    acked: list[str] = []

    async def talk() -> None:
        for number in range(100_000):
            reply = await succeed(client, "send-msg", room=room, content=str(number))
            acked.append(reply["id"])

    talking = [asyncio.create_task(talk()) for _ in range(8)]
    await until(lambda: len(acked) >= 50)
    assert await own.stop() == 0
    await (client.wait_closed() if wire == "json" else client.next_notice("disconnect"))
    for task in talking:
        task.cancel()
    await asyncio.wait(talking)
    await own.restart()
    back = await join("json", bob.username, to=own, query={"pid": bob.pid, "offset": bob.offset})
    assert await read_ids(back, room) == set(acked)


async def read_ids(client: JsonClient, room: str) -> set[str]:
    """The ids in a room's history."""
    ids: set[str] = set()
    before: dict[str, str] = {}
    more = True
    while more:
        page = await succeed(client, "history", room=room, limit=100, **before)
        ids.update(message["id"] for message in page["messages"])
        more, before = page["more"], {"before": page["messages"][0]["offset"]}
    return ids


@pytest.mark.timeout(300)
async def test_a_thousand_clients_are_closed_one_after_the_other(start_gateway: StartGateway, join: Join) -> None:
    """They go one after the other, over some seconds, each with 1012; a thousand of them are gone within ten."""
    own = await start_gateway(on_disk=True)
    clients = [client for _ in range(20) for client in await asyncio.gather(*(join("json", to=own) for _ in range(50)))]
    ends: list[float] = []

    async def watch(client: JsonClient) -> int | None:
        code = await client.wait_closed()
        ends.append(time.monotonic())
        return code

    watching = [asyncio.create_task(watch(client)) for client in clients]
    started = time.monotonic()
    assert await own.stop() == 0
    assert time.monotonic() - started < 10
    assert {await task for task in watching} == {1012}
    ends.sort()
    middle = ends[len(ends) * 3 // 4] - ends[len(ends) // 4]
    assert middle > 0.5, "half of them went in one instant"


async def test_a_stopping_gateway_is_not_ready(start_gateway: StartGateway, join: Join) -> None:
    """From the signal on nobody new comes in: anyone who tries gets 503, on every wire, and can try elsewhere."""
    own = await start_gateway()
    health, polling = f"{own.url}/health", f"{own.url}{ENGINE}&transport=polling"
    ready = await request("GET", health)
    assert ready.status == 200
    silent = await join("json", to=own)
    silent.socket.transport.pause_reading()
    client = await join("json", to=own)
    opened = RawSocketIO(own.url)
    async with opened:
        await own.signal(signal.SIGTERM)
        await client.wait_closed()
        stopping = await request("GET", health)
        assert (stopping.status, json.loads(stopping.text)["status"]) == (503, "stopping")
        assert (await request("GET", polling)).status == 503
        with pytest.raises(RefusedError) as refused:
            await join("json", to=own)
        assert (refused.value.code, refused.value.status) == ("unavailable", 503)
        # A CONNECT_ERROR would make the stock client give up.
        await opened.send('40{"username":"late"}')
        assert await opened.wait_closed() == 1012
