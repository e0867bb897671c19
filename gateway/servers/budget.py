"""The memory that all clients together may take: what was received and is not a whole message yet, and what was
written and has not left this process.

A client that holds little is not counted. One that holds more is counted each time its share grows. That it holds less
again is only noticed when the budget is exceeded and all are recounted, so it costs nothing until then.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final, Protocol

from gateway.servers.pauses import Pausable, Pause

COUNTED_FROM: Final = 4096
"""Bytes above which a client is counted."""

GRACE: Final = 0.5
"""How long the paused clients have to bring the total down, in seconds, before they are cut."""

RELIEVED: Final = 0.8
"""The share of the budget to which the total is brought down."""

EXCEEDED: Final = 1.1
"""The share of the budget above which clients are disconnected without being paused first."""

STEP: Final = 0.05
"""By which share of the budget the total must grow before all are recounted."""

logger = logging.getLogger(__name__)


class Holder(Pausable, Protocol):
    """Something that takes memory for a client. It is paused for `Pause.MEMORY`."""

    def held(self) -> int:
        """Bytes that it takes."""

    def cut(self) -> None:
        """Close the client, and drop all that is held for it."""


class Budget:
    """What all holders together may take, in bytes. Beyond that, those that hold the most are paused, then cut."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.total = 0
        """What is held, as far as it was counted."""
        self._look_at: float = limit
        """The total at which all are recounted, which takes a while if there are many."""
        self._held: dict[Holder, int] = {}
        self._held_back: list[Holder] = []
        self._due: asyncio.TimerHandle | None = None

    def count(self, holder: Holder) -> None:
        """Count what ``holder`` takes. To be called when that has grown, and is more than `COUNTED_FROM`."""
        size = holder.held()
        self.total += size - self._held.get(holder, 0)
        self._held[holder] = size
        if self.total > self._look_at:
            self._relieve()

    def forget(self, holder: Holder) -> None:
        """``holder`` takes nothing any more."""
        self.total -= self._held.pop(holder, 0)

    def _recount(self) -> None:
        self._held = {holder: size for holder in self._held if (size := holder.held()) > COUNTED_FROM}
        self.total = sum(self._held.values())
        self._look_at = max(self.limit, self.total + self.limit * STEP)

    def _relieve(self) -> None:
        """Pause those that hold the most; cut them if that was not enough, or would come too late."""
        self._recount()
        if self.total > self.limit * EXCEEDED:
            self._cut()
        elif self.total > self.limit and self._due is None:
            self._held_back = self._largest()
            for holder in self._held_back:
                holder.pause(Pause.MEMORY)
            self._due = asyncio.get_running_loop().call_later(GRACE, self._check)

    def _largest(self) -> list[Holder]:
        """Those that hold the most, without which the others hold little enough."""
        total, chosen = self.total, []
        for holder, size in sorted(self._held.items(), key=lambda item: item[1], reverse=True):
            if total <= self.limit * RELIEVED:
                break
            chosen.append(holder)
            total -= size
        return chosen

    def _check(self) -> None:
        self._due = None
        self._recount()
        if self.total > self.limit * RELIEVED:
            self._cut()
        held_back, self._held_back = self._held_back, []
        for holder in held_back:
            holder.resume(Pause.MEMORY)

    def _cut(self) -> None:
        largest = self._largest()
        sizes = [self._held[holder] for holder in largest]
        logger.warning(
            "cut those who held the most memory",
            extra={
                "clients": len(largest),
                "held": sum(sizes),
                "largest": max(sizes),
                "all_held": self.total,
                "max_memory": self.limit,
            },
        )
        for holder in largest:
            self.forget(holder)
            holder.cut()


UNLIMITED: Final = Budget(2**63)
"""For a server that sets no limit."""
