"""The stop: clients are sent away so that they come back, after the answers to what they asked and not all at once, and
every step has its time.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, Final

from gateway.errors import CloseReason
from gateway.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

    from gateway.connections import Connection

PACE: Final = 0.005
"""Seconds between two clients that are sent away."""

SPREAD: Final = 3.0
"""Seconds over which all of them go, however many there are."""

ANSWER_TIMEOUT: Final = 2.0
"""Seconds that the answers to what a client has asked may take."""

logger = get_logger(__name__)


class Steps:
    """Steps of a stop, one after the other, each until a time of its own. One that fails, or takes longer, is logged,
    and the next one comes.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self.complete = True
        """Whether all of them were done so far."""

    def left_until(self, second: float) -> float:
        """How many seconds are left until ``second`` seconds after the beginning."""
        return max(0.0, self._began + second - self._loop.time())

    async def take(self, name: str, step: Coroutine[Any, Any, Any], *, until: float) -> None:
        """Take a step, which has to be done ``until`` seconds after the beginning."""
        task = asyncio.ensure_future(step)
        try:
            done, _ = await asyncio.wait({task}, timeout=self.left_until(until))
        finally:
            task.cancel()
        error = task.exception() if done and not task.cancelled() else None
        if done and error is None:
            return
        self.complete = False
        logger.error("a step of the stop was not done", step=name, exc_info=error)


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
    except Exception:
        logger.exception("a client's last requests failed")
    connection.close(CloseReason.RESTART)
