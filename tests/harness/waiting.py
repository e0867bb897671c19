"""Waiting for what tells nobody: another process, another loop, a state that changes without an event."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from harness.inbox import TIMEOUT

INTERVAL = 0.01
"""Seconds between two looks."""


async def until(condition: Callable[[], bool], seconds: float = TIMEOUT) -> None:
    """Look until ``condition`` holds. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (there is no event)
            await asyncio.sleep(INTERVAL)  # which nobody hears of


async def until_told(ask: Callable[[], Awaitable[bool]], seconds: float = TIMEOUT) -> None:
    """Ask until the reply is yes. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not await ask():  # noqa: ASYNC110 (there is no event)
            await asyncio.sleep(INTERVAL)  # the state is in another process
