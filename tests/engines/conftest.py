"""Every store passes one suite: the fixture ``store`` runs a test once on each of them."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import orjson
import pytest

from engines.leases import end_lease
from engines.live import LiveMembers
from engines.plans import Statements, faults
from gateway.engines.base import Engine, ListUsers, Policy
from gateway.engines.effects import Attachment, Effect, Movement, Publication, Session
from gateway.engines.sqlite import engine
from gateway.engines.sqlite.database import open_database
from gateway.engines.sqlite.engine import SQLiteEngine
from gateway.engines.valkey.engine import ValkeyEngine
from gateway.errors import Unavailable
from gateway.observe import NullObserver, Observer
from gateway.rules import store as rules
from gateway.rules.sessions import Claim, ResumePoint
from harness.names import fresh_name
from harness.valkey import StartValkey, ValkeyProxy, ValkeyServer

POLICY = Policy(
    max_rooms=3,
    max_members=5,
    history_size=16,
    history_bytes=60_000,
    presence_limit=4,
    recovery_window=120,
    reserve_names=60,
    decline_window=3600,
    list_users=ListUsers.ALL,
    replay_size=100_000,
    commit_size=50_000,
)


class Clock:
    """Unix time and the monotonic clock, both of which a test moves."""

    def __init__(self) -> None:
        self._unix = 1_790_000_000.0
        self._monotonic = 50_000.0
        self._passed = 0.0

    def __call__(self) -> float:
        return self._unix + self._passed

    def monotonic(self) -> float:
        return self._monotonic + self._passed

    def on_server(self) -> float:
        """Unix time on a server: what has passed here has passed there, besides the time that really passes."""
        return time.time() + self._passed

    def advance(self, seconds: float) -> None:
        """Time passes."""
        self._passed += seconds

    def set(self, seconds: float) -> None:
        """The system clock is set, ``seconds`` forward."""
        self._unix += seconds

    def boot(self) -> None:
        """The machine is started again, and its monotonic clock with it."""
        self._monotonic = 3.0 - self._passed


@dataclass
class Recorder:
    """A subscriber that remembers what it received."""

    effects: list[Effect] = field(default_factory=list)
    live: LiveMembers = field(default_factory=LiveMembers)
    gaps: list[Collection[str] | None] = field(default_factory=list)
    """What was `missed`."""
    at_once: int = 0
    """Bytes of the events in the commit that had the most."""

    def missed(self, rooms: Collection[str] | None) -> None:
        self.gaps.append(rooms)

    def has_session(self, sid: str, username: str) -> bool:
        return self.live.has_session(sid, username)

    def has_members(self, room: str) -> bool:
        return bool(self.live.of(room))

    def committed(self, effects: Sequence[Effect]) -> None:
        self.effects += effects
        for effect in effects:
            self.live.note(effect)
        size = sum(len(effect.body) for effect in effects if isinstance(effect, Publication))
        self.at_once = max(self.at_once, size)

    @property
    def publications(self) -> list[Publication]:
        return [effect for effect in self.effects if isinstance(effect, Publication)]

    @property
    def movements(self) -> list[Movement]:
        return [effect for effect in self.effects if isinstance(effect, Movement)]

    @property
    def events(self) -> list[tuple[str, dict[str, Any]]]:
        """Name and body of what was published."""
        return [(publication.event, orjson.loads(publication.body)) for publication in self.publications]

    @property
    def last_attachment(self) -> Attachment:
        return [effect for effect in self.effects if isinstance(effect, Attachment)][-1]


def sqlite_store(
    path: object, policy: Policy = POLICY, observer: Observer | None = None, **options: Any
) -> rules.Store:
    """The rules on the embedded store in ``path``; ``options`` are `SQLiteEngine`'s."""
    return rules.Store(SQLiteEngine(str(path), policy, observer or NullObserver(), **options), policy)


class Store(rules.Store):
    """A store under test, what it published, and the ways to log in and to start again."""

    def __init__(self, create: Callable[[], Engine], clock: Clock, policy: Policy = POLICY) -> None:
        super().__init__(create(), policy)
        self._create = create
        self.recorder = Recorder()
        self.clock = clock

    async def reopen(self) -> None:
        await self.close(5)
        self._engine = self._create()
        await self.open(self.recorder)

    async def login(self, *usernames: str) -> Session:
        """Claim names, each on a connection named like it; the last one's session."""
        for username in usernames:
            session = await self.attach_session(Claim(username, f"c-{username}", None))
        return session

    async def lose(self, session: Session) -> None:
        """The session's connection (from `login`) is lost."""
        await self.suspend_session(session, f"c-{session.username}")

    async def suspend_session(self, session: Session, connection: str) -> None:
        self.recorder.live.forget(connection)
        await super().suspend_session(session, connection)

    async def end_session(self, session: Session, connection: str) -> None:
        self.recorder.live.forget(connection)
        await super().end_session(session, connection)

    async def resume(self, session: Session, offset: str | None, connection: str = "c-again") -> Attachment:
        await self.attach_session(Claim(session.username, connection, ResumePoint(session.pid, offset)))
        return self.recorder.last_attachment


