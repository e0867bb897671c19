"""Log events that many clients can cause, and that one line a minute is enough for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import logging

INTERVAL: Final = 60.0
"""Seconds between two lines of one kind."""


class Notice:
    """An event that is logged at once when it happens, and then at most once in `INTERVAL`, with how often it was."""

    def __init__(self, logger: logging.Logger, event: str, advice: str) -> None:
        self._logger = logger
        self._event = event
        self._advice = advice
        self._times = 0
        self._next = 0.0

    def give(self, **fields: Any) -> None:
        """It has happened. ``fields`` are of the last time that it did."""
        self._times += 1
        now = time.monotonic()
        if now >= self._next:
            times, self._times, self._next = self._times, 0, now + INTERVAL
            self._logger.info(self._event, extra={**fields, "times": times, "advice": self._advice})
