"""This process among the nodes that share the store: its lease, and its connection to the server.

::

    connect ──▶ hello ──▶ beats, every BEAT seconds ──▶ the connection is lost ──▶ connect, with growing pauses
                  ▲                   │ fenced: another node has taken the lease, or the store was emptied
                  └── a new identity ─┘

A node that was stopped for longer than its lease (a paused machine) comes back to a store in which its sessions are
suspended. It cannot write: every script that writes checks the lease. It takes a new identity, and closes its clients,
so that they come back and recover. The server's clock decides, not those of the nodes.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from typing import TYPE_CHECKING, Any, Final, Protocol

from redis.exceptions import OutOfMemoryError, RedisError, ResponseError

from gateway.engines.base import Durability
from gateway.engines.epochs import Epochs
from gateway.engines.valkey.clock import ServerClock
from gateway.engines.valkey.link import Link, LinkLostError
from gateway.engines.valkey.scripts import script
from gateway.engines.valkey.server import check_server, durability_of
from gateway.errors import LimitReached, StoreError, Unavailable, Unconfirmed
from gateway.logs import get_logger
from gateway.tasks import keep_running

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.engines.valkey.address import Address
    from gateway.engines.valkey.link import Argument

logger = get_logger(__name__)

BEAT: Final = 1.5
"""Seconds between two heartbeats; a lease lasts 7 (``scripts/common.lua``)."""

FIRST_PAUSE: Final = 0.05
LAST_PAUSE: Final = 4.0
"""Seconds between two attempts to connect: at first, and at most. They vary by half.

