"""What all clients together may hold of the gateway's memory: a budget, and who is disconnected when it is spent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gateway.memory import machine_memory
from gateway.servers.budget import GRACE, Budget
from gateway.servers.pauses import Pause
from harness.client import Join, make_room, succeed
from harness.http import WEBSOCKET_HEADERS
from harness.names import fresh_name
from harness.process import GatewayProcess, StartGateway
from harness.raw import ENGINE
from harness.waiting import until

SOON = 5.0
"""Seconds that only a failing test waits."""

BUDGET = 2_097_152
PART = 100_000
"""Bytes that each of the many holds, of a message that never comes to its end."""

COUNT = 60
"""Together nearly three times the budget."""

HEAD = "".join(f"{name}: {value}\r\n" for name, value in {"Host": "x", **WEBSOCKET_HEADERS}.items())
CUT = "cut those who held the most memory"


def half_frame(first: int = 0x81, size: int = 120_000) -> bytes:
    return bytes([first, 0xFF]) + size.to_bytes(8, "big") + bytes(4) + b"x" * PART


class Holder:
    """A connection that begins a message, and never completes it."""

    def __init__(self, gateway: GatewayProcess) -> None:
        address = urlsplit(gateway.url)
        self._address = address.hostname, address.port

    async def __aenter__(self) -> Holder:
        self.reader, self.writer = await asyncio.open_connection(*self._address, limit=2**20)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()

    async def shake_hands(self, path: str) -> None:
        self.writer.write(f"GET {path} HTTP/1.1\r\n{HEAD}\r\n".encode())
        await self.reader.readuntil(b"\r\n\r\n")

    async def is_disconnected(self) -> bool:
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            pass
        return True

    # what it begins

    async def half_a_frame(self) -> None:
        await self.shake_hands(f"/username/{fresh_name()}")
        self.writer.write(half_frame())

    async def half_a_message(self) -> None:
        """In fragments, each of them whole."""
        await self.shake_hands(f"/username/{fresh_name()}?format=json")
        part = bytes([0x01, 0xFE]) + (50_000).to_bytes(2, "big") + bytes(4) + b"x" * 50_000
        self.writer.write(part + bytes([0x00]) + part[1:])

    async def half_a_packet(self) -> None:
        await self.shake_hands(f"{ENGINE}&transport=websocket")
        self.writer.write(half_frame())

    async def half_the_attachments(self) -> None:
        await self.shake_hands(f"{ENGINE}&transport=websocket")
        event = b'452-["x",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]'
        self.writer.write(bytes([0x81, 0x80 | len(event)]) + bytes(4) + event)
        self.writer.write(bytes([0x82, 0xFF]) + PART.to_bytes(8, "big") + bytes(4) + b"x" * PART)

    async def half_a_body(self) -> None:
        await self._begin_body(120_000)
        self.writer.write(b"x" * PART)

    async def _begin_body(self, size: int) -> None:
        self.writer.write(f"GET {ENGINE}&transport=polling HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        opened = await self.reader.readuntil(b"}")
        sid = opened.split(b'"sid":"')[1].split(b'"')[0].decode()
        path = f"{ENGINE}&transport=polling&sid={sid}"
        self.writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode())

    # how it logs in, and reads nothing any more

    async def stop_on_json(self, name: str) -> None:
        await self._stop_reading(f"/username/{name}?format=json")

    async def stop_on_socketio(self, name: str) -> None:
        await self._stop_reading(f"{ENGINE}&transport=websocket&username={name}")
        self.writer.write(b"\x81\x82" + bytes(4) + b"40")

    async def _stop_reading(self, path: str) -> None:
        self.writer.transport.pause_reading()
        self.writer.write(f"GET {path} HTTP/1.1\r\n{HEAD}\r\n".encode())

    async def stop_polling(self, name: str) -> None:
        login = f'40{{"username":"{name}"}}'
        await self._begin_body(len(login))
        self.writer.write(login.encode())


@asynccontextmanager
async def talking(join: Join, gateway: GatewayProcess) -> AsyncIterator[Callable[[], Awaitable[float]]]:
    """Two clients that talk to each other; returns how long the slowest message took."""
    alice, bob = await join(to=gateway), await join("socketio-websocket", to=gateway)
    room = await make_room(alice, bob)
    slowest, stopped = 0.0, asyncio.Event()

    async def talk() -> None:
        nonlocal slowest
        while not stopped.is_set():
            began = time.monotonic()
            await succeed(alice, "send-msg", room=room, content="x")
            await bob.next_event("message")
            slowest = max(slowest, time.monotonic() - began)
            await asyncio.sleep(0.01)  # at an easy pace

    talk_task = asyncio.create_task(talk())

    async def stop() -> float:
        stopped.set()
        await talk_task
        return slowest

    yield stop
    stopped.set()
    await talk_task


@pytest.mark.parametrize(
    "begin",
    [
        Holder.half_a_frame,
        Holder.half_a_message,
        Holder.half_a_packet,
        Holder.half_the_attachments,
        Holder.half_a_body,
    ],
    ids=lambda begin: begin.__name__,
)
async def test_half_sent_messages_count_towards_the_budget(
    start_gateway: StartGateway, join: Join, begin: Callable[[Holder], Awaitable[None]]
) -> None:
    """Each within its own limit, and too much together: some are disconnected and logged; bystanders notice nothing."""
    own = await start_gateway(max_memory="2M")
    async with talking(join, own) as stop, AsyncExitStack() as stack:
        holders = [await stack.enter_async_context(Holder(own)) for _ in range(COUNT)]
        await asyncio.gather(*map(begin, holders))
        cut = [asyncio.create_task(holder.is_disconnected()) for holder in holders]
        await until(lambda: CUT in own.log)
        await until(lambda: sum(task.done() for task in cut) * PART > COUNT * PART - BUDGET)
        assert not all(task.done() for task in cut), "as many as can stay may stay"
        assert await stop() < 2.0
        assert "max_memory=2097152" in own.log
        for task in cut:
            task.cancel()


async def test_half_sent_messages_within_the_budget_close_nobody(start_gateway: StartGateway) -> None:
    """Within the budget nobody is paused, and their messages get replies once they are complete."""
    own = await start_gateway(max_memory="2M")
    async with AsyncExitStack() as stack:
        holders = [await stack.enter_async_context(Holder(own)) for _ in range(10)]
        for holder in holders:
            await holder.half_a_frame()
        await asyncio.sleep(2 * GRACE)  # by then, anyone who held too much would have been disconnected
        for holder in holders:
            holder.writer.write(b"x" * 20_000)
            assert b"invalid_payload" in await holder.reader.readuntil(b"}}")
    assert CUT not in own.log


@pytest.mark.parametrize(
    "stop",
    [Holder.stop_on_json, Holder.stop_on_socketio, Holder.stop_polling],
    ids=lambda stop: stop.__name__,
)
async def test_unread_output_counts_towards_the_budget(
    start_gateway: StartGateway, join: Join, stop: Callable[[Holder, str], Awaitable[None]]
) -> None:
    """Readers who have stopped, each with less unsent than is allowed, and too much together."""
    own = await start_gateway(max_memory="2M", max_content_length=100_000, max_frame_size=1_300_000, list_users="all")
    alice = await join(to=own)
    async with AsyncExitStack() as stack:
        names = [fresh_name() for _ in range(20)]
        for name in names:
            holder = await stack.enter_async_context(Holder(own))
            await stop(holder, name)
        found: list[str] = []
        while len(found) <= len(names):
            found = (await succeed(alice, "find-users"))["users"]
        await succeed(alice, "create-room", room="r", users=names)
        for _ in range(100):
            await succeed(alice, "send-msg", room="r", content="x" * 100_000)
            if CUT in own.log:
                break
        assert CUT in own.log


# --- the parts


class Piece:
    """A `Holder` of the test's own."""

    def __init__(self, budget: Budget) -> None:
        self.size = 0
        self.paused = 0
        self.is_disconnected = False
        self._budget = budget

    def take(self, size: int) -> None:
        self.size = size
        self._budget.count(self)

    def held(self) -> int:
        return self.size

    def pause(self, reason: Pause) -> None:
        self.paused += 1

    def resume(self, reason: Pause) -> None:
        self.paused -= 1

    def cut(self) -> None:
        self.is_disconnected = True
        self.size = 0


