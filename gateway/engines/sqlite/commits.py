"""Group commit: many operations, one transaction, one fsync.

Operations run on the event loop, one after the other, in one transaction; they are short, and what they read and
write is in memory. The commit, which waits for the disk, is a thread's. Were the operations run on the thread, each
statement would give the interpreter away and wait for the busy loop to give it back: half a millisecond for what takes
five microseconds.

The states of a `GroupCommit`, and what takes it from one to the next:

            run()                 nothing more comes
    IDLE ──────────▶ GATHERING ───────────────────────▶ run a batch ──────▶ COMMITTING
      ▲               │     ▲                             │   on the loop     │  on the thread
      └───────────────┘     └─────────────────────────────┴───────────────────┘
       nothing waits          it wrote nothing, or failed       committed, or failed

While the disk works, the next batch gathers, and nobody touches the database. A batch that is committed is published,
in order, and then its callers get their results. A batch that is not fails as a whole where the disk is to blame; where
one of its operations is, that one is run again in a batch of its own, and the others without it.
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

from gateway.engines.sqlite.turns import Turns
from gateway.errors import GatewayError, Stopping, Unavailable
from gateway.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gateway.engines.effects import Effect
    from gateway.engines.sqlite.turns import Call
    from gateway.observe import Observer

T = TypeVar("T")
logger = get_logger(__name__)

MAX_RUN_TIME: Final = 0.004
"""How long the operations of one batch may run, in seconds. They run in one event-loop iteration, in which nothing else
is done; what is left over goes into the next batch.
"""

MAX_GATHER_TIME: Final = 0.01
"""How long a batch may keep growing, in seconds. It grows as long as each event-loop iteration brings more: the loop is
busy then, and one larger commit is cheaper than two small ones. It begins in the first iteration that brings nothing.
"""

MAX_DEBT: Final = MAX_RUN_TIME
"""How much more than the first client in a batch another one may have used the store to share that batch, in seconds.
Beyond it, those who wait for little are not made to wait for much: they are committed first.
"""

HANGING: Final = 2.0
"""How long a commit may take before the store counts as one that cannot be written to, in seconds."""

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
"""SQLite's primary result codes for what no operation can help. After one, the transaction may be gone as well."""


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


