"""A reader that stops, while it provokes every kind of reply that a client can: each byte counts against it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Self

import aiohttp
import pytest

from harness.http import request
from harness.names import fresh_name
from harness.raw import open_polling
from harness.waiting import until
from hostile.attack import Attack, Attacker, PlainAttacker, SocketIOAttacker, masked, message
from hostile.conftest import StartAttack

SETTINGS = {"max_buffer": 100_000, "memory": 16.0, "left": 16.0}
"""A small buffer, so that every kind comes to its bound. All kinds together take some memory of their own."""

SHORT, LASTING = 0.2, 0.5
"""Seconds of an attack with one kind of reply, unless the gateway disconnects it earlier."""

UNTIL_DISCONNECTED = 20.0
LARGE = {"CONNECT error of a long name"}
"""Packets that certainly lead to a disconnect, once the buffers of the system are full, and how long that may take: it
is 28,000 of them, for the system takes 4 MB.
"""
BURST, LARGE_BURST = 300, 100_000
"""Bytes that are sent at a time, of short packets and of long ones."""

ROOM = "r" * 20
ACTIONS = {
    "create-room": {"room": ROOM},
    "add-user": {"room": ROOM, "users": ["nobody"] * 50},
    "send-msg": {"room": ROOM, "content": "x" * 1000},
    "leave-room": {"room": "n" * 64},
    "list-rooms": {},
    "list-members": {"room": ROOM},
    "history": {"room": ROOM},
    "find-users": {"limit": 100},
    "typing": {"room": "n" * 64},
    "no-action" * 500: {},
}

PACKETS = {
    **{f"ack of {action:.20}": f"421{json.dumps([action, payload])}" for action, payload in ACTIONS.items()},
    **{f"error of {action:.20}": f"42{json.dumps([action, 1])}" for action in ACTIONS},
    "CONNECT error": "40/nobody,",
    "CONNECT error of a long name": f"40/{'n' * 4000},",
    "CONNECT error, with auth": '40/nobody,{"username":"nobody"}',
}
"""Socket.IO packets that cause a reply."""

FRAMES = {
    **{f"{action:.20}": json.dumps({"action": action, **payload}) for action, payload in ACTIONS.items()},
    "ref": json.dumps({"action": "list-rooms", "ref": "x" * 4000}),
    "no JSON": "{" * 100,
    "echo": json.dumps({"action": "send-msg", "room": ROOM, "content": "x", "more": "x" * 9000}),
    "pong": "p" * 125,
}
"""Frames of the plain wire that cause a reply."""


def in_room_of(name: str) -> Callable[[str], str]:
    """Puts a room of this user's own into what it sends."""
    return lambda text: text.replace(ROOM, f"{name:r<20}")


CUT = "cut a slow client"


class Narrow(Attacker):
    """The system takes little that it does not read."""

    async def __aenter__(self) -> Self:
        narrow = socket.socket()
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        narrow.setblocking(False)
        await asyncio.get_running_loop().sock_connect(narrow, (self._host, self._port))
        self.reader, self.writer = await asyncio.open_connection(sock=narrow, limit=2**22)
        return self


class StalledSocketIO(Narrow, SocketIOAttacker): ...


class StalledPlain(Narrow, PlainAttacker): ...


