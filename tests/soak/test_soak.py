"""Many clients on both wires talk while connections are reset and stalled and the gateway is killed and started again.

The environment chooses the size; these are the defaults of a quick run, and what the full one is:

    SOAK_SECONDS=60 SOAK_KILLS=12 SOAK_CLIENTS=80 SOAK_RATE=8 .venv/bin/pytest -n0 tests/soak/test_soak.py

SOAK_SEED repeats the choices of a run, as far as time lets it.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import random
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from harness.names import fresh_name
from harness.process import quiet_port
from soak.checker import History, Message
from soak.members import JSONMember, Member, StockMember
from soak.proxy import Proxy

if TYPE_CHECKING:
    from harness.node import Driver
    from harness.process import GatewayProcess, StartGateway

SECONDS = float(os.environ.get("SOAK_SECONDS", "6"))
"""How long there is trouble. The rest of the time goes into coming back and reading what is there."""
KILLS = int(os.environ.get("SOAK_KILLS", "2"))
CLIENTS = int(os.environ.get("SOAK_CLIENTS", "52"))
SENDERS = int(os.environ.get("SOAK_SENDERS", "20"))
RATE = float(os.environ.get("SOAK_RATE", "5"))
"""Messages a second of each sender, at most."""
SEED = int(os.environ.get("SOAK_SEED") or random.SystemRandom().randrange(1_000_000))

WIRES = ("json", "socketio-websocket", "socketio-polling", "json", "socketio-polling-only")
CALM = 60.0 + SECONDS
"""Seconds that everyone has to come back and read on."""
LIFE = 1.0
"""Seconds that a gateway lives at least."""
READERS = 4
"""Members of each room who read its whole log in the end."""
SHOWN = 20

logger = logging.getLogger(__name__)


@pytest.mark.skipif("SOAK_SECONDS" not in os.environ, reason="runs by the command above, alone on its machine")
@pytest.mark.timeout(2 * (SECONDS + CALM))
async def test_nothing_is_lost(start_gateway: StartGateway, driver: Driver) -> None:
    """Every acked message of a room is seen by each of its members exactly once, and in one order."""
    chance = random.Random(SEED)  # noqa: S311 (no secret)
    history = History()
    # Little is replayed, so that some clients have to fetch. The heartbeat is short, so that stalls are noticed.
    gateway = await start_gateway(
        on_disk=True, port=quiet_port(), history_size=1_000_000, max_buffer=24_000, ping_interval=2, ping_timeout=2
    )
    marks = [time.monotonic()]
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(Proxy(gateway.url))
        members: list[Member] = []
        for number in range(CLIENTS):
            wire = WIRES[number % len(WIRES)]
            url = (gateway, proxy)[number // len(WIRES) % 2].url
            if wire == "json":
                member: Member = JSONMember(url, fresh_name(), history, chance)
            else:
                member = StockMember(url, fresh_name(), history, driver, wire)
            members.append(await stack.enter_async_context(member))
        marks.append(time.monotonic())
        rooms = await make_rooms(members, chance)
        kills = await run(gateway, proxy, members, chance)
        marks.append(time.monotonic())
        async with asyncio.timeout(CALM):
            await asyncio.gather(*(member.settle() for member in members))
            marks.append(time.monotonic())
            for room in rooms:
                readers = [member for member in members if room in member.rooms][:READERS]
                for reader in readers:
                    history.log(reader.username, room, map(Message.of, await reader.read_whole_log(room)))
        marks.append(time.monotonic())
    violations = history.judge()
    counts = {
        **history.counts,
        "seconds": [round(end - begin, 1) for begin, end in itertools.pairwise(marks)],
        "kills": kills,
        "returns": sum(member.welcomes - 1 for member in members),
        "recovered": sum(member.recoveries for member in members),
    }
    logger.info("seed %d: %s", SEED, counts)
    shown = "\n".join(str(violation) for violation in violations[:SHOWN])
    assert not violations, f"SOAK_SEED={SEED} {counts}, {len(violations)} violations:\n{shown}"
    assert kills == KILLS, f"SOAK_SEED={SEED} {counts}"
    assert counts["sent"] == counts["acked"] > 0, f"SOAK_SEED={SEED} {counts}"
    assert counts["recovered"] > CLIENTS // 2, f"SOAK_SEED={SEED} {counts}"


async def make_rooms(members: list[Member], chance: random.Random) -> list[str]:
    """Rooms of about ten to twenty; everybody is in one or two, and each has senders and both wires in it."""
    rooms = [fresh_name("room") for _ in range(max(2, len(members) // 13))]
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


async def run(gateway: GatewayProcess, proxy: Proxy, members: list[Member], chance: random.Random) -> int:
    """Talk amid trouble; returns, when the trouble is over and every message is acked, how often there was a kill."""
    over = asyncio.Event()
    async with asyncio.timeout(SECONDS + CALM), asyncio.TaskGroup() as tasks:
        for number, member in enumerate(members[:SENDERS]):
            for lane in range(1 + number % 3):  # so many messages of a sender are on their way at once
                seed = chance.randrange(1 << 30)
                tasks.create_task(talk(member, lane, RATE / (1 + number % 3), random.Random(seed), over))  # noqa: S311
        trouble = tasks.create_task(make_trouble(proxy, members, chance, over))
        began = time.monotonic()
        kills = 0
        for number in range(KILLS):
            due = began + SECONDS * (number + chance.uniform(0.5, 1)) / KILLS
            await asyncio.sleep(max(LIFE, due - time.monotonic()))
            await gateway.kill9()
            await gateway.restart()
            kills += 1
        await asyncio.sleep(max(LIFE, began + SECONDS - time.monotonic()))
        over.set()
        await trouble
        for link in proxy.links():
            link.flowing.set()
    return kills


async def talk(member: Member, lane: int, rate: float, chance: random.Random, over: asyncio.Event) -> None:
    """Numbered messages, each sent until it is acked, and then the next."""
    number = 0
    while not over.is_set():
        number += 1
        words = f"{member.username} {lane} {number} " + "x" * chance.randrange(600)
        await member.say(chance.choice(member.rooms), f"{lane}.{number}", words)
        await asyncio.sleep(chance.expovariate(rate))


async def make_trouble(proxy: Proxy, members: list[Member], chance: random.Random, over: asyncio.Event) -> None:
    """Lose connections, on either side or between, and stall them."""
    while not over.is_set():
        link = proxy.pick(chance)
        match chance.choice(("lose", "lose", "cut", "stall", "stall", "stall all")):
            case "lose":
                member = chance.choice(members)
                if member.online:
                    await member.lose()
            case "cut" if link is not None:
                link.cut()
            case "stall" if link is not None:
                link.stall(chance.uniform(0.1, 5))
            case "stall all" if chance.random() < 0.1:
                seconds = chance.uniform(0.1, 2)
                for each in proxy.links():
                    each.stall(seconds)
        await asyncio.sleep(chance.expovariate(10))
