"""What one client's messages ask for is done in their order, by tasks that live no longer than it takes."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from gateway.servers.pauses import Pause

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from gateway.servers.pauses import Pausable

MAX_WAITING: Final = 32
"""Messages of one client that wait for the one before them; then its reading is paused."""

REST: Final = 0.001
"""Seconds that a client rests after so many. A mere turn of the loop would do for those who wait for the loop, but
not for the store's thread, which waits for the interpreter.
"""

T = TypeVar("T")
logger = logging.getLogger(__name__)

Work: TypeAlias = "Callable[[], Awaitable[None]]"
"""What is to be done when its turn comes."""

Answer: TypeAlias = "Callable[[], None]"

OverlappingWork: TypeAlias = "Callable[[], Awaitable[Answer | None]]"
"""What may be done beside what is before it; then it is answered, in its turn."""


class InOrder:
    """Does what a client's messages ask for. Each has a task of its own, which ends behind the one before it.

    Work that is `put` is done alone: behind all that is before it, and before all that is behind it. Work that may
    `overlap` begins as soon as what is before it has begun, so that many messages of one client can share a commit;
    their answers are given in their order all the same.
    """

    __slots__ = ("_alone", "_paused", "_stream", "_under_way", "finishing")

    def __init__(self, stream: Pausable) -> None:
        self._stream = stream
        self._under_way: list[asyncio.Task[None]] | None = None
        self._alone: asyncio.Task[None] | None = None
        """The last under way that is done alone."""
        self._paused = False
        self.finishing = False
        """Whether nothing more is to be put."""

    def put(self, work: Work) -> None:
        """Do ``work`` alone."""
        self._alone = self._start(self._do(work, self._last()))

    def overlap(self, work: OverlappingWork) -> None:
        """Begin ``work`` at once, or behind work that is done alone, and give its answer in its turn."""
        self._start(self._answer(work, self._alone, self._last()))

    @property
    def busy(self) -> bool:
        """Whether something that was put is not done yet."""
        return self._under_way is not None

    async def idle(self) -> None:
        """Wait until all that was put is done."""
        if (last := self._last()) is not None:
            await asyncio.shield(last)

    async def finish(self) -> None:
        """Pause the stream for good, and wait until all that was put is done."""
        self.finishing = True
        self._stream.pause(Pause.HANDLING)
        await self.idle()

    def cancel(self) -> None:
        """Do no more, not even what is under way."""
        for task in self._under_way or ():
            task.cancel()

    def _last(self) -> asyncio.Task[None] | None:
        return self._under_way[-1] if self._under_way else None

    def _start(self, doing: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(doing)
        if self._under_way is None:
            self._under_way = [task]
        else:
            self._under_way.append(task)
            if len(self._under_way) > MAX_WAITING:
                self._paused = True
                self._stream.pause(Pause.HANDLING)
        return task

    async def _do(self, work: Work, before: asyncio.Task[None] | None) -> None:
        try:
            if before is not None:
                await before
            await _attempt(work)
        finally:
            self._done()

    async def _answer(
        self, work: OverlappingWork, alone: asyncio.Task[None] | None, before: asyncio.Task[None] | None
    ) -> None:
        try:
            if alone is not None:
                await alone
            answer = await _attempt(work)
            if before is not None:
                await before
            if answer is not None:
                _give(answer)
        finally:
            self._done()

    def _done(self) -> None:
        """The first under way has come to its end."""
        under_way = self._under_way or []
        del under_way[:1]
        if not under_way:
            self._under_way = self._alone = None
        if self._paused and len(under_way) <= MAX_WAITING // 2:
            self._paused = False
            asyncio.get_running_loop().call_later(REST, self._resume)

    def _resume(self) -> None:
        if not self.finishing:
            self._stream.resume(Pause.HANDLING)


async def _attempt(work: Callable[[], Awaitable[T]]) -> T | None:
    """What ``work`` returns; None where it fails, or gives itself up, which must stop nothing behind it."""
    try:
        return await work()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        logger.warning("the handling of a message was given up")
    except Exception:
        logger.exception("a message could not be handled")
    return None


def _give(answer: Answer) -> None:
    try:
        answer()
    except Exception:
        logger.exception("a message could not be answered")
