"""Which client's call runs next: that of the client that has used the least of the store's time.

This is fair queueing by virtual time, so that a client whose calls are expensive delays its own calls and nobody
else's. Each client has a line of calls, in order, and an *account*: the seconds that its calls have taken. The next
call is the first one of the line with the smallest account.

The *level* is the virtual time: roughly the account of a client that has had calls waiting all along. A client that
joins, or comes back, is raised to the level, so that nobody saves up time by being idle. A client above the level is in
debt: it is served when no other client has calls waiting, or when the level has reached its account. A low-priority
call, such as the end of a session, for which no client is waiting, is queued as if its client were in debt.
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
"""How many lines are kept before those of clients that have no calls and no debt are dropped. Dropping them is a search
through all lines; it happens only when their number has doubled since the last one.
"""

HANDICAP: Final = 0.008
"""What a low-priority call adds to its client's account until it is taken, in seconds. It is more than two clients of
one batch may differ by (`commits.MAX_DEBT`), so that calls that clients wait for come first; and it is small, so that
under constant load such a call is not postponed for long.
"""


class Call:
    """An operation, the future that waits for it, and its outcome."""

    __slots__ = ("alone", "effects", "error", "following", "future", "line", "operation", "result")

    def __init__(self, line: Line, operation: Callable[[Any], Any], future: asyncio.Future[Any]) -> None:
        self.line = line
        self.operation = operation
        self.future = future
        self.following: Call | None = None
        """The next call of the same client."""
        self.alone = False
        """Whether it runs in a batch of its own: it may have made the last one fail."""
        self.result: Any = None
        self.error: GatewayError | None = None
        self.effects: list[Effect] = []


class Line:
    """The calls of one client, and its account in seconds, of which `FairQueue.take` removes the ``handicap``."""

    __slots__ = ("account", "client", "first", "handicap", "last")

    def __init__(self, client: str) -> None:
        self.client = client
        self.account = 0.0
        self.handicap = 0.0
        self.first: Call | None = None
        self.last: Call | None = None


class FairQueue:
    """The calls that are waiting, of all clients."""

    def __init__(self) -> None:
        self._lines: dict[str, Line] = {}
        """By client: those with calls waiting, those in debt, and others until they are dropped."""
        self._heap: list[tuple[float, int, Line]] = []
        """The lines that are not empty, by account. The number breaks ties: first come, first served."""
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
        """Append a call to its client's line. ``low_priority``: no client is waiting for it."""
        line = self._lines.get(client)
        if line is None:
            if len(self._lines) >= self._remembered:
                self._drop_idle()
            line = self._lines[client] = Line(client)
        call = Call(line, operation, future)
        if line.last is None:
            line.first = line.last = call
            self._enter(line, HANDICAP if low_priority else 0.0)
        else:
            line.last.following = line.last = call
        self._waiting += 1

    def next(self) -> Call | None:
        """The call to run next, which stays in the queue; None if it is empty."""
        return self._heap[0][2].first if self._heap else None

    def take(self, call: Call) -> None:
        """Remove ``call``, which is `next`, from the queue. `charge` must follow before the next call is taken."""
        line = call.line
        line.first, call.following = call.following, None
        if line.first is None:
            line.last = None
        line.account -= line.handicap
        line.handicap = 0.0
        self._waiting -= 1
        self._level = max(self._level, line.account)

    def charge(self, call: Call, seconds: float) -> None:
        """Charge the client of ``call``, the one taken last, for the time that it took."""
        line = call.line
        line.account += seconds
        # Virtual time advances by each waiting client's share; one more is counted for a client that may come next.
        self._level += seconds / (len(self._heap) + 1)
        if line.first is None:
            heapq.heappop(self._heap)
        else:
            heapq.heapreplace(self._heap, (line.account, next(self._numbers), line))

    def put_back(self, calls: Sequence[Call]) -> None:
        """Put calls, in the order in which they were taken, back to the front of their lines."""
        for call in reversed(calls):
            line = call.line = self._lines.setdefault(call.line.client, call.line)
            call.following, line.first = line.first, call
            if line.last is None:
                line.last = call
                self._enter(line)
        self._waiting += len(calls)

    def take_all(self) -> Iterator[Call]:
        """Remove all calls, in the order in which they would have run."""
        while (call := self.next()) is not None:
            self.take(call)
            self.charge(call, 0.0)
            yield call

    def _enter(self, line: Line, handicap: float = 0.0) -> None:
        line.handicap = handicap
        line.account = max(line.account, self._level) + handicap
        heapq.heappush(self._heap, (line.account, next(self._numbers), line))

    def _drop_idle(self) -> None:
        """Drop the lines of clients that have no calls and no debt."""
        kept = {
            client: line for client, line in self._lines.items() if line.first is not None or line.account > self._level
        }
        self._lines = kept
        self._remembered = max(MIN_REMEMBERED, 2 * len(kept))
