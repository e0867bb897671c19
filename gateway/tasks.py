"""Background tasks with an owner."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from gateway.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

logger = get_logger(__name__)


RESTART_PAUSE: Final = 1.0
"""How long after a failure `keep_running` begins again, in seconds."""


async def keep_running(part: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run ``part``, which does not end by itself, until it is cancelled. What it raises is a mistake of the program: it
    is logged, and ``part`` begins again.
    """
    while True:
        try:
            await part()
        except Exception:
            logger.exception("a background task failed, and begins again")
        await asyncio.sleep(RESTART_PAUSE)


class TaskOwner:
    """Holds the tasks it starts, logs what they raise, and cancels those still running when it is closed."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a background task failed", exc_info=error)

    async def close(self, *, grace: float) -> None:
        """Wait up to ``grace`` seconds for the tasks, then cancel them."""
        tasks = tuple(self._tasks)
        if tasks:
            _, pending = await asyncio.wait(tasks, timeout=grace)
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
