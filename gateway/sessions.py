"""The life of a session on this node: a client comes, is lost or leaves, and what the store must know of it.

               connect                     suspend
(nothing) ───────────────▶ live on a ─────────────────▶ suspended ──┐
                           connection ◀───────────────              │ the recovery window ends,
                               │        connect with a valid pid    │ or the name is claimed
                               │ end                                ▼
                               └─────────────────────────────────▶ ended
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gateway.engines.base import ResumePoint
from gateway.errors import GatewayError, Stopping, Unavailable
from gateway.logs import get_logger
from gateway.tasks import TaskOwner

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gateway.delivery import Connection, Delivery
    from gateway.engines.base import Engine, Session
    from gateway.schemas import Credentials

    Transition = Callable[[Session, str], Awaitable[None]]

SWEEP_INTERVAL = 1.0
"""Seconds between two looks for expired sessions."""

RETRY_INTERVAL = 1.0
"""Seconds until the store is told again of a session that it could not be told of."""

CLOSE_GRACE = 2.0
"""Seconds that the store has, when the gateway stops, to hear of the last sessions."""

logger = get_logger(__name__)


class Sessions:
    """Moves sessions from state to state. What a client did not cause, a lost transport or a deadline, is
    retried until it is kept.
    """

    def __init__(self, engine: Engine, delivery: Delivery) -> None:
        self._engine = engine
        self._delivery = delivery
        self._tasks = TaskOwner()
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
        """Log a client in. When this returns, ``connection`` has its session, and ``welcome`` is written to it.

        Raises:
            UsernameTaken: somebody else holds the name.
            Unavailable: the store cannot write.
            Stopping: `stop` was called.
        """
        if not self.accepting:
            raise Stopping
        self._delivery.register(connection)
        attaching = self._tasks.start(self._attach(connection, credentials))
        # Whoever waits may be cancelled with its transport; the store must still hear the end of it.
        error = await asyncio.shield(attaching)
        if error is not None:
            raise error

    async def _attach(self, connection: Connection, credentials: Credentials) -> GatewayError | None:
        resume = None if credentials.pid is None else ResumePoint(credentials.pid, credentials.offset)
        try:
            session = await self._engine.attach_session(
                credentials.username, connection.cid, resume, resumable=connection.wire.resumable
            )
        except GatewayError as error:
            self._delivery.forget(connection)
            return error
        except Exception:
            logger.exception("a session could not be attached")
            self._delivery.forget(connection)
            return Unavailable("The gateway made a mistake; try again later.")
        if connection.closed:
            # Gone in the meantime. A new session has not reached its client, who cannot resume it.
            self._delivery.forget(connection)
            transition = self._engine.suspend_session if resume is not None else self._engine.end_session
            self._tasks.start(self._keep(transition, session, connection.cid))
        else:
            logger.info("connected", username=credentials.username, wire=connection.wire.name)
        return None

    def suspend(self, connection: Connection) -> None:
        """The transport of ``connection`` was lost; its client may come back."""
        self._release(connection, self._engine.suspend_session, "suspended")

    def end(self, connection: Connection) -> None:
        """The client of ``connection`` left on purpose."""
        self._release(connection, self._engine.end_session, "left")

    def _release(self, connection: Connection, transition: Transition, word: str) -> None:
        connection.closed = True
        session = self._delivery.forget(connection)
        if session is not None:
            logger.info(word, username=session.username, wire=connection.wire.name)
            self._tasks.start(self._keep(transition, session, connection.cid))

    async def _keep(self, transition: Transition, session: Session, cid: str) -> None:
        while True:
            try:
                await transition(session, cid)
            except Unavailable:
                await asyncio.sleep(RETRY_INTERVAL)
            else:
                return

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_INTERVAL)
            try:
                while ended := await self._engine.end_expired_sessions():
                    logger.info("expired", sessions=ended)
            except Unavailable:
                continue
