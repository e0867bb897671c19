"""A store that was moved to another engine, or to another place of the same kind, is the same store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import orjson
import pytest

from engines.conftest import POLICY, Clock, Store
from gateway import events
from gateway.commands.migrate import exporter_for, importer_for, migrate
from gateway.engines import dump
from gateway.engines.effects import Session
from gateway.engines.sqlite.engine import SQLiteEngine
from gateway.engines.transaction import RoomId, RoomRecord
from gateway.engines.valkey.engine import ValkeyEngine
from gateway.errors import StoreError, UsernameTaken
from gateway.observe import NullObserver
from gateway.rules.sessions import Claim
from harness.names import fresh_name
from harness.valkey import ValkeyServer

pytestmark = pytest.mark.process

NewStore = Callable[[str], str]
KINDS = ["sqlite", "valkey"]


@pytest.fixture
def new_store(valkey: ValkeyServer, tmp_path: Path) -> NewStore:
    """The URL of a store that does not exist yet."""

    def name(kind: str) -> str:
        return f"sqlite:///{tmp_path / fresh_name()}.db" if kind == "sqlite" else valkey.store(fresh_name("store"))

    return name


def at(url: str) -> Store:
    """A store at a URL, whose time passes as it does, and besides as a test lets it."""
    clock = Clock()
    if url.startswith("sqlite:"):
        path, clocks = url.removeprefix("sqlite:///"), {"clock": clock.on_server, "monotonic": clock.on_server}
        return Store(lambda: SQLiteEngine(path, POLICY, NullObserver(), **clocks), clock)
    return Store(lambda: ValkeyEngine(url, POLICY, NullObserver(), clock=clock.on_server), clock)


async def export(url: str) -> list[str]:
    """What is in a store, in a form that can be compared."""
    async with exporter_for(url) as exporter:
        return sorted([repr(record) async for record in exporter.records()])


async def fill(url: str) -> dict[str, Session]:
    """Something of everything, with trimmed logs, in two runs of the store; the sessions by name."""
    store = at(url)
    await store.open(store.recorder)
    sessions = {name: await store.login(name) for name in ("alice", "bob", "carol", "dave")}
    await store.attach_session(Claim("bare", "c-bare", None, resumable=False))
    await store.create_room("alice", "tea", ("bob", "carol"))
    await store.create_room("bob", "secrets — “ü”", ("alice", "carol"), events.JOINED)
    await store.open_direct("alice", "bob")
    for number in range(60):
        actor = ("alice", "bob", "bob")[number % 3]
        await store.append_message(actor, "tea", f"{number} ☕", f"tea “{number}”" if number % 2 else None)
    for _ in range(12):
        await store.add_members("alice", "tea", ("dave",))
        await store.end_session(sessions["dave"], "c-dave")
        sessions["dave"] = await store.login("dave")
    await store.remove_member("carol", "secrets — “ü”")
    await store.lose(sessions["bob"])
    await store.reopen()
    for name in ("alice", "bob"):
        await store.resume(sessions[name], None, f"c-{name}")
        sessions[name] = store.recorder.last_attachment.session
    for number in range(5):
        await store.append_message(("alice", "bob")[number % 2], "secrets — “ü”", f"new {number}", f"id {number}")
    await store.close(5)
    return sessions


async def offsets(url: str) -> tuple[str, str]:
    """Two that clients of the store may have: from before the last messages, and from before what was trimmed."""
    async with exporter_for(url) as exporter:
        records = [record async for record in exporter.records()]
    start = next(record for record in records if isinstance(record, dump.Start))
    newest = max(record.position for record in records if isinstance(record, dump.Event))

    def offset(position: int) -> str:
        return f"{[name for name, first in start.epochs if first < position][-1]}-{position}"

    return offset(newest - 3), offset(1)


@pytest.mark.parametrize("between", KINDS)
async def test_there_and_back_again_is_the_same(new_store: NewStore, between: str) -> None:
    """SQLite to another store and back: not a record differs. (On a server more is known of what was trimmed.)"""
    source, other, target = new_store("sqlite"), new_store(between), new_store("sqlite")
    await fill(source)
    before = await export(source)
    await migrate(source, other)
    await migrate(other, target)
    assert await export(source) == before
    assert await export(target) == before
    kinds = {text.partition("(")[0] for text in before}
    assert kinds == {"Start", "Room", "Event", "TrimmedMessage", "Session", "Member", "Departure"}


async def test_from_server_to_server_is_the_same(new_store: NewStore) -> None:
    source, target = new_store("valkey"), new_store("valkey")
    await fill(source)
    before = await export(source)
    await migrate(source, target)
    assert await export(source) == before
    assert await export(target) == before


@pytest.mark.parametrize("target_kind", KINDS)
@pytest.mark.parametrize("source_kind", KINDS)
async def test_everything_goes_on_in_the_new_store(new_store: NewStore, source_kind: str, target_kind: str) -> None:
    source, target = new_store(source_kind), new_store(target_kind)
    sessions = await fill(source)
    offset, lost = await offsets(source)
    await migrate(source, target)
    before, store = at(source), at(target)
    for each in (before, store):
        await each.open(each.recorder)
    try:
        await compare(before, store, sessions, offset, lost)
    finally:
        await before.close(5)
        await store.close(5)


async def compare(before: Store, store: Store, sessions: dict[str, Session], offset: str, lost: str) -> None:
    """What can be observed is the same in the store that was moved as in the one that it was moved from."""
    stores = (before, store)
    # Rooms: kinds, history modes, members and counts; all members are suspended.
    for name in sessions:
        assert await store.list_rooms(name) == await before.list_rooms(name)
    assert '"online":true' not in str(await store.list_rooms("alice"))
    # Recovery: an offset from before names the same events.
    for name in ("alice", "bob", "carol"):
        expected, found = [await each.resume(sessions[name], offset, f"c-{name}") for each in stores]
        assert (found.recovered, found.session.pid) == (True, sessions[name].pid)
        assert found.missed == expected.missed
        assert bool(found.missed) == (name != "carol")
        assert (found.offset, found.rooms) == (expected.offset, expected.rooms)
    # Names are reserved, but not that of a session to which no client can return.
    await store.lose(sessions["carol"])
    with pytest.raises(UsernameTaken):
        await store.login("carol")
    await store.login("bare")
    # What was sent is found again, whether it is in the log or was trimmed.
    for number in (1, 23, 59):
        actor = ("alice", "bob", "bob")[number % 3]
        receipts = [await each.append_message(actor, "tea", "again", f"tea “{number}”") for each in stores]
        assert receipts[1] == receipts[0]
        assert receipts[1].duplicate
    pages = [await each.read_history("alice", "tea", None, 100) for each in stores]
    assert pages[1] == pages[0]
    pages = [await each.read_history("alice", "tea", "tea “59”", 5) for each in stores]
    assert pages[1] == pages[0]
    # Who left is not added again.
    added = await store.add_members("bob", "secrets — “ü”", ("carol", "bare"))
    assert (added.added, added.declined) == (("bare",), ("carol",))
    # Everything goes on: the direct room is the same one, new rooms and messages are as ever.
    opened = [await each.open_direct("bob", "alice") for each in stores]
    assert opened[1].room.room == opened[0].room.room
    await store.create_room("alice", "new", ("bob",))
    for room in ("new", "tea"):
        for number in range(30):
            await store.append_message("bob", room, f"new {number}", None)
    contents = [orjson.loads(body)["content"] for body in (await store.read_history("alice", "tea", None, 5)).bodies]
    assert contents == [f"new {number}" for number in range(25, 30)]
    # An offset after which something was trimmed recovers nothing.
    assert not (await store.resume(sessions["alice"], lost, "c-alice")).recovered


@pytest.mark.parametrize("target_kind", KINDS)
@pytest.mark.parametrize("source_kind", KINDS)
async def test_windows_begin_when_the_new_store_is_opened(
    new_store: NewStore, source_kind: str, target_kind: str
) -> None:
    """Those of sessions that were live, and of those that had been suspended: no client could return meanwhile."""
    source, target = new_store(source_kind), new_store(target_kind)
    store = at(source)
    await store.open(store.recorder)
    for name in ("live", "suspended"):
        session = await store.login(name)
        await store.create_room(name, f"room of {name}", ())
    await store.lose(session)
    store.clock.advance(POLICY.recovery_window - 10)
    await store.close(5)
    await migrate(source, target)
    store = at(target)
    await store.open(store.recorder)
    store.clock.advance(POLICY.recovery_window - 10)
    assert await store.end_expired_sessions() == 0
    store.clock.advance(11)
    assert await store.end_expired_sessions() + await store.end_expired_sessions() == 2
    await store.close(5)


async def test_names_stay_reserved(new_store: NewStore) -> None:
    source, target = new_store("sqlite"), new_store("valkey")
    await fill(source)
    await migrate(source, target)
    store = at(target)
    await store.open(store.recorder)
    with pytest.raises(UsernameTaken) as refusal:
        await store.login("bob")
    assert refusal.value.retry_after is not None
    assert POLICY.reserve_names - 5 < refusal.value.retry_after <= POLICY.reserve_names
    await store.close(5)


async def test_what_was_trimmed_is_that_of_both_kinds(new_store: NewStore) -> None:
    """Where a store knows only that of both together, no member is said to have missed less than it did."""
    url = new_store("sqlite")
    record = RoomRecord(RoomId(7), "tea", "group", "all", None, 0)
    async with importer_for(url) as importer:
        await importer.put(dump.Start(99, 0, (("epoch", 0),)))
        await importer.put(dump.Room(record, dump.Trimmed(50, "alice", 30), dump.Trimmed(45, "bob", 40)))
        await importer.finish()
    async with exporter_for(url) as exporter:
        (room,) = [found async for found in exporter.records() if isinstance(found, dump.Room)]
    assert room == dump.Room(record, dump.Trimmed(50, "alice", 45), dump.Trimmed(50, "alice", 45))


@pytest.mark.parametrize("kind", KINDS)
async def test_a_failed_import_leaves_nothing(new_store: NewStore, kind: str) -> None:
    source, target = new_store("sqlite"), new_store(kind)
    await fill(source)
    with pytest.raises(ZeroDivisionError):
        await fail_at_the_end(source, target)
    await migrate(source, target)
    assert await export(target) == await export(source)


async def fail_at_the_end(source: str, target: str) -> None:
    async with exporter_for(source) as exporter, importer_for(target) as importer:
        async for record in exporter.records():
            await importer.put(record)
        raise ZeroDivisionError


async def test_two_imports_into_one_store_do_not_mix(new_store: NewStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second is refused while the first one writes; one that stood still has lost its place."""
    monkeypatch.setattr("gateway.engines.valkey.importer.LOCK_TIME", 1.0)
    source, target = new_store("sqlite"), new_store("valkey")
    await fill(source)
    async with exporter_for(source) as exporter:
        records = [record async for record in exporter.records()]
    async with importer_for(target) as first:
        writing = asyncio.create_task(write_slowly(first, records))
        with pytest.raises(StoreError, match="Another migration is writing"):
            await migrate(source, target)
        writing.cancel()
        await migrate(source, target)
        with pytest.raises(StoreError, match="Another migration has begun"):
            await first.finish()
    assert await export(target) == await export(source)


async def test_a_store_that_somebody_begins_to_use_is_not_copied(new_store: NewStore) -> None:
    """A node came while a server was read: what was read may not fit together."""
    source, target = new_store("valkey"), new_store("sqlite")
    await fill(source)
    store = at(source)
    with pytest.raises(StoreError, match="begun to use"):
        await copy_while(store.open(store.recorder), source, target)
    await store.close(5)
    await migrate(source, target)
    assert len(await export(target)) == len(await export(source))


async def copy_while(happens: Awaitable[None], source: str, target: str) -> None:
    async with exporter_for(source) as exporter, importer_for(target) as importer:
        async for record in exporter.records():
            await importer.put(record)
            if isinstance(record, dump.Start):
                await happens
        await importer.finish()


async def write_slowly(importer: dump.Importer, records: list[dump.Record]) -> None:
    for record in records * 10:
        for _ in range(300):  # so many are written at once
            await importer.put(records[0])
        await importer.put(record)
        await asyncio.sleep(0.05)  # a large store takes its time
