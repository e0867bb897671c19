"""Where the engine of a play keeps its store, and what happens to it there: kills, backups, restores."""

from __future__ import annotations

import itertools
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from engines.conftest import sqlite_store
from engines.leases import take_leases
from gateway.engines.valkey.engine import ValkeyEngine
from gateway.observe import NullObserver
from gateway.rules.store import Store
from harness.proxy import Proxy
from harness.valkey import ValkeyServer

if TYPE_CHECKING:
    from gateway.engines.base import Policy
    from model.play import Play

START = 1_790_000_000.0
"""When a play begins where its engine takes all of its time from it: Unix time, in seconds."""


PREFIX = "model"
"""Of the keys of a store on a Valkey server."""


class Storage(Protocol):
    begin: float
    """Unix time when the play begins, in seconds."""
    uses_system_clock: bool
    """Whether setting the system clock is of any interest to the engine."""
    publishes_all: bool
    """Whether the engine publishes what no live session receives."""
    sees_own_writes: bool
    """Whether a session that ends another one begins after the events of that end, or before them."""

    async def start(self) -> None: ...
    async def close(self) -> None: ...

    def ahead(self) -> float:
        """By how many seconds the engine's time may be ahead of the play's."""

    async def create(self) -> Store:
        """An engine on the store, not opened yet."""

    async def kill(self, engine: Store) -> None:
        """End an engine as it ends when its process is killed now."""

    async def back_up(self) -> Path: ...

    async def restore(self, backup: Path) -> None:
        """Put a backup in the place of the store, which no engine has open."""


class SQLiteFiles:
    """A folder with the files of the embedded store."""

    begin = START
    uses_system_clock = True
    publishes_all = True
    sees_own_writes = True

    def __init__(self, folder: Path, policy: Policy, play: Play) -> None:
        self._folder = folder
        self._policy = policy
        self._play = play
        self._numbers = itertools.count()
        self._store = self._new_folder()

    async def start(self) -> None: ...
    async def close(self) -> None: ...

    def ahead(self) -> float:
        return 0.0

    async def create(self) -> Store:
        play = self._play
        return sqlite_store(self._store / "gateway.db", self._policy, clock=play.clock, monotonic=play.monotonic)

    async def kill(self, engine: Store) -> None:
        """The next engine has the files as a killed process would have left them."""
        self._store = self._copy(self._store)
        await engine.close(5)

    async def back_up(self) -> Path:
        return self._copy(self._store)

    async def restore(self, backup: Path) -> None:
        self._store = self._copy(backup)

    def _new_folder(self) -> Path:
        folder = self._folder / str(next(self._numbers))
        folder.mkdir(parents=True)
        return folder

    def _copy(self, store: Path) -> Path:
        """What is appended to (the write-ahead log) is copied last."""
        copy = self._new_folder()
        for path in sorted(store.iterdir()):
            if not path.name.endswith("-shm"):
                shutil.copyfile(path, copy / path.name)
        return copy


class ValkeyFolder:
    """A Valkey server of the play's own, with its folder. Time on it passes as in the play, and besides as it really
    does.
    """

    uses_system_clock = False
    publishes_all = False
    sees_own_writes = False

    def __init__(self, folder: Path, policy: Policy, play: Play) -> None:
        self.begin = time.time()
        self._policy = policy
        self._play = play
        self._folder = folder / "server"
        self._folder.mkdir(parents=True)
        self._backups = (folder / f"backup{number}" for number in itertools.count())
        self._server = ValkeyServer(self._folder, auto_aof_rewrite_percentage=0)
        self._proxies: list[Proxy] = []
        """One for each engine; the last one's is that of the engine that lives."""

    async def start(self) -> None:
        await self._server.start()

    async def close(self) -> None:
        for proxy in self._proxies:
            await proxy.__aexit__()
        await self._server.kill9()

    def ahead(self) -> float:
        return time.time() - self.begin

    async def create(self) -> Store:
        """An engine that reaches the server through a proxy of its own."""
        proxy = await Proxy(self._server.store(PREFIX)).__aenter__()
        self._proxies.append(proxy)
        return Store(ValkeyEngine(proxy.url, self._policy, NullObserver(), clock=self._time), self._policy)

    def _time(self) -> float:
        return time.time() + self._play.monotonic() - self.begin

    async def kill(self, engine: Store) -> None:
        """The engine reaches the server no more, which at times is killed at the same moment."""
        self._proxies[-1].refuse()
        self._proxies[-1].reset()
        if self._play.random.random() < 0.3:
            await self._server.kill9()
            await self._server.restart()
        await engine.close(0)
        await take_leases(self._server, PREFIX)

    async def back_up(self) -> Path:
        """What the server has replied to is in its append-only file."""
        return Path(shutil.copytree(self._folder, next(self._backups)))

    async def restore(self, backup: Path) -> None:
        await self._server.kill9()
        shutil.rmtree(self._folder)
        shutil.copytree(backup, self._folder)
        await self._server.restart()
        await take_leases(self._server, PREFIX)
