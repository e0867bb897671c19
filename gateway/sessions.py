"""The life of a session on this node: a client connects, loses its connection or leaves, and the store follows.

               connect                     suspend
(nothing) ───────────────▶ live on a ─────────────────▶ suspended ──┐
                           connection ◀───────────────              │ the recovery window ends,
                               │        connect with a valid pid    │ or the name is claimed
                               │ end                                ▼
                               └─────────────────────────────────▶ ended

**Abandoned log-ins.** A closed connection must hold no session and claim no name, even if it is closed while its log-in
is under way. So the store is called the moment the transport closes (`Sessions.abandon`), in one of three situations:

1. The store has not run the log-in yet. It is cancelled, and never runs.
2. The store has run it, but the reply was not written to the client. `Store.abandon_session` undoes it: a new session
   ends, since its client never received a pid; a resumed one is suspended again.
3. The reply was written, but there is no sign that the client received it: it has sent nothing since, and is in no
   room. `Sessions.lose` ends such a session instead of suspending it, so that its name is not reserved for a client
   that cannot return.

The gateway need not know whether it is 1 or 2, nor whether a log-in that is `Unconfirmed` took effect: the call that
undoes a log-in is always made, and does nothing if no session is live on the connection. The store runs the calls for
one username in order, so the next log-in with that name comes after it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING

from gateway.errors import GatewayError, Stopping, Unavailable, Unconfirmed, UsernameTaken
from gateway.logs import get_logger
from gateway.rules.sessions import Claim, ResumePoint
from gateway.tasks import TaskOwner

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gateway.connections import Connection
    from gateway.delivery import Delivery
    from gateway.engines.effects import Session
    from gateway.observe import Observer
    from gateway.protocol.login import Credentials
    from gateway.rules.store import Store

    Transition = Callable[[Session, str], Awaitable[None]]

LEAVE_TIMEOUT = 1.0
"""How long a log-in waits for the holder of its name if that may be leaving (`Connection.leaves_late`), in seconds: a
little longer than the last requests of a distant client take.
"""

POLL_INTERVAL = 0.01
"""How often a waiting log-in checks whether the holder may still be leaving, in seconds. If the holder is on another
node, the checks are calls of the store, and each comes after twice the time of the one before.
"""

LOGIN_TIMEOUT = 5.0
"""How long the store may take for a log-in, in seconds."""

SWEEP_INTERVAL = 1.0
"""How often expired sessions are ended, in seconds."""

RETRY_INTERVAL = 1.0
"""How long to wait, in seconds, before a transition that the store could not commit is tried again."""

CLOSE_GRACE = 2.0
"""How long the transitions under way may take when the gateway stops, in seconds."""

logger = get_logger(__name__)


class _Login:
    """A log-in under way: the store has not completed it, or its reply has not been written to the client."""

    __slots__ = ("abandoned", "attaching", "undo")

    def __init__(self, attaching: asyncio.Task[None], undo: Callable[[], Awaitable[None]]) -> None:
        self.attaching = attaching
        self.undo = undo
        """Makes the store release what it attached, if it did."""
        self.abandoned = False
        """Whether the client has disconnected, or was sent a refusal."""


class Sessions:
    """Moves sessions from state to state. A transition that no client waits for, such as after a lost transport, is
    retried until it is committed.
    """

    def __init__(self, store: Store, delivery: Delivery, observer: Observer) -> None:
        self._store = store
        self._delivery = delivery
        self._observer = observer
        self._tasks = TaskOwner()
        self._logins: dict[str, _Login] = {}
        """By ``connection_id``."""
        self._leaving: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        """By the ``connection_id`` of the holder of a name that log-ins wait for: set when it releases the name."""
        self._sweeper: asyncio.Task[None] | None = None
        self.accepting = True
        """Whether clients may log in."""

    def start(self) -> None:
        """Begin ending expired sessions."""
        self._sweeper = self._tasks.start(self._sweep())

    def stop(self) -> None:
        """Refuse all further log-ins."""
        self.accepting = False

    async def close(self) -> None:
        """Finish the transitions under way. Those that the store cannot commit do not matter: it suspends all sessions
        when it is next opened.
        """
        if self._sweeper is not None:
            self._sweeper.cancel()
        await self._tasks.close(grace=CLOSE_GRACE)

    async def connect(self, connection: Connection, credentials: Credentials) -> None:
        """Log a client in. When this returns, ``connection`` has its session, and ``welcome`` is written to it. What is
        written must reach the transport without waiting for anything: until then, the client does not have its pid.

        Raises:
            UsernameTaken: another client holds the name.
            Unavailable: the store cannot write or does not respond, or the transport was closed meanwhile.
            Stopping: `stop` was called.
        """
        if not self.accepting:
            raise Stopping
        self._delivery.register(connection)
        resume = None if credentials.pid is None else ResumePoint(credentials.pid, credentials.offset)
        claim = Claim(credentials.username, connection.connection_id, resume, resumable=connection.wire.resumable)
        login = self._logins[connection.connection_id] = _Login(
            asyncio.create_task(self._attach(claim)), partial(self._store.abandon_session, claim)
        )
        try:
            await self._complete(connection, login)
        finally:
            del self._logins[connection.connection_id]
            del login.attaching  # if refused, it holds the error, whose traceback holds this frame: a reference cycle
        logger.info("connected", username=credentials.username, wire=connection.wire.name)
        self._observer.connected(connection.wire.name)

    async def _attach(self, claim: Claim) -> None:
        """Attach the session. If the name is taken by a client that may be leaving, wait for it and try again."""
        loop = asyncio.get_running_loop()
        end = loop.time() + LEAVE_TIMEOUT
        pause = POLL_INTERVAL
        while True:
            try:
                await self._store.attach_session(claim)
            except UsernameTaken as taken:
                if (
                    taken.retry_after is not None
                    or loop.time() >= end
                    or not await self._wait_for_release(claim.username, end, pause)
                ):
                    raise
                pause *= 2
            else:
                return

    async def _wait_for_release(self, username: str, end: float, pause: float) -> bool:
        """Wait until ``end`` for the holder of a name, if it may be leaving. Returns whether to try again.

        Where the holder is on another node, only the store knows: it is asked again after ``pause`` seconds.
        """
        holder = self._delivery.holder(username)
        if holder is None:
            await asyncio.sleep(min(pause, max(0, end - asyncio.get_running_loop().time())))
            return True
        leaving = asyncio.Event()
        self._leaving[holder.connection_id].add(leaving)
        try:
            while not leaving.is_set() and holder.leaves_late and asyncio.get_running_loop().time() < end:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(POLL_INTERVAL):
                        await leaving.wait()
        finally:
            self._leaving[holder.connection_id].discard(leaving)
            if not self._leaving[holder.connection_id]:
                del self._leaving[holder.connection_id]
        return leaving.is_set()

    async def _complete(self, connection: Connection, login: _Login) -> None:
        """Wait for the store to complete a log-in. If it fails, nothing is left of it."""
        try:
            async with asyncio.timeout(LOGIN_TIMEOUT):
                await login.attaching
        except TimeoutError:
            self._abandon(connection, login)
            raise Unavailable("The store does not respond; try again later.") from None
        except asyncio.CancelledError:
            if login.abandoned and not _is_cancelled():
                raise Unavailable("The connection is closed.") from None
            self._abandon(connection, login)
            raise
        except Unconfirmed:
            self._abandon(connection, login)
            raise
        except GatewayError:
            self._delivery.forget(connection)
            raise
        except Exception:
            logger.exception("a session could not be attached")
            self._delivery.forget(connection)
            raise Unavailable("Something went wrong in the gateway; try again later.") from None
        if login.abandoned:
            raise Unavailable("The connection is closed.")

    def lose(self, connection: Connection) -> None:
        """The transport of ``connection`` was lost. Its session is suspended, or ends if its client cannot return to it
        (or if it may not have received its pid, and there is nothing to return to).
        """
        can_come_back = connection.may_know_pid or self._delivery.is_in_a_room(connection)
        if connection.wire.resumable and can_come_back:
            self._release(connection, self._store.suspend_session, "suspended")
        else:
            self._release(connection, self._store.end_session, "left")

    def abandon(self, connection: Connection) -> None:
        """The transport of ``connection`` was closed. A log-in that is under way is abandoned. `lose` or `end` follows
        when all earlier requests of the client have been handled.
        """
        if (login := self._logins.get(connection.connection_id)) is not None:
            connection.closed = True
            self._abandon(connection, login)

    def end(self, connection: Connection) -> None:
        """The client of ``connection`` left on purpose."""
        self._release(connection, self._store.end_session, "left")

    def leave(self, connection: Connection) -> None:
        """The client is leaving on purpose, and its name is released. `end` follows when its earlier requests have been
        replied to.
        """
        if (login := self._logins.get(connection.connection_id)) is not None:
            self._start(connection, login.undo)
        elif (session := self._delivery.detach(connection)) is not None:
            self._left(connection, session, self._store.end_session, "left")

    def _release(self, connection: Connection, transition: Transition, event: str) -> None:
        connection.closed = True
        if (login := self._logins.get(connection.connection_id)) is not None:
            self._abandon(connection, login)
        elif (session := self._delivery.forget(connection)) is not None:
            self._left(connection, session, transition, event)

    def _left(self, connection: Connection, session: Session, transition: Transition, event: str) -> None:
        logger.info(event, username=session.username, wire=connection.wire.name)
        self._observer.disconnected(connection.wire.name)
        self._start(connection, partial(transition, session, connection.connection_id))

    def _abandon(self, connection: Connection, login: _Login) -> None:
        """Cancel a log-in, or undo it if the store has run it already: see "Abandoned log-ins" above."""
        if not login.abandoned:
            login.abandoned = True
            login.attaching.cancel()
            self._delivery.forget(connection)
            self._start(connection, login.undo)

    def _start(self, connection: Connection, transition: Callable[[], Awaitable[None]]) -> None:
        """Begin a transition that releases the session of a connection, and wake log-ins that wait for its name."""
        self._tasks.start(self._retry(transition))
        for leaving in self._leaving.get(connection.connection_id, ()):
            leaving.set()

    async def _retry(self, transition: Callable[[], Awaitable[None]]) -> None:
        """Make a transition, until the store has committed it."""
        while True:
            try:
                await transition()
            except Unavailable:
                await asyncio.sleep(RETRY_INTERVAL)
            else:
                return

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_INTERVAL)
            try:
                while suspended := await self._store.suspend_orphaned_sessions():
                    logger.info("suspended", sessions=suspended, reason="their node is gone")
                while ended := await self._store.end_expired_sessions():
                    logger.info("expired", sessions=ended)
            except Unavailable:
                continue


def _is_cancelled() -> bool:
    """Whether the current task was cancelled, and not only the one that it awaits."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
