"""Time in the embedded store: the clock on the wall, how long the store has run, and how long a slice may take.

Windows (of recovery, of retries) are counted in the store's *running time*: it goes on while the store is open, at the
pace of the monotonic clock, and stands still while it is closed. A clock that is set changes nothing, and no stop costs
anybody a window.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Clocks:
    """``clock`` gives Unix time, ``monotonic`` the time since anything; both in seconds."""

    def __init__(self, clock: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._start = monotonic()
        self._opened_at = clock() - monotonic()

    def resume(self, running_ms: int) -> None:
        """Let the running time go on from ``running_ms``, the latest time that the store has kept."""
        self._start = self._monotonic() - running_ms / 1000

    def unix_ms(self) -> int:
        """Unix time in milliseconds."""
        return int(self._clock() * 1000)

    def steady_ms(self) -> int:
        """Unix time by the clock as it was when the store was opened: nobody sets this one meanwhile."""
        return int((self._opened_at + self._monotonic()) * 1000)

    def running_ms(self) -> int:
        """How long the store has been open, over all its runs, in milliseconds."""
        return int((self._monotonic() - self._start) * 1000)


class Slice:
    """The time that one piece of longer work may take. At least one step of it is done in each piece."""

    def __init__(self, seconds: float) -> None:
        self._end = time.perf_counter() + seconds

    def is_over(self) -> bool:
        return time.perf_counter() >= self._end
