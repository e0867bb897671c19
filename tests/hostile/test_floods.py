"""Too much of everything: bounded in memory, closed where nothing else helps, and nobody else waits."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import Callable

import pytest

from harness.http import WEBSOCKET_HEADERS, request
from harness.names import fresh_name
from harness.plain import JsonClient
from hostile.conftest import LayOn
from hostile.siege import Attacker, PlainAttacker, Siege, SocketIOAttacker, masked, message, open_polling

Kind = Callable[[str], SocketIOAttacker | PlainAttacker]
LIST = {
    SocketIOAttacker: message('427["list-rooms",{}]'),
    PlainAttacker: masked(1, b'{"action":"list-rooms"}'),
}


async def watch(siege: Siege, attack: asyncio.Task[None]) -> None:
    """Note the memory until the attack is over."""
    while not attack.done():
        siege.note_size()
        await asyncio.wait([attack], timeout=0.02)
    await attack


async def test_a_reader_that_stops(siege: LayOn, attacker: Kind) -> None:
    """It sends pongs but reads nothing: it is cut at ``--max-buffer``, and recovers or is forgotten."""
    lasting = await siege(memory=1.05 + 4, presence_limit=0, history_size=10)
    async with attacker(lasting.gateway.url) as deaf, JsonClient(lasting.gateway.url, fresh_name()) as speaker:
        name = await deaf.log_in()
        room = fresh_name("room")
        await speaker.call("create-room", room=room, users=[name])
        deaf.writer.transport.pause_reading()
        await lasting.settle()

        async def flood() -> None:
            for number in range(1_500):
                await speaker.call("send-msg", room=room, content="x" * 10_000)
                if number % 10 == 0:
                    await deaf.send(message("3") if isinstance(deaf, SocketIOAttacker) else masked(0xA))

        await watch(lasting, asyncio.create_task(flood()))
        members = (await speaker.call("list-members", room=room))["members"]
        assert {"username": name, "online": False} in members
        deaf.writer.transport.resume_reading()
        await deaf.closed(5)


async def test_more_events_than_can_be_handled(siege: LayOn, attacker: Kind) -> None:
    """20,000 at once from one client: it waits for its answers, the others do not."""
    lasting = await siege(memory=4)
    async with attacker(lasting.gateway.url) as loud:
        await loud.log_in()
        event = LIST[type(loud)]
        sending = asyncio.create_task(loud.send(event * 20_000))
        left = 20_000
        sign = b'"ok":true'
        tail = b""
        while left:
            async with asyncio.timeout(10):
                tail += await loud.reader.read(65536)
            lasting.note_size()
            left -= tail.count(sign)
            tail = tail[tail.rfind(sign) + len(sign) :] if sign in tail else tail[-len(sign) :]
        await sending


@pytest.mark.parametrize("size", [0, 1])
async def test_a_message_in_too_many_fragments(siege: LayOn, attacker: Kind, size: int) -> None:
    """400,000 frames of one message, or of none: closed."""
    lasting = await siege()
    async with attacker(lasting.gateway.url) as petty:
        await petty.log_in()
        await petty.send(masked(1, b"x", head=0))
        fragment = masked(0, b"x" * size, head=0) * 1_000
        for _ in range(400):
            await petty.send(fragment)
            lasting.note_size()
        await petty.closed(1)


async def test_lengths_that_are_lies(siege: LayOn, attacker: Kind) -> None:
    """A length of 2^63 or just above the limit is refused before anything of it comes."""
    lasting = await siege()
    for length in (2**63, 2**63 - 1, 2**32, 131_073):
        async with attacker(lasting.gateway.url) as liar:
            await liar.log_in()
            await liar.send(b"\x82\xff" + length.to_bytes(8, "big") + bytes(4))
            await liar.closed(1)


async def test_messages_that_stop_at_their_last_byte(siege: LayOn, attacker: Kind) -> None:
    """Twenty messages of the largest size without their end take no more than their size."""
    lasting = await siege(memory=20 * 0.131 * 1.5 + 2)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(20):
            slow = await stack.enter_async_context(attacker(lasting.gateway.url))
            await slow.log_in()
            whole = masked(2, b"x" * 131_072)
            await slow.send(whole[:-1])
            lasting.note_size()


async def test_a_deflate_bomb(siege: LayOn, attacker: Kind) -> None:
    """Compression is never negotiated, so that what claims to be compressed is refused unread."""
    lasting = await siege()
    bomb = zlib.compressobj(wbits=-15)
    data = bomb.compress(b"0" * 50_000_000) + bomb.flush(zlib.Z_SYNC_FLUSH)
    async with attacker(lasting.gateway.url) as bomber:
        await bomber.log_in()
        await bomber.send(masked(1, data[:-4], head=0xC0))
        await bomber.closed(1)


async def test_pings_whose_pongs_are_not_read(siege: LayOn, attacker: Kind) -> None:
    """300,000 pings: the gateway stops to read them, or closes, before their answers fill its memory."""
    lasting = await siege(memory=3.1)
    async with attacker(lasting.gateway.url) as pinger:
        await pinger.log_in()
        pinger.writer.transport.pause_reading()
        pings = masked(9, b"x" * 125) * 1_000

        async def flood() -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(8):
                    for _ in range(300):
                        await pinger.send(pings)

        await watch(lasting, asyncio.create_task(flood()))


async def test_an_upgrade_with_a_body(siege: LayOn) -> None:
    """It is refused on both routes, however long the body says it is."""
    lasting = await siege()
    paths = [f"/username/{fresh_name()}", "/socket.io/?EIO=4&transport=websocket"]
    for path in paths:
        for length in ("Content-Length: 100000000", "Transfer-Encoding: chunked"):
            async with Attacker(lasting.gateway.url) as heavy:
                head = "".join(f"{name}: {value}\r\n" for name, value in {"Host": "x", **WEBSOCKET_HEADERS}.items())
                heavy.writer.write(f"GET {path} HTTP/1.1\r\n{head}{length}\r\n\r\n".encode())
                assert b" 4" in (await heavy.reader.readline())[:12]
                for _ in range(100):
                    await heavy.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
                    lasting.note_size()
                await heavy.closed(5)


async def test_long_polling_bodies(siege: LayOn) -> None:
    """Too large: 413 at once. Many packets: all handled, or 400. Two at once: refused, and the session ends."""
    lasting = await siege(memory=4)
    url = await open_polling(lasting.gateway.url)
    assert (await request("POST", url, data=b"x" * 200_000)).status in {400, 413}
    assert (await request("GET", url)).status == 400
    url = await open_polling(lasting.gateway.url)
    events = [f'42{number}["list-rooms",{{}}]' for number in range(17)]
    body = "\x1e".join([f'40{{"username":"{fresh_name()}"}}', *events])
    answer = await request("POST", url, data=body)
    if answer.status == 200:
        text = (await request("GET", url)).text
        assert all(f'43{number}[{{"ok":true' in text for number in range(17)), text
        assert (await request("POST", url, data="41")).status == 200
    url = await open_polling(lasting.gateway.url)
    polls = [asyncio.create_task(request("GET", url)) for _ in range(2)]
    assert sorted([(await poll).status for poll in polls]) == [200, 400]
    assert (await request("GET", url)).status == 400


async def test_a_crowd_that_says_nothing_wrong_and_leaves_at_once(siege: LayOn) -> None:
    """Connects and disconnects, a fifth by reset, a tenth in the handshake: memory does not drift."""
    lasting = await siege(memory=8, recovery_window=0.2)

    async def visit(number: int) -> None:
        kind = PlainAttacker if number % 2 else SocketIOAttacker
        async with kind(lasting.gateway.url) as visitor:
            if number % 10 == 3:
                visitor.writer.write(b"GET /username/x HTTP/1.1\r\nHost:")
            else:
                await visitor.log_in()
                if number % 5 != 4:
                    await visitor.send(masked(8, b"\x03\xe8"))
                    await visitor.closed(5)

    async def crowd(size: int) -> None:
        for start in range(0, size, 50):
            await asyncio.gather(*map(visit, range(start, start + 50)))
            lasting.note_size()

    await crowd(1_000)
    await lasting.settle()
    lasting._files = min(lasting._files, lasting.open_files)
    await crowd(2_000)
