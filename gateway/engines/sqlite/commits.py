"""Group commit: many operations, one transaction, one fsync.

Operations run on the event loop, one after another, in one transaction. They are short, and the pages that they read
and write are in memory. Only the commit, which waits for the disk, runs on a thread. The operations do not, because of
the GIL: the sqlite3 module releases it around every statement, and while the event loop is busy, the thread would wait
for up to one switch interval to get it back. That is half a millisecond for a statement that takes five microseconds.

The states of a `GroupCommit` and its transitions:

            run()                 the queue stops growing
    IDLE ──────────▶ GATHERING ───────────────────────▶ run a batch ──────▶ COMMITTING
      ▲               │     ▲                             │ on the loop         │ on the thread
      └───────────────┘     └─────────────────────────────┴─────────────────────┘
      queue is empty         nothing was written, or failed       committed, or failed

    close() waits until the queue is empty, then IDLE ──▶ CLOSED; a timeout leads to CLOSED from any state.

While a commit is under way, the connection belongs to the thread: the event loop only queues operations, which become
the next batch. After the commit, the effects of the batch are delivered in order, and then its callers get their
results. So an ack means that the data is on disk, and was written to the connection of every member on this node.

If a batch cannot be committed, nothing of it is kept. If the disk is at fault, all of its callers get `Unavailable`. If
an operation is at fault (a bug), it must not take the others down with it: it is put back into the queue to be run in a
batch of its own, and the others are run again without it. If it is not known which one, each is run alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
import time
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from gateway.engines.sqlite.fairqueue import FairQueue
from gateway.errors import GatewayError, Stopping, Unavailable
from gateway.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gateway.engines.effects import Effect
    from gateway.engines.sqlite.fairqueue import Call
    from gateway.observe import Observer

T = TypeVar("T")
logger = get_logger(__name__)

MAX_RUN_TIME: Final = 0.004
"""How long the operations of one batch may run, in seconds. They run in one event-loop iteration and block everything
else, network I/O included; operations that do not fit are left for the next batch.
"""

MAX_GATHER_TIME: Final = 0.01
"""How long a batch may keep growing, in seconds. It grows for as long as each event-loop iteration adds operations:
under load, one larger commit is cheaper than two small ones. It runs in the first iteration that adds none, so an idle
gateway does not wait.
"""

MAX_DEBT: Final = MAX_RUN_TIME
"""How much more of the store's time than the first client of a batch another client may have used to share the batch,
in seconds. Clients beyond it go into a later batch, so that cheap operations do not wait for expensive ones to be
committed with them.
"""

HANG_THRESHOLD: Final = 2.0
"""How long a commit may take, in seconds, before `GroupCommit.problem` reports it. A healthy disk syncs in
milliseconds.
"""

DISK_ERRORS: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_READONLY,
    }
)
"""SQLite's primary result codes for faults of the disk or the system. After one, SQLite may have rolled back."""


class Database(Protocol):
    """What operations work on. The thread calls `commit` and `close`; meanwhile nothing else may be called."""

    def begin(self) -> None: ...

    def flush(self) -> bool:
        """Write everything that operations have buffered in memory. Returns whether there is anything to commit."""

    def commit(self) -> None: ...
    def rollback(self) -> None: ...

    def take_effects(self) -> list[Effect]:
        """Return the effects of the last operation, in order, and forget them."""

    def is_full(self) -> bool:
        """Whether the transaction is large enough to be committed before it takes another operation."""

    def close(self) -> None: ...


D = TypeVar("D", bound=Database)


class State(Enum):
    IDLE = auto()
    """No operation is queued."""
    GATHERING = auto()
    """Operations are queued; a batch of them runs in one of the next event-loop iterations."""
    COMMITTING = auto()
    """The thread is committing a batch, and owns the database until it is done."""
    CLOSED = auto()
    """The thread closes the database, or `close` timed out and no longer waits for the thread."""


