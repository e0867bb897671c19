"""Every store passes one suite: the fixture ``store`` runs a test once on each of them."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest

from engines.plans import Statements, faults
from gateway.engines.base import Engine, ListUsers, Policy
from gateway.engines.effects import Attachment, Effect, Movement, Publication, Session
from gateway.engines.sqlite import engine
from gateway.engines.sqlite.database import open_database
from gateway.engines.sqlite.engine import SQLiteEngine
from gateway.observe import NullObserver, Observer
from gateway.rules import store as rules
from gateway.rules.sessions import Claim, ResumePoint

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
        self.now = 1_790_000_000.0
        self.monotonic_now = 50_000.0

    def __call__(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.monotonic_now

    def advance(self, seconds: float) -> None:
        """Time goes by."""
        self.now += seconds
        self.monotonic_now += seconds

    def set(self, seconds: float) -> None:
        """The system clock is set, ``seconds`` forward."""
        self.now += seconds


@dataclass
class Recorder:
    """A subscriber that remembers what it received."""

    effects: list[Effect] = field(default_factory=list)
    at_once: int = 0
    """Bytes of the events in the commit that had the most."""

    def committed(self, effects: Sequence[Effect]) -> None:
        self.effects += effects
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

    def __init__(self, create: Callable[[], Engine], clock: Clock) -> None:
        super().__init__(create(), POLICY)
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

    async def resume(self, session: Session, offset: str | None, connection: str = "c-again") -> Attachment:
        await self.attach_session(Claim(session.username, connection, ResumePoint(session.pid, offset)))
        return self.recorder.last_attachment


ENGINES: dict[str, dict[str, Any]] = {"sqlite": {"slice_time": 60.0}, "sqlite-in-slices": {"slice_time": 0.0}}
"""SQLite twice: once with work done in as few pieces as may be, and once in as many."""


@pytest.fixture(params=ENGINES)
async def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Store]:
    clock = Clock()
    statements = Statements()

    def open_and_watch(path: str) -> sqlite3.Connection:
        connection = open_database(path)
        connection.set_trace_callback(statements.note)
        return connection

    monkeypatch.setattr(engine, "open_database", open_and_watch)

    def create() -> Engine:
        path = str(tmp_path / "gateway.db")
        return SQLiteEngine(
            path, POLICY, NullObserver(), clock=clock, monotonic=clock.monotonic, **ENGINES[request.param]
        )

    store = Store(create, clock)
    await store.open(store.recorder)
    yield store
    await store.close(5)
    connection = open_database(str(tmp_path / "gateway.db"))
    assert faults(connection, statements) == []
    connection.close()
