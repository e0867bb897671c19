"""Many clients on all wires talk, come and go while connections are reset and stalled and the gateway is killed.

The suite runs it for a minute. At full size, alone on its machine, it is

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
from soak.checker import History, Message
from soak.members import Guest, JSONMember, Member, StockMember

if TYPE_CHECKING:
    from harness.node import Driver
    from harness.process import GatewayProcess, StartGateway


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How large a soak is: by default, as the suite has it."""

    name: str
    seconds: float = 60
    """How long the trouble lasts at least; it goes on until there were that many `deliveries`."""
    deliveries: int = 2_000
    kills: int = 10
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
SIZES = {"suite": [Size(name="a minute")], "full": [CROWD, KILLS]}
CHANGES = {
    field.name: float(value) if field.type == "float" else int(value)
    for field in dataclasses.fields(Size)
    if (value := os.environ.get(f"SOAK_{field.name.upper()}"))
}
SOAKS = [dataclasses.replace(size, **CHANGES) for size in SIZES[os.environ.get("SOAK", "suite")]]
SEED = int(os.environ.get("SOAK_SEED") or random.SystemRandom().randrange(1_000_000))

WIRES = ("json", "socketio-websocket", "socketio-polling", "json")
PRESENCE_LIMIT = 40
"""In the rooms of the full size, half of all events would be presence."""
LIFE = 1.0
"""Seconds that a gateway lives at least, once half of the clients are back."""
READERS = 4
"""Members of each room who read its whole log in the end."""
SHOWN = 20

logger = logging.getLogger(__name__)


