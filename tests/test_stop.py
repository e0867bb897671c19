"""Stopping: clients are told to come back, and the process ends soon."""

from __future__ import annotations

import asyncio
import signal
import time

from harness.client import Join
from harness.process import StartGateway


async def test_a_stop_closes_every_client_and_ends_soon(start_gateway: StartGateway, join: Join) -> None:
    """SIGTERM with clients of all kinds: each connection is closed, plain ones with 1012; the exit status is 0."""
    own = await start_gateway()
    plain = [await join("json", to=own), await join("bare", to=own)]
    stock = [await join(wire, to=own) for wire in ("socketio-websocket", "socketio-polling", "socketio-polling-only")]
    started = time.monotonic()
    assert await own.stop() == 0
    assert time.monotonic() - started < 5
    assert [await client.wait_closed() for client in plain] == [1012, 1012]
    for client in stock:
        assert not (await client.state())["connected"]


async def test_a_second_signal_ends_at_once(start_gateway: StartGateway, join: Join) -> None:
    """Whoever does not wait for a client that does not answer sends the signal again."""
    own = await start_gateway()
    silent = await join("json", to=own)
    silent.socket.transport.pause_reading()
    process = await own.signal(signal.SIGTERM)
    await asyncio.sleep(0.5)  # the first stop is under way, and waits for the silent client
    assert process.returncode is None
    started = time.monotonic()
    process.terminate()
    assert await own.wait() == -signal.SIGTERM
    assert time.monotonic() - started < 2
