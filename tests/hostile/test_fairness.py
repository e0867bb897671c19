"""Requests that cost the store much: the client that makes them waits for them, and nobody else."""

from __future__ import annotations

import asyncio
import itertools
import json
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

from harness.names import fresh_name
from harness.plain import JsonClient
from hostile.attack import PlainAttacker, masked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hostile.conftest import StartAttack

SECONDS = 4
MEMBERS, ROOMS = 100, 15


def most_expensive(number: int, room: str, users: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The most expensive requests, over and over."""
    for round_ in itertools.count():
        created = f"{room}-{number}-{round_}"
        yield "history", {"room": room, "limit": 100}
        yield "list-members", {"room": room, "limit": 100}
        yield "find-users", {"prefix": "zz", "limit": 100}
        yield "list-rooms", {}
        yield "create-room", {"room": created}
        yield "add-user", {"room": created, "users": users}
        yield "leave-room", {"room": created}


async def ask(attacker: PlainAttacker, actions: Iterator[tuple[str, dict[str, Any]]]) -> None:
    """As much as the gateway takes: it reads on while 32 are in flight or fewer."""
    for action, payload in actions:
        await attacker.send(masked(1, json.dumps({"action": action, **payload}).encode()))


@pytest.mark.parametrize("connections", [1, 4])
async def test_the_most_expensive_mix_of_requests(start_attack: StartAttack, connections: int) -> None:
    """From one connection and from several: bystanders hardly notice."""
    async with AsyncExitStack() as stack:
        attack = await start_attack(memory=80, left=60)
        users = [fresh_name() for _ in range(MEMBERS)]
        for user in users:
            await stack.enter_async_context(JsonClient(attack.gateway.url, user))
        host = await stack.enter_async_context(JsonClient(attack.gateway.url, fresh_name()))
        attackers = [await stack.enter_async_context(PlainAttacker(attack.gateway.url)) for _ in range(connections)]
        names = [await attacker.log_in() for attacker in attackers]
        rooms = [fresh_name("room") for _ in range(ROOMS)]
        for room in rooms:
            assert (await host.call("create-room", room=room, users=[*users[: MEMBERS // 2], *names]))["ok"]
        for number in range(300):
            await host.call("send-msg", room=rooms[0], content=f"{number}" * 50)
        attack.begin_again()
        working = [
            asyncio.create_task(work)
            for number, attacker in enumerate(attackers)
            for work in (ask(attacker, most_expensive(number, rooms[0], users)), attacker.closed(120))
        ]
        await attack.watch(asyncio.sleep(SECONDS))  # the duration of the attack
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)
