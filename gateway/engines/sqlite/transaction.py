"""The embedded store's transactions: what rules read and write, and their effects, on one connection.

A rule never waits here: its reads return at once, so that it runs to its end in one step. One SQL transaction holds the
writes of a whole batch of rules, so a single rule cannot be rolled back; since a rule reads first and writes after, one
that raises a `GatewayError` has changed nothing.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any, Final, TypeVar

from gateway import events
from gateway.engines.base import Receipt
from gateway.engines.sqlite.clocks import Slice
from gateway.engines.sqlite.departures import DepartureTable
from gateway.engines.sqlite.epochs import EpochTable
from gateway.engines.sqlite.history import LogHistory
from gateway.engines.sqlite.log import EventLog
from gateway.engines.sqlite.members import MemberTable
from gateway.engines.sqlite.rooms import RoomTable
from gateway.engines.sqlite.sessions import SessionTable
from gateway.engines.sqlite.space import Space
from gateway.errors import RoomNotFound

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from gateway.engines.base import Policy, Rule
    from gateway.engines.effects import Attachment, Effect
    from gateway.engines.sqlite.clocks import Clocks
    from gateway.engines.sqlite.database import StoreConnection

T = TypeVar("T")

NODE: Final = "local"
"""The only node: just one process can open the file."""


class SQLiteTransaction:
    """A `gateway.engines.transaction.Transaction`, and the `Database` of `GroupCommit`: one object for all transactions
    of a connection, one after another. Used by one thread at a time.
    """

    node = NODE

    def __init__(self, connection: StoreConnection, policy: Policy, clocks: Clocks, slice_time: float) -> None:
        """``slice_time``: how long one slice of a long operation may take, in seconds."""
        (running_ms,) = connection.execute("SELECT max(kept) FROM trimmed_messages").fetchone()
        clocks.resume(running_ms or 0)
        self._db = connection
        self._policy = policy
        self._clocks = clocks
        self._slice_time = slice_time
        self._slice = Slice(slice_time)
        self._changes = 0
        self._wrote = False
        self._epochs = EpochTable(connection)
        self._space = Space(connection, policy.max_store)
        self.log = EventLog(connection, policy, clocks, self._epochs)
        self.history = LogHistory(connection, self.log, policy)
        self.sessions = SessionTable(connection, self.log)
        self.departures = DepartureTable(connection, clocks.steady_ms, window=policy.decline_window)
        self.rooms = RoomTable(connection, self.log, self.departures)
        self.members = MemberTable(connection, self.log)

    # --- what rules use

    async def is_here(self, username: str) -> bool:
        return True

    def running_ms(self) -> int:
        return self._clocks.running_ms()

    def has_time(self) -> bool:
        return not self._slice.is_over()

    def check_space(self) -> None:
        self._space.check()

    def attach(self, attachment: Attachment) -> None:
        self.log.effects.append(attachment)

    # --- operations

    def run(self, rule: Rule[T]) -> T:
        """Run a rule to its end."""
        self._slice = Slice(self._slice_time)
        return _run_to_end(rule(self))

    def append_message(self, actor: str, room_names: Sequence[str], content: str, message_id: str | None) -> Receipt:
        """See `Engine.append_message`."""
        place = self.members.find_id(actor, room_names)
        if place is None:
            raise RoomNotFound(room_names[-1])
        room_id, room = place
        if message_id is not None and (sent := self.log.find_sent(room_id, actor, message_id)) is not None:
            return Receipt(message_id, sent, duplicate=True)
        self._space.check()
        ts = self.log.next_message_ts(room_id)
        name = self.log.next_message_id() if message_id is None else message_id
        body = events.message(name, room, actor, content, ts)
        self.log.append_message(room_id, room, body, author=actor, message_id=message_id, ts=ts)
        return Receipt(name, ts, duplicate=False)

    def open(self) -> None:
        """Begin a new run of the store: the first operation after it is opened."""
        self._epochs.begin(self.log.newest())
        self.departures.open()
        self.sessions.suspend_all(self._clocks.running_ms(), int(self._policy.recovery_window * 1000))

    def maintain(self) -> bool:
        """Do one slice of the work that operations have deferred, such as deleting the log of a deleted room.

        A slice takes a few milliseconds at most. Returns whether there is more to do.
        """
        self.log.flush()
        trimmed = self.log.trimming.maintain(Slice(self._slice_time))
        return any([trimmed, self.departures.prune(), self._space.return_pages()])

    def probe(self) -> None:
        """Write something that changes nothing, so that its commit shows whether the disk still works."""
        self._db.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('probe', 0)")
        self._db.execute("DELETE FROM sqlite_sequence WHERE name = 'probe'")

    # --- a Database

    def begin(self) -> None:
        if self._db.in_transaction:
            self.rollback()
        self.take_effects()
        self.log.begin()
        self._db.execute("BEGIN")
        self._space.begin()
        self._changes = self._db.total_changes

    def flush(self) -> bool:
        self.log.flush()
        self._wrote = self._db.total_changes > self._changes or self._space.returned
        if self._wrote:
            self._db.check_files()
        return self._wrote

    def commit(self) -> None:
        if self._wrote:
            self._db.commit_written()
        else:
            self._db.execute("COMMIT")

    def rollback(self) -> None:
        """Undo what was not committed, and drop the caches that may contain it."""
        if self._db.in_transaction:
            with contextlib.suppress(sqlite3.Error):  # `begin` tries again
                self._db.execute("ROLLBACK")
        self.members.rollback()
        self.log.rollback()

    def take_effects(self) -> list[Effect]:
        effects, self.log.effects = self.log.effects, []
        return effects

    def is_full(self) -> bool:
        return self.log.published >= self._policy.commit_size

    def close(self) -> None:
        self._db.close_in_order()


def _run_to_end(rule: Coroutine[Any, Any, T]) -> T:
    """Run a rule that never waits, because all that it awaits are reads, which return at once."""
    try:
        rule.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    rule.close()
    raise RuntimeError("a rule waited for something that is not a read of its transaction")
