"""Time in the embedded store: the wall clock, the store's running time, and time slices.

Windows (of recovery, of retries) are counted in the store's *running time*, which advances with the monotonic clock
while the store is open and stands still while it is closed. So setting the machine's clock changes nothing, and no
window runs out while the gateway is down.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Clocks:
    """``clock`` returns Unix time, ``monotonic`` the time since an arbitrary moment; both in seconds."""

    def __init__(self, clock: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._start = monotonic()
        self._opened_at = clock() - monotonic()

    def resume(self, running_ms: int) -> None:
        """Continue the running time from ``running_ms``, the latest one that is stored."""
        self._start = self._monotonic() - running_ms / 1000

    def unix_ms(self) -> int:
        """Unix time in milliseconds."""
        return int(self._clock() * 1000)

    def steady_ms(self) -> int:
        """Unix time in milliseconds, by the clock as it was when the store was opened; setting it has no effect."""
        return int((self._opened_at + self._monotonic()) * 1000)

    def running_ms(self) -> int:
        """How long the store has been open, over all its runs, in milliseconds."""
        return int((self._monotonic() - self._start) * 1000)


class Slice:
    """The time that one part of a long piece of work may take. Each slice does at least one step of it."""

    def __init__(self, seconds: float) -> None:
        self._end = time.perf_counter() + seconds

    def is_over(self) -> bool:
        return time.perf_counter() >= self._end
