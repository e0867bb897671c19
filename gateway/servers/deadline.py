"""Time limits for clients, without the time in which the event loop stood still.

After a pause of the process or of its machine, a loop may run its timers before it reads what came meanwhile (uvloop
does). A client must not be judged by what was not read yet, nor for a pause that stopped it as well.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

LATE: Final = 0.1
"""How late a timer is, in seconds, when the loop stood still."""


class Deadline:
    """Calls ``missed`` when the time is over, unless it is cancelled before."""

    __slots__ = ("_missed", "_timer", "at")

    def __init__(self, seconds: float, missed: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        self._missed = missed
        self.at = loop.time() + seconds
        """By the loop's clock. (uvloop's own handles do not know it where it is less than a millisecond away.)"""
        self._timer = loop.call_later(seconds, self._due)

    def cancel(self) -> None:
        self._timer.cancel()

    def _due(self) -> None:
        loop = asyncio.get_running_loop()
        late = loop.time() - self.at
        if late > LATE:
            self._timer = loop.call_later(late, self._missed)  # once: the loop may be overloaded
        else:
            self._missed()
