"""Connections that send nothing, or too slowly: all are closed in time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from harness.http import WEBSOCKET_HEADERS, request
from harness.names import fresh_name
from harness.raw import open_polling
from hostile.attack import Attack, Attacker, SocketIOAttacker
from hostile.conftest import StartAttack
from hostile.scale import STOCK

IN_TIME = 12.0
"""Seconds within which a client that sends nothing, or half a request, is closed."""


Begin = Callable[[Attacker, int], None]


async def crowd(
    attack: Attack, count: int, begin: Begin, trickle: bytes = b"", *, rehearsal: Begin | None = None
) -> None:
    """``count`` connections that begin something and go on with a byte each second, until all are closed. Before them,
    as many connect, begin it (or ``rehearsal``) and disconnect: only what it takes to keep them is measured.
    """

    async def come_and_go(number: int) -> None:
        async with Attacker(attack.gateway.url) as attacker:
            (rehearsal or begin)(attacker, number)
            await attacker.writer.drain()
            await attack.gateway.has_read_everything()

    async def one(number: int) -> None:
        async with Attacker(attack.gateway.url) as attacker:
            begin(attacker, number)
            closed = asyncio.create_task(attacker.closed(IN_TIME))
            while not closed.done():
                if trickle:
                    attacker.writer.write(trickle)
                await asyncio.wait([closed], timeout=1)
            await closed

    await asyncio.gather(*map(come_and_go, range(count)))
    attack.settle()
    await attack.watch(asyncio.gather(*map(one, range(count))))


async def test_silent_connections(start_attack: StartAttack) -> None:
    """A hundred that send nothing at all."""
    attack = await start_attack(memory=8)
    await crowd(attack, 100, lambda attacker, number: None)


async def test_half_sent_headers(start_attack: StartAttack) -> None:
    """Two hundred that begin a request and go on byte by byte, some after a complete request."""
    attack = await start_attack(memory=10)
    heads = [
        "GET /",
        "GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        "GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /health HTTP/1.1\r\nX-Slow: ",
        f"GET /username/{fresh_name()} HTTP/1.1\r\n"
        + "".join(f"{name}: {value}\r\n" for name, value in WEBSOCKET_HEADERS.items()),
    ]

    def begin(attacker: Attacker, number: int) -> None:
        attacker.writer.write(heads[number % 4].encode())

    await crowd(attack, 200, begin, b"x")


async def test_slow_bodies(start_attack: StartAttack) -> None:
    """A hundred bodies, a byte each second, to long-polling and to pages that want none."""
    attack = await start_attack(memory=10)
    sessions = [await open_polling(attack.gateway.url) for _ in range(50)]
    for url in sessions:
        await request("POST", url, data=f'40{{"username":"{fresh_name()}"}}')

    def begin(attacker: Attacker, number: int) -> None:
        polling = sessions[number // 2 % len(sessions)].removeprefix(attack.gateway.url)
        line = f"POST {polling}" if number % 2 else "GET /health"
        attacker.writer.write(f"{line} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n".encode())

    await crowd(attack, 100, begin, b"x", rehearsal=lambda attacker, number: begin(attacker, 2 * number))


async def test_sockets_that_join_nothing(start_attack: StartAttack) -> None:
    """Engine.IO without Socket.IO is closed after five seconds, and not much before."""
    attack = await start_attack(memory=4)

    async def lurk() -> None:
        async with SocketIOAttacker(attack.gateway.url) as lurker:
            await lurker.open()
            start = asyncio.get_running_loop().time()
            await lurker.closed(6)
            seconds = asyncio.get_running_loop().time() - start
            attack.note("closed after", f"{seconds:.1f} s")
            assert STOCK or seconds > 4.5

    async def all_lurk() -> None:
        await asyncio.gather(*(lurk() for _ in range(50)))

    await attack.watch(all_lurk())
