"""Sessions in the embedded store: each method is one operation, all of it or nothing (see ``tables``)."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from gateway.engines.base import Attachment, ResumePoint, Session, UserPage
from gateway.engines.sqlite.log import now_ms
from gateway.errors import UsernameTaken
from gateway.tokens import hash_token, tokens

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from gateway.engines.base import Policy
    from gateway.engines.sqlite.log import Log
    from gateway.engines.sqlite.rooms import Rooms

EXPIRED_AT_ONCE = 100


class Sessions:
    """The table ``sessions``."""

    def __init__(
        self, connection: sqlite3.Connection, log: Log, rooms: Rooms, policy: Policy, clock: Callable[[], float]
    ) -> None:
        """``clock`` gives Unix time in seconds."""
        self._db = connection
        self._log = log
        self._rooms = rooms
        self._policy = policy
        self._clock = clock
        self._sids = tokens(15)
        self._pids = tokens(24)

    def attach_session(
        self, username: str, connection: str, resume: ResumePoint | None, *, resumable: bool = True
    ) -> Session:
        row = self._db.execute(
            "SELECT sid, pid, previous_pid, connection FROM sessions WHERE username = ?", (username,)
        ).fetchone()
        if row is not None:
            sid, *pids, holder = row
            if resume is not None and any(_is_same(resume.pid, pid) for pid in pids):
                return self._resume(Session(sid, resume.pid, username), connection, holder, resume.offset)
            if holder is not None:
                raise UsernameTaken(username)
            self._check_not_reserved(username)
            self._end(username)
        session = Session(next(self._sids), next(self._pids), username)
        self._db.execute(
            "INSERT INTO sessions (username, sid, pid, connection, resumable) VALUES (?, ?, ?, ?, ?)",
            (username, session.sid, hash_token(session.pid), connection, resumable),
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
        left = suspended_at / 1000 + self._policy.reserve_names - now_ms(self._clock) / 1000
        if resumable and left > 0:
            raise UsernameTaken(username, retry_after=left)

    def _resume(self, session: Session, connection: str, holder: str | None, offset: str | None) -> Session:
        missed = self._log.missed(session.username, offset)
        recovered = offset is not None and missed is not None
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
                offset if recovered and offset is not None else self._log.offset(self._log.newest()),
                recovered,
                missed if recovered and missed is not None else (),
                replaces=holder,
            )
        )
        if holder is None:
            self._rooms.publish_presence(session.username, online=True)
        return session

    def suspend_session(self, session: Session, connection: str) -> None:
        cursor = self._db.execute(
            "UPDATE sessions SET connection = NULL, suspended_at = ? WHERE username = ? AND sid = ? AND connection = ?",
            (now_ms(self._clock), session.username, session.sid, connection),
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
            (now_ms(self._clock), window),
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
        expired = self._db.execute(
            "SELECT username FROM sessions WHERE suspended_at <= ? ORDER BY suspended_at LIMIT ?",
            (now_ms(self._clock) - int(self._policy.recovery_window * 1000), EXPIRED_AT_ONCE),
        ).fetchall()
        for (username,) in expired:
            self._end(username)
        return len(expired)

    def _end(self, username: str) -> None:
        self._rooms.leave_all(username)
        self._db.execute("DELETE FROM sessions WHERE username = ?", (username,))

    def find_users(self, prefix: str, limit: int) -> UserPage:
        rows = self._db.execute(
            "SELECT username FROM sessions WHERE connection IS NOT NULL AND username >= ? "
            "AND substr(username, 1, ?) = ? ORDER BY username LIMIT ?",
            (prefix, len(prefix), prefix, limit + 1),
        ).fetchall()
        users = tuple(username for (username,) in rows)
        return UserPage(users[:limit], more=len(users) > limit)


def _is_same(given: str, kept: str | None) -> bool:
    """Compare a pid with the hash of one, without telling by the time it takes how much was right."""
    return kept is not None and hmac.compare_digest(hash_token(given), kept)
