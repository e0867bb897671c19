"""The life of a session on this node: a client comes, is lost or leaves, and what the store must know of it.

               connect                     suspend
(nothing) ───────────────▶ live on a ─────────────────▶ suspended ──┐
                           connection ◀───────────────              │ the recovery window ends,
                               │        connect with a valid pid    │ or the name is claimed
                               │ end                                ▼
                               └─────────────────────────────────▶ ended

A connection that is closed holds nothing and claims nothing. The moment its transport is closed, the store is told, in
its order of calls: also while the log-in is still on its way. A log-in that the store has not come to is not made at
all; one that the client cannot have heard of is undone: a new session ends, and a resumed one is suspended again.
The same holds for one that the client shows no sign of having heard of: it is in no room and has sent nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING

from gateway.errors import GatewayError, Stopping, Unavailable, UsernameTaken
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
"""How long a log-in waits for the holder of its name, if that one may have left already (`Connection.leaves_late`), in
seconds. It is a little more than the requests of a client take that is far away.
"""

LOOK_INTERVAL = 0.01
"""Seconds between two checks of whether that holder may still be leaving."""

LOGIN_TIMEOUT = 5.0
"""How long the store may take to answer a log-in, in seconds."""

SWEEP_INTERVAL = 1.0
"""Seconds between two looks for expired sessions."""

RETRY_INTERVAL = 1.0
"""Seconds until the store is told again of a session that it could not be told of."""

CLOSE_GRACE = 2.0
"""Seconds that the store has, when the gateway stops, to hear of the last sessions."""

logger = get_logger(__name__)


class _Login:
    """A log-in that the store has not answered, or whose answer is not written to the client yet."""

    __slots__ = ("abandoned", "attaching", "undo")

    def __init__(self, attaching: asyncio.Task[None], undo: Callable[[], Awaitable[None]]) -> None:
        self.attaching = attaching
        self.undo = undo
        """Has the store let go of what it attached, if it did."""
        self.abandoned = False
        """Whether the client is gone, or was told that it is not in."""


class Sessions:
    """Moves sessions from state to state. What a client did not cause, a lost transport or a deadline, is
    retried until it is kept.
    """

    def __init__(self, store: Store, delivery: Delivery, observer: Observer) -> None:
        self._store = store
        self._delivery = delivery
        self._observer = observer
        self._tasks = TaskOwner()
        self._logins: dict[str, _Login] = {}
        """By the ``cid`` of their connections."""
        self._leaving: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        """By the ``cid`` of connections whose names are waited for: set when they let go of them."""
        self._sweeper: asyncio.Task[None] | None = None
        self.accepting = True
        """Whether clients may log in."""

    def start(self) -> None:
        """Begin to end expired sessions."""
        self._sweeper = self._tasks.start(self._sweep())

    def stop(self) -> None:
        """Let nobody in any more."""
        self.accepting = False

    async def close(self) -> None:
        """Tell the store what it does not know yet. Where it cannot be told, it finds out at its next start."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        await self._tasks.close(grace=CLOSE_GRACE)

    async def connect(self, connection: Connection, credentials: Credentials) -> None:
        """Log a client in. When this returns, ``connection`` has its session, and ``welcome`` is written to it. What is
        written must reach the transport without waiting for anything: until then, the client cannot know its session.

        Raises:
            UsernameTaken: somebody else holds the name.
            Unavailable: the store cannot write, or does not answer, or the transport was closed meanwhile.
            Stopping: `stop` was called.
        """
        if not self.accepting:
            raise Stopping
        self._delivery.register(connection)
        resume = None if credentials.pid is None else ResumePoint(credentials.pid, credentials.offset)
        claim = Claim(credentials.username, connection.cid, resume, resumable=connection.wire.resumable)
        login = self._logins[connection.cid] = _Login(
            asyncio.create_task(self._attach(claim)), partial(self._store.abandon_session, claim)
        )
        try:
            await self._answer(connection, login)
        finally:
            del self._logins[connection.cid]
            del login.attaching  # it has the error of a refusal, which has this frame and those of its callers
        logger.info("connected", username=credentials.username, wire=connection.wire.name)
        self._observer.connected(connection.wire.name)

    async def _attach(self, claim: Claim) -> None:
        """Have the session attached; again, as long as the holder of the name may be about to leave."""
        loop = asyncio.get_running_loop()
        end = loop.time() + LEAVE_TIMEOUT
        while True:
            try:
                await self._store.attach_session(claim)
            except UsernameTaken as taken:
                if (
                    taken.retry_after is not None
                    or loop.time() >= end
                    or not await self._is_let_go(claim.username, end)
                ):
                    raise
            else:
                return

    async def _is_let_go(self, username: str, end: float) -> bool:
        """Whether a name that was taken is not any more, or not for long; waits until ``end`` for one that leaves."""
        holder = self._delivery.holder(username)
        if holder is None:
            await asyncio.sleep(LOOK_INTERVAL)
            return True
        leaving = asyncio.Event()
        self._leaving[holder.cid].add(leaving)
        try:
            while not leaving.is_set() and holder.leaves_late and asyncio.get_running_loop().time() < end:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_INTERVAL):
                        await leaving.wait()
        finally:
            self._leaving[holder.cid].discard(leaving)
            if not self._leaving[holder.cid]:
                del self._leaving[holder.cid]
        return leaving.is_set()

    async def _answer(self, connection: Connection, login: _Login) -> None:
        """Wait for the store to answer a log-in. Where it has not let the client in, nothing is left of it."""
        try:
            async with asyncio.timeout(LOGIN_TIMEOUT):
                await login.attaching
        except TimeoutError:
            self._abandon(connection, login)
            raise Unavailable("The store does not answer; try again later.") from None
        except asyncio.CancelledError:
            if login.abandoned and not _is_cancelled():
                raise Unavailable("The connection is closed.") from None
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
        """The transport of ``connection`` was lost: its session waits for the client, unless nobody could come back to
        it, or would find anything there.
        """
        can_come_back = connection.may_know_pid or self._delivery.is_in_a_room(connection)
        if connection.wire.resumable and can_come_back:
            self._release(connection, self._store.suspend_session, "suspended")
        else:
            self._release(connection, self._store.end_session, "left")

    def abandon(self, connection: Connection) -> None:
        """The transport of ``connection`` is closed: if it is still logging in, it is not to. `lose` or `end`
        follows when all that it asked for is done.
        """
        if (login := self._logins.get(connection.cid)) is not None:
            connection.closed = True
            self._abandon(connection, login)

    def end(self, connection: Connection) -> None:
        """The client of ``connection`` left on purpose."""
        self._release(connection, self._store.end_session, "left")

    def leave(self, connection: Connection) -> None:
        """The client leaves on purpose: its name is free for who asks next. What it asked for before is still answered;
        then comes `end`.
        """
        if (login := self._logins.get(connection.cid)) is not None:
            self._start(connection, login.undo)
        elif (session := self._delivery.detach(connection)) is not None:
            self._left(connection, session, self._store.end_session, "left")

    def _release(self, connection: Connection, transition: Transition, word: str) -> None:
        connection.closed = True
        if (login := self._logins.get(connection.cid)) is not None:
            self._abandon(connection, login)
        elif (session := self._delivery.forget(connection)) is not None:
            self._left(connection, session, transition, word)

    def _left(self, connection: Connection, session: Session, transition: Transition, word: str) -> None:
        logger.info(word, username=session.username, wire=connection.wire.name)
        self._observer.disconnected(connection.wire.name)
        self._start(connection, partial(transition, session, connection.cid))

    def _abandon(self, connection: Connection, login: _Login) -> None:
        """Have the store undo a log-in that nobody waits for any more. If it has not come to it yet, it never will.

        Both are in the store's order of calls from now on: a log-in on another connection comes after them.
        """
        if not login.abandoned:
            login.abandoned = True
            login.attaching.cancel()
            self._delivery.forget(connection)
            self._start(connection, login.undo)

    def _start(self, connection: Connection, transition: Callable[[], Awaitable[None]]) -> None:
        """Tell the store that a connection lets go of its session."""
        self._tasks.start(self._keep(transition))
        for leaving in self._leaving.get(connection.cid, ()):
            leaving.set()

    async def _keep(self, transition: Callable[[], Awaitable[None]]) -> None:
        """Tell the store, until it has kept it."""
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
                while ended := await self._store.end_expired_sessions():
                    logger.info("expired", sessions=ended)
            except Unavailable:
                continue


def _is_cancelled() -> bool:
    """Whether the running task is to end, rather than one that it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
