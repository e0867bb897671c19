"""Handling one client's messages in their order, by tasks that live only while something is handled."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from gateway.servers.pauses import Pause

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from gateway.servers.pauses import Pausable

MAX_WAITING: Final = 32
"""Messages of one client that may be in flight. With more, reading is paused until half of them are done."""

PAUSE: Final = 0.001
"""How long reading stays paused after that, in seconds. One event-loop iteration would be enough for the other clients,
but not for the store's thread, which waits for the interpreter's lock.
"""

T = TypeVar("T")
logger = logging.getLogger(__name__)

Work: TypeAlias = "Callable[[], Awaitable[None]]"
"""What is done alone, in its place in the order."""

Answer: TypeAlias = "Callable[[], None]"
"""Sends the reply to a message."""

OverlappingWork: TypeAlias = "Callable[[], Awaitable[Answer | None]]"
"""What may be done while what is before it is still being done. Its reply is sent in its place in the order."""


class InOrder:
    """Does what a client's messages ask for. Each has a task of its own, which ends after the one before it.

    Work that is `put` is done alone: after all that is before it has ended, and before anything after it begins. Work
    that may `overlap` begins as soon as what is before it has begun, so that many messages of one client can share a
    commit; their replies are sent in their order all the same::

        put A, overlap B, overlap C, put D      ── A ──┬── B ───────┬── D ──
                                                       └── C ── ···─┘
                                                                 ▲ the reply to C waits for that to B
    """

    __slots__ = ("_alone", "_in_flight", "_paused", "_stream", "finishing")

    def __init__(self, stream: Pausable) -> None:
        self._stream = stream
        self._in_flight: list[asyncio.Task[None]] | None = None
        self._alone: asyncio.Task[None] | None = None
        """The last task in flight of work that is done alone."""
        self._paused = False
        self.finishing = False
        """Whether nothing more may be put."""

    def put(self, work: Work) -> None:
        """Do ``work`` alone."""
        self._alone = self._start(self._do(work, self._last()))

    def overlap(self, work: OverlappingWork) -> None:
        """Begin ``work`` at once, or after work that is done alone, and send its reply in its place in the order."""
        self._start(self._answer(work, self._alone, self._last()))

    @property
    def busy(self) -> bool:
        """Whether something that was put is not done yet."""
        return self._in_flight is not None

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
        """Cancel all that is in flight."""
        for task in self._in_flight or ():
            task.cancel()

    def _last(self) -> asyncio.Task[None] | None:
        return self._in_flight[-1] if self._in_flight else None

    def _start(self, doing: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(doing)
        if self._in_flight is None:
            self._in_flight = [task]
        else:
            self._in_flight.append(task)
            if len(self._in_flight) > MAX_WAITING:
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
                _send(answer)
        finally:
            self._done()

    def _done(self) -> None:
        """The first task in flight has ended."""
        in_flight = self._in_flight or []
        del in_flight[:1]
        if not in_flight:
            self._in_flight = self._alone = None
        if self._paused and len(in_flight) <= MAX_WAITING // 2:
            self._paused = False
            asyncio.get_running_loop().call_later(PAUSE, self._resume)

    def _resume(self) -> None:
        if not self.finishing:
            self._stream.resume(Pause.HANDLING)


async def _attempt(work: Callable[[], Awaitable[T]]) -> T | None:
    """What ``work`` returns; None where it fails or cancels itself, neither of which may stop what is after it."""
    try:
        return await work()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        logger.warning("the handling of a message was cancelled")
    except Exception:
        logger.exception("a message could not be handled")
    return None


def _send(answer: Answer) -> None:
    try:
        answer()
    except Exception:
        logger.exception("a message could not be replied to")
