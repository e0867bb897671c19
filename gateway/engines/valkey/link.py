"""A connection to the server, on which commands do not wait for each other.

Commands are sent in the order of their calls and replied to in that order. Those of one event-loop iteration leave
together. None is ever cancelled: where a caller stops waiting, the reply is still read. When the connection is lost, it
is not known whether the commands without a reply were run, so all of them fail.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from hiredis import pack_command
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from gateway.engines.valkey.address import CONNECT_TIMEOUT
from gateway.engines.valkey.scripts import all_scripts

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection

    from gateway.engines.valkey.scripts import Script

REPLY_TIMEOUT: Final = 5.0
"""How long a reply may take, in seconds, before the connection is given up."""

Argument = str | bytes | int


async def connect(connection: AbstractConnection) -> None:
    """Connect, log in and select the database. Raises RedisError or OSError; and in time, whatever the server does."""
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            await connection.connect()  # type: ignore[no-untyped-call]
    except TimeoutError:
        raise RedisTimeoutError(f"it does not reply within {CONNECT_TIMEOUT:g} seconds") from None


class LinkLostError(Exception):
    """The connection is lost; what was asked may or may not have been done."""


class Link:
    """Commands on one connection."""

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._unsent: list[tuple[Argument, ...]] = []
        self._waiting: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._wanted = asyncio.Event()
        self._lost = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.error: BaseException | None = None
        """Why the connection was lost."""

    async def open(self) -> None:
        """Connect, and let the server know the scripts. Raises RedisError, OSError or LinkLostError."""
        await connect(self._connection)
        self._tasks = [self._loop.create_task(part) for part in (self._write(), self._read(), self._watch())]
        await asyncio.gather(*(self.call("SCRIPT", "LOAD", each.source) for each in all_scripts()))

    @property
    def is_lost(self) -> bool:
        return self._lost.is_set()

    async def lost(self) -> None:
        """Wait until the connection is lost."""
        await self._lost.wait()

    def call(self, *command: Argument) -> asyncio.Future[Any]:
        """The reply to a command; a `ResponseError` if that is what the server replied.

        Raises (when awaited):
            LinkLostError, ResponseError
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        if self.is_lost:
            future.set_exception(LinkLostError(str(self.error)))
            return future
        self._unsent.append(command)
        self._waiting.append((future, self._loop.time()))
        self._wanted.set()
        return future

    async def run(self, script: Script, *arguments: Argument) -> Any:
        """Run a script; ``arguments``: how many keys there are, these, and its arguments. As `call`.

        If the server has forgotten it, the connection is given up, and the next one lets the server know it again: to
        send it once more would be out of order.
        """
        try:
            return await self.call("EVALSHA", script.sha, *arguments)
        except NoScriptError as error:
            self._lose(error)
            raise LinkLostError(str(error)) from None

    async def close(self) -> None:
        self._lose(ConnectionError("closed"))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(RedisError, OSError):
            await self._connection.disconnect(nowait=True)

    async def _write(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            commands, self._unsent = self._unsent, []
            try:
                packed = b"".join(map(pack_command, commands))  # type: ignore[arg-type]  # its stub has one argument
                await self._connection.send_packed_command(packed, check_health=False)
            except (RedisError, OSError) as error:
                self._lose(error)
                return

    async def _read(self) -> None:
        while True:
            try:
                reply = await self._connection.read_response(disable_decoding=True, timeout=math.inf)
            except ResponseError as error:
                reply = error
            except (RedisError, OSError) as error:
                self._lose(error)
                return
            future, _ = self._waiting.popleft()
            if future.done():
                continue
            if isinstance(reply, Exception):
                future.set_exception(reply)
            else:
                future.set_result(reply)

    async def _watch(self) -> None:
        """Give the connection up where a reply takes too long: nothing else would notice one that is half open."""
        while True:
            await asyncio.sleep(REPLY_TIMEOUT / 5)
            if self._waiting and self._loop.time() - self._waiting[0][1] > REPLY_TIMEOUT:
                self._lose(TimeoutError(f"no reply within {REPLY_TIMEOUT:g} seconds"))
                with contextlib.suppress(RedisError, OSError):
                    await self._connection.disconnect(nowait=True)
                return

    def _lose(self, error: BaseException) -> None:
        if self.is_lost:
            return
        self.error = error
        self._lost.set()
        waiting, self._waiting = self._waiting, deque()
        for future, _ in waiting:
            if not future.done():
                future.set_exception(LinkLostError(str(error)))
                future.exception()  # somebody may have stopped waiting for it
