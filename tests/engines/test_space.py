"""The size of the store: it has a limit, and free pages are given back to the disk."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path

import pytest
import structlog

from engines.conftest import POLICY, Recorder, sqlite_store
from gateway.engines.base import Policy
from gateway.engines.effects import Session
from gateway.engines.sqlite.backup import back_up
from gateway.engines.sqlite.database import INCREMENTAL, MAX_VACUUM_SIZE, open_database
from gateway.engines.sqlite.space import SLICE_TIME, Space
from gateway.errors import LimitReached
from gateway.rules.sessions import Claim
from gateway.rules.store import Store

LIMIT = 1_000_000
LARGE = replace(POLICY, history_size=100_000, history_bytes=2**40, replay_size=2**40, max_store=LIMIT)


async def open_engine(path: Path, policy: Policy = LARGE) -> Store:
    engine = sqlite_store(path, policy)
    await engine.open(Recorder())
    return engine


async def fill(engine: Store) -> Session:
    """Log alice and bob in, and have alice write until nothing more is taken; her session."""
    alice = await engine.attach_session(Claim("alice", "c", None))
    await engine.attach_session(Claim("bob", "c2", None))
    await engine.create_room("alice", "tea", ())
    await engine.append_message("alice", "tea", "first", "id")
    calls = [engine.append_message("alice", "tea", "x" * 5000, None) for _ in range(LIMIT // 5000 + 20)]
    *_, last = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(last, LimitReached)
    assert "1000000 bytes" in str(last)
    return alice


async def is_taken(call: Awaitable[object]) -> bool:
    """Whether the store has room for what a call adds."""
    try:
        await call
    except LimitReached:
        return False
    return True


async def test_a_full_store_refuses_additions_and_everything_else_works(tmp_path: Path) -> None:
    """Messages, rooms and members are `limit_reached`; logging in, reading, repeating and leaving are not."""
    engine = await open_engine(tmp_path / "gateway.db")
    with structlog.testing.capture_logs() as log:
        await fill(engine)
        for call in (
            engine.append_message("alice", "tea", "more", None),
            engine.create_room("bob", "cake", (), "all"),
            engine.add_members("alice", "tea", ("bob",)),
            engine.open_direct("alice", "bob"),
        ):
            with pytest.raises(LimitReached):
                await call
    assert [entry["event"] for entry in log].count("the store is full: nothing can be added") == 1
    carol = await engine.attach_session(Claim("carol", "c3", None))
    assert (await engine.append_message("alice", "tea", "first", "id")).duplicate
    assert (await engine.add_members("alice", "tea", ("alice",))).already == ("alice",)
    assert (await engine.read_history("alice", "tea", None, 1)).bodies
    assert len(await engine.list_rooms("alice")) == 1
    await engine.publish_typing("alice", "tea")
    await engine.suspend_session(carol, "c3")
    await engine.remove_member("alice", "tea")
    async with asyncio.timeout(10):  # the log of a room that is gone is deleted by and by
        while not await is_taken(engine.create_room("bob", "cake", (), "all")):
            pass
    await engine.append_message("bob", "cake", "there is space again", None)
    await engine.close(5)


async def test_a_full_store_is_full_after_a_restart(tmp_path: Path) -> None:
    """And takes more where the limit is raised."""
    engine = await open_engine(tmp_path / "gateway.db")
    await fill(engine)
    await engine.close(5)
    engine = await open_engine(tmp_path / "gateway.db")
    with pytest.raises(LimitReached):
        await engine.append_message("alice", "tea", "more", None)
    await engine.close(5)
    engine = await open_engine(tmp_path / "gateway.db", replace(LARGE, max_store=2 * LIMIT))
    await engine.append_message("alice", "tea", "more", None)
    await engine.close(5)


async def test_memory_is_limited_as_well() -> None:
    engine = await open_engine(Path(":memory:"))
    await fill(engine)
    await engine.close(5)


async def test_a_store_shrinks_when_its_rooms_have_ended(tmp_path: Path) -> None:
    """By itself, in slices, while it is used; and what is left is whole."""
    path = tmp_path / "gateway.db"
    engine = await open_engine(path, replace(LARGE, max_store=10**9))
    alice = await engine.attach_session(Claim("alice", "c", None))
    await engine.attach_session(Claim("bob", "c2", None))
    for actor, room in (("alice", "tea"), ("bob", "cake")):
        await engine.create_room(actor, room, (), "all")
    for number in range(20):
        batch = [engine.append_message("alice", "tea", "x" * 9000, None) for _ in range(100)]
        await asyncio.gather(*batch, engine.append_message("bob", "cake", str(number), None))
    await engine.end_session(alice, "c")
    number = 20

    reader = sqlite3.connect(path)

    def used() -> int:
        (pages,) = reader.execute("PRAGMA page_count").fetchone()
        return int(pages) * 4096

    largest = used()
    assert largest > 18_000_000
    deadline = asyncio.get_running_loop().time() + 20
    while used() > largest // 4:
        assert asyncio.get_running_loop().time() < deadline
        await engine.append_message("bob", "cake", str(number), None)
        number += 1
    history = await engine.read_history("bob", "cake", None, number + 1)
    assert len(history.bodies) == number
    reader.close()
    await engine.close(5)
    assert path.stat().st_size < largest // 4
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


def make_old(path: Path, size: int) -> None:
    """A store as an earlier version made it: without incremental vacuum, with free pages in it."""
    open_database(str(path)).close()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA auto_vacuum = NONE")
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute("VACUUM")
    connection.execute("INSERT INTO rooms (id, name, member_count) VALUES (1, 'tea', 0)")
    connection.execute("CREATE TABLE filler (content BLOB)")
    for _ in range(size // 1_000_000):
        connection.execute("INSERT INTO filler VALUES (zeroblob(1000000))")
    connection.execute("DELETE FROM filler")
    connection.execute("DROP TABLE filler")
    assert connection.execute("PRAGMA auto_vacuum").fetchone() == (0,)
    connection.close()


def auto_vacuum(path: Path) -> int:
    connection = sqlite3.connect(path)
    (mode,) = connection.execute("PRAGMA auto_vacuum").fetchone()
    connection.close()
    return int(mode)


def test_a_small_store_of_an_earlier_version_is_made_to_shrink_when_it_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    make_old(path, 2_000_000)
    open_database(str(path)).close()
    assert auto_vacuum(path) == INCREMENTAL
    assert path.stat().st_size < 1_000_000


def test_a_large_store_of_an_earlier_version_is_left_alone_and_its_backup_can_shrink(tmp_path: Path) -> None:
    """For it would keep its clients waiting at the start."""
    path, copy = tmp_path / "gateway.db", tmp_path / "copy.db"
    make_old(path, MAX_VACUUM_SIZE + 2_000_000)
    connection = open_database(str(path))
    assert not Space(connection, 10**9).return_pages()
    connection.close()
    assert auto_vacuum(path) == 0
    back_up(str(path), copy, replace=False)
    assert auto_vacuum(copy) == INCREMENTAL
    assert copy.stat().st_size < 1_000_000


def test_free_pages_are_released_in_slices_and_only_when_they_are_many(tmp_path: Path) -> None:
    connection = open_database(str(tmp_path / "gateway.db"))
    space = Space(connection, 10**9)
    connection.execute("INSERT INTO rooms (id, name, member_count) VALUES (1, 'tea', 0)")
    connection.execute("INSERT INTO log (room_id, event, body) VALUES (1, 'x', zeroblob(2000000))")
    connection.execute("DELETE FROM log")
    assert not space.return_pages()
    assert not space.returned
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO log (room_id, event, body) VALUES (1, 'x', zeroblob(?))", [(4000,)] * 20_000)
    connection.execute("DELETE FROM log")
    connection.execute("COMMIT")
    slices = 0
    while True:
        space.begin()
        connection.execute("BEGIN")
        more = space.return_pages()
        connection.execute("COMMIT")
        slices += 1
        if not more:
            break
    assert slices > 3, f"80 MB in {slices} slices of {SLICE_TIME} s"
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    assert pages < 1000
    connection.close()
