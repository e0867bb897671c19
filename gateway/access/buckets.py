"""Token buckets, for rate limits."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

MIN_PRUNE_SIZE: Final = 1_024
"""How many buckets there must be before full ones, which need not be kept, are dropped. That is a search through all of
them, so it happens only when their number has doubled since the last one.
"""


class TokenBucket:
    """Holds up to ``burst`` tokens, and is refilled at ``rate`` tokens a second."""

    __slots__ = ("_burst", "_filled", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._filled = now

    def take(self, now: float, amount: float = 1.0) -> float:
        """Take ``amount`` tokens, at most ``burst``. Returns 0, or in how many seconds that is possible."""
        self._fill(now)
        missing = min(amount, self._burst) - self._tokens
        if missing <= 0:
            self._tokens -= min(amount, self._burst)
            return 0.0
        return missing / self._rate

    def is_full(self, now: float) -> bool:
        self._fill(now)
        return self._tokens >= self._burst

    def _fill(self, now: float) -> None:
        self._tokens = min(self._burst, self._tokens + (now - self._filled) * self._rate)
        self._filled = now


class Buckets:
    """A `TokenBucket` for each name."""

    def __init__(self, rate: float, burst: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._by_name: dict[str, TokenBucket] = {}
        self._prune_at = MIN_PRUNE_SIZE

    def __len__(self) -> int:
        return len(self._by_name)

    def take(self, name: str, amount: float) -> float:
        """Take ``amount`` tokens from the bucket of ``name``. Returns 0, or in how many seconds that is possible."""
        now = self._clock()
        bucket = self._by_name.get(name)
        if bucket is None:
            if len(self._by_name) >= self._prune_at:
                self._by_name = {known: each for known, each in self._by_name.items() if not each.is_full(now)}
                self._prune_at = max(MIN_PRUNE_SIZE, 2 * len(self._by_name))
            bucket = self._by_name[name] = TokenBucket(self._rate, self._burst, now)
        return bucket.take(now, amount)