@pytest.mark.parametrize(
    "size", [pytest.param(size, id=size.name, marks=pytest.mark.timeout(2 * size.limit)) for size in SOAKS]
)
async def test_kills_and_lost_connections_lose_no_message(
    size: Size, start_gateway: StartGateway, driver: Driver
) -> None:
    """Every acked message of a room is seen by each of its members exactly once, and in one order."""
    chance = random.Random(SEED)  # noqa: S311 (no secret)
    history = History()
    # Little is replayed, so that some clients have to fetch. The heartbeat is short, so that stalls are noticed.
    own = {"history_size": 1_000_000, "max_buffer": 24_000, "ping_interval": 2, "ping_timeout": 2}
    gateway = await start_gateway(
        on_disk=True, port=stable_port(), presence_limit=PRESENCE_LIMIT, decline_window=0, **own
    )
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(Proxy(gateway.url))
        urls = (gateway.url, proxy.url)
        members: list[Member] = []
        for number in range(size.clients):
            wire = WIRES[number % len(WIRES)] if number % size.pollers else "socketio-polling-only"
            url, common = urls[number // 5 % 2], (fresh_name(), history, chance, size.pause)
            member: Member = JSONMember(url, *common) if wire == "json" else StockMember(url, *common, driver, wire)
            members.append(await stack.enter_async_context(member))
        guests = [Guest(urls[number % 2], fresh_name("guest"), history, chance) for number in range(size.guests)]
        rooms = await make_rooms(size, members, chance)
        marks = [time.monotonic()]
        soak = Soak(size, gateway, proxy, members, guests, history, chance)
        back = await soak.run()
        marks.append(time.monotonic())
        async with asyncio.timeout(size.limit):
            await asyncio.gather(*(member.settle() for member in members))
            for room in rooms:
                readers = [member for member in members if room in member.rooms][:READERS]
                for reader in readers:
                    history.log(reader.username, room, map(Message.of, await reader.read_whole_log(room)))
        marks.append(time.monotonic())
    counts = {
        **history.counts,
        "seconds": [round(end - begin, 1) for begin, end in itertools.pairwise(marks)],
        "back": round(max(back.values()), 1),
        "kills": size.kills,
        "a second": round(history.counts["acked"] / soak.up),
        "returns": sum(member.welcomes - 1 for member in members),
        "recovered": sum(member.recoveries for member in members),
    }
    logger.info("seed %d: %s", SEED, counts)
    late = {username: seconds for username, seconds in back.items() if seconds > size.back}
    judge(history, late, f"SOAK_SEED={SEED} {counts}")
    assert counts["sent"] == counts["acked"] > 0, counts
    assert counts["recovered"] > size.clients // 2, counts


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
        gateway: GatewayProcess,
        proxy: Proxy,
        members: list[Member],
        guests: list[Guest],
        history: History,
        chance: random.Random,
    ) -> None:
        self.size = size
        self.gateway = gateway
        self.proxy = proxy
        self.members = members
        self.guests = guests
        self.history = history
        self.chance = chance
        self.over = asyncio.Event()
        self.up = 0.0
        """Seconds of the trouble in which there was a gateway."""
        self.hosts: dict[str, list[Member]] = {}
        for member in members:
            for room in member.rooms:
                self.hosts.setdefault(room, []).append(member)

    async def run(self) -> dict[str, float]:
        """When this returns, the trouble is over and every message is acked. How long each member took to be back."""
        size = self.size
        async with asyncio.timeout(size.limit), asyncio.TaskGroup() as tasks:
            for number, member in enumerate(self.members[: size.senders]):
                lanes = 1 + number % 3  # how many messages of a sender are on their way at once
                for lane in range(lanes):
                    tasks.create_task(self._talk(member, lane, size.rate / lanes))
            for member in self.members[size.senders :: 4]:
                tasks.create_task(self._wander(member))
            for guest in self.guests:
                tasks.create_task(guest.come_and_go(self.hosts, self.over))
            trouble = [tasks.create_task(make()) for make in (self._lose, self._reset_many)]
            await self._kill()
            self.over.set()
            for task in trouble:
                task.cancel()
            self.proxy.flow()
            returns = [tasks.create_task(self._time_return(member)) for member in self.members]
        return {member.username: task.result() for member, task in zip(self.members, returns, strict=True)}

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

    async def _kill(self) -> None:
        """Kill the gateway and start it again, as often as the size says, until the trouble has lasted long enough."""
        began = since = time.monotonic()
        for number in range(self.size.kills):
            due = began + self.size.seconds * (number + self.chance.uniform(0.5, 1)) / self.size.kills
            await self._half_back()
            await asyncio.sleep(max(LIFE, due - time.monotonic()))  # a life of the gateway
            self.up += time.monotonic() - since
            await self.gateway.kill9()
            await self.gateway.restart()
            since = time.monotonic()
        await asyncio.sleep(max(LIFE, began + self.size.seconds - time.monotonic()))  # its last life
        while self.history.deliveries < self.size.deliveries:  # noqa: ASYNC110 (there is no event for each delivery)
            await asyncio.sleep(1)  # the trouble goes on
        self.up += time.monotonic() - since

    async def _half_back(self) -> None:
        while 2 * sum(member.online for member in self.members) < len(self.members):  # noqa: ASYNC110 (there is no event)
            await asyncio.sleep(0.1)  # the trouble goes on

    async def _lose(self) -> None:
        """Lose connections, on either side or between, and stall them."""
        while not self.over.is_set():
            link = self.proxy.pick(self.chance)
            match self.chance.choice(("lose", "lose", "reset", "stall", "stall")):
                case "lose":
                    member = self.chance.choice(self.members)
                    if member.online:
                        await member.lose()
                case "reset" if link is not None:
                    link.reset()
                case "stall" if link is not None:
                    link.stall(self.chance.uniform(0.1, 5))
            await asyncio.sleep(self.chance.expovariate(self.size.losses))  # at their rate

    async def _reset_many(self) -> None:
        """Every 1 to 5 seconds reset or stall one in ten connections, or stall them all."""
        while not self.over.is_set():
            what = self.chance.choice(("reset", "reset", "stall", "stall all"))
            seconds = self.chance.uniform(0.1, 2)
            for link in self.proxy.links():
                if what == "stall all" or self.chance.random() < 0.1:
                    if what == "reset":
                        link.reset()
                    else:
                        link.stall(seconds)
            await asyncio.sleep(self.chance.uniform(1, 5))  # at their rate
