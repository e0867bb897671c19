"""Too much of everything: bounded in memory, closed where nothing else helps, and nobody else waits."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from functools import partial
from itertools import product

import pytest

from harness.http import WEBSOCKET_HEADERS
from harness.names import fresh_name
from harness.plain import JsonClient
from hostile.attack import Attacker, PlainAttacker, SocketIOAttacker, masked, message
from hostile.conftest import Kind, StartAttack
from hostile.scale import SCALE

LIST = {
    SocketIOAttacker: message('427["list-rooms",{}]'),
    PlainAttacker: masked(1, b'{"action":"list-rooms"}'),
}
PONG = {SocketIOAttacker: message("3"), PlainAttacker: masked(0xA)}
MAX_BUFFER = 1.05
"""MB that the gateway keeps for a client that does not read, by default."""

BURST = 20


async def fill(sender: JsonClient, room: str, messages: int) -> None:
    """Send that many bytes to a room."""
    for _ in range(0, messages, BURST):
        await sender.burst([("send-msg", {"room": room, "content": "x" * 10_000})] * BURST)
        sender.frames.take_all()
        sender.frames.log.clear()


async def test_a_reader_that_stops(start_attack: StartAttack, attacker: Kind) -> None:
    """It sends pongs but reads nothing: it is disconnected at ``--max-buffer``, and recovers or is forgotten.

    Before it, one that reads receives as much, twice: once to fill the log and its caches, and once to
    see what a room costs whose members read.
    """
    held = 1.5 * MAX_BUFFER + BURST * 0.01  # a half more for a second, and what was written last (`backlog`)
    attack = await start_attack(memory=held + 2, presence_limit=0, recovery_window=3600)
    async with (
        attacker(attack.gateway.url) as stalled,
        attacker(attack.gateway.url) as reader,
        JsonClient(attack.gateway.url, fresh_name()) as sender,
    ):
        rooms = []
        for listener in (reader, stalled):
            rooms.append(fresh_name("room"))
            name = await listener.log_in()
            await sender.call("create-room", room=rooms[-1], users=[name])
        reading = asyncio.create_task(reader.closed(SCALE.timeout))
        try:
            for _ in range(2):
                attack.settle()
                await attack.watch(fill(sender, rooms[0], min(SCALE.messages // 2, 3_000)))
        finally:
            reading.cancel()
        attack.note("peak with one that reads", f"{attack.peak:+.1f} MB")
        attack.take_for_granted()
        stalled.writer.transport.pause_reading()

        async def lie() -> None:
            while True:
                await stalled.send(PONG[type(stalled)])
                await asyncio.sleep(0.02)  # its heartbeat

        lying = asyncio.create_task(lie())
        try:
            await attack.watch(fill(sender, rooms[1], SCALE.messages))
        finally:
            lying.cancel()
        members = (await sender.call("list-members", room=rooms[1]))["members"]
        assert {"username": name, "online": False} in members
        stalled.writer.transport.resume_reading()
        await stalled.closed(5)


async def test_more_events_than_can_be_handled(start_attack: StartAttack, attacker: Kind) -> None:
    """All at once from one client: it waits for its acks, others wait for nothing."""
    attack = await start_attack()
    async with attacker(attack.gateway.url) as loud:
        await loud.log_in()

        async def shout(events: int) -> None:
            sending = asyncio.create_task(loud.send(LIST[type(loud)] * events))
            sign = b'"ok":true'
            tail = b""
            while events:
                async with asyncio.timeout(20):
                    data = await loud.reader.read(65536)
                assert data, f"closed, {events} acks short"
                tail += data
                events -= tail.count(sign)
                tail = tail[tail.rfind(sign) + len(sign) :] if sign in tail else tail[-len(sign) :]
            await sending

        await shout(1_000)
        attack.settle()
        await attack.watch(shout(SCALE.events))


async def test_events_to_a_slow_handler(start_attack: StartAttack) -> None:
    """One at a time is handled, a few wait, and what follows is not read.

    Each event is of 500 bytes: what was read in one piece is handled even when its sender has gone.
    """
    attack = await start_attack(kind="ours")

    async def started() -> int:
        return (await attack.gateway.counts())["started"]

    event = message(f'42["slow",{{"padding":"{"x" * 470}"}}]')
    async with SocketIOAttacker(attack.gateway.url) as loud:
        await loud.log_in()
        await loud.send(event)
        attack.settle()

        async def shout() -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(5):
                    await loud.send(event * SCALE.events)

        await attack.watch(shout())
        most = (await attack.gateway.counts())["most"]
        attack.note("handlers at once", most)
        assert most == 1
    start = asyncio.get_running_loop().time()
    handled, before = await started(), -1
    async with asyncio.timeout(60):
        while handled != before:
            await asyncio.sleep(0.5)  # until no more are handled: how many it was sent, nobody knows
            handled, before = await started(), handled
    attack.note("what was sent before was handled in", f"{asyncio.get_running_loop().time() - start:.0f} s")


@pytest.mark.parametrize("event", ["6", '42["x"]'])
async def test_very_small_messages(start_attack: StartAttack, event: str) -> None:
    """Two megabytes of the smallest packets: handling them never waits for anything, and yet others are served."""
    attack = await start_attack(memory=MAX_BUFFER + 2)
    async with SocketIOAttacker(attack.gateway.url) as loud:
        await loud.log_in()
        await loud.send(message(event) * 100)
        attack.settle()

        async def shout() -> None:
            asking = asyncio.create_task(
                loud.send(message(event) * (SCALE.flood // len(message(event))) + LIST[type(loud)])
            )
            async with asyncio.timeout(SCALE.timeout):
                while b"437[" not in await loud.reader.read(65536):
                    pass
            await asking

        await attack.watch(shout())


@pytest.mark.parametrize("size", [0, 1])
async def test_a_message_in_too_many_fragments(start_attack: StartAttack, attacker: Kind, size: int) -> None:
    """400,000 frames of one message, or of none: closed."""
    attack = await start_attack()

    async def be_petty(fragments: int) -> None:
        async with attacker(attack.gateway.url) as petty:
            await petty.log_in()
            await petty.send(masked(1, b"x", head=0))
            fragment = masked(0, b"x" * size, head=0) * 1_000
            for _ in range(fragments // 1_000):
                await petty.send(fragment)
            await petty.closed(1)

    await be_petty(10_000)
    attack.settle()
    await attack.watch(be_petty(SCALE.fragments))


async def test_false_lengths(start_attack: StartAttack, attacker: Kind) -> None:
    """A length of 2^63 or just above the limit is refused before anything of it comes."""
    attack = await start_attack()

    async def lie(length: int) -> None:
        async with attacker(attack.gateway.url) as liar:
            await liar.log_in()
            await liar.send(b"\x82\xff" + length.to_bytes(8, "big") + bytes(4))
            await liar.closed(1)

    await attack.tally([(length, partial(lie, length)) for length in (2**63, 2**63 - 1, 2**32, 131_073)])


async def test_messages_that_stop_at_their_last_byte(start_attack: StartAttack, attacker: Kind) -> None:
    """Twenty messages of the largest size without their end take no more than their size, which malloc may keep."""
    bound = 20 * 0.131 + 2
    attack = await start_attack(memory=bound, left=bound)

    async def stop_short(count: int) -> None:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(count):
                slow = await stack.enter_async_context(attacker(attack.gateway.url))
                await slow.log_in()
                await slow.send(masked(2, b"x" * 131_072)[:-1])
            for _ in range(3):
                await attack.who_is_there()  # the gateway has read all of it

    for _ in range(8):  # until malloc has kept as many blocks of this size, 8 MB, as it ever will
        await stop_short(20)
    attack.settle()
    await attack.watch(stop_short(20))


async def test_a_deflate_bomb(start_attack: StartAttack, attacker: Kind) -> None:
    """Compression is never negotiated, so that what claims to be compressed is refused unread."""
    attack = await start_attack()
    bomb = zlib.compressobj(wbits=-15)
    data = bomb.compress(b"0" * 50_000_000) + bomb.flush(zlib.Z_SYNC_FLUSH)

    async def explode() -> None:
        async with attacker(attack.gateway.url) as bomber:
            await bomber.log_in("Sec-WebSocket-Extensions: permessage-deflate\r\n")
            await bomber.send(masked(1, data[:-4], head=0xC0))
            await bomber.closed(1)

    await explode()
    attack.settle()
    await attack.watch(explode())


async def test_pings_whose_pongs_are_not_read(start_attack: StartAttack, attacker: Kind) -> None:
    """Pongs never fill the memory, and a client that does not reply to the pings of the gateway is closed in time."""
    attack = await start_attack(ping_interval=2, ping_timeout=2)
    async with attacker(attack.gateway.url) as pinger:
        await pinger.log_in()
        pinger.writer.transport.pause_reading()
        pings = masked(9, b"x" * 125) * 1_000

        async def flood() -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(8):
                    for _ in range(SCALE.pings // 1_000):
                        await pinger.send(pings)

        await attack.watch(flood())
        pinger.writer.transport.resume_reading()
        await pinger.closed(8)


HEAD = "".join(f"{name}: {value}\r\n" for name, value in {"Host": "x", **WEBSOCKET_HEADERS}.items())
BODIES = {
    "a length": ("Content-Length: 100000000", b"x" * 65536),
    "chunks": ("Transfer-Encoding: chunked", b"10000\r\n" + b"x" * 65536 + b"\r\n"),
    "chunks of one byte": ("Transfer-Encoding: chunked", b"1\r\nx\r\n" * 10_000),
    "chunks that are none": ("Transfer-Encoding: chunked", b"zzzz\r\n" + b"x" * 65536),
    "junk": ("Content-Length: 0", b"x" * 65536),
}
"""What follows the head of a handshake: its last header, and what is sent continuously."""


@pytest.mark.parametrize("body", BODIES)
async def test_an_upgrade_with_a_body(start_attack: StartAttack, body: str) -> None:
    """Twenty at once are refused on both routes, and no body is read."""
    attack = await start_attack()
    header, data = BODIES[body]
    paths = (f"/username/{fresh_name()}?format=nonsense", "/socket.io/?EIO=4&transport=websocket&sid=none")

    async def be_heavy(path: str) -> None:
        async with Attacker(attack.gateway.url) as heavy:
            heavy.writer.write(f"GET {path} HTTP/1.1\r\n{HEAD}{header}\r\n\r\n".encode() + data[:1000])
            assert b" 4" in (await heavy.reader.readline())[:12]
            for _ in range(100):
                await heavy.send(data)
            await heavy.closed(5)

    async def crowd(count: int) -> None:
        await attack.tally([(path, partial(be_heavy, path)) for _, path in product(range(count // 2), paths)])

    await crowd(20)
    attack.settle()
    await attack.watch(crowd(20))


async def test_a_crowd_that_behaves_and_leaves_at_once(start_attack: StartAttack) -> None:
    """Connects and disconnects, a fifth by reset, a tenth in the handshake: memory does not drift."""
    attack = await start_attack(memory=5, left=5, recovery_window=0.2)

    async def visit(number: int) -> None:
        kind = PlainAttacker if number % 2 else SocketIOAttacker
        async with kind(attack.gateway.url) as visitor:
            if number % 10 == 3:
                visitor.writer.write(b"GET /username/x HTTP/1.1\r\nHost:")
                return
            await visitor.log_in()
            if number % 5 != 4:
                await visitor.send(masked(8, b"\x03\xe8"))
                await visitor.closed(5)

    async def crowd(size: int) -> None:
        numbers = iter(range(size))

        async def one_after_the_other() -> None:
            for number in numbers:
                await visit(number)

        await asyncio.gather(*(one_after_the_other() for _ in range(20)))

    start = asyncio.get_running_loop().time()
    await crowd(min(SCALE.visits, 5_000))
    attack.settle()
    await attack.watch(crowd(SCALE.visits))
    attack.note("seconds", round(asyncio.get_running_loop().time() - start))