async def test_the_largest_are_paused_and_then_disconnected() -> None:
    """The small ones never; and one that holds less in time goes on."""
    budget = Budget(1_000_000)
    large, small = [Piece(budget) for _ in range(3)], [Piece(budget) for _ in range(10)]
    for piece in small:
        piece.take(10_000)
    for number, piece in enumerate(large):
        piece.take(290_000 + number)
    assert not any(piece.paused for piece in (*large, *small))
    small[0].take(40_000)
    assert [piece.paused for piece in large] == [0, 0, 1], "one of them is enough"
    large[2].size = 0  # it was read, without an event
    since = time.monotonic()
    await until(lambda: not large[2].paused, SOON)
    assert time.monotonic() - since > 0.9 * GRACE
    assert not any(piece.paused or piece.is_disconnected for piece in (*large, *small))
    large[2].take(320_000)
    assert [piece.paused for piece in large] == [0, 0, 1]
    since = time.monotonic()
    await until(lambda: large[2].is_disconnected, SOON)
    assert time.monotonic() - since > 0.9 * GRACE
    assert [piece.is_disconnected for piece in large] == [False, False, True]
    assert not any(piece.paused or piece.is_disconnected for piece in small)
    assert budget.total == 710_001


async def test_far_beyond_the_budget_clients_are_disconnected_at_once() -> None:
    budget = Budget(1_000_000)
    pieces = [Piece(budget) for _ in range(5)]
    for piece in pieces:
        piece.take(400_000)
    assert sum(piece.is_disconnected for piece in pieces) >= 2
    assert budget.total <= budget.limit * 1.1


def test_the_budget_follows_the_memory_limit_of_the_cgroup(tmp_path: Path) -> None:
    """The smallest of the machine's memory and of the limits around the process, in both versions."""
    everything = machine_memory(tmp_path)
    assert everything > 2**24
    (tmp_path / "proc/self").mkdir(parents=True)
    group = tmp_path / "sys/fs/cgroup/outer/inner"
    group.mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/outer/inner\n")
    (group / "memory.max").write_text("max\n")
    assert machine_memory(tmp_path) == everything
    (group.parent / "memory.max").write_text("10000000\n")
    assert machine_memory(tmp_path) == 10_000_000
    older = tmp_path / "sys/fs/cgroup/memory/docker"
    older.mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("5:memory:/docker\n4:cpu:/x\n")
    (older / "memory.limit_in_bytes").write_text("5000000\n")
    assert machine_memory(tmp_path) == 5_000_000
