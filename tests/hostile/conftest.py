"""Sieges."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from harness.process import StartGateway
from hostile.siege import Attacker, PlainAttacker, Siege, SocketIOAttacker

LayOn = Callable[..., Awaitable[Siege]]


@pytest.fixture
async def siege(start_gateway: StartGateway) -> AsyncIterator[LayOn]:
    """Begins a siege, which ends with the test. ``memory``: see `Siege`; further options are the gateway's."""
    async with AsyncExitStack() as stack:

        async def lay(*, memory: float = 2.0, **settings: Any) -> Siege:
            attacked, calm = await start_gateway(**settings), await start_gateway(**settings)
            return await stack.enter_async_context(Siege(attacked, calm, memory=memory))

        yield lay


@pytest.fixture(params=[SocketIOAttacker, PlainAttacker], ids=["socketio", "plain"])
def attacker(request: pytest.FixtureRequest) -> Callable[[str], Attacker]:
    """Attackers on each wire in turn."""
    kind: Callable[[str], Attacker] = request.param
    return kind
