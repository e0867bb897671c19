"""The embedded store's transactions, and what works in them: `Sessions`, `Rooms`, `DirectRooms` and the `Log`.

An operation, a method of these, checks first and writes then, so that one that refuses (a `GatewayError`) has changed
nothing. What it did for others to hear goes, in order, into `Log.effects`.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

from gateway.engines.sqlite.direct import DirectRooms
from gateway.engines.sqlite.log import Log
from gateway.engines.sqlite.members import Members
from gateway.engines.sqlite.rooms import Rooms
from gateway.engines.sqlite.sessions import Sessions

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.engines.base import Effect, Policy


class Tables:
    """The tables of ``schema/``. Used by one thread at a time."""

    def __init__(self, connection: sqlite3.Connection, policy: Policy, clock: Callable[[], float]) -> None:
        self._db = connection
        self._policy = policy
        self._changes = 0
        self.log = Log(connection, policy, clock)
        members = Members(connection, policy)
        self.rooms = Rooms(connection, self.log, members, policy, clock)
        self.direct = DirectRooms(connection, self.log, self.rooms, members)
        self.sessions = Sessions(connection, self.log, self.rooms, policy, clock)

    def begin(self) -> None:
        if self._db.in_transaction:
            self.rollback()
        self.take_effects()
        self.log.begin()
        self._db.execute("BEGIN")
        self._changes = self._db.total_changes

    def flush(self) -> bool:
        self.log.flush()
        return self._db.total_changes > self._changes

    def commit(self) -> None:
        self._db.execute("COMMIT")

    def rollback(self) -> None:
        """Undo what was not committed, and know nothing any more of what may not be so."""
        if self._db.in_transaction:
            with contextlib.suppress(sqlite3.Error):  # begin() tries again
                self._db.execute("ROLLBACK")
        self.rooms.rollback()
        self.log.rollback()

    def take_effects(self) -> list[Effect]:
        effects, self.log.effects = self.log.effects, []
        return effects

    def is_full(self) -> bool:
        return self.log.told >= self._policy.commit_size

    def maintain(self) -> bool:
        """Do one slice of the work that operations have deferred, such as deleting the log of a room that is gone.

        A slice takes a few milliseconds at most. Returns whether there is more.
        """
        return False

    def close(self) -> None:
        self._db.close()