The longest is shorter than a lease: for that long, no lease is taken after the server came back.
"""

UNKNOWN_AUTHORITY: Final = "; platforms sign their own: add ?ssl_ca_certs=FILE, or ?ssl_cert_reqs=none, to the URL"

MIGRATE_AGAIN: Final = "wait until it is, or run it again: gateway migrate"

RETRY_AFTER: Final = 1.0
"""In how many seconds a client may ask again, where the server cannot be reached."""


class Fenced(Exception):
    """The lease of this node was taken, or the epoch has changed: nothing was written."""


class Owner(Protocol):
    """What is told about the connection to the server."""

    async def connected(self, *, anew: bool) -> None:
        """There is a connection; ``anew``: with a new identity, so that nothing that was live on this node is."""

    def beaten(self) -> None:
        """A heartbeat, whose publication the subscription must receive, was replied to."""


class Node:
    """The identity of this process in the store, and what it asks of the server."""

    def __init__(self, address: Address, owner: Owner, *, shift: Callable[[], int]) -> None:
        """``shift``: by how much tests have moved the server's time, in ms."""
        self.address = address
        self.id = ""
        self.epochs = Epochs([("", 0)])
        self.durability = Durability.UNKNOWN
        self.position = 0
        """The newest position that is known here."""
        self.others: dict[str, str] = {}
        """Where the nodes that live are reached, by their ids."""
        self.windows_began = 0
        """The running time in ms, since when those of suspended sessions count: no client could return before."""
        self.secret = b""
        """Known to all nodes."""
        self._owner = owner
        self.clock = ServerClock(shift)
        self._announced = ""
        self._changed = asyncio.Event()
        self._gone: list[Callable[[str], None]] = []
        self._fencing = asyncio.Lock()
        self._link: Link | None = None
        self._run_id = ""
        """Of the server's process."""
        self.read_position = 0
        """The newest position when something was read last."""
        self._problem: str | None = "it was not opened"
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Raises StoreError: the server cannot be used."""
        try:
            await self._connect(anew=True)
        except (RedisError, OSError, LinkLostError, Unavailable) as error:
            hint = UNKNOWN_AUTHORITY if "CERTIFICATE_VERIFY_FAILED" in str(error) else ""
            raise StoreError(f"The store {self.address.shown} cannot be used: {error}{hint}") from None
        self._tasks = [asyncio.create_task(keep_running(part)) for part in (self._stay_connected, self._beat)]

    async def close(self) -> None:
        """Give the lease back."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._link is not None:
            with contextlib.suppress(LinkLostError, ResponseError):
                await self._run("bye", self.id)
            await self._link.close()
        self._problem = "it is closed"

    def problem(self) -> str | None:
        """Why the server cannot be used now, as a phrase."""
        if self._problem is None and self._link is not None and self._link.is_lost:
            return f"it cannot be reached: {self._link.error}"
        return self._problem

    async def run(self, name: str, *arguments: Argument) -> Any:
        """What a script replies.

        Raises:
            Unconfirmed: the server cannot be reached. What was asked may have been done.
            Unavailable: the server cannot do it now.
            LimitReached: its memory is full.
        """
        try:
            return await self._run(name, *arguments)
        except LinkLostError:
            raise Unconfirmed("The store cannot be reached; try again.", retry_after=RETRY_AFTER) from None
        except ResponseError as error:
            if isinstance(error, OutOfMemoryError):
                raise LimitReached.memory() from None
            logger.error("the store refused a command", script=name, error=str(error))
            raise Unavailable("The store cannot do this now; try again.", retry_after=RETRY_AFTER) from None

    async def read(self, name: str, *arguments: Argument) -> list[Any]:
        """What a script that reads replies, after the position and the running time."""
        position, running, *rest = await self.run(name, *arguments)
        self.read_position = position
        self._note(position, running)
        return list(rest)

    async def _run(self, name: str, *arguments: Argument) -> Any:
        if self._link is None:
            raise LinkLostError
        return await self._link.run(script(name), 1, self.address.meta, self.clock.shift(), *arguments)

    def _note(self, position: int, running: int) -> None:
        self.position = max(self.position, position)
        self.clock.note_running(running)

    async def announce(self, address: str) -> None:
        """Tell the others where this node can be reached. Raises Unavailable."""
        self._announced = address
        node = self.id
        await self._show_life(node, await self.run("beat", node, self.epochs.current, address))

    def note_position(self, position: int) -> None:
        """A position that was given out is known here."""
        self.position = max(self.position, position)

    def look_around(self) -> None:
        """Another node can be reached somewhere else than before: ask at once."""
        self._changed.set()

    def watch(self, gone: Callable[[str], None]) -> None:
        """Have ``gone`` called with the id of each node that is gone."""
        self._gone.append(gone)

    async def fence(self, node: str) -> None:
        """Begin again with a new identity, in the place of ``node``: nothing that was live on it is any more. Of many
        calls for one identity, the first does it.
        """
        async with self._fencing:
            if self._link is not None and node == self.id:
                with contextlib.suppress(ResponseError, LinkLostError):
                    await self._hello(self._link, self._run_id, anew=True)

    # --- the connection

    async def _connect(self, *, anew: bool) -> None:
        link = Link(await self.address.connect())
        try:
            await link.open()
            run = await check_server(link)
            self.durability = await durability_of(link)
            await self._hello(link, run, anew=anew)
        except BaseException:
            await link.close()
            raise

    async def _hello(self, link: Link, run: str, *, anew: bool) -> None:
        node = secrets.token_hex(6) if anew else self.id
        new_epoch = secrets.token_hex(6)
        arguments = (self.clock.shift(), node, self._announced, run, new_epoch, int(anew), secrets.token_hex(32))
        reply = await link.run(script("hello"), 1, self.address.meta, *arguments)
        if reply[0] == b"fenced":
            await self._hello(link, run, anew=True)
            return
        if reply[0] == b"importing":
            raise StoreError(f"A migration into the store {self.address.shown} was not completed; {MIGRATE_AGAIN}.")
        if not anew and int(reply[2][-1]) < self.position and reply[2][-2].decode() != self.epochs.current:
            # The epoch that has begun does so before what this node has received: the server lacks that.
            await link.run(script("bye"), 1, self.address.meta, self.clock.shift(), node)
            await self._hello(link, run, anew=True)
            return
        position, running, epochs, self.secret, server_ms, self.windows_began = reply
        self.clock.note_unix(server_ms)
        self._link, self._run_id, self.id = link, run, node
        self.position = 0  # it may have gone backwards
        self._note(position, running)
        names = [name.decode() for name in epochs[::2]]
        self.epochs = Epochs(zip(names, map(int, epochs[1::2]), strict=True))
        self._problem = None
        await self._owner.connected(anew=anew)

    async def _stay_connected(self) -> None:
        while True:
            assert self._link is not None  # noqa: S101 - `open` has connected
            await self._link.lost()
            self._problem = f"it cannot be reached: {self._link.error}"
            logger.warning("the store cannot be reached", error=str(self._link.error))
            await self._link.close()
            await self._reconnect()
            logger.info("the store can be reached again")

    async def _reconnect(self) -> None:
        pause = FIRST_PAUSE
        while True:
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
            try:
                await self._connect(anew=False)
            except (RedisError, OSError, LinkLostError, StoreError, Unavailable) as error:
                self._problem = f"it cannot be reached: {error}"
                pause = min(2 * pause, LAST_PAUSE)
            else:
                return

    async def _beat(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BEAT):
                    await self._changed.wait()
            self._changed.clear()
            try:
                node = self.id
                reply = await self._run("beat", node, self.epochs.current, self._announced)
            except (LinkLostError, ResponseError):
                continue
            await self._show_life(node, reply)

    async def _show_life(self, node: str, reply: list[Any]) -> None:
        """A heartbeat of ``node`` was replied to."""
        if not reply:
            await self.fence(node)
            return
        position, running, nodes, server_ms = reply
        self._note(position, running)
        self.clock.note_unix(server_ms)
        named = [name.decode() for name in nodes]
        before, self.others = self.others, dict(zip(named[::2], named[1::2], strict=True))
        for other in before.keys() - self.others.keys():
            for gone in self._gone:
                gone(other)
        self._owner.beaten()