SHARED = "shared"
"""The prefix of the keys of a store with nodes."""


class Node(Store):
    """One of the nodes that share a Valkey server, which it reaches through a proxy of its own."""

    policy = replace(POLICY, max_members=200, history_size=2000, history_bytes=2**25, presence_limit=20)

    def __init__(self, server: ValkeyServer, proxy: ValkeyProxy, clock: Clock) -> None:
        super().__init__(lambda: valkey_engine(proxy.url, clock, self.policy), clock, self.policy)
        self.proxy = proxy
        self._server = server

    async def sweep(self) -> None:
        """Suspend what is live on nodes that are gone, until cancelled, as a gateway does."""
        while True:
            with suppress(Unavailable):
                await self.suspend_orphaned_sessions()
            await asyncio.sleep(0.1)  # other nodes may go at any time

    def messages(self, room: str) -> list[str]:
        """The contents of the messages of a room that this node has received, in order."""
        return [body["content"] for event, body in self.recorder.events if event == "message" and body["room"] == room]

    async def end_lease(self) -> None:
        """The node has not extended its lease for too long; it has had at least one log-in."""
        await end_lease(self._server, SHARED, self.recorder.last_attachment.holder.node)

    def cut_off(self) -> None:
        """The server cannot be reached from here, until `Proxy.listen`."""
        self.proxy.refuse()
        self.proxy.reset()


AddNode: TypeAlias = Callable[[], Awaitable[Node]]

SQLITE: dict[str, dict[str, Any]] = {"sqlite": {"slice_time": 60.0}, "sqlite-in-slices": {"slice_time": 0.0}}
"""SQLite twice: once with work done in as few pieces as may be, and once in as many."""


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=[*SQLITE, pytest.param("valkey", marks=pytest.mark.process)])
def create_engine(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> Iterator[Callable[[], Engine]]:
    """Creates engines on one store, of each kind in its turn."""
    if request.param == "valkey":
        yield partial(valkey_engine, request.getfixturevalue("valkey").store(fresh_name("store")), clock)
        return
    path = tmp_path / "gateway.db"
    with watch_plans(path, monkeypatch):
        yield lambda: SQLiteEngine(
            str(path), POLICY, NullObserver(), clock=clock, monotonic=clock.monotonic, **SQLITE[request.param]
        )


def valkey_engine(url: str, clock: Clock, policy: Policy = POLICY) -> Engine:
    """An engine on a Valkey server, whose time passes as a test lets it, and besides as it really does."""
    return ValkeyEngine(url, policy, NullObserver(), clock=clock.on_server)


@contextmanager
def watch_plans(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Check, in the end, that no statement that was run on the file looks at more than it needs."""
    statements = Statements()

    def open_and_watch(path: str) -> sqlite3.Connection:
        connection = open_database(path)
        connection.set_trace_callback(statements.note)
        return connection

    monkeypatch.setattr(engine, "open_database", open_and_watch)
    yield
    connection = open_database(str(path))
    assert faults(connection, statements) == []
    connection.close()


@pytest.fixture
async def store(create_engine: Callable[[], Engine], clock: Clock) -> AsyncIterator[Store]:
    store = Store(create_engine, clock)
    await store.open(store.recorder)
    yield store
    await store.close(5)


@pytest.fixture
async def server(start_valkey: StartValkey) -> ValkeyServer:
    """The server of the nodes of a test."""
    return await start_valkey()


@pytest.fixture
async def add_node(server: ValkeyServer, clock: Clock) -> AsyncIterator[AddNode]:
    """Opens one store on one node after the other."""
    async with AsyncExitStack() as stack:

        async def add() -> Node:
            proxy = await stack.enter_async_context(ValkeyProxy(server.store(SHARED)))
            node = Node(server, proxy, clock)
            await node.open(node.recorder)
            stack.push_async_callback(node.close, 1)
            stack.callback(asyncio.ensure_future(node.sweep()).cancel)
            return node

        yield add
