"""The embedded store's transactions, and what works in them: `Sessions`, `Rooms`, `DirectRooms` and the `Log`.

An operation, a method of these, checks first and writes then, so that one that refuses (a `GatewayError`) has changed
nothing. What it did for others to hear goes, in order, into `Log.effects`.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

from gateway.engines.base import ListUsers
from gateway.engines.sqlite.clocks import Clocks, Slice
from gateway.engines.sqlite.departures import Departures
from gateway.engines.sqlite.direct import DirectRooms
from gateway.engines.sqlite.epochs import Epochs
from gateway.engines.sqlite.history import History
from gateway.engines.sqlite.log import Log
from gateway.engines.sqlite.members import Members
from gateway.engines.sqlite.replay import Replays
from gateway.engines.sqlite.rooms import Rooms
from gateway.engines.sqlite.sessions import Sessions
from gateway.engines.sqlite.space import Space

if TYPE_CHECKING:
    from gateway.engines.base import Effect, Policy, UserPage
    from gateway.engines.sqlite.database import StoreConnection

LETTERS_TO_FIND_ANYBODY = 2
"""How much of a name one must know to find a user with whom one shares no room."""


class Tables:
    """The tables of ``schema/``. Used by one thread at a time."""

    def __init__(self, connection: StoreConnection, policy: Policy, clocks: Clocks, slice_time: float) -> None:
        """``slice_time``: how long one piece of longer work may take, in seconds."""
        (running_ms,) = connection.execute("SELECT max(kept) FROM trimmed_messages").fetchone()
        clocks.resume(running_ms or 0)
        self._db = connection
        self._epochs = Epochs(connection)
        self._slice_time = slice_time
        self._policy = policy
        self._changes = 0
        self._wrote = False
        self._space = Space(connection, policy.max_store)
        self.log = Log(connection, policy, clocks, self._epochs)
        self._members = Members(connection, policy, self._space)
        self._departures = Departures(connection, clocks.steady_ms, window=policy.decline_window)
        history = History(connection, self.log, policy)
        self.rooms = Rooms(connection, self.log, history, self._members, self._departures, policy)
        self.direct = DirectRooms(connection, self.rooms, self._members, self._departures)
        replays = Replays(connection, self.log, policy)
        self.sessions = Sessions(connection, self.log, replays, self.rooms, policy, clocks, slice_time)

    def open(self) -> None:
        """Begin a new run: the first operation of all."""
        self._epochs.begin(self.log.newest())
        self._departures.open()
        self.sessions.suspend_all_sessions()

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
        self._wrote = self._db.total_changes > self._changes or self._space.given
        if self._wrote:
            self._db.check_files()
        return self._wrote

    def commit(self) -> None:
        if self._wrote:
            self._db.commit_written()
        else:
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

    def find_users(self, actor: str, prefix: str, limit: int) -> UserPage:
        """Whom the policy lets ``actor`` find."""
        lists, letters = self._policy.list_users, len(prefix)
        if lists is ListUsers.ALL or (lists is ListUsers.PREFIX and letters >= LETTERS_TO_FIND_ANYBODY):
            return self.sessions.find_users(prefix, limit)
        return self._members.find_companions(actor, prefix, limit)

    def maintain(self) -> bool:
        """Do one slice of the work that operations have deferred, such as deleting the log of a room that is gone.

        A slice takes a few milliseconds at most. Returns whether there is more.
        """
        self.log.flush()
        trimmed = self.log.trimming.maintain(Slice(self._slice_time))
        return any([trimmed, self._departures.prune(), self._space.give_back()])

    def probe(self) -> None:
        """Have something to commit that changes nothing, to learn whether the disk still takes it."""
        self._db.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('probe', 0)")
        self._db.execute("DELETE FROM sqlite_sequence WHERE name = 'probe'")

    def close(self) -> None:
        self._db.close_in_order()
