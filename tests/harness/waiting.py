"""Waiting for what tells nobody: another process, another loop, a state that changes without an event."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from harness.inbox import PATIENCE

INTERVAL = 0.01
"""Seconds between two looks."""


async def until(condition: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Look until ``condition`` holds. Raises TimeoutError."""
    async with asyncio.timeout(patience):
        while not condition():  # noqa: ASYNC110 (there is no event)
            await asyncio.sleep(INTERVAL)
