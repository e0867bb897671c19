"""When a client is too slow. The one rule for every byte that is written to a client, on every transport.

``max_buffer`` is for what a client does *not* read:

- One frame in hand is always allowed, however large it is: what counts is what waits beside it.
- Up to half as much again may wait for `PATIENCE` seconds; whoever takes nothing in that time is cut.
- More may wait while the client reads: at least an eighth (`READING`) of what is written. Progress resets the rule.
- Nobody is cut for what was written in one go, before the client could read any of it (`CHANCE`).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

CHANCE: Final = 0.005
"""Seconds from a write that was too much to the verdict: the loop comes round, and the system takes what it can."""

PATIENCE: Final = 1.0
"""Seconds that a client with more than ``max_buffer`` unsent may take nothing."""

READING: Final = 8
"""A client that reads may be given this many times what it has taken in the last one to two `PATIENCE`."""


class Reader(Protocol):
    """A client that is written to."""

    def unsent(self) -> int:
        """Bytes that were written and have not left this process."""

    def too_slow(self, unsent: int) -> None:
        """Cut the client. The verdict is given once."""


class Backlog:
    """Watches a client that has more than ``max_buffer`` unsent, until it has less again. `wrote` is to be called for
    each write that leaves it with more; a client that keeps up needs none.
    """

    __slots__ = ("_allowed", "_due", "_last", "_max_buffer", "_reader", "_taken", "_taken_before")

    def __init__(self, reader: Reader, max_buffer: int) -> None:
        self._reader = reader
        self._max_buffer = max_buffer
        self._allowed = max_buffer
        """Unsent bytes for which nobody is cut: ``max_buffer`` beside the frame in hand, or what was unsent when the
        client was last seen to read.
        """
        self._last = 0
        self._taken = 0
        self._taken_before = 0
        self._due: asyncio.TimerHandle | None = None

    def wrote(self, size: int, unsent: int) -> None:
        """``size`` bytes were written, with which ``unsent``, more than ``max_buffer``, are there."""
        if unsent - size <= self._max_buffer:
            self._allowed = self._max_buffer + size
            self._taken = self._taken_before = 0
        else:
            self._taken += self._last + size - unsent
        self._last = unsent
        if unsent > self._limit:
            self._judge_in(CHANCE)
        elif self._due is None:
            self._judge_in(PATIENCE)

    def close(self) -> None:
        """The client is gone."""
        if self._due is not None:
            self._due.cancel()
            self._due = None

    @property
    def _limit(self) -> int:
        return self._allowed + self._max_buffer // 2 + READING * (self._taken + self._taken_before)

    def _judge_in(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        if self._due is None or self._due.when() > loop.time() + seconds:
            self.close()
            verdict: Callable[[], None] = self._judge if seconds == PATIENCE else self._judge_excess
            self._due = loop.call_later(seconds, verdict)

    def _look(self) -> int:
        """What is unsent now."""
        unsent = self._reader.unsent()
        self._taken += self._last - unsent
        self._last = unsent
        self._due = None
        return unsent

    def _judge_excess(self) -> None:
        unsent = self._look()
        if unsent > self._limit:
            self._reader.too_slow(unsent)
        elif unsent > self._max_buffer:
            self._judge_in(PATIENCE)

    def _judge(self) -> None:
        unsent = self._look()
        if unsent <= self._max_buffer:
            return
        if unsent > self._allowed and not self._taken:
            self._reader.too_slow(unsent)
            return
        if self._taken:
            self._allowed = max(self._allowed, unsent)
        self._taken, self._taken_before = 0, self._taken
        self._judge_in(PATIENCE)
