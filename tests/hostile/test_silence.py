"""Connections that keep the gateway waiting: all are closed in time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from harness.http import WEBSOCKET_HEADERS, request
from harness.names import fresh_name
from harness.raw import open_polling
from hostile.conftest import LayOn
from hostile.scale import STOCK
from hostile.siege import Attacker, Siege, SocketIOAttacker

IN_TIME = 12.0
"""Seconds within which whoever says nothing, or half of it, is gone."""


Begin = Callable[[Attacker, int], None]


async def crowd(
    siege: Siege, count: int, begin: Begin, trickle: bytes = b"", *, rehearsal: Begin | None = None
) -> None:
    """``count`` connections that begin something and go on with a byte each second, until all are closed. Before them,
    as many connect, begin it (or ``rehearsal``) and disconnect: only what it takes to keep them is measured.
    """

    async def come_and_go(number: int) -> None:
        async with Attacker(siege.gateway.url) as attacker:
            (rehearsal or begin)(attacker, number)
            await attacker.writer.drain()
            await siege.gateway.has_read_everything()

    async def one(number: int) -> None:
        async with Attacker(siege.gateway.url) as attacker:
            begin(attacker, number)
            closed = asyncio.create_task(attacker.closed(IN_TIME))
            while not closed.done():
                if trickle:
                    attacker.writer.write(trickle)
                await asyncio.wait([closed], timeout=1)
            await closed

    await asyncio.gather(*map(come_and_go, range(count)))
    siege.settle()
    await siege.watch(asyncio.gather(*map(one, range(count))))


async def test_silent_connections(siege: LayOn) -> None:
    """A hundred that say nothing at all."""
    lasting = await siege(memory=8)
    await crowd(lasting, 100, lambda attacker, number: None)


async def test_half_sent_headers(siege: LayOn) -> None:
    """Two hundred that begin a request and go on byte by byte, some behind a request that was answered."""
    lasting = await siege(memory=10)
    heads = [
        "GET /",
        "GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        "GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /health HTTP/1.1\r\nX-Slow: ",
        f"GET /username/{fresh_name()} HTTP/1.1\r\n"
        + "".join(f"{name}: {value}\r\n" for name, value in WEBSOCKET_HEADERS.items()),
    ]

    def begin(attacker: Attacker, number: int) -> None:
        attacker.writer.write(heads[number % 4].encode())

    await crowd(lasting, 200, begin, b"x")


async def test_slow_bodies(siege: LayOn) -> None:
    """A hundred bodies, a byte each second, to long-polling and to pages that want none."""
    lasting = await siege(memory=10)
    sessions = [await open_polling(lasting.gateway.url) for _ in range(50)]
    for url in sessions:
        await request("POST", url, data=f'40{{"username":"{fresh_name()}"}}')

    def begin(attacker: Attacker, number: int) -> None:
        polling = sessions[number // 2 % len(sessions)].removeprefix(lasting.gateway.url)
        line = f"POST {polling}" if number % 2 else "GET /health"
        attacker.writer.write(f"{line} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n".encode())

    await crowd(lasting, 100, begin, b"x", rehearsal=lambda attacker, number: begin(attacker, 2 * number))


async def test_sockets_that_join_nothing(siege: LayOn) -> None:
    """Engine.IO without Socket.IO is closed after five seconds, and not much before."""
    lasting = await siege(memory=4)

    async def lurk() -> None:
        async with SocketIOAttacker(lasting.gateway.url) as lurker:
            await lurker.open()
            start = asyncio.get_running_loop().time()
            await lurker.closed(6)
            seconds = asyncio.get_running_loop().time() - start
            lasting.note("closed after", f"{seconds:.1f} s")
            assert STOCK or seconds > 4.5

    async def all_lurk() -> None:
        await asyncio.gather(*(lurk() for _ in range(50)))

    await lasting.watch(all_lurk())