class Provocation:
    """Causes one reply after the other, of each kind until the gateway disconnects or the time is up."""

    def __init__(self, attack: Attack, certain: set[str]) -> None:
        self._certain = certain
        self._attack = attack
        self._gateway = attack.gateway
        self.cut: set[str] = set()

    @asynccontextmanager
    async def one(self, kind: str, seconds: float) -> AsyncIterator[Callable[[], bool]]:
        """An attack with one kind: whether it is to go on. It is disconnected once at most; a thread logs that, which
        may come after the connection's end.
        """
        loop = asyncio.get_running_loop()
        before, end = self._gateway.log.count(CUT), loop.time() + seconds
        try:
            yield lambda: self._gateway.log.count(CUT) == before and loop.time() < end
        except (ConnectionError, aiohttp.ServerDisconnectedError):
            await until(lambda: self._gateway.log.count(CUT) > before)
        cuts = self._gateway.log.count(CUT) - before
        assert cuts <= 1, self._gateway.log[-2000:]
        if cuts:
            self.cut.add(kind)

    async def all(self, provoke: Callable[[str, float], Awaitable[None]], kinds: Iterable[str]) -> None:
        """Once shortly, to know what the gateway needs for it, and once for longer."""
        for seconds in (SHORT, LASTING):
            self._attack.settle()
            for kind in kinds:
                long = UNTIL_DISCONNECTED if seconds == LASTING and kind in self._certain else seconds
                await self._attack.watch(provoke(kind, long))
        self._attack.note("cut", f"{len(self.cut)} of {len(list(kinds))} kinds")


async def provoke(attacker: Attacker, frame: bytes, going_on: Callable[[], bool]) -> None:
    """Send a frame again and again, and read nothing. What it costs the store is not what is measured here."""
    attacker.writer.transport.pause_reading()
    while going_on():
        attacker.writer.write(frame * max(1, (LARGE_BURST if len(frame) > 1000 else BURST) // len(frame)))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await attacker.writer.drain()
        await asyncio.sleep(0.001)  # others run


async def test_unread_replies_on_a_websocket(start_attack: StartAttack) -> None:
    """None of them takes more than the buffer."""
    attack = await start_attack(**SETTINGS)
    provocation = Provocation(attack, LARGE)

    async def send(kind: str, seconds: float) -> None:
        async with StalledSocketIO(attack.gateway.url) as client, provocation.one(kind, seconds) as going_on:
            room = in_room_of(await client.log_in())
            await client.send(message(room(f'420["create-room",{{"room":"{ROOM}"}}]')))
            await provoke(client, message(room(PACKETS[kind])), going_on)

    await provocation.all(send, PACKETS)
    assert provocation.cut >= LARGE


async def test_unpolled_replies_on_long_polling(start_attack: StartAttack) -> None:
    """None of them takes more than the buffer, CONNECT errors included."""
    attack = await start_attack(**SETTINGS)
    provocation = Provocation(attack, LARGE)

    async def post(kind: str, seconds: float) -> None:
        url = await open_polling(attack.gateway.url)
        room = in_room_of(name := fresh_name())
        await request("POST", url, data=f'40{{"username":"{name}"}}')
        await request("GET", url)
        await request("POST", url, data=room(f'420["create-room",{{"room":"{ROOM}"}}]'))
        body = "\x1e".join([room(PACKETS[kind])] * (20_000 // len(PACKETS[kind])))
        async with provocation.one(kind, seconds) as going_on:
            while going_on():
                await request("POST", url, data=body)
        await request("POST", url, data="1")

    await provocation.all(post, PACKETS)
    assert provocation.cut >= LARGE


@pytest.mark.parametrize("form", ["bare", "json"])
async def test_unread_replies_on_the_plain_wire(start_attack: StartAttack, form: str) -> None:
    """Echoes, errors, replies and pongs: none of them takes more than the buffer."""
    attack = await start_attack(**SETTINGS)
    provocation = Provocation(attack, certain := {"echo" if form == "bare" else "ref"})

    async def send(kind: str, seconds: float) -> None:
        async with StalledPlain(attack.gateway.url) as client, provocation.one(kind, seconds) as going_on:
            room = in_room_of(name := fresh_name())
            await client.shake_hands(f"/username/{name}?format={form}")
            await client.send(masked(1, room(json.dumps({"action": "create-room", "room": ROOM})).encode()))
            await provoke(client, masked(9 if kind == "pong" else 1, room(FRAMES[kind]).encode()), going_on)

    await provocation.all(send, FRAMES)
    assert provocation.cut >= certain
    assert "pong" not in provocation.cut, "only the last ping gets a pong"
