"""Sending clients away so that they come back: behind the answers to what they asked, and not all at once."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final

from gateway.errors import CloseReason

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.delivery import Connection

PACE: Final = 0.005
"""Seconds between two clients that are sent away."""

SPREAD: Final = 3.0
"""Seconds over which all of them go, however many there are."""

ANSWER_TIMEOUT: Final = 2.0
"""Seconds that the answers to what a client has asked may take."""


async def send_away(connections: Iterable[Connection]) -> None:
    """Close all connections with 1012, in no order: whoever takes them in next has them come one by one."""
    leaving = list(connections)
    random.shuffle(leaving)
    pause = min(PACE, SPREAD / max(1, len(leaving)))
    loop = asyncio.get_running_loop()
    due = loop.time()
    async with asyncio.TaskGroup() as tasks:
        for connection in leaving:
            await asyncio.sleep(max(0.0, due - loop.time()))
            tasks.create_task(_send_away(connection))
            due += pause


async def _send_away(connection: Connection) -> None:
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT):
            await connection.finish()
    except TimeoutError:
        pass  # the store hangs; what it does not acknowledge, the client sends again
    connection.close(CloseReason.RESTART)
