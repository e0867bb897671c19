"""What waits for a client is bounded by what it has not read, and by nothing else."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import aiohttp
import pytest
import socketio
from websockets.asyncio.client import connect

from gateway.servers import SocketServer
from gateway.servers.backlog import STALL_TIMEOUT, Backlog
from harness.client import Join, make_room, succeed
from harness.http import request
from harness.process import StartGateway
from harness.waiting import until
from servers.serving import echo_server, serving

QUIET: dict[str, Any] = {"ping_interval": 60, "ping_timeout": 60, "max_http_buffer_size": 20_000_000}
POLLING = "?EIO=4&transport=polling"
WEBSOCKET = "?EIO=4&transport=websocket"
LARGE = {"polling": 1_100_000, "websocket": 8_000_000}
"""Bytes of a message that is larger than ``max_buffer``, which is 1 MiB."""


class Client:
    """An Engine.IO client that reads as fast as it can."""

    def __init__(self, url: str, transport: str) -> None:
        self.messages: list[str] = []
        self._url = url
        self._transport = transport

    async def __aenter__(self) -> Client:
        if self._transport == "websocket":
            self._socket = await connect(self._url.replace("http", "ws") + WEBSOCKET, ping_interval=None, max_size=None)
            opened = str(await self._socket.recv())
        else:
            self._session = aiohttp.ClientSession()
            async with self._session.get(self._url + POLLING) as response:
                opened = await response.text()
        self.sid = json.loads(opened[1:])["sid"]
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reading.cancel()
        if self._transport == "websocket":
            await self._socket.close()
        else:
            await self._session.close()

    async def _read(self) -> None:
        while True:
            if self._transport == "websocket":
                packets = [str(await self._socket.recv())]
            else:
                async with self._session.get(f"{self._url}{POLLING}&sid={self.sid}") as response:
                    packets = (await response.text()).split("\x1e")
                    response.raise_for_status()
            self.messages += [packet[1:] for packet in packets if packet[:1] == "4"]

    async def send(self, data: str) -> None:
        if self._transport == "websocket":
            await self._socket.send("4" + data)
        else:
            await request("POST", f"{self._url}{POLLING}&sid={self.sid}", data="4" + data)

    async def received(self, sizes: list[int]) -> None:
        await until(lambda: len(self.messages) >= len(sizes) or self._reading.done(), 20)
        assert [len(message) for message in self.messages] == sizes


@pytest.mark.parametrize("transport", LARGE)
async def test_a_message_larger_than_the_buffer_is_delivered(transport: str) -> None:
    """It arrives, as an event and as a reply; and so does what is written right after it."""
    server = echo_server(**QUIET)
    size = LARGE[transport]
    async with serving(server, "engine.io") as url, Client(url, transport) as client:
        await server.send(client.sid, "x" * size)
        await server.send(client.sid, "y" * 500_000)
        await client.received([size, 500_000])
        await client.send("z" * size)
        await client.received([size, 500_000, size])
        assert server.reasons == []


@pytest.mark.parametrize("transport", LARGE)
@pytest.mark.parametrize("pause", [None, 0.0, 0.005], ids=["in-one-go", "a-turn-between", "5-ms-between"])
async def test_a_client_that_reads_as_fast_as_it_can_is_not_disconnected(transport: str, pause: float | None) -> None:
    """Ten messages, each larger than the buffer, faster than anybody could read them."""
    server = echo_server(**QUIET)
    async with serving(server, "engine.io") as url, Client(url, transport) as client:
        for _ in range(10):
            await server.send(client.sid, "x" * 1_100_000)
            if pause is not None:
                await asyncio.sleep(pause)  # between two messages
        await client.received([1_100_000] * 10)
        assert server.reasons == []


async def test_large_acks_and_events_of_an_application_are_delivered() -> None:
    """Of a python-socketio application on `SocketServer`, to its stock client."""
    sio = SocketServer(socketio.AsyncManager(), **QUIET)

    @sio.on("ask")
    async def ask(sid: str, size: int) -> str:
        await sio.emit("event", "e" * size, to=sid)
        return "a" * size

    received: list[int] = []
    async with serving(sio, "socket.io") as url:
        for transport, size in LARGE.items():
            client = socketio.AsyncClient(reconnection=False, websocket_extra_options={"max_msg_size": 0})
            client.on("event", lambda text: received.append(len(text)))
            await client.connect(url.removesuffix("/socket.io/"), transports=[transport])
            for _ in range(3):
                assert len(await client.call("ask", size, timeout=20)) == size
            assert received == [size] * 3
            received.clear()
            await client.disconnect()


@pytest.mark.parametrize("wire", ["socketio-websocket", "socketio-polling-only", "json", "bare"])
async def test_messages_larger_than_the_buffer_reach_members_who_read(
    start_gateway: StartGateway, join: Join, wire: str
) -> None:
    """A member who reads receives all of them, and each in a page of history."""
    own = await start_gateway(max_buffer=16_384, max_content_length=100_000, max_frame_size=1_300_000)
    alice, reader = await join(to=own), await join(wire, to=own)
    room = await make_room(alice) if wire == "bare" else await make_room(alice, reader)
    if wire == "bare":
        await succeed(alice, "add-user", room=room, users=[reader.username])
    replies = await alice.burst([("send-msg", {"room": room, "content": "x" * 100_000})] * 10)
    assert all(reply["ok"] for reply in replies)
    for _ in range(10):
        if wire == "bare":
            assert len(await reader.next_frame()) == 100_000
        else:
            assert len((await reader.next_event("message")).fields["content"]) == 100_000
    if wire != "bare":
        page = await succeed(reader, "history", room=room)
        assert (len(page["messages"]), page["more"]) == (1, True)  # however small the buffer is, a page has a message
    assert "cut a slow client" not in own.log


@pytest.mark.parametrize("transport", LARGE)
async def test_a_slow_client_is_logged_once_with_the_reason(transport: str, caplog: pytest.LogCaptureFixture) -> None:
    """By the server, on every transport, with the session and the unread bytes."""
    server = echo_server(**QUIET)
    async with serving(server, "engine.io") as url, Client(url, transport) as client:
        client._reading.cancel()
        if transport == "websocket":
            client._socket.transport.pause_reading()
        with caplog.at_level(logging.INFO, "gateway.servers"):
            for _ in range(400):
                await server.send(client.sid, "x" * 100_000)
                await asyncio.sleep(0.001)  # the transport writes
                if server.reasons:
                    break
        assert server.reasons == ["transport error"]
        (line,) = (record for record in caplog.records if record.message == "cut a slow client")
        fields = vars(line)
        assert (fields["sid"], fields["reason"]) == (client.sid, "it does not read")
        assert fields["unsent"] > 1_048_576
        if transport == "websocket":
            client._socket.transport.abort()


# --- the rule


CHANCE = 0.005
"""Seconds from a write over the limit to the verdict."""


class Reader:
    """A client whose unsent bytes the test decides on."""

    def __init__(self, max_buffer: int) -> None:
        self.waiting = 0
        self.unsent_when_cut: int | None = None
        self.verdicts = 0
        self.backlog = Backlog(self, max_buffer, self)
        self._max_buffer = max_buffer

    def unsent(self) -> int:
        return self.waiting

    grace = CHANCE

    def describe(self) -> dict[str, object]:
        return {}

    def too_slow(self) -> None:
        raise AssertionError("this is for the judge")

    def cut(self, client: object, unsent: int) -> None:
        """As the judge of its backlog."""
        assert client is self
        self.unsent_when_cut = unsent
        self.verdicts += 1
        self.waiting += 500  # the reason why
        self.backlog.wrote(500, self.waiting)

    def write(self, size: int) -> None:
        self.waiting += size
        if self.waiting > self._max_buffer:
            self.backlog.wrote(size, self.waiting)


async def test_one_frame_on_its_way_is_always_allowed() -> None:
    """And as much as ever beside it; more is too much."""
    reader = Reader(1000)
    reader.write(1000)
    reader.write(1_000_000)
    await asyncio.sleep(4 * CHANCE)  # when it would have been disconnected
    reader.write(400)
    await asyncio.sleep(4 * CHANCE)  # when it would have been disconnected
    assert reader.unsent_when_cut is None
    reader.write(200)
    await until(lambda: reader.unsent_when_cut is not None)
    assert reader.unsent_when_cut == 1_001_600
    await asyncio.sleep(STALL_TIMEOUT + 0.1)  # when it would have been disconnected again
    assert reader.verdicts == 1, "the reason why is written to it, and is no reason to cut it again"


async def test_a_little_more_is_allowed_for_a_while() -> None:
    """A client that reads nothing meanwhile is disconnected, and one that reads something is not."""
    stalled, slow = Reader(1000), Reader(1000)
    for reader in (stalled, slow):
        reader.write(900)
        reader.write(200)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        reader.write(500)
        await asyncio.sleep(4 * CHANCE)  # when it would have been disconnected, had it more
        assert reader.unsent_when_cut is None
    slow.waiting -= 50
    await until(lambda: stalled.unsent_when_cut is not None)
    assert stalled.unsent_when_cut == 1600
    assert slow.unsent_when_cut is None
    await asyncio.sleep(STALL_TIMEOUT + 0.1)  # when it would have been disconnected as well
    assert slow.unsent_when_cut is None, "what is not more than it was allowed is no reason"
    for reader in (stalled, slow):
        reader.backlog.close()


async def test_reading_in_a_trickle_does_not_count_as_progress() -> None:
    """A client that reads a hundredth of what is written is disconnected too, and holds little until then."""
    reader = Reader(10_000)
    for _ in range(1000):
        reader.write(1000)
        reader.waiting -= min(reader.waiting, 10)
        await asyncio.sleep(0.001)  # it reads slowly
        if reader.unsent_when_cut is not None:
            break
    assert reader.unsent_when_cut is not None
    assert reader.unsent_when_cut < 50_000
