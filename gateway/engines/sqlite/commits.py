"""Group commit: many operations, one transaction, one fsync.

One thread owns the database. It takes all operations that wait, runs them in one transaction and commits; while
the disk works, the next group gathers. After the commit the event loop hears, in order, of each operation's
effects, and then its caller gets its result.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from gateway.errors import GatewayError, Stopping, Unavailable
from gateway.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.engines.base import Effect

T = TypeVar("T")
logger = get_logger(__name__)

MAX_GROUP = 256
"""Operations in one transaction."""


class Database(Protocol):
    """What the thread works on. Only the thread calls it."""

    def begin(self) -> None: ...
    def commit(self) -> bool:
        """Whether there was anything to write."""

    def rollback(self) -> None: ...

    def take_effects(self) -> list[Effect]:
        """What the last operation did for others to hear, in order."""

    def close(self) -> None: ...


D = TypeVar("D", bound=Database)


@dataclass(slots=True, eq=False)
class _Call:
    operation: Callable[[Any], Any]
    future: asyncio.Future[Any]
    result: Any = None
    error: Exception | None = None
    effects: list[Effect] = field(default_factory=list)


class GroupCommit:
    """Runs operations on a `Database` and tells the event loop of them, in the order of their commits."""

    def __init__(self, database: Database, deliver: Callable[[Effect], None], *, max_pending: int = 65_536) -> None:
        """``database`` may have been opened on another thread. At most ``max_pending`` operations wait."""
        self._database = database
        self._deliver = deliver
        self._max_pending = max_pending
        self._loop = asyncio.get_running_loop()
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._closing = False
        self._failing = False
        self._stopped = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="gateway-store", daemon=True)
        self._thread.start()

    async def run(self, operation: Callable[[D], T]) -> T:
        """Run ``operation`` in a transaction; return when it is committed and its effects are delivered.

        Raises:
            Unavailable: it was not committed. Trying again may help.
            GatewayError: the operation refused, and changed nothing.
        """
        if self._closing:
            raise Stopping
        if self._calls.qsize() >= self._max_pending:
            raise Unavailable("The store is behind; try again.")
        future: asyncio.Future[T] = self._loop.create_future()
        self._calls.put(_Call(operation, future))
        return await future

    async def close(self) -> None:
        """Commit what waits, deliver it, and close the database."""
        if not self._closing:
            self._closing = True
            self._calls.put(None)
        await self._stopped.wait()

    # --- on the thread

    def _run(self) -> None:
        try:
            self._work()
            self._database.close()
        except Exception:
            logger.exception("the store stopped")
        finally:
            self._loop.call_soon_threadsafe(self._give_up)

    def _work(self) -> None:
        stopping = False
        while not stopping:
            group = [self._calls.get()]
            while len(group) < MAX_GROUP:
                try:
                    group.append(self._calls.get_nowait())
                except queue.Empty:
                    break
            stopping = group[-1] is None
            calls = [call for call in group if call is not None]
            self._commit(calls)
            self._loop.call_soon_threadsafe(self._finish, calls)

    def _commit(self, calls: list[_Call]) -> None:
        """Run a group. Where it fails as a whole, run each call alone, so that one cannot spoil the others."""
        try:
            wrote = self._transact(calls)
        except Exception as error:
            self._database.rollback()
            if len(calls) > 1:
                for call in calls:
                    self._commit([call])
                return
            for call in calls:
                call.effects = []
                call.error = self._unavailable(error)
        else:
            if self._failing and wrote:
                self._failing = False
                logger.warning("the store works again")

    def _transact(self, calls: list[_Call]) -> bool:
        database = self._database
        database.begin()
        for call in calls:
            call.result, call.error, call.effects = None, None, []
            try:
                call.result = call.operation(database)
            except GatewayError as refusal:
                call.error = refusal
            call.effects = database.take_effects()
        return database.commit()

    def _unavailable(self, error: Exception) -> Unavailable:
        if not isinstance(error, sqlite3.Error):
            logger.error("an operation of the store failed", exc_info=error)
        elif not self._failing:
            self._failing = True
            logger.error("the store fails", error=str(error))
        return Unavailable("The store cannot do this now; try again.")

    # --- on the event loop

    def _give_up(self) -> None:
        """The thread has ended: nobody waits for it any more."""
        self._closing = True
        while not self._calls.empty():
            call = self._calls.get_nowait()
            if call is not None and not call.future.done():
                call.future.set_exception(Unavailable("The store has stopped."))
        self._stopped.set()

    def _finish(self, calls: list[_Call]) -> None:
        for call in calls:
            for effect in call.effects:
                try:
                    self._deliver(effect)
                except Exception:
                    # Whoever waits must hear of the commit, whatever is wrong with a subscriber.
                    logger.exception("an effect could not be delivered")
            if call.future.done():
                continue
            if call.error is not None:
                call.future.set_exception(call.error)
            else:
                call.future.set_result(call.result)
