"""Group commit: many operations, one transaction, one fsync.

Operations run on the event loop, one after the other, in one transaction; they are short, and what they read and
write is in memory. The commit, which waits for the disk, is a thread's. While the disk works, the next group
gathers. After the commit the event loop hears, in order, of each operation's effects, and then its caller gets its
result.

Were operations run on the thread, each statement would give the interpreter away and wait for the busy loop to give
it back: half a millisecond for what takes five microseconds.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from gateway.errors import GatewayError, Stopping, Unavailable
from gateway.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.engines.base import Effect

T = TypeVar("T")
logger = get_logger(__name__)

SLICE: Final = 0.004
"""Seconds for which operations run in one turn of the loop; what is left is the next group's."""

GATHERING: Final = 0.01
"""Seconds for which a group waits for more, at most: where every turn of the loop brings some, the loop is busy, and
what is saved in commits is time for those who wait.
"""

PAUSE: Final = 0.001
"""Seconds until the next group is run behind one of several operations, unless as many wait already: those who have
just been answered are about to call again, and a commit costs as much for one as for fifty.
"""


class Database(Protocol):
    """What operations work on. The thread calls `commit` and `close`, and nobody anything meanwhile."""

    def begin(self) -> None: ...

    def flush(self) -> bool:
        """Write all that operations have left in memory; whether there is anything to commit."""

    def commit(self) -> None: ...
    def rollback(self) -> None: ...

    def take_effects(self) -> list[Effect]:
        """What the last operation did for others to hear, in order."""

    def is_full(self) -> bool:
        """Whether the transaction has done so much that it is to be committed."""

    def close(self) -> None: ...


D = TypeVar("D", bound=Database)


class _Call:
    """An operation, who waits for it, and what came of it."""

    __slots__ = ("alone", "effects", "error", "future", "operation", "result")

    def __init__(self, operation: Callable[[Any], Any], future: asyncio.Future[Any]) -> None:
        self.operation = operation
        self.future = future
        self.alone = False
        """Whether it gets a transaction of its own: the group that it was in has failed."""
        self.result: Any = None
        self.error: GatewayError | None = None
        self.effects: list[Effect] = []


class GroupCommit:
    """Runs operations on a `Database` and tells of them in the order of their commits."""

    def __init__(
        self, database: Database, deliver: Callable[[list[Effect]], None], *, max_pending: int = 65_536
    ) -> None:
        """``database`` may be used by one thread after another. At most ``max_pending`` operations wait."""
        self._database = database
        self._deliver = deliver
        self._max_pending = max_pending
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Call] = deque()
        self._seen = 0
        """How many operations waited when more were waited for last."""
        self._patience = 0.0
        """When the next group is run, whatever comes."""
        self._busy = False
        """Whether a group is being run or committed, or is about to be."""
        self._closing = False
        self._failing = False
        self._stopped = asyncio.Event()
        self._groups: queue.SimpleQueue[list[_Call] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._commit_groups, name="gateway-store", daemon=True)
        self._thread.start()

    def run(self, operation: Callable[[D], T], client: str) -> asyncio.Future[T]:
        """Run ``operation`` in a transaction; its result, when it is committed and its effects are delivered.

        ``client`` says whose it is: one client's operations are run in the order in which they came.

        Raises:
            Unavailable: it was not committed. Trying again may help.
            GatewayError: the operation refused, and changed nothing.
        """
        if self._closing:
            raise Stopping
        if len(self._waiting) >= self._max_pending:
            raise Unavailable("The store is behind; try again.")
        future: asyncio.Future[T] = self._loop.create_future()
        self._waiting.append(_Call(operation, future))
        if not self._busy:
            self._busy = True
            self._loop.call_soon(self._work)
        return future

    def problem(self) -> str | None:
        """Why nothing can be committed now; None while it can."""
        return "the last commit failed" if self._failing else None

    async def close(self) -> None:
        """Commit what waits, deliver it, and close the database."""
        if not self._closing:
            self._closing = True
            if not self._busy:
                self._groups.put(None)
        await self._stopped.wait()

    # --- on the event loop

    def _work(self) -> None:
        """Run a group of what waits and have it committed; where it has written nothing, that is done at once."""
        if not self._waiting:
            self._busy = False
            if self._closing:
                self._groups.put(None)
            return
        if self._more_come():
            self._loop.call_soon(self._work)
            return
        group: list[_Call] = []
        try:
            self._database.begin()
            self._run(group)
            wrote = self._database.flush()
            if not wrote:
                self._database.commit()
        except Exception as error:
            self._failed(group or [self._waiting.popleft()], error)
        else:
            if wrote:
                self._groups.put(group)
                return
            self._finish(group)
        self._loop.call_soon(self._work)

    def _more_come(self) -> bool:
        """Whether to wait for another turn of the loop: the last one has brought operations."""
        waiting, seen, now = len(self._waiting), self._seen, time.perf_counter()
        if not seen:
            self._patience = now + GATHERING
        self._seen = waiting if waiting > seen and now < self._patience else 0
        return self._seen > 0

    def _run(self, group: list[_Call]) -> None:
        """Run operations that wait, and put them into ``group``. Raises what is no refusal."""
        database = self._database
        end = time.perf_counter() + SLICE
        while self._waiting:
            call = self._waiting[0]
            if group and (call.alone or group[0].alone):
                return
            group.append(self._waiting.popleft())
            call.error = None
            try:
                call.result = call.operation(database)
            except GatewayError as refusal:
                call.error = refusal
            call.effects = database.take_effects()
            if database.is_full() or time.perf_counter() > end:
                return

    def _committed(self, group: list[_Call], error: Exception | None) -> None:
        if error is None:
            if self._failing:
                self._failing = False
                logger.warning("the store works again")
            self._finish(group)
        else:
            self._failed(group, error)
        if len(group) == 1 or len(self._waiting) >= len(group):
            self._work()
        else:
            self._loop.call_later(PAUSE, self._work)

    def _failed(self, group: list[_Call], error: Exception) -> None:
        """Nothing of the group was kept: run each operation alone, so that one cannot spoil the others."""
        self._database.rollback()
        if len(group) > 1:
            for call in group:
                call.alone = True
            self._waiting.extendleft(reversed(group))
            return
        (call,) = group
        if not call.future.done():
            call.future.set_exception(self._unavailable(error))

    def _unavailable(self, error: Exception) -> Unavailable:
        if not isinstance(error, sqlite3.Error):
            logger.error("an operation of the store failed", exc_info=error)
        elif not self._failing:
            self._failing = True
            logger.error("the store fails", error=str(error))
        return Unavailable("The store cannot do this now; try again.")

    def _finish(self, group: list[_Call]) -> None:
        try:
            self._deliver([effect for call in group for effect in call.effects])
        except Exception:
            # Whoever waits must hear of the commit, whatever is wrong with a subscriber.
            logger.exception("the effects of a commit could not be delivered")
        for call in group:
            if call.future.done():
                continue
            if call.error is not None:
                call.future.set_exception(call.error)
            else:
                call.future.set_result(call.result)

    # --- on the thread

    def _commit_groups(self) -> None:
        while (group := self._groups.get()) is not None:
            error: Exception | None = None
            try:
                self._database.commit()
            except Exception as problem:  # whatever it is, those who wait must hear of it
                error = problem
            self._loop.call_soon_threadsafe(self._committed, group, error)
        try:
            self._database.close()
        except Exception:
            logger.exception("the store could not be closed")
        finally:
            self._loop.call_soon_threadsafe(self._stopped.set)
