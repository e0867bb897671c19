"""Waiting until everything up to a position was delivered."""

from __future__ import annotations

import asyncio
import heapq
import itertools


class Waiters:
    """Callers that wait for positions, and the position that was reached."""

    def __init__(self) -> None:
        self.position = 0
        """Everything up to it was delivered."""
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._released = False

    async def passed(self, position: int) -> bool:
        """Wait until a position is reached; False where it never will be."""
        if position > self.position and not self._released:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            heapq.heappush(self._waiting, (position, next(self._numbers), future))
            await future
        return position <= self.position

    def reach(self, position: int) -> None:
        self.position = max(self.position, position)
        while self._waiting and self._waiting[0][0] <= self.position:
            *_, future = heapq.heappop(self._waiting)
            if not future.done():
                future.set_result(None)

    def release(self) -> None:
        """Let everybody go on, and nobody wait any more: nothing will be delivered."""
        self._released = True
        for *_, future in self._waiting:
            if not future.done():
                future.set_result(None)
        self._waiting.clear()
