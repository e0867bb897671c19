"""Log events that many clients can cause, and for which one line a minute is enough."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import logging

INTERVAL: Final = 60.0
"""Seconds between two lines of one kind, at least."""


class Notice:
    """An event that is logged when it first happens, then at most once in `INTERVAL` with how often it happened."""

    def __init__(self, logger: logging.Logger, event: str, advice: str) -> None:
        self._logger = logger
        self._event = event
        self._advice = advice
        self._times = 0
        self._next = 0.0

    def give(self, **fields: Any) -> None:
        """It has happened. Of the ``fields``, the last ones are logged."""
        self._times += 1
        now = time.monotonic()
        if now >= self._next:
            times, self._times, self._next = self._times, 0, now + INTERVAL
            self._logger.info(self._event, extra={**fields, "times": times, "advice": self._advice})
