"""Many clients on all wires talk, come and go while connections are reset and stalled, and the gateway is killed; or
gateways that share a Valkey server are killed, stopped, paused and cut off from it, and so is the server.

The suite runs each for about a minute. At full size, alone on its machine, they are

    SOAK=full .venv/bin/pytest -n0 tests/soak

SOAK_SEED repeats the choices of a run, as far as time lets it; `SOAK_CLIENTS=80` and the like change a size.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import logging
import os
import random
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from harness.names import fresh_name
from harness.process import stable_port
from harness.proxy import Proxy
from harness.valkey import ValkeyProxy
from soak.checker import History, Message
from soak.members import Guest, JSONMember, Member, StockMember
from soak.troubles import Kills, Losses, Node, Outages, Trouble

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from harness.node import Driver
    from harness.process import StartGateway
    from harness.valkey import StartValkey

    OpenSite = Callable[["Size", random.Random], Awaitable["Site"]]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How large a soak is: by default, as the suite has it."""

    name: str
    seconds: float = 60
    """How long the trouble lasts at least; it goes on until there were that many `deliveries`."""
    deliveries: int = 2_000
    kills: int = 10
    """Of the gateway, where there is one."""
    nodes: int = 1
    """Gateways. One has a file of its own, several share a Valkey server."""
    longest: float = 9
    """Seconds that a node, the server or the way between them is away at most. A node's lease is shorter."""
    losses: float = 10
    """Connections that are lost or stalled in a second, besides those that are reset by the dozen."""
    clients: int = 52
    pollers: int = 5
    """One client in that many never upgrades. A poll costs this process more than many messages on a WebSocket."""
    guests: int = 8
    senders: int = 20
    rate: float = 3
    """Messages a second of each sender, at most."""
    room: int = 13
    """About half of the clients in a room."""
    buffer: int = 24_000
    """`--max-buffer`: so little is replayed that some clients have to fetch what they missed."""
    pause: float = 0.2
    """Seconds that a client waits, about, before it tries to come back."""
    back: float = 15
    """Seconds from the end of the trouble until every client is back and has what it missed, on a busy machine."""
    limit: float = 300
    """Bounds in seconds: how long the disturbances may last, and everything after them."""


CROWD = Size(
    name="500 clients",
    seconds=180,
    deliveries=1_000_000,
    losses=20,
    clients=500,
    pollers=50,
    guests=40,
    senders=40,
    rate=7,
    room=25,
    pause=2,
    back=30,
    limit=1_500,
)
KILLS = Size(
    name="100 kills at 500 messages a second",
    seconds=300,
    deliveries=100_000,
    kills=100,
    losses=5,
    clients=40,
    pollers=20,
    rate=45,  # much of each second goes into coming back
    room=5,
    limit=1_000,
)
NODES = Size(
    name="three nodes",
    seconds=45,
    nodes=3,
    buffer=50_000,  # they are away for longer
    losses=3,
    clients=24,
    guests=4,
    senders=12,
    room=8,
    back=10,
)
MANY_NODES = dataclasses.replace(
    NODES,
    name="three nodes and 100 clients",
    seconds=600,
    deliveries=1_000_000,
    longest=15,
    losses=5,
    clients=100,
    pollers=20,
    guests=10,
    senders=50,
    rate=4,
    room=12,
    limit=1_800,
)
SIZES = {"suite": [Size(name="a minute"), NODES], "full": [CROWD, KILLS, MANY_NODES]}
CHANGES = {
    field.name: float(value) if field.type == "float" else int(value)
    for field in dataclasses.fields(Size)
    if field.name != "name" and (value := os.environ.get(f"SOAK_{field.name.upper()}"))
}
SOAKS = [dataclasses.replace(size, **CHANGES) for size in SIZES[os.environ.get("SOAK", "suite")]]
SEED = int(os.environ.get("SOAK_SEED") or random.SystemRandom().randrange(1_000_000))

WIRES = ("json", "socketio-websocket", "socketio-polling", "json")
PRESENCE_LIMIT = 40
"""In the rooms of the full size, half of all events would be presence."""
# The heartbeat is short, so that stalls are noticed.
SETTINGS = {
    "history_size": 1_000_000,
    "ping_interval": 2,
    "ping_timeout": 2,
    "presence_limit": PRESENCE_LIMIT,
    "decline_window": 0,
}
READERS = 4
"""Members of each room who read its whole log in the end."""
SHOWN = 20

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Site:
    """Where clients connect, and what happens there."""

    urls: tuple[str, str]
    """Without and with lost connections."""
    proxy: Proxy
    """Of the connections that are lost."""
    trouble: Trouble