class GroupCommit:
    """Runs operations on a `Database` and publishes their effects in the order of their commits."""

    def __init__(
        self,
        database: Database,
        deliver: Callable[[list[Effect]], None],
        observer: Observer,
        *,
        max_pending: int = 65_536,
    ) -> None:
        """``database`` may be used by one thread after another. At most ``max_pending`` operations are queued."""
        self._database = database
        self._deliver = deliver
        self._observer = observer
        self._max_pending = max_pending
        self._loop = asyncio.get_running_loop()
        self._queue = FairQueue()
        self._state = State.IDLE
        self._seen = 0
        """Queue length when `_work` last chose to keep gathering; 0 if it has not for the next batch."""
        self._gather_until = 0.0
        self._batch: list[Call] = []
        """The batch that the thread is committing."""
        self._began = 0.0
        """When that commit began (monotonic)."""
        self._written = time.monotonic()
        """When a commit last succeeded (monotonic)."""
        self._failure: Exception | None = None
        """Why the last commit failed; None if it succeeded."""
        self._closing = False
        self._lossless = True
        """Whether, as far as is known, every operation that was queued when `close` was called has been committed."""
        self._stopped = asyncio.Event()
        self._batches: queue.SimpleQueue[list[Call] | None] = queue.SimpleQueue()
        # A daemon: a thread that hangs in fsync(2) must not keep the process from ending.
        self._thread = threading.Thread(target=self._commit_batches, name="gateway-store", daemon=True)
        self._thread.start()

    def run(self, operation: Callable[[D], T], client: str, *, low_priority: bool = False) -> asyncio.Future[T]:
        """Run ``operation`` in a transaction. The future has its result once it is committed and its effects are
        delivered.

        The operations of one ``client`` run in the order of these calls. Between clients, `FairQueue` decides; with
        ``low_priority``, no client is waiting for the result. If the future is cancelled before the operation has run,
        it never runs.

        Raises:
            Unavailable: it was not committed; trying again may help.
            GatewayError: the operation raised it, and changed nothing.
        """
        if self._closing:
            raise Stopping
        if len(self._queue) >= self._max_pending:
            raise Unavailable("The store is overloaded; try again.")
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(client, operation, future, low_priority=low_priority)
        if self._state is State.IDLE:
            self._gather()
        return future

    @property
    def idle_time(self) -> float:
        """How long ago a commit last succeeded, in seconds."""
        return time.monotonic() - self._written

    def problem(self) -> str | None:
        """Why the store cannot commit now; None while it can."""
        if self._state is State.COMMITTING and (hanging := time.monotonic() - self._began) > HANG_THRESHOLD:
            return f"a commit has been under way for {hanging:.0f} s"
        return None if self._failure is None else f"the last commit failed: {self._failure}"

    async def close(self, timeout: float) -> bool:  # noqa: ASYNC109 - at the timeout, work is rejected, not cancelled
        """Accept no more operations, commit and deliver those that are queued, and close the database, within
        ``timeout`` seconds.

        Returns whether all of them were committed. If the disk hangs for longer than that, their callers get
        `Unavailable`, and whether the commit under way is kept is not known.
        """
        if not self._closing:
            self._closing = True
            if self._state is State.IDLE:
                self._close()
        try:
            async with asyncio.timeout(timeout):
                await self._stopped.wait()
        except TimeoutError:
            self._abandon()
        return self._lossless

    # --- on the event loop

    def _gather(self) -> None:
        """Begin a batch, which `_work` looks at in the next event-loop iteration."""
        self._state = State.GATHERING
        self._loop.call_soon(self._work)

    def _work(self) -> None:
        """Run a batch and hand it to the thread to commit. If it has written nothing, there is nothing to wait for."""
        if self._state is not State.GATHERING:
            return  # `close` timed out
        if not self._queue:
            self._state = State.IDLE
            if self._closing:
                self._close()
            return
        if self._keeps_growing():
            self._loop.call_soon(self._work)
            return
        batch: list[Call] = []
        running = False  # if it is true when an exception comes, the last operation of the batch raised it
        try:
            self._database.begin()
            running = True
            self._run(batch)
            running = False
            wrote = self._database.flush()
            if not wrote:
                self._database.commit()
        except Exception as error:
            # An empty batch: `begin` failed, as it would for every operation that is queued.
            self._failed(batch or list(self._queue.take_all()), error, batch[-1] if running else None)
        else:
            if wrote:
                self._commit(batch)
                return
            self._finish(batch)
        self._continue()

    def _keeps_growing(self) -> bool:
        """Whether to gather for another event-loop iteration: the previous one has added operations."""
        waiting, seen, now = len(self._queue), self._seen, time.perf_counter()
        if not seen:
            self._gather_until = now + MAX_GATHER_TIME
        self._seen = waiting if waiting > seen and now < self._gather_until else 0
        return self._seen > 0

    def _run(self, batch: list[Call]) -> None:
        """Run operations from the queue and append them to ``batch``. An exception that is not a `GatewayError` is
        raised: it comes from the last one in the batch.
        """
        database, waiting, clock = self._database, self._queue, time.perf_counter
        now = clock()
        end = now + MAX_RUN_TIME
        affordable = 0.0
        while (call := waiting.next()) is not None:
            if not batch:
                affordable = call.line.account + MAX_DEBT
            elif call.alone or batch[0].alone or call.line.account > affordable:
                return
            waiting.take(call)
            if call.future.cancelled():
                waiting.charge(call, 0.0)
                continue
            batch.append(call)
            began = now
            try:
                call.error = None
                call.result = call.operation(database)
            except GatewayError as refusal:
                call.error = refusal.with_traceback(None)  # a frame of it holds the batch: a reference cycle
            finally:
                now = clock()
                waiting.charge(call, now - began)
            call.effects = database.take_effects()
            if now > end or database.is_full():
                return

    def _commit(self, batch: list[Call]) -> None:
        self._state = State.COMMITTING
        self._batch = batch
        self._began = time.monotonic()
        self._batches.put(batch)

    def _committed(self, error: Exception | None) -> None:
        """The thread has committed its batch, or failed to."""
        if self._state is not State.COMMITTING:
            return  # `close` timed out
        batch, self._batch = self._batch, []
        if error is None:
            self._written = time.monotonic()
            self._observer.committed(len(batch), self._written - self._began)
            if self._failure is not None:
                self._failure = None
                logger.warning("the store works again")
            self._finish(batch)
        else:
            self._failed(batch, error, None)
        self._continue()

    def _continue(self) -> None:
        """Begin the next batch in the next iteration, not now: callers that got their results may call again first."""
        if self._queue or self._closing:
            self._gather()
        else:
            self._state = State.IDLE

    def _failed(self, batch: list[Call], error: Exception, culprit: Call | None) -> None:
        """Nothing of the batch was kept. ``culprit`` is the operation that raised ``error``, if it was one."""
        self._database.rollback()
        if _is_disk_error(error, in_operation=culprit is not None):
            if self._failure is None:
                logger.error("the store fails", error=str(error))
            self._failure = error
            self._lossless = self._lossless and not self._closing
            _reject(batch)
        elif len(batch) == 1:
            logger.error("an operation of the store failed", exc_info=error)
            _reject(batch)
        else:
            for call in batch if culprit is None else (culprit,):
                call.alone = True
            self._queue.put_back(batch)

    def _finish(self, batch: list[Call]) -> None:
        try:
            self._deliver([effect for call in batch for effect in call.effects])
        except Exception:
            # The batch is on disk: its callers get their results, whatever is wrong with the subscriber.
            logger.exception("the effects of a commit could not be delivered")
        for call in batch:
            if call.future.done():
                continue
            if call.error is not None:
                call.future.set_exception(call.error)
            else:
                call.future.set_result(call.result)

    def _close(self) -> None:
        self._state = State.CLOSED
        self._batches.put(None)

    def _abandon(self) -> None:
        """Reject everything that waits for a disk that hangs. If it ever recovers, the thread closes the database."""
        if self._state is not State.CLOSED:
            self._lossless = False
            self._close()
        _reject([*self._batch, *self._queue.take_all()])
        self._stopped.set()

    # --- on the thread

    def _commit_batches(self) -> None:
        while self._batches.get() is not None:
            error: Exception | None = None
            try:
                self._database.commit()
            except Exception as problem:  # whatever it is, the callers must get it
                error = problem
            self._report(self._committed, error)
        try:
            self._database.close()
        except Exception:
            logger.exception("the store could not be closed")
        finally:
            self._report(self._stopped.set)

    def _report(self, callback: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nothing waits any more
            self._loop.call_soon_threadsafe(callback, *arguments)


def _is_disk_error(error: Exception, *, in_operation: bool) -> bool:
    """Whether the store as a whole cannot write now, rather than one operation having a bug."""
    if not isinstance(error, sqlite3.Error):
        return isinstance(error, OSError)
    if in_operation:
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in DISK_ERRORS
    return not isinstance(error, sqlite3.IntegrityError)


def _reject(calls: Iterable[Call]) -> None:
    for call in calls:
        if not call.future.done():
            call.future.set_exception(Unavailable("The store cannot do this now; try again."))
