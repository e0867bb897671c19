"""Long-polling, whose bodies may be large, slow, many, or full of very small things."""

from __future__ import annotations

import asyncio

import pytest

from harness.http import request
from harness.names import fresh_name
from harness.raw import open_polling
from hostile.attack import Attacker, allow
from hostile.conftest import StartAttack

MAX_SIZE = 131_072
MAX_BUFFER = 1.05
"""MB that the gateway keeps for a client that does not poll, by default."""

AT_ONCE = 1.0
"""Seconds that a refusal may take."""


async def log_in(url: str) -> str:
    """A session of Socket.IO on long-polling; its URL."""
    polling = await open_polling(url)
    assert (await request("POST", polling, data=f'40{{"username":"{fresh_name()}"}}')).status == 200
    await request("GET", polling)
    return polling


async def test_bodies_that_are_too_large(start_attack: StartAttack) -> None:
    """413 or 400, at once, with and without a Content-Length; and the session ends."""
    attack = await start_attack()

    async def overdo(header: str, data: bytes) -> None:
        url = await open_polling(attack.gateway.url)
        async with Attacker(attack.gateway.url) as heavy:
            path = url.removeprefix(attack.gateway.url)
            heavy.writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n".encode())
            sending = asyncio.create_task(heavy.send(data * 20))
            async with asyncio.timeout(allow(AT_ONCE)):
                line = await heavy.reader.readline()
            assert line.split()[1] in {b"400", b"413"}, line
            sending.cancel()
        assert (await request("GET", url)).status == 400

    for _ in range(2):
        await attack.watch(overdo("Content-Length: 20000000", b"x" * 1_000_000))
        await attack.watch(overdo("Transfer-Encoding: chunked", b"f4240\r\n" + b"x" * 1_000_000 + b"\r\n"))


async def test_many_packets_in_a_body(start_attack: StartAttack) -> None:
    """The stock client puts all that waits into one body: all are handled, in order."""
    attack = await start_attack()
    url = await log_in(attack.gateway.url)
    body = "\x1e".join(f'42{number}["list-rooms",{{}}]' for number in range(17))
    response = await request("POST", url, data=body)
    attack.note("17 packets", response.status)
    text = (await request("GET", url)).text
    assert response.status == 400 or all(f'43{number}[{{"ok":true' in text for number in range(17)), text
    await request("POST", url, data="41")


@pytest.mark.parametrize("packet", ["6", '42["x"]'])
async def test_very_many_packets_in_a_body(start_attack: StartAttack, packet: str) -> None:
    """A body full of the smallest packets is handled or refused, and nobody else waits for it."""
    attack = await start_attack(memory=MAX_BUFFER + 2)

    async def overfill() -> None:
        url = await log_in(attack.gateway.url)
        start = asyncio.get_running_loop().time()
        body = "\x1e".join([packet] * (MAX_SIZE // (len(packet) + 1)))
        response = await request("POST", url, data=body)
        attack.note(
            f"{body.count(packet)} packets", f"{response.status} in {asyncio.get_running_loop().time() - start:.1f} s"
        )
        assert response.status in {200, 400}
        if response.status == 200:
            await request("POST", url, data="1")

    await overfill()
    attack.settle()
    for _ in range(3):
        await attack.watch(overfill())


async def test_bodies_in_many_segments(start_attack: StartAttack) -> None:
    """They are read completely, however they are split."""
    attack = await start_attack()
    url = await log_in(attack.gateway.url)
    path = url.removeprefix(attack.gateway.url)
    body = '427["list-rooms",{"padding":"' + "x" * 20_000 + '"}]'
    async with Attacker(attack.gateway.url) as slow:
        slow.writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        for start in range(0, len(body), 700):
            await slow.send(body[start : start + 700].encode())
            await asyncio.sleep(0.005)  # so that each is a segment of its own
        async with asyncio.timeout(5):
            assert b" 200 " in await slow.reader.readline()
    async with asyncio.timeout(5):
        assert '437[{"ok":true' in (await request("GET", url)).text
    await request("POST", url, data="41")


async def test_two_polls_at_once(start_attack: StartAttack) -> None:
    """The second is refused, the first gets its response, and the session ends."""
    attack = await start_attack()
    url = await open_polling(attack.gateway.url)
    polls = [asyncio.create_task(request("GET", url)) for _ in range(2)]
    async with asyncio.timeout(5):
        assert sorted([(await poll).status for poll in polls]) == [200, 400]
        assert (await request("GET", url)).status == 400


async def test_abandoned_handshakes(start_attack: StartAttack) -> None:
    """They are forgotten within ten seconds."""
    attack = await start_attack()
    sessions = [await open_polling(attack.gateway.url) for _ in range(50)]
    start = asyncio.get_running_loop().time()
    await asyncio.sleep(9.5)  # to ask before would be to go on with them

    async def is_gone(url: str) -> None:
        assert (await request("POST", url, data="3")).status == 400

    await attack.tally([(url[-8:], lambda url=url: is_gone(url)) for url in sessions])
    attack.note("gone after", f"{asyncio.get_running_loop().time() - start:.1f} s")
