"""When a client is too slow. The one rule for every byte that is written to a client, on every transport.

``max_buffer`` is for what a client does *not* read:

- One frame in hand is always allowed, however large it is: what counts is what waits beside it. What is written in one
  iteration of the event loop, before the client could read any of it, is no reason to cut it at once either.
- Up to half of ``max_buffer`` more may wait for `PATIENCE` seconds; a client that takes nothing in that time is cut.
- Still more may wait while the client reads: `READING` times what it has taken lately. Progress resets the rule.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

PATIENCE: Final = 1.0
"""Seconds that a client with too much unsent may take nothing."""

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

    __slots__ = (
        "_allowed",
        "_base",
        "_chance",
        "_due",
        "_in_one_go",
        "_judged",
        "_last",
        "_max_buffer",
        "_reader",
        "_taken",
        "_taken_before",
    )

    def __init__(self, reader: Reader, max_buffer: int, *, chance: float) -> None:
        """``chance``: seconds from a write that was too much to the verdict. It is what the client's transport needs to
        take something, if the client reads.
        """
        self._reader = reader
        self._max_buffer = max_buffer
        self._chance = chance
        self._allowed = max_buffer
        """Unsent bytes for which nobody is cut: ``max_buffer`` beside the frame in hand, or what was unsent when the
        client was last seen to read.
        """
        self._base = max_buffer
        """As `_allowed`, and what was written in one go."""
        self._in_one_go = False
        self._last = 0
        self._taken = 0
        self._taken_before = 0
        self._due: asyncio.TimerHandle | None = None
        self._judged = False
        """Whether the client was cut: what is still written to it, the reason why, is no reason to cut it again."""

    def wrote(self, size: int, unsent: int) -> None:
        """``size`` bytes were written, with which ``unsent``, more than ``max_buffer``, are there."""
        if self._judged:
            return
        loop = asyncio.get_running_loop()
        if self._due is None:
            self._taken = self._taken_before = 0
        else:
            self._taken += self._last + size - unsent
        self._last = unsent
        if unsent - size <= self._max_buffer:
            self._allowed = self._base = self._max_buffer + size
            self._in_one_go = True
            loop.call_soon(self._end_of_iteration)
        if self._in_one_go:
            self._base = max(self._base, unsent)
        if unsent > self._limit:
            self._judge_in(self._chance, loop)
        elif self._due is None:
            self._judge_in(PATIENCE, loop)

    def close(self) -> None:
        """The client is gone."""
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _end_of_iteration(self) -> None:
        self._in_one_go = False

    @property
    def _limit(self) -> int:
        return self._base + self._max_buffer // 2 + READING * (self._taken + self._taken_before)

    def _judge_in(self, seconds: float, loop: asyncio.AbstractEventLoop) -> None:
        if self._due is None or self._due.when() > loop.time() + seconds:
            self.close()
            self._due = loop.call_later(seconds, self._judge, loop, seconds == PATIENCE)

    def _judge(self, loop: asyncio.AbstractEventLoop, lasting: bool) -> None:
        """The verdict; ``lasting``: after `PATIENCE`."""
        self._due = None
        unsent = self._reader.unsent()
        self._taken += self._last - unsent
        self._last = unsent
        if unsent <= self._max_buffer:
            return
        if unsent > self._limit or (lasting and not self._taken and unsent > self._allowed):
            self._judged = True
            self._reader.too_slow(unsent)
            return
        if lasting:
            if self._taken:
                self._allowed = max(self._allowed, unsent)
                self._base = max(self._base, unsent)
            self._taken, self._taken_before = 0, self._taken
        self._judge_in(PATIENCE, loop)
