"""The calls of an engine that are under way, and the order of those of one client.

A client's rules run one after another. Its messages need not wait for each other, since a connection keeps their order;
but each waits for the rules that were called before it.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from gateway.engines.base import NOBODY
from gateway.errors import Stopping

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


class Calls:
    """Those of one engine."""

    def __init__(self) -> None:
        self._count = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False
        self._last: dict[str, asyncio.Future[None]] = {}
        """The newest rule of each client that waits or runs."""

    @contextmanager
    def counted(self) -> Iterator[None]:
        """A call is under way. Raises Stopping."""
        if self._closed:
            raise Stopping
        self._count += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._count -= 1
            if not self._count:
                self._idle.set()

    async def finish(self, seconds: float) -> bool:
        """Refuse further calls, and wait until those under way have ended. Returns whether they have."""
        self._closed = True
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def after_rules_of(self, client: str) -> None:
        """Wait for the rules of a client that were called before."""
        if (before := self._last.get(client)) is not None:
            await asyncio.shield(before)

    @asynccontextmanager
    async def rule_of(self, client: str) -> AsyncIterator[None]:
        """A rule of a client, after those before it. Those of `NOBODY` have no order."""
        if client == NOBODY:
            yield
            return
        before, mine = self._last.get(client), asyncio.get_running_loop().create_future()
        self._last[client] = mine
        try:
            if before is not None:
                await asyncio.shield(before)
            yield
        finally:
            mine.set_result(None)
            if self._last.get(client) is mine:
                del self._last[client]
