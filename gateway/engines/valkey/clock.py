"""The server's time, as a node knows it between two replies: the clocks of the machines do not matter."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class ServerClock:
    """What the server's clock, and the store's running time, were at the last replies, and the time since then."""

    def __init__(self, shift: Callable[[], int]) -> None:
        """``shift``: by how much tests have moved the server's time, in ms."""
        self.shift = shift
        self._unix: tuple[int, float] = (0, 0.0)
        """The server's clock in ms, and when it was that."""
        self._running: tuple[int, float] = (0, time.monotonic())
        """The store's running time in ms, without the shift, and when it was that."""

    def note_unix(self, unix_ms: int) -> None:
        self._unix = (unix_ms, time.monotonic())

    def note_running(self, running_ms: int) -> None:
        self._running = (running_ms - self.shift(), time.monotonic())

    def unix(self) -> float:
        """The server's clock, in seconds."""
        unix_ms, at = self._unix
        return unix_ms / 1000 + time.monotonic() - at

    def running_ms(self) -> int:
        """The store's running time."""
        running_ms, at = self._running
        return running_ms + self.shift() + int((time.monotonic() - at) * 1000)