class State(Enum):
    IDLE = auto()
    """Nothing waits."""
    GATHERING = auto()
    """A batch is to be run in one of the next event-loop iterations."""
    COMMITTING = auto()
    """The thread commits a batch."""
    CLOSED = auto()
    """The thread closes the database, or was given up."""


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
        """``database`` may be used by one thread after another. At most ``max_pending`` operations wait."""
        self._database = database
        self._deliver = deliver
        self._observer = observer
        self._max_pending = max_pending
        self._loop = asyncio.get_running_loop()
        self._turns = Turns()
        self._state = State.IDLE
        self._seen = 0
        """How many operations waited in the iteration before, where the batch may grow."""
        self._gather_until = 0.0
        self._batch: list[Call] = []
        """What the thread commits."""
        self._began = 0.0
        """When it began to."""
        self._written = time.monotonic()
        """When something was committed last."""
        self._failure: Exception | None = None
        """Why the last commit failed; None where it did not."""
        self._closing = False
        self._lossless = True
        """Whether all that waited when it began to close was kept, as far as is known."""
        self._stopped = asyncio.Event()
        self._batches: queue.SimpleQueue[list[Call] | None] = queue.SimpleQueue()
        # A daemon: a thread that hangs in fsync(2) must not keep the process from ending.
        self._thread = threading.Thread(target=self._commit_batches, name="gateway-store", daemon=True)
        self._thread.start()

    def run(self, operation: Callable[[D], T], client: str, *, low_priority: bool = False) -> asyncio.Future[T]:
        """Run ``operation`` in a transaction; its result, when it is committed and its effects are delivered.

        ``client`` says whose it is: operations of one client are run in the order in which they came, those of several
        in turn, and who has used the store more comes later; so does, with ``low_priority``, one for which no client
        waits. Where the future is cancelled before its turn comes, the operation is not run.

        Raises:
            Unavailable: it was not committed. Trying again may help.
            GatewayError: the operation refused, and changed nothing.
        """
        if self._closing:
            raise Stopping
        if len(self._turns) >= self._max_pending:
            raise Unavailable("The store is behind; try again.")
        future: asyncio.Future[T] = self._loop.create_future()
        self._turns.put(client, operation, future, low_priority=low_priority)
        if self._state is State.IDLE:
            self._gather()
        return future

    @property
    def idle_time(self) -> float:
        """Seconds since something was committed."""
        return time.monotonic() - self._written

    def problem(self) -> str | None:
        """Why nothing can be committed now; None while it can."""
        if self._state is State.COMMITTING and (hanging := time.monotonic() - self._began) > HANGING:
            return f"a commit has been under way for {hanging:.0f} s"
        return None if self._failure is None else f"the last commit failed: {self._failure}"

    async def close(self, timeout: float) -> bool:  # noqa: ASYNC109 - the disk is given up, not the task that waits
        """Commit what waits, deliver it, and close the database, within ``timeout`` seconds. Nothing more is taken.

        Returns whether all that waited is kept. Where the disk does not answer in time, it is given up: what waits is
        `Unavailable`, and whether it is kept is not known.
        """
        if not self._closing:
            self._closing = True
            if self._state is State.IDLE:
                self._close()
        try:
            async with asyncio.timeout(timeout):
                await self._stopped.wait()
        except TimeoutError:
            self._give_up()
        return self._lossless

    # --- on the event loop

    def _gather(self) -> None:
        """Let a batch grow from the next event-loop iteration on."""
        self._state = State.GATHERING
        self._loop.call_soon(self._work)

    def _work(self) -> None:
        """Run a batch of what waits and have it committed; where it has written nothing, that is done at once."""
        if self._state is not State.GATHERING:
            return  # given up
        if not self._turns:
            self._state = State.IDLE
            if self._closing:
                self._close()
            return
        if self._is_growing():
            self._loop.call_soon(self._work)
            return
        batch: list[Call] = []
        running = False
        try:
            self._database.begin()
            running = True
            self._run(batch)
            running = False
            wrote = self._database.flush()
            if not wrote:
                self._database.commit()
        except Exception as error:
            self._failed(batch or list(self._turns.take_all()), error, batch[-1] if running else None)
        else:
            if wrote:
                self._commit(batch)
                return
            self._finish(batch)
        self._go_on()

    def _is_growing(self) -> bool:
        """Whether to wait for another event-loop iteration: the last one has brought operations."""
        waiting, seen, now = len(self._turns), self._seen, time.perf_counter()
        if not seen:
            self._gather_until = now + MAX_GATHER_TIME
        self._seen = waiting if waiting > seen and now < self._gather_until else 0
        return self._seen > 0

    def _run(self, batch: list[Call]) -> None:
        """Run operations in turn, and put them into ``batch``. Raises what is no refusal; the last one raised it."""
        database, turns, clock = self._database, self._turns, time.perf_counter
        now = clock()
        end = now + MAX_RUN_TIME
        affordable = 0.0
        while (call := turns.next()) is not None:
            if not batch:
                affordable = call.line.account + MAX_DEBT
            elif call.alone or batch[0].alone or call.line.account > affordable:
                return
            turns.take(call)
            if call.future.cancelled():
                turns.charge(call, 0.0)
                continue
            batch.append(call)
            began = now
            try:
                call.error = None
                call.result = call.operation(database)
            except GatewayError as refusal:
                call.error = refusal.with_traceback(None)  # a frame of it has the batch, and this error with it
            finally:
                now = clock()
                turns.charge(call, now - began)
            call.effects = database.take_effects()
            if now > end or database.is_full():
                return

    def _commit(self, batch: list[Call]) -> None:
        self._state = State.COMMITTING
        self._batch = batch
        self._began = time.monotonic()
        self._batches.put(batch)

    def _committed(self, error: Exception | None) -> None:
        """The thread has committed what it was given, or could not."""
        if self._state is not State.COMMITTING:
            return  # given up
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
        self._go_on()

    def _go_on(self) -> None:
        """Begin the next batch in the next iteration: those who get their results now are about to call again."""
        if self._turns or self._closing:
            self._gather()
        else:
            self._state = State.IDLE

    def _failed(self, batch: list[Call], error: Exception, culprit: Call | None) -> None:
        """Nothing of the batch was kept. ``culprit`` is the operation that raised ``error``, if one did."""
        self._database.rollback()
        if _is_of_disk(error, in_operation=culprit is not None):
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
            self._turns.put_back(batch)

    def _finish(self, batch: list[Call]) -> None:
        try:
            self._deliver([effect for call in batch for effect in call.effects])
        except Exception:
            # Those who wait must hear of the commit, whatever is wrong with a subscriber.
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

    def _give_up(self) -> None:
        """The disk does not answer. The thread closes the database if it ever does."""
        if self._state is not State.CLOSED:
            self._lossless = False
            self._close()
        _reject([*self._batch, *self._turns.take_all()])
        self._stopped.set()

    # --- on the thread

    def _commit_batches(self) -> None:
        while self._batches.get() is not None:
            error: Exception | None = None
            try:
                self._database.commit()
            except Exception as problem:  # whatever it is, those who wait must hear of it
                error = problem
            self._report(self._committed, error)
        try:
            self._database.close()
        except Exception:
            logger.exception("the store could not be closed")
        finally:
            self._report(self._stopped.set)

    def _report(self, callback: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(callback, *arguments)


def _is_of_disk(error: Exception, *, in_operation: bool) -> bool:
    """Whether nothing can be kept now, whoever asks: not what one operation has done wrong."""
    if not isinstance(error, sqlite3.Error):
        return isinstance(error, OSError)
    if in_operation:
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in DISK_ERRORS
    return not isinstance(error, sqlite3.IntegrityError)


def _reject(calls: Iterable[Call]) -> None:
    for call in calls:
        if not call.future.done():
            call.future.set_exception(Unavailable("The store cannot do this now; try again."))
