"""Sessions in the embedded store: each method is one operation, all of it or nothing (see ``tables``)."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from gateway.engines.base import Attachment, ResumePoint, Session, UserPage
from gateway.engines.sqlite.clocks import Slice
from gateway.errors import UsernameTaken
from gateway.tokens import hash_token, tokens

if TYPE_CHECKING:
    import sqlite3

    from gateway.engines.base import Policy
    from gateway.engines.sqlite.clocks import Clocks
    from gateway.engines.sqlite.log import Log
    from gateway.engines.sqlite.replay import Replay, Replays
    from gateway.engines.sqlite.rooms import Rooms


FEW_STEPS = 100
"""How much of a replay may be read in the operation that resumes the session, which has enough to do as it is."""

LAST_CHARACTER = "\U0010ffff"
"""What comes after every character that a name may have."""


class Sessions:
    """The table ``sessions``."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        log: Log,
        replays: Replays,
        rooms: Rooms,
        policy: Policy,
        clocks: Clocks,
        slice_time: float,
    ) -> None:
        self._db = connection
        self._log = log
        self._rooms = rooms
        self._policy = policy
        self._replays = replays
        self._clocks = clocks
        self._slice_time = slice_time
        self._sids = tokens(15)
        self._pids = tokens(24)

    def attach_session(
        self,
        username: str,
        connection: str,
        resume: ResumePoint | None,
        replay: Replay | None = None,
        *,
        resumable: bool = True,
    ) -> Session | Replay:
        """The session; or a replay of which more is to be read: call again with it, and nothing is done yet."""
        row = self._db.execute(
            "SELECT sid, pid, previous_pid, connection FROM sessions WHERE username = ?", (username,)
        ).fetchone()
        if row is not None:
            sid, *pids, holder = row
            if resume is not None and any(_is_same(resume.pid, pid) for pid in pids):
                replay = replay or self._replays.begin(username, resume.offset)
                steps = replay.steps
                replay = self._replays.read_on(replay, Slice(self._slice_time))
                if not replay.done or replay.steps - steps > FEW_STEPS:
                    return replay
                return self._resume(Session(sid, resume.pid, username), connection, holder, replay)
            if holder is not None:
                raise UsernameTaken(username)
            self._check_not_reserved(username)
            self._end(username)
        session = Session(next(self._sids), next(self._pids), username)
        self._db.execute(
            "INSERT INTO sessions (username, sid, pid, connection, resumable, began) VALUES (?, ?, ?, ?, ?, ?)",
            (username, session.sid, hash_token(session.pid), connection, resumable, self._log.newest()),
        )
        self._log.effects.append(
            Attachment(session, connection, (), self._log.offset(self._log.newest()), recovered=False)
        )
        return session

    def _check_not_reserved(self, username: str) -> None:
        """See that a suspended name may be claimed: its holder may come back no more, or has had the time to."""
        suspended_at, resumable = self._db.execute(
            "SELECT suspended_at, resumable FROM sessions WHERE username = ?", (username,)
        ).fetchone()
        left = self._policy.reserve_names - (self._clocks.running_ms() - suspended_at) / 1000
        if resumable and left > 0:
            raise UsernameTaken(username, retry_after=left)

    def _resume(self, session: Session, connection: str, holder: str | None, replay: Replay) -> Session:
        recovered = not replay.lost
        previous_pid = None
        if not recovered:
            # The stock client takes an unchanged pid for a recovery.
            previous_pid = hash_token(session.pid)
            session = Session(session.sid, next(self._pids), session.username)
        self._db.execute(
            "UPDATE sessions SET pid = ?, previous_pid = ?, connection = ?, suspended_at = NULL, resumable = 1 "
            "WHERE username = ?",
            (hash_token(session.pid), previous_pid, connection, session.username),
        )
        self._log.effects.append(
            Attachment(
                session,
                connection,
                self._rooms.list_rooms(session.username),
                self._log.offset(replay.position if recovered else self._log.newest()),
                recovered,
                self._replays.missed(replay) if recovered else (),
                replaces=holder,
            )
        )
        if holder is None:
            self._rooms.publish_presence(session.username, online=True)
        return session

    def suspend_session(self, session: Session, connection: str) -> None:
        cursor = self._db.execute(
            "UPDATE sessions SET connection = NULL, suspended_at = ? WHERE username = ? AND sid = ? AND connection = ?",
            (self._clocks.running_ms(), session.username, session.sid, connection),
        )
        if cursor.rowcount:
            self._rooms.publish_presence(session.username, online=False)

    def suspend_all_sessions(self) -> None:
        """Nobody could come back while the store was closed: the recovery windows of all begin now. Where nobody can
        come back at all, the window is over.
        """
        window = int(self._policy.recovery_window * 1000)
        self._db.execute(
            "UPDATE sessions SET connection = NULL, suspended_at = ? - iif(resumable, 0, ?)",
            (self._clocks.running_ms(), window),
        )

    def end_session(self, session: Session, connection: str) -> None:
        row = self._db.execute(
            "SELECT 1 FROM sessions WHERE username = ? AND sid = ? AND connection = ?",
            (session.username, session.sid, connection),
        ).fetchone()
        if row is not None:
            self._end(session.username)

    def abandon_session(self, username: str, connection: str, resume: ResumePoint | None) -> None:
        row = self._db.execute(
            "SELECT sid, pid, previous_pid FROM sessions WHERE username = ? AND connection = ?", (username, connection)
        ).fetchone()
        if row is None:
            return
        sid, *pids = row
        if resume is not None and any(_is_same(resume.pid, pid) for pid in pids):
            self.suspend_session(Session(sid, resume.pid, username), connection)
        else:
            self._end(username)

    def end_expired_sessions(self) -> int:
        """How many were ended: what a slice has time for, at least one where there is any."""
        piece = Slice(self._slice_time / 2)  # the last one may be in a hundred rooms
        oldest = self._clocks.running_ms() - int(self._policy.recovery_window * 1000)
        ended = 0
        while not (ended and piece.is_over()):
            expired = self._db.execute(
                "SELECT username FROM sessions WHERE suspended_at <= ? ORDER BY suspended_at LIMIT 1", (oldest,)
            ).fetchone()
            if expired is None:
                break
            self._end(expired[0])
            ended += 1
        return ended

    def _end(self, username: str) -> None:
        self._rooms.leave_all(username)
        self._db.execute("DELETE FROM sessions WHERE username = ?", (username,))

    def find_users(self, prefix: str, limit: int) -> UserPage:
        rows = self._db.execute(
            "SELECT username FROM sessions WHERE connection IS NOT NULL AND username >= ? AND username < ? "
            "ORDER BY username LIMIT ?",
            (prefix, prefix + LAST_CHARACTER, limit + 1),
        ).fetchall()
        users = tuple(username for (username,) in rows)
        return UserPage(users[:limit], more=len(users) > limit)


def _is_same(given: str, kept: str | None) -> bool:
    """Compare a pid with the hash of one, without telling by the time it takes how much was right."""
    return kept is not None and hmac.compare_digest(hash_token(given), kept)
