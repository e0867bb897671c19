"""Waiting without an event: for another process, another event loop, or a state that changes silently."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from harness.inbox import TIMEOUT

INTERVAL = 0.01
"""Seconds between two checks."""


async def until(condition: Callable[[], bool], seconds: float = TIMEOUT) -> None:
    """Check until ``condition`` holds. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (there is no event)
            await asyncio.sleep(INTERVAL)  # there is no event to wait for


async def poll_until(ask: Callable[[], Awaitable[bool]], seconds: float = TIMEOUT) -> None:
    """Ask until the reply is yes. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not await ask():  # noqa: ASYNC110 (there is no event)
            await asyncio.sleep(INTERVAL)  # the state is in another process
