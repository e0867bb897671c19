"""Pings to all connections, and timeouts for those that do not reply."""

from __future__ import annotations

import asyncio
from typing import Protocol

from gateway.servers.deadline import LATE


class Heartbeat(Protocol):
    """A connection that is pinged."""

    def ping(self) -> None:
        """Send a ping."""

    def timed_out(self) -> None:
        """No reply came in time."""


class Heartbeats:
    """Pings all connections, each some time after its last pong, with one timer for all.

    All wait equally long, so that the order in which they began to wait is the order in which they are due.
    """

    def __init__(self, interval: float, timeout: float) -> None:
        """``interval``: seconds from a pong to the next ping; ``timeout``: how long a pong may take, in seconds."""
        self._interval = interval
        self._timeout = timeout
        self._grain = min(interval, timeout) / 100
        """What is due within that many seconds is done at once: one wake-up for many connections."""
        self._resting: dict[Heartbeat, float] = {}
        self._pinged: dict[Heartbeat, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        """When it is due. (uvloop's handles do not know it where it is less than a millisecond away, or over.)"""
        self._lenient = False
        """Whether pongs were given more time when the timer was due last."""

    def add(self, connection: Heartbeat) -> None:
        """The connection was opened, or has sent a pong."""
        loop = asyncio.get_running_loop()
        self._pinged.pop(connection, None)
        self._resting.pop(connection, None)
        due = self._resting[connection] = loop.time() + self._interval
        if self._timer is None or due < self._due:
            self.close()
            self._wake_at(due, loop)

    def answered(self, connection: Heartbeat) -> None:
        """A pong came. An unsolicited one changes nothing."""
        if connection in self._pinged:
            self.add(connection)

    def remove(self, connection: Heartbeat) -> None:
        self._resting.pop(connection, None)
        self._pinged.pop(connection, None)

    def close(self) -> None:
        """Stop the pings."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        due = [next(iter(waiting.values())) for waiting in (self._resting, self._pinged) if waiting]
        self._timer = None
        if due:
            self._wake_at(min(due), loop)

    def _wake_at(self, due: float, loop: asyncio.AbstractEventLoop) -> None:
        self._due = due
        self._timer = loop.call_at(due, self._beat, loop)

    def _be_lenient(self, now: float, late: float) -> None:
        """Give pongs more time if the loop stood still, as `Deadline` does; but ping as soon as possible."""
        self._lenient = late > LATE and not self._lenient
        if self._lenient:
            self._pinged = {connection: max(due, now + late) for connection, due in self._pinged.items()}

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        self._be_lenient(now, now - self._due)
        # What is done to one connection may close others, so each is looked up again.
        for connection in _due(self._pinged, now + self._grain):
            if self._pinged.pop(connection, None) is not None:
                connection.timed_out()
        for connection in _due(self._resting, now + self._grain):
            if self._resting.pop(connection, None) is not None:
                self._pinged[connection] = now + self._timeout
                connection.ping()
        self._schedule(loop)


def _due(waiting: dict[Heartbeat, float], now: float) -> list[Heartbeat]:
    """Those in ``waiting``, which is in order, that are due."""
    found = []
    for connection, due in waiting.items():
        if due > now:
            break
        found.append(connection)
    return found
