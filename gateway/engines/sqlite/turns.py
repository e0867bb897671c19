"""Whose call is next: the client that has used the store least, so that nobody waits for what another one costs.

This is fair queueing by virtual time. Each client has a line of calls, in their order, and an *account*: the seconds
that its calls have taken. The next call is that of the client in line with the smallest account. The *level* is about
what a client has on its account that has always been in line: one that comes, or comes back, is raised to it, so that
nobody saves time up by doing nothing. One that is above it has debts: it is served when nobody else waits, or when the
level has reached it. A call for which nobody waits, such as the end of a session, waits as if its client had debts.
"""

from __future__ import annotations

import heapq
import itertools
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator, Sequence

    from gateway.engines.effects import Effect
    from gateway.errors import GatewayError

MIN_REMEMBERED: Final = 1024
"""How many clients are remembered, whether they wait or not, before those without debts are forgotten."""


HANDICAP: Final = 0.008
"""Seconds that are on the account of a client for whose call nobody waits, until it is taken: more than two clients in
one batch may differ by, so that those who wait are served first, and so little that it comes soon where there are
always some.
"""


class Call:
    """An operation, who waits for it, and what came of it."""

    __slots__ = ("alone", "effects", "error", "following", "future", "line", "operation", "result")

    def __init__(self, line: Line, operation: Callable[[Any], Any], future: asyncio.Future[Any]) -> None:
        self.line = line
        self.operation = operation
        self.future = future
        self.following: Call | None = None
        """The next one in the line."""
        self.alone = False
        """Whether it gets a batch of its own: it may have spoilt the one that it was in."""
        self.result: Any = None
        self.error: GatewayError | None = None
        self.effects: list[Effect] = []


class Line:
    """The calls of one client, and its account in seconds, of which ``handicap`` will not stay."""

    __slots__ = ("account", "client", "first", "handicap", "last")

    def __init__(self, client: str) -> None:
        self.client = client
        self.account = 0.0
        self.handicap = 0.0
        self.first: Call | None = None
        self.last: Call | None = None


class Turns:
    """The calls that wait."""

    def __init__(self) -> None:
        self._lines: dict[str, Line] = {}
        """Of the clients that wait, and of those that are in debt."""
        self._heap: list[tuple[float, int, Line]] = []
        """The lines that are not empty, the one whose turn it is first. The number keeps those apart that came with
        equal accounts: first come, first served.
        """
        self._numbers = itertools.count()
        self._level = 0.0
        self._remembered = MIN_REMEMBERED
        self._waiting = 0

    def __len__(self) -> int:
        return self._waiting

    def put(
        self,
        client: str,
        operation: Callable[[Any], Any],
        future: asyncio.Future[Any],
        *,
        low_priority: bool = False,
    ) -> None:
        """Put a call at the end of its client's line. ``low_priority``: nobody waits for it."""
        line = self._lines.get(client)
        if line is None:
            if len(self._lines) >= self._remembered:
                self._forget()
            line = self._lines[client] = Line(client)
        call = Call(line, operation, future)
        if line.last is None:
            line.first = line.last = call
            self._enter(line, HANDICAP if low_priority else 0.0)
        else:
            line.last.following = line.last = call
        self._waiting += 1

    def next(self) -> Call | None:
        """The call whose turn it is; it stays in its line."""
        return self._heap[0][2].first if self._heap else None

    def take(self, call: Call) -> None:
        """Take `next`, which is to be followed by `charge`, out of its line."""
        line = call.line
        line.first, call.following = call.following, None
        if line.first is None:
            line.last = None
        line.account -= line.handicap
        line.handicap = 0.0
        self._waiting -= 1
        self._level = max(self._level, line.account)

    def charge(self, call: Call, seconds: float) -> None:
        """Put what the call taken last has cost on its client's account."""
        line = call.line
        line.account += seconds
        # Each of those in line, and one that may come next, would have had its share of the time.
        self._level += seconds / (len(self._heap) + 1)
        if line.first is None:
            heapq.heappop(self._heap)
        else:
            heapq.heapreplace(self._heap, (line.account, next(self._numbers), line))

    def put_back(self, calls: Sequence[Call]) -> None:
        """Put calls, in the order in which they were taken, back to where they were."""
        for call in reversed(calls):
            line = call.line = self._lines.setdefault(call.line.client, call.line)
            call.following, line.first = line.first, call
            if line.last is None:
                line.last = call
                self._enter(line)
        self._waiting += len(calls)

    def take_all(self) -> Iterator[Call]:
        """Empty all lines."""
        while (call := self.next()) is not None:
            self.take(call)
            self.charge(call, 0.0)
            yield call

    def _enter(self, line: Line, handicap: float = 0.0) -> None:
        line.handicap = handicap
        line.account = max(line.account, self._level) + handicap
        heapq.heappush(self._heap, (line.account, next(self._numbers), line))

    def _forget(self) -> None:
        """Forget the clients that neither wait nor are in debt."""
        kept = {
            client: line for client, line in self._lines.items() if line.first is not None or line.account > self._level
        }
        self._lines = kept
        self._remembered = max(MIN_REMEMBERED, 2 * len(kept))
