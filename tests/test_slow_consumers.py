"""A client that does not read costs the gateway little, and the others nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import ConnectionClosed

from harness.client import Join, succeed
from harness.http import request
from harness.names import WIRES
from harness.plain import JsonClient
from harness.process import GatewayProcess, StartGateway
from harness.raw import ENGINE, RawSocketIO
from harness.waiting import until

LENGTH = 100_000
MESSAGES = 1_000
"""Together 100 MB."""
GROWTH = 8_000_000
DELAY = 2.0
"""Seconds from a message to a member who reads, on a machine that may have much else to do."""


def narrow_socket(url: str) -> socket.socket:
    """A connection whose kernel takes little that its client does not read."""
    address = urlsplit(url)
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    narrow.connect((address.hostname, address.port))
    narrow.setblocking(False)
    return narrow


@asynccontextmanager
async def json_form(gateway: GatewayProcess) -> AsyncIterator[None]:
    async with JsonClient(gateway.url, "slow", sock=narrow_socket(gateway.url)) as slow:
        slow.socket.transport.pause_reading()
        yield


@asynccontextmanager
async def websocket(gateway: GatewayProcess) -> AsyncIterator[None]:
    async with RawSocketIO(gateway.url, sock=narrow_socket(gateway.url)) as slow:
        assert (await slow.connect({"username": "slow"})).startswith("40")
        slow.socket.transport.pause_reading()
        yield


@asynccontextmanager
async def polling(gateway: GatewayProcess) -> AsyncIterator[None]:
    """It polls, and does not read the response."""
    opened = await request("GET", f"{gateway.url}{ENGINE}&transport=polling")
    path = f"{ENGINE}&transport=polling&sid={json.loads(opened.text[1:])['sid']}"
    await request("POST", gateway.url + path, data='40{"username":"slow"}')
    assert (await request("GET", gateway.url + path)).text.startswith("40")
    reader, writer = await asyncio.open_connection(sock=narrow_socket(gateway.url), limit=1024)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: gateway\r\n\r\n".encode())
    yield
    writer.transport.abort()
    await asyncio.wait([asyncio.ensure_future(reader.read())])


def memory(gateway: GatewayProcess) -> int:
    """Bytes of the gateway in memory."""
    status = Path(f"/proc/{gateway.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


@pytest.mark.parametrize("stop_reading", [json_form, websocket, polling])
async def test_a_client_that_stops_reading_is_disconnected_and_delays_nobody(
    start_gateway: StartGateway, join: Join, stop_reading: object
) -> None:
    """100 MB are sent to a room in which one member does not read: the gateway grows by less than 8 MB, and another
    member receives each message at once.
    """
    own = await start_gateway(max_content_length=LENGTH, max_frame_size=12 * LENGTH + 5000, history_size=10)
    alice, bob = await join(to=own), await join("json", to=own)
    assert callable(stop_reading)
    async with stop_reading(own):
        await succeed(alice, "create-room", room="r", users=[bob.username])
        content = "x" * LENGTH

        async def send(count: int) -> None:
            nonlocal slowest
            for _ in range(count):
                began = time.monotonic()
                sending = asyncio.create_task(succeed(alice, "send-msg", room="r", content=content))
                await bob.next_event("message")
                slowest = max(slowest, time.monotonic() - began)
                await sending
                bob.events.log.clear()
                bob.frames.take_all()
                bob.frames.log.clear()

        slowest = 0.0
        await send(MESSAGES // 10)  # what the gateway needs for those who read
        before = highest = memory(own)
        await succeed(alice, "add-user", room="r", users=["slow"])
        for _ in range(10):
            await send(MESSAGES // 10)
            highest = max(highest, memory(own))
    assert highest - before < GROWTH
    assert slowest < DELAY


async def read_nothing_until_disconnected(gateway: GatewayProcess) -> None:
    """Log in as "slow", ask on and on and read no reply, until the log says that it was disconnected."""
    async with RawSocketIO(gateway.url, sock=narrow_socket(gateway.url)) as slow:
        assert (await slow.connect({"username": "slow"})).startswith("40")
        slow.socket.transport.pause_reading()
        question = f'421["no-action-{"x" * 500}",{{}}]'  # the reply repeats it

        async def ask() -> None:
            with contextlib.suppress(ConnectionClosed):
                while True:
                    await slow.socket.send(question)

        asking = asyncio.create_task(ask())
        await until(lambda: "cut a slow client" in gateway.log)
        slow.socket.transport.resume_reading()
        await asking


@pytest.mark.parametrize("wire", ["socketio-polling-only", *WIRES])
async def test_a_reply_larger_than_the_buffer_disconnects_nobody(
    start_gateway: StartGateway, join: Join, wire: str
) -> None:
    """A client is not slow because of what it asked for: it stays connected. The one that is disconnected and logged is
    another client of the same gateway, which reads nothing.
    """
    own = await start_gateway(max_buffer=16_384, max_room_name_length=LENGTH, max_frame_size=14 * LENGTH)
    client = await join(wire, to=own)
    rooms = [f"{number:02}".ljust(LENGTH, "r") for number in range(50)]  # more than the system takes at once
    for room in rooms:
        await succeed(client, "create-room", room=room)
    for _ in range(3):
        listed = await succeed(client, "list-rooms")
        assert [entry["room"] for entry in listed["rooms"]] == rooms
    await read_nothing_until_disconnected(own)
    assert len((await succeed(client, "list-rooms"))["rooms"]) == len(rooms)
    assert re.findall(r"cut a slow client .*username=(\S+)", own.log) == ["slow"]


async def test_a_page_of_large_messages_ends_early(start_gateway: StartGateway, join: Join, wire: str) -> None:
    """And says that there is more, so that all of the history can be read."""
    own = await start_gateway(max_buffer=16_384)
    client = await join(wire, to=own)
    await succeed(client, "create-room", room="r")
    for number in range(20):
        await succeed(client, "send-msg", room="r", content=f"{number} {'x' * 1_000}")
    messages: list[Any] = []
    more = True
    while more:
        before = messages[0]["offset"] if messages else None
        page = await succeed(client, "history", room="r", limit=20, before=before)
        assert 0 < len(page["messages"]) < 20
        messages, more = [*page["messages"], *messages], page["more"]
    assert [message["content"].split()[0] for message in messages] == [str(number) for number in range(20)]


async def test_replies_that_are_not_read_disconnect_the_client(start_gateway: StartGateway) -> None:
    """Sending actions without reading the replies is no way around the limit."""
    own = await start_gateway(max_buffer=16_384)
    await read_nothing_until_disconnected(own)
    assert "reason='it does not read'" in own.log


@pytest.mark.parametrize("wire", ["json", "socketio-websocket"])
async def test_typing_is_dropped_for_slow_clients(start_gateway: StartGateway, join: Join, wire: str) -> None:
    """It would be stale when it is read. A client that reads gets all of it."""
    own = await start_gateway(
        max_buffer=30_000_000, max_content_length=LENGTH, max_frame_size=12 * LENGTH + 5000, history_size=100
    )
    alice, reader = await join(to=own), await join(wire, to=own)
    async with json_or_socketio(own, wire) as (slow, frames):
        await succeed(alice, "create-room", room="r", users=[reader.username, "slow"])
        for _ in range(100):
            await succeed(alice, "send-msg", room="r", content="x" * LENGTH)
        await until(lambda: sum(event.name == "message" for event in reader.events.log) == 100)
        for _ in range(50):
            await succeed(alice, "typing", room="r")
        await reader.drain()
        slow.resume_reading()
        await until(lambda: sum("x" * 100 in str(frame) for frame in frames()) == 100)
        await succeed(alice, "send-msg", room="r", content="the last")
        await until(lambda: "the last" in str(frames()[-1]))
        assert not [frame for frame in frames() if '"typing"' in str(frame)]
        for _ in range(3):
            await succeed(alice, "typing", room="r")
        await until(lambda: sum('"typing"' in str(frame) for frame in frames()) == 3)
    await until(lambda: sum(event.name == "typing" for event in reader.events.log) == 53)


@asynccontextmanager
async def json_or_socketio(gateway: GatewayProcess, wire: str) -> AsyncIterator[tuple[Any, Callable[[], list[Any]]]]:
    """A client that has stopped reading: its transport, and what it has read."""
    client: JsonClient | RawSocketIO
    if wire == "json":
        client = JsonClient(gateway.url, "slow", sock=narrow_socket(gateway.url))
    else:
        client = RawSocketIO(gateway.url, sock=narrow_socket(gateway.url))
    async with client:
        if isinstance(client, RawSocketIO):
            assert (await client.connect({"username": "slow"})).startswith("40")
        client.socket.transport.pause_reading()
        yield client.socket.transport, lambda: client.frames.log
