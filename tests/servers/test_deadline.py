"""Clients are not judged by the time in which the gateway's process, or its machine, stood still."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial

import pytest
import uvloop
from websockets.asyncio.client import ClientConnection, connect

from gateway.servers.deadline import LATE, Deadline
from gateway.servers.heartbeats import Heartbeats
from harness import http1
from harness.http import WEBSOCKET_HEADERS
from harness.inbox import TIMEOUT
from harness.names import fresh_name
from harness.plain import dump, websocket_url
from harness.process import StartGateway
from harness.raw import ENGINE, open_polling
from harness.waiting import until

PAUSE = 12
"""Seconds, longer than every limit below."""

Client = AsyncIterator[None]
"""Yields when it has a deadline at the gateway, which then is stopped, and when it has sent what it must in time."""


async def ping_on_socketio(url: str) -> Client:
    async with connect(f"{websocket_url(url)}{ENGINE}&transport=websocket", ping_interval=None) as socket:
        await socket.send(f"40{dump({'username': fresh_name()})}")
        await _take(socket, "2")
        yield
        await socket.send("3")
        yield
        await _take(socket, "2")


async def ping_on_plain(url: str) -> Client:
    """By hand: a library replies to pings at once."""
    async with http1.connection(url) as client:
        client.send(http1.head(f"/username/{fresh_name()}?format=json", WEBSOCKET_HEADERS.items()))
        await client.reader.readuntil(b"\x89\0")
        yield
        client.send(b"\x8a\x80\0\0\0\0")
        yield
        await client.reader.readuntil(b"\x89\0")


async def _take(socket: ClientConnection, start: str) -> str:
    """The next frame that begins so."""
    while not (frame := str(await socket.recv())).startswith(start):
        pass
    return frame


async def unjoined(url: str) -> Client:
    async with connect(f"{websocket_url(url)}{ENGINE}&transport=websocket") as socket:
        assert str(await socket.recv()).startswith("0")
        yield
        await socket.send(f"40{dump({'username': fresh_name()})}")
        yield
        await _take(socket, "40")


async def silent(url: str, *, before: int) -> Client:
    """A connection whose first request has come as far as its ``before`` bytes."""
    request = http1.head("/health")
    async with http1.connection(url) as client:
        client.send(request[:before])
        await asyncio.sleep(0.2)  # until it is accepted and read: there is nothing that says so
        yield
        client.send(request[before:])
        yield
        assert (await client.response()).status == 200


async def resuming(url: str) -> Client:
    """The first frame names the session."""
    async with connect(f"{websocket_url(url)}/username/{fresh_name()}?format=json&resume") as socket:
        await asyncio.sleep(0.2)  # as above
        yield
        await socket.send('{"action":"resume","pid":"none"}')
        yield
        assert json.loads(await socket.recv())["event"] == "welcome"


async def upgrading(url: str) -> Client:
    polling = await open_polling(url)
    sid = polling.rpartition("sid=")[2]
    async with connect(f"{websocket_url(url)}{ENGINE}&transport=websocket&sid={sid}") as socket:
        await socket.send("2probe")
        assert await socket.recv() == "3probe"
        yield
        await socket.send("5")
        await socket.send(f"40{dump({'username': fresh_name()})}")
        yield
        await _take(socket, "40")


async def attaching(url: str) -> Client:
    async with connect(f"{websocket_url(url)}{ENGINE}&transport=websocket") as socket:
        await socket.send(f"40{dump({'username': fresh_name()})}")
        await socket.send('451-7["send-msg",{"_placeholder":true,"num":0}]')
        await _take(socket, '42["welcome"')
        yield
        await socket.send(b"attachment")
        yield
        assert "invalid_payload" in await _take(socket, "437[")


CLIENTS = {
    "a pong, Socket.IO": ping_on_socketio,
    "a pong, plain": ping_on_plain,
    "joining": unjoined,
    "a first request": partial(silent, before=0),
    "the rest of a head": partial(silent, before=10),
    "a first frame": resuming,
    "an upgrade": upgrading,
    "an attachment": attaching,
}


async def test_a_stopped_gateway_closes_nobody_who_was_in_time(start_gateway: StartGateway) -> None:
    """What clients send while it is stopped is read before any of them is judged."""
    gateway = await start_gateway(ping_interval=1, ping_timeout=5, keep_alive=5)
    failed = []
    clients = {name: begin(gateway.url) for name, begin in CLIENTS.items()}
    async with asyncio.timeout(TIMEOUT):
        await asyncio.gather(*(anext(client) for client in clients.values()))
    await gateway.signal(signal.SIGSTOP)
    await asyncio.gather(*(anext(client) for client in clients.values()))
    await asyncio.sleep(PAUSE)  # the time itself is what is tested
    await gateway.signal(signal.SIGCONT)
    for name, client in clients.items():
        async with aclosing(client), asyncio.timeout(TIMEOUT):  # type: ignore[type-var]
            try:
                await anext(client, None)
            except Exception as error:
                failed.append(f"{name}: {error!r}")
    assert not failed


class Pinged:
    """A `Heartbeat`, whose pong comes once it is read."""

    def __init__(self) -> None:
        self.pings = 0
        self.lost = False

    def ping(self) -> None:
        self.pings += 1

    def timed_out(self) -> None:
        self.lost = True


@pytest.mark.fast
def test_a_deadline_is_put_off_once_when_the_loop_stood_still() -> None:
    """By as long as it stood still; a loop that is always late cannot put it off for ever."""

    async def run() -> None:
        missed: list[float] = []
        start = time.monotonic()
        Deadline(0.01, lambda: missed.append(time.monotonic() - start))
        time.sleep(3 * LATE)  # noqa: ASYNC251 (the loop stands still)
        await asyncio.sleep(LATE)  # the time itself is tested
        assert not missed
        time.sleep(3 * LATE)  # noqa: ASYNC251
        await asyncio.sleep(0.01)  # the time itself is tested
        assert missed

    uvloop.run(run())


@pytest.mark.fast
def test_pongs_may_come_later_when_the_loop_stood_still() -> None:
    async def run() -> None:
        heartbeats, connection = Heartbeats(0.01, 0.05), Pinged()
        heartbeats.add(connection)
        await until(lambda: connection.pings)
        time.sleep(3 * LATE)  # noqa: ASYNC251 (the loop stands still)
        await asyncio.sleep(LATE)  # the time itself is tested
        assert not connection.lost
        await asyncio.sleep(3 * LATE)  # the time itself is tested
        assert connection.lost
        heartbeats.close()

    uvloop.run(run())


class Slow(Pinged):
    """Sending its ping takes so long that the next one is late."""

    def ping(self) -> None:
        super().ping()
        time.sleep(0.02)  # the loop is late
        asyncio.get_running_loop().call_later(TIMEOUT, int)  # as for what is written; now uvloop knows how late it is


@pytest.mark.fast
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_loop_that_is_always_late_pings_all_the_same(loop: str) -> None:
    """What is due next may be over before the timer for it is set: uvloop's handle does not say when that was."""

    async def run() -> None:
        heartbeats, connections = Heartbeats(0.01, 5), [Slow() for _ in range(3)]
        for connection in connections:
            heartbeats.add(connection)
            await asyncio.sleep(0.003)  # so that they are due at different times
        await until(lambda: all(connection.pings for connection in connections))
        for connection in connections:
            heartbeats.answered(connection)
        await until(lambda: all(connection.pings > 1 for connection in connections))
        heartbeats.close()

    (uvloop.run if loop == "uvloop" else asyncio.run)(run())


@pytest.mark.fast
@pytest.mark.parametrize("seconds", [-1, 0, 0.000_1])
def test_a_deadline_may_be_over_at_once(seconds: float) -> None:
    async def run() -> None:
        missed = asyncio.Event()
        start = asyncio.get_running_loop().time()
        assert Deadline(seconds, missed.set).at == pytest.approx(start + seconds, abs=0.05)
        await asyncio.wait_for(missed.wait(), TIMEOUT)

    uvloop.run(run())