@pytest.fixture
async def open_site(start_gateway: StartGateway, start_valkey: StartValkey) -> AsyncIterator[OpenSite]:
    """Starts what a soak of some size needs."""
    async with AsyncExitStack() as stack:

        async def open_alone(size: Size, chance: random.Random) -> Site:
            gateway = await start_gateway(on_disk=True, port=stable_port(), max_buffer=size.buffer, **SETTINGS)
            proxy = await stack.enter_async_context(Proxy(gateway.url))
            return Site((gateway.url, proxy.url), proxy, Kills(chance, gateway, size.kills))

        async def open_together(size: Size, chance: random.Random) -> Site:
            server = await start_valkey()
            nodes = []
            for _ in range(size.nodes):
                way = await stack.enter_async_context(ValkeyProxy(server.store("soak")))
                settings = {**SETTINGS, "max_buffer": size.buffer, "log_level": "warning"}
                gateway = await start_gateway(store=way.url, port=stable_port(), **settings)
                nodes.append(Node(gateway, way))
            urls = [node.gateway.url for node in nodes]
            calm, proxy = [await stack.enter_async_context(Proxy(*urls)) for _ in range(2)]
            return Site((calm.url, proxy.url), proxy, Outages(chance, nodes, server, size.longest))

        async def open_(size: Size, chance: random.Random) -> Site:
            return await (open_alone if size.nodes == 1 else open_together)(size, chance)

        yield open_


