"""What the server pushes: one connection that is subscribed to channels.

Nothing here waits for whoever handles a message: a subscriber that reads too slowly is cut by the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import TYPE_CHECKING, Any, Final, Protocol

from redis.exceptions import RedisError

from gateway.engines.valkey.link import connect

if TYPE_CHECKING:
    from collections.abc import Iterable

    from redis.asyncio.connection import AbstractConnection

AT_ONCE: Final = 512
"""Channels in one command."""


class Receiver(Protocol):
    def received(self, channel: bytes, message: bytes) -> None:
        """A message was published on a channel."""


class Subscription:
    """Its messages are received in the order in which they were published, whatever their channels."""

    def __init__(self, connection: AbstractConnection, receiver: Receiver) -> None:
        self._connection = connection
        self._receiver = receiver
        self._loop = asyncio.get_running_loop()
        self._confirmations: dict[bytes, asyncio.Future[None]] = {}
        self._commands: asyncio.Queue[tuple[Any, ...]] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._lost = asyncio.Event()

    async def open(self) -> None:
        """Raises RedisError or OSError."""
        await connect(self._connection)
        self._tasks = [self._loop.create_task(part) for part in (self._write(), self._read())]

    async def lost(self) -> None:
        """Wait until the connection is lost."""
        await self._lost.wait()

    def abort(self) -> None:
        """Give the connection up."""
        self._lose()

    async def close(self) -> None:
        self._lose()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(RedisError, OSError):
            await self._connection.disconnect(nowait=True)

    async def subscribe(self, channels: Iterable[str]) -> None:
        """Returns when the messages of all these channels are received from here on.

        Raises ConnectionError: the connection is lost.
        """
        wanted = list(channels)
        confirmed = [self._confirmations.setdefault(name.encode(), self._loop.create_future()) for name in wanted]
        for start in range(0, len(wanted), AT_ONCE):
            self._commands.put_nowait(("SUBSCRIBE", *wanted[start : start + AT_ONCE]))
        if self._lost.is_set():
            self._fail()
        await asyncio.gather(*confirmed)

    def unsubscribe(self, channels: Iterable[str]) -> None:
        wanted = list(channels)
        for start in range(0, len(wanted), AT_ONCE):
            self._commands.put_nowait(("UNSUBSCRIBE", *wanted[start : start + AT_ONCE]))

    async def _write(self) -> None:
        while True:
            command = await self._commands.get()
            try:
                packed = self._connection.pack_command(*command)
                await self._connection.send_packed_command(packed, check_health=False)
            except (RedisError, OSError):
                self._lose()
                return

    async def _read(self) -> None:
        while True:
            try:
                push = await self._connection.read_response(disable_decoding=True, timeout=math.inf)
            except (RedisError, OSError):
                self._lose()
                return
            kind, channel, message = push
            if kind == b"message":
                self._receiver.received(channel, message)
            elif kind == b"subscribe" and (confirmed := self._confirmations.pop(channel, None)) is not None:
                confirmed.set_result(None)

    def _lose(self) -> None:
        self._lost.set()
        self._fail()

    def _fail(self) -> None:
        waiting, self._confirmations = self._confirmations, {}
        for confirmed in waiting.values():
            if not confirmed.done():
                confirmed.set_exception(ConnectionError("the subscription is lost"))
                confirmed.exception()
