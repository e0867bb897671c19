"""When a client is too slow: the one rule for every byte that is written to a client, on every transport.

``max_buffer`` bounds what a client does *not* read:

- The frame being sent is always allowed, however large it is: what counts is what waits beside it. What is written in
  one event-loop iteration, before the client could read any of it, does not count at once either.
- Up to half of ``max_buffer`` more may wait for `STALL_TIMEOUT` seconds; a client that takes nothing in that time is
  cut.
- Still more may wait while the client reads: `READING` times what it has taken lately. Progress resets the rule.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

STALL_TIMEOUT: Final = 1.0
"""How long a client with too much unsent may take nothing, in seconds."""

READING: Final = 8
"""A client that reads may be sent this many times what it has taken in the last one to two `STALL_TIMEOUT`."""


class Client(Protocol):
    """A client that can be closed for being too slow."""

    def describe(self) -> Mapping[str, object]:
        """Who the client is, for the log."""

    def too_slow(self) -> None:
        """Close the client, which does not read what it is sent. Called once."""


class Reader(Client, Protocol):
    """A client's transport, which is written to."""

    @property
    def grace(self) -> float:
        """Seconds from a write that was too much to the verdict: what the transport needs to take something, if the
        client reads.
        """

    def unsent(self) -> int:
        """Bytes that were written and have not left this process."""


class Judge(Protocol):
    """What acts on the verdict."""

    def cut(self, client: Client, unsent: int) -> None:
        """``client`` is too slow, with ``unsent`` bytes."""


class Backlog:
    """Watches a client that has more than ``max_buffer`` unsent, until it has less again. `wrote` is to be called for
    each write that leaves it with more; a client that keeps up needs none.
    """

    __slots__ = (
        "_allowed",
        "_base",
        "_due",
        "_due_at",
        "_in_one_go",
        "_judge",
        "_judged",
        "_last",
        "_max_buffer",
        "_reader",
        "_taken",
        "_taken_before",
    )

    def __init__(self, reader: Reader, max_buffer: int, judge: Judge) -> None:
        self._reader = reader
        self._judge = judge
        self._max_buffer = max_buffer
        self._allowed = max_buffer
        """Unsent bytes for which no client is cut: ``max_buffer`` beside the frame being sent, or what was unsent when
        this client was last seen to read.
        """
        self._base = max_buffer
        """As `_allowed`, and what was written in one event-loop iteration."""
        self._in_one_go = False
        """Whether that iteration is still running."""
        self._last = 0
        self._taken = 0
        self._taken_before = 0
        self._due: asyncio.TimerHandle | None = None
        self._due_at = 0.0
        """When that is, by the loop's clock."""
        self._judged = False
        """Whether the client was cut: the close frame that is still written to it must not cut it again."""

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
            self._decide_in(self._reader.grace, loop)
        elif self._due is None:
            self._decide_in(STALL_TIMEOUT, loop)

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

    def _decide_in(self, seconds: float, loop: asyncio.AbstractEventLoop) -> None:
        at = loop.time() + seconds
        if self._due is None or self._due_at > at:
            self.close()
            self._due_at = at
            self._due = loop.call_later(seconds, self._decide, loop, seconds == STALL_TIMEOUT)

    def _decide(self, loop: asyncio.AbstractEventLoop, lasting: bool) -> None:
        """Give the verdict; ``lasting``: after `STALL_TIMEOUT`."""
        self._due = None
        unsent = self._reader.unsent()
        self._taken += self._last - unsent
        self._last = unsent
        if unsent <= self._max_buffer:
            return
        if unsent > self._limit or (lasting and not self._taken and unsent > self._allowed):
            self._judged = True
            self._judge.cut(self._reader, unsent)
            return
        if lasting:
            if self._taken:
                self._allowed = max(self._allowed, unsent)
                self._base = max(self._base, unsent)
            self._taken, self._taken_before = 0, self._taken
        self._decide_in(STALL_TIMEOUT, loop)
