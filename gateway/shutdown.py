"""Shutdown: a sequence of steps, each with a deadline, and the disconnecting of all clients.

A client gets the replies to its requests before its connection is closed. The close code tells it to reconnect, and
the closes are spread out, so that the clients do not all reconnect at once.
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

CLOSE_INTERVAL: Final = 0.005
"""How long to wait between closing two connections, in seconds."""

MAX_CLOSE_TIME: Final = 3.0
"""Over how many seconds the closes are spread at most. With very many connections, the interval gets shorter."""

REPLY_TIMEOUT: Final = 2.0
"""How long the replies to a client's last requests may take, in seconds."""

logger = get_logger(__name__)


class Steps:
    """The steps of a shutdown, one after another, each with a deadline. A step that fails or misses its deadline is
    logged, and the next one follows.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self.complete = True
        """Whether all steps so far were completed."""

    def left_until(self, second: float) -> float:
        """How many seconds are left until ``second`` seconds after the shutdown began."""
        return max(0.0, self._began + second - self._loop.time())

    async def run(self, name: str, step: Coroutine[Any, Any, Any], *, until: float) -> None:
        """Run a step, which must be completed ``until`` seconds after the shutdown began."""
        task = asyncio.ensure_future(step)
        try:
            done, _ = await asyncio.wait({task}, timeout=self.left_until(until))
        finally:
            task.cancel()
        error = task.exception() if done and not task.cancelled() else None
        if done and error is None:
            return
        self.complete = False
        logger.error("a shutdown step was not completed", step=name, exc_info=error)


async def disconnect_all(connections: Iterable[Connection]) -> None:
    """Close all connections with 1012, one after another and in random order."""
    leaving = list(connections)
    random.shuffle(leaving)
    pause = min(CLOSE_INTERVAL, MAX_CLOSE_TIME / max(1, len(leaving)))
    loop = asyncio.get_running_loop()
    due = loop.time()
    async with asyncio.TaskGroup() as tasks:
        for connection in leaving:
            await asyncio.sleep(max(0.0, due - loop.time()))
            tasks.create_task(_disconnect(connection))
            due += pause


async def _disconnect(connection: Connection) -> None:
    try:
        async with asyncio.timeout(REPLY_TIMEOUT):
            await connection.finish()
    except TimeoutError:
        pass  # the store hangs; the client sends again what was not acked
    except Exception:
        logger.exception("a client's last requests failed")
    connection.close(CloseReason.RESTART)