@pytest.mark.parametrize(
    "size", [pytest.param(size, id=size.name, marks=pytest.mark.timeout(2 * size.limit)) for size in SOAKS]
)
async def test_no_trouble_loses_a_message(size: Size, open_site: OpenSite, driver: Driver) -> None:
    """Every acked message of a room is seen by each of its members exactly once, and in one order."""
    chance = random.Random(SEED)  # noqa: S311 (no secret)
    history = History()
    async with AsyncExitStack() as stack:
        site = await open_site(size, chance)
        members: list[Member] = []
        for number in range(size.clients):
            wire = WIRES[number % len(WIRES)] if number % size.pollers else "socketio-polling-only"
            url, common = site.urls[number // 5 % 2], (fresh_name(), history, chance, size.pause)
            member: Member = JSONMember(url, *common) if wire == "json" else StockMember(url, *common, driver, wire)
            members.append(await stack.enter_async_context(member))
        guests = [Guest(site.urls[number % 2], fresh_name("guest"), history, chance) for number in range(size.guests)]
        rooms = await make_rooms(size, members, chance)
        marks = [time.monotonic()]
        back = await Soak(size, site, members, guests, history, chance).run()
        marks.append(time.monotonic())
        async with asyncio.timeout(size.limit):
            await asyncio.gather(*(member.settle() for member in members))
            await see_all_online(rooms, members, history, size.back)
            for room in rooms:
                readers = [member for member in members if room in member.rooms][:READERS]
                for reader in readers:
                    history.log(reader.username, room, map(Message.of, await reader.read_whole_log(room)))
        marks.append(time.monotonic())
    counts = {
        **history.counts,
        "seconds": [round(end - begin, 1) for begin, end in itertools.pairwise(marks)],
        "back": round(max(back.values()), 1),
        **site.trouble.counts,
        "a second": round(history.counts["acked"] / site.trouble.up),
        "returns": sum(member.welcomes - 1 for member in members),
        "recovered": sum(member.recoveries for member in members),
    }
    logger.info("seed %d: %s", SEED, counts)
    late = {username: seconds for username, seconds in back.items() if seconds > size.back}
    judge(history, late, f"SOAK_SEED={SEED} {counts}")
    assert counts["sent"] == counts["acked"] > 0, counts
    assert counts["recovered"] > size.clients // 2, counts


async def see_all_online(rooms: list[str], members: list[Member], history: History, seconds: float) -> None:
    """All who stay are shown as online, and nobody else is there, soon after the end of the trouble."""
    end = time.monotonic() + seconds
    for room in rooms:
        there = [member for member in members if room in member.rooms]
        while shown := await there[0].online_in(room) ^ {member.username for member in there}:
            if time.monotonic() > end:
                history.note("mistaken", room, f"{there[0].username} sees that there is, or is missing: {shown}")
                break
            await asyncio.sleep(0.5)  # a session that was lost at the end is on its way


def judge(history: History, late: dict[str, float], run: str) -> None:
    """Fail with the violations, and with what the clients concerned went through."""
    violations = history.judge()
    found = [*map(str, violations[:SHOWN]), *(f"late ({name}): {seconds:.1f} s" for name, seconds in late.items())]
    concerned = dict.fromkeys([*(violation.where.split()[0] for violation in violations), *late])
    trails = [f"{name}:\n{history.evidence(name)}" for name in itertools.islice(concerned, 3)]
    assert not found, "\n".join([f"{run}, {len(violations)} violations:", *found, *trails])


async def make_rooms(size: Size, members: list[Member], chance: random.Random) -> list[str]:
    """Everybody is in one or two rooms, and each has senders and both wires in it."""
    rooms = [fresh_name("room") for _ in range(max(2, len(members) // size.room))]
    users: dict[str, list[Member]] = {room: [] for room in rooms}
    for number, member in enumerate(members):
        for room in {rooms[number % len(rooms)], chance.choice(rooms)}:
            users[room].append(member)
    for room, (creator, *others) in users.items():
        reply = await creator.call("create-room", room=room, users=[other.username for other in others])
        assert reply["ok"], reply
    for member in members:
        member.settle_in([room for room in rooms if member in users[room]])
    return rooms


class Soak:
    """Talk, come and go during the disturbances."""

    def __init__(
        self,
        size: Size,
        site: Site,
        members: list[Member],
        guests: list[Guest],
        history: History,
        chance: random.Random,
    ) -> None:
        self.size = size
        self.site = site
        self.members = members
        self.guests = guests
        self.history = history
        self.chance = chance
        self.over = asyncio.Event()
        self.hosts: dict[str, list[Member]] = {}
        for member in members:
            for room in member.rooms:
                self.hosts.setdefault(room, []).append(member)

    async def run(self) -> dict[str, float]:
        """When this returns, the trouble is over and every message is acked. How long each member took to be back."""
        size, losses = self.size, Losses(self.site.proxy, self.members, self.chance, self.size.losses)
        async with asyncio.timeout(size.limit), asyncio.TaskGroup() as tasks:
            for number, member in enumerate(self.members[: size.senders]):
                lanes = 1 + number % 3  # how many messages of a sender are on their way at once
                for lane in range(lanes):
                    tasks.create_task(self._talk(member, lane, size.rate / lanes))
            for member in self.members[size.senders :: 4]:
                tasks.create_task(self._wander(member))
            for guest in self.guests:
                tasks.create_task(guest.come_and_go(self.hosts, self.over))
            losing = [tasks.create_task(lose()) for lose in (losses.lose_some, losses.lose_many)]
            await self.site.trouble.run(size.seconds, self.members, self._is_enough)
            self.over.set()
            for task in losing:
                task.cancel()
            self.site.proxy.flow()
            returns = [tasks.create_task(self._time_return(member)) for member in self.members]
        return {member.username: task.result() for member, task in zip(self.members, returns, strict=True)}

    def _is_enough(self) -> bool:
        return self.history.deliveries >= self.size.deliveries

    async def _time_return(self, member: Member) -> float:
        began = time.monotonic()
        await member.settle()
        return time.monotonic() - began

    async def _talk(self, member: Member, lane: int, rate: float) -> None:
        """Numbered messages, each sent until it is acked, and then the next, when it is due."""
        due = time.monotonic()
        for number in itertools.count(1):
            if self.over.is_set():
                return
            words = f"{member.username} {lane} {number} " + "x" * self.chance.randrange(600)
            await member.send_message(self.chance.choice(member.rooms), f"{lane}.{number}", words)
            now = time.monotonic()
            due = max(due + self.chance.expovariate(rate), now)
            await asyncio.sleep(due - now)  # at its rate

    async def _wander(self, member: Member) -> None:
        """Visit rooms of others, one after the other."""
        foreign = [room for room in self.hosts if room not in member.rooms]
        while foreign and not self.over.is_set():
            room = self.chance.choice(foreign)
            await member.visit(room, self.chance.choice(self.hosts[room]), self.chance.uniform(0, 5))
