"""The embedded store as an `Engine`: each call is one operation, which shares a commit with others that are waiting."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, TypeVar

from gateway.engines.base import NOBODY, Durability
from gateway.engines.sqlite.clocks import Clocks
from gateway.engines.sqlite.commits import GroupCommit
from gateway.engines.sqlite.database import open_database
from gateway.engines.sqlite.transaction import SQLiteTransaction
from gateway.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.engines.base import Policy, Receipt, Rule
    from gateway.engines.effects import Subscriber
    from gateway.engines.sqlite.database import StoreConnection
    from gateway.observe import Observer

T = TypeVar("T")

SLICE_TIME = 0.002
"""How long one slice of a long operation may take, in seconds. It blocks the event loop for that long."""

MAINTENANCE_INTERVAL = 1.0
"""How long maintenance pauses when there is no more deferred work, in seconds."""

MEMORY = ":memory:"
"""The path of a store in memory."""

PROBE_INTERVAL = 2.0
"""After how many seconds without a commit the store makes a small one, to learn that a disk is full or failing before
the next message arrives. It costs one fsync, and only an idle store pays it.
"""


class SQLiteEngine:
    """An `Engine` (see ``engines/base.py``) on SQLite."""

    def __init__(
        self,
        path: str,
        policy: Policy,
        observer: Observer,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        slice_time: float = SLICE_TIME,
    ) -> None:
        """``path``: a file, which is created if it does not exist, or ``:memory:``. ``clock`` returns Unix time,
        ``monotonic`` the time since an arbitrary moment, in seconds.
        """
        self._path = path
        self._policy = policy
        self._observer = observer
        self._clocks = Clocks(clock, monotonic)
        self._slice_time = slice_time
        self._database: StoreConnection | None = None
        self._commits: GroupCommit | None = None
        self._maintenance: asyncio.Task[None] | None = None

    async def open(self, subscriber: Subscriber) -> None:
        self._database = open_database(self._path)
        self._database.guard()
        transaction = SQLiteTransaction(self._database, self._policy, self._clocks, self._slice_time)
        self._commits = GroupCommit(transaction, subscriber.committed, self._observer)
        await self._run(NOBODY, SQLiteTransaction.open)
        self._maintenance = asyncio.create_task(self._maintain())

    async def close(self, timeout: float) -> bool:  # noqa: ASYNC109 - see GroupCommit.close
        if self._maintenance is not None:
            self._maintenance.cancel()
        if self._commits is None:
            return True
        is_kept = await self._commits.close(timeout)
        return is_kept and self._file_problem() is None

    def cluster(self) -> None:
        """Only one process can open the file."""

    def durability(self) -> Durability:
        return Durability.MEMORY if self._path == MEMORY else Durability.DISK

    def problem(self) -> str | None:
        return self._file_problem() or (None if self._commits is None else self._commits.problem())

    def running_ms(self) -> int:
        return self._clocks.running_ms()

    def _file_problem(self) -> str | None:
        """What is wrong with the store's files, if anything."""
        watch = None if self._database is None else self._database.watch
        return None if watch is None else watch.problem

    async def _maintain(self) -> None:
        """Do deferred work, one slice at a time, and probe whether the disk still works."""
        assert self._commits is not None, "open() comes first"  # noqa: S101 - a mistake of the program
        while True:
            try:
                more = await self._run(NOBODY, SQLiteTransaction.maintain)
                if self._commits.idle_time > PROBE_INTERVAL and self._path != MEMORY:
                    await self._run(NOBODY, SQLiteTransaction.probe)
            except Unavailable:
                more = False
            await asyncio.sleep(0 if more else MAINTENANCE_INTERVAL)

    def _run(
        self, client: str, operation: Callable[[SQLiteTransaction], T], *, low_priority: bool = False
    ) -> asyncio.Future[T]:
        """Run ``operation`` for ``client``, a username or `NOBODY`: the operations of one client run in order."""
        assert self._commits is not None, "open() comes first"  # noqa: S101 - a mistake of the program
        return self._commits.run(operation, client, low_priority=low_priority)

    async def run(self, client: str, rule: Rule[T], *, low_priority: bool = False) -> T:
        return await self._run(client, lambda transaction: transaction.run(rule), low_priority=low_priority)

    async def append_message(
        self, actor: str, room_names: Sequence[str], content: str, message_id: str | None
    ) -> Receipt:
        return await self._run(
            actor, lambda transaction: transaction.append_message(actor, room_names, content, message_id)
        )
