"""The embedded store: which files it refuses, and with which reason."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from importlib import resources
from pathlib import Path

import orjson
import pytest

from engines.conftest import POLICY, Clock, Recorder, sqlite_store
from gateway.engines.effects import Attachment, Session
from gateway.engines.sqlite.clocks import Clocks
from gateway.engines.sqlite.database import APPLICATION_ID, SCHEMA_VERSION, open_database
from gateway.engines.sqlite.transaction import SQLiteTransaction
from gateway.errors import StoreError, UsernameTaken
from gateway.rules import rooms, sessions
from gateway.rules.recovery import Replay
from gateway.rules.sessions import Claim, ResumePoint
from gateway.tokens import hash_token


def why(path: Path) -> str:
    """Why the file cannot be opened."""
    with pytest.raises(StoreError) as caught:
        open_database(str(path))
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


async def test_a_store_in_memory_keeps_nothing() -> None:
    for _ in range(2):
        engine = sqlite_store(":memory:")
        await engine.open(Recorder())
        await engine.attach_session(Claim("alice", "c", None))
        await engine.create_room("alice", "tea", ())
        await engine.close(5)


def test_commits_are_synced_to_a_wal(tmp_path: Path) -> None:
    connection = open_database(str(tmp_path / "gateway.db"))
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    connection.close()


def test_a_file_that_is_not_a_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    path.write_bytes(os.urandom(20_000))
    assert "not an SQLite database" in why(path)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    open_database(str(path)).close()
    pages = bytearray(path.read_bytes())
    for page in range(1, len(pages) // 4096):
        pages[page * 4096 : page * 4096 + 100] = os.urandom(100)
    path.write_bytes(pages)
    assert "damaged" in why(path)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    open_database(str(path)).close()
    path.write_bytes(path.read_bytes()[:9000])
    assert "damaged" in why(path)


def test_the_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE things (name TEXT)")
    other.close()
    before = path.read_bytes()
    assert "another program" in why(path)
    assert path.read_bytes() == before


def test_a_newer_store_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    connection = open_database(str(path))
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    assert f"schema {SCHEMA_VERSION + 1}" in why(path)


def test_an_older_store_is_migrated(tmp_path: Path) -> None:
    """It keeps what it has, and ends with the tables of a new one."""
    path, new = tmp_path / "gateway.db", open_database(":memory:")
    old = sqlite3.connect(path)
    first = resources.files("gateway.engines.sqlite").joinpath("schema", "1.sql").read_text("utf-8")
    old.executescript(f"{first}; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1")
    name = old.execute("SELECT name FROM log_name").fetchone()
    old.close()
    connection = open_database(str(path))
    assert connection.execute("SELECT name FROM epochs").fetchall() == [name]
    tables = "SELECT name FROM sqlite_schema ORDER BY name"
    assert connection.execute(tables).fetchall() == new.execute(tables).fetchall()
    assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    connection.close()


async def test_a_store_that_lacks_an_invitation_lets_its_user_come_back(tmp_path: Path) -> None:
    """An earlier version may have deleted it: the session is not recovered, and keeps its rooms."""
    path, recorder = tmp_path / "gateway.db", Recorder()
    store = sqlite_store(path)
    await store.open(recorder)
    await store.attach_session(Claim("alice", "c-alice"))
    bob = await store.attach_session(Claim("bob", "c-bob"))
    offset = recorder.last_attachment.offset
    await store.create_room("alice", "tea", ("bob",))
    await store.close(5)
    connection = sqlite3.connect(path)
    with connection:
        assert connection.execute("DELETE FROM log WHERE recipient = 'bob'").rowcount == 1
    connection.close()
    store = sqlite_store(path)
    await store.open(recorder)
    await store.attach_session(Claim("bob", "c-back", ResumePoint(bob.pid, offset)))
    attachment = recorder.last_attachment
    assert (attachment.recovered, [room.room for room in attachment.rooms]) == (False, ["tea"])
    await store.close(5)


def test_a_store_has_an_application_id(tmp_path: Path) -> None:
    connection = open_database(str(tmp_path / "gateway.db"))
    assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    connection.close()


def test_a_store_in_use_is_refused_until_its_gateway_has_closed_it(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    first = open_database(str(path))
    assert "another gateway is using it" in why(path)
    first.close()
    open_database(str(path)).close()


def test_a_missing_folder_is_named_as_the_reason(tmp_path: Path) -> None:
    assert "folder does not exist" in why(tmp_path / "missing" / "gateway.db")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert "it is a folder" in why(tmp_path)


def test_a_read_only_file_is_named_as_the_reason() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gateway.db"
        open_database(str(path)).close()
        path.chmod(0o444)
        Path(folder).chmod(0o555)
        try:
            context = multiprocessing.get_context("fork")
            with context.Pool(1, initializer=_become_nobody) as pool:
                assert "it is read-only" in pool.apply(why, (path,))
        finally:
            Path(folder).chmod(0o755)


def _become_nobody() -> None:
    """Root may write whatever the file's mode says."""
    if os.getuid() == 0:
        os.setuid(65534)


def all_bytes(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


def test_only_the_hash_of_a_pid_is_kept(tmp_path: Path) -> None:
    """Reading the file, its WAL or a backup is not enough to take over a session."""

    async def use() -> list[str]:
        engine, recorder = sqlite_store(tmp_path / "gateway.db"), Recorder()
        await engine.open(recorder)
        first = await engine.attach_session(Claim("alice", "c", None))
        second = await engine.attach_session(Claim("alice", "c2", ResumePoint(first.pid, None)))
        third = await engine.attach_session(
            Claim("alice", "c3", ResumePoint(first.pid, None))
        )  # the reply may have been lost
        fourth = await engine.attach_session(
            Claim("alice", "c4", ResumePoint(third.pid, recorder.last_attachment.offset))
        )
        assert (recorder.last_attachment.recovered, fourth.pid) == (True, third.pid)
        with pytest.raises(UsernameTaken):
            await engine.attach_session(Claim("alice", "c5", ResumePoint(hash_token(third.pid), None)))
        content = all_bytes(tmp_path)
        await engine.close(5)
        content += all_bytes(tmp_path)
        pids = [first.pid, second.pid, third.pid]
        assert hash_token(third.pid).encode() in content
        return [pid for pid in pids if pid.encode() in content]

    assert asyncio.run(use()) == []


async def test_sessions_survive_the_upgrade_that_hashes_pids(tmp_path: Path) -> None:
    """The plain pids of an older store become hashes, and nothing of them is left in the file."""
    path = tmp_path / "gateway.db"
    old = sqlite3.connect(path)
    folder = resources.files("gateway.engines.sqlite").joinpath("schema")
    for step in (1, 2):
        old.executescript(folder.joinpath(f"{step}.sql").read_text("utf-8"))
    old.executemany(
        "INSERT INTO sessions (username, sid, pid, previous_pid, connection) VALUES (?, ?, ?, ?, 'c')",
        [("alice", "s1", "plain-pid-new", "plain-pid-old"), ("bob", "s2", "plain-pid-bob", None)],
    )
    old.executescript(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 2")
    old.commit()
    old.close()
    engine, recorder = sqlite_store(path), Recorder()
    await engine.open(recorder)
    for username, pid in (("alice", "plain-pid-old"), ("bob", "plain-pid-bob")):
        session = await engine.attach_session(Claim(username, "c2", ResumePoint(pid, None)))
        assert session.sid.startswith("s")
    await engine.close(5)
    assert b"plain-pid" not in path.read_bytes()


# --- checked at the start, or not


def damage(path: Path) -> None:
    """Spoil a page that nothing reads when the store is opened: the last one of the log."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    (page,) = connection.execute("SELECT max(pageno) FROM dbstat WHERE name = 'log'").fetchone()
    connection.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(os.urandom(4096))


@pytest.mark.parametrize("end", ["in order", "killed", "killed after a start in order"])
async def test_a_store_is_checked_at_its_start_only_after_an_unclean_end(tmp_path: Path, end: str) -> None:
    """A check reads all of the file: 1 GB would keep a start waiting for seconds."""
    path = tmp_path / "gateway.db"
    engine = sqlite_store(path)
    await engine.open(Recorder())
    await engine.attach_session(Claim("alice", "c", None))
    await engine.create_room("alice", "tea", (), "all")
    for _ in range(10):
        await engine.append_message("alice", "tea", "x" * 2000, None)
    await engine.close(5)
    if end == "killed":
        code = (
            "import asyncio, os, sys; from engines.conftest import POLICY, Recorder\n"
            "from engines.conftest import sqlite_store\n"
            "asyncio.run(sqlite_store(sys.argv[1]).open(Recorder())); os._exit(9)"
        )
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        assert subprocess.run([sys.executable, "-c", code, path], env=environment, check=False).returncode == 9  # noqa: ASYNC221
    elif end == "killed after a start in order":
        open_database(str(path)).close()
    damage(path)
    if end == "in order":
        open_database(str(path)).close()
    assert "damaged" in why(path)


OLD = """
INSERT INTO rooms (id, name, member_count, trimmed) VALUES (1, 'tea', 2, 4), (2, 'quiet', 1, 0);
INSERT INTO sessions (username, sid, pid, suspended_at) VALUES ('alice', 's1', 'p1', 1), ('bob', 's2', 'p2', 1);
INSERT INTO members VALUES (1, 'alice', 0), (1, 'bob', 9), (2, 'alice', 1);
INSERT INTO log (position, room_id, event, origin, recipient, message_id, ts, body) VALUES
    (5, 1, 'message', 'alice', NULL, 'a1', 1000, '{"id":"a1","room":"tea","content":"one"}'),
    (6, 1, 'room-joined', 'alice', 'bob', NULL, NULL, '{"room":"tea","by":"alice"}'),
    (7, 1, 'user-left', 'bob', NULL, NULL, NULL, '{"room":"tea","username":"bob"}'),
    (8, 1, 'message', 'alice', NULL, NULL, 3000, '{"id":"ours","room":"tea","content":"two"}'),
    (9, 1, 'room-joined', 'alice', 'bob', NULL, NULL, '{"room":"tea","by":"alice"}'),
    (10, 1, 'message', 'bob', NULL, NULL, 4000, '{"id":"bobs","room":"tea","content":"three"}'),
    (11, 1, 'message', 'alice', NULL, 'a2', 5000, '{"id":"a2","room":"tea","content":"four"}');
UPDATE log SET body = CAST(body AS BLOB);
INSERT INTO trimmed_messages VALUES (1, 'alice', 'a0', 4, 900);
UPDATE sqlite_sequence SET seq = 20 WHERE name = 'log';
"""


async def test_a_migrated_store_has_everything_of_the_older_one(tmp_path: Path) -> None:
    """History, ids, what is missed and what is not: as if it had been written by this gateway."""
    path = tmp_path / "gateway.db"
    old = sqlite3.connect(path)
    for step in (1, 2):
        old.executescript(
            resources.files("gateway.engines.sqlite").joinpath("schema", f"{step}.sql").read_text("utf-8")
        )
    old.executescript(f"{OLD} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 2")
    (name,) = old.execute("SELECT name FROM log_name").fetchone()
    old.close()
    recorder = Recorder()
    engine = sqlite_store(path)
    await engine.open(recorder)
    history = [orjson.loads(message) for message in (await engine.read_history("alice", "tea", None, 9)).bodies]
    assert [(message["content"], message["offset"]) for message in history] == [
        ("one", f"{name}-5"),
        ("two", f"{name}-8"),
        ("three", f"{name}-10"),
        ("four", f"{name}-11"),
    ]
    assert len((await engine.read_history("alice", "tea", "ours", 9)).bodies) == 1
    assert (await engine.append_message("alice", "tea", "x", "a0")).duplicate
    assert (await engine.append_message("alice", "tea", "x", "a2")).ts == 5000
    await engine.append_message("alice", "tea", "five", None)
    since = recorder.publications[-1].offset
    assert since is not None
    assert int(since.rpartition("-")[2]) == 21
    missed = {}
    for username, pid, position in (("bob", "p2", 8), ("bob", "p2", 9), ("alice", "p1", 6), ("alice", "p1", 3)):
        await engine.attach_session(Claim(username, "c", ResumePoint(pid, f"{name}-{position}")))
        attachment = recorder.last_attachment
        missed[username, position] = [m.offset for m in attachment.missed] if attachment.recovered else None
    assert missed == {
        ("bob", 8): [f"{name}-9", f"{name}-11", since],
        ("bob", 9): [f"{name}-11", since],
        ("alice", 6): [f"{name}-7", f"{name}-10"],
        ("alice", 3): None,
    }
    await engine.close(5)


def test_events_read_in_a_failed_transaction_are_not_replayed(tmp_path: Path) -> None:
    """A slice of a replay may read what was just appended; if that commit fails, it is never delivered."""
    clocks = Clocks(time.time, time.monotonic)
    tx = SQLiteTransaction(open_database(str(tmp_path / "gateway.db")), POLICY, clocks, slice_time=0)

    def attach(claim: Claim, replay: Replay | None = None) -> Session | Replay:
        return tx.run(lambda running: sessions.attach(running, POLICY, claim, clocks.running_ms(), replay))

    tx.begin()
    tx.open()
    for name in ("alice", "bob"):
        attach(Claim(name, f"c-{name}"))
    bob = next(e for e in tx.take_effects() if isinstance(e, Attachment) and e.session.username == "bob")
    tx.run(lambda running: rooms.create(running, POLICY, "alice", "tea", ("bob",), "all"))
    tx.flush()
    tx.commit()
    claim = Claim("bob", "c", ResumePoint(bob.session.pid, bob.offset))
    tx.begin()
    replay = attach(claim)
    tx.commit()
    for content in ("lost", "kept"):
        tx.begin()
        for _ in range(3):
            tx.append_message("alice", ("tea",), content, None)
        if content == "lost":
            assert isinstance(replay, Replay)
            assert attach(claim, replay)
            tx.rollback()
        else:
            tx.flush()
            tx.commit()
    tx.begin()
    while isinstance(replay, Replay):
        replay = attach(claim, replay)
    (attachment,) = [effect for effect in tx.take_effects() if isinstance(effect, Attachment)]
    assert attachment.recovered
    assert [orjson.loads(missed.body).get("content") for missed in attachment.missed] == [None, *["kept"] * 3]
    tx.rollback()
    tx.close()


async def test_a_clock_that_was_set_back_holds_up_only_rooms_with_later_messages(tmp_path: Path) -> None:
    clock = Clock()
    store = sqlite_store(tmp_path / "gateway.db", clock=clock, monotonic=clock.monotonic)
    await store.open(Recorder())
    await store.attach_session(Claim("alice", "c", None))
    for room in ("old", "new"):
        await store.create_room("alice", room, ())
    before = await store.append_message("alice", "old", "x", None)
    clock.set(-10)
    assert (await store.append_message("alice", "old", "x", None)).ts == before.ts
    assert (await store.append_message("alice", "new", "x", None)).ts == before.ts - 10_000
    await store.close(5)


async def test_ended_rooms_and_former_members_leave_no_rows(tmp_path: Path) -> None:
    """Whether they left, ended or expired: messages and memberships are deleted soon after."""
    path = tmp_path / "gateway.db"
    engine = sqlite_store(path)
    await engine.open(Recorder())
    sessions = {name: await engine.attach_session(Claim(name, f"c-{name}", None)) for name in ("alice", "bob", "carol")}
    for room in ("one", "two"):
        await engine.create_room("alice", room, ("bob", "carol"))
        for number in range(3 * POLICY.history_size):
            await engine.append_message("alice", room, "x", f"id{number}")
    await engine.remove_member("carol", "one")
    await engine.end_session(sessions["bob"], "c-bob")
    await engine.close(5)
    connection = open_database(str(path))
    rows = "SELECT count(*) FROM log WHERE recipient IS NOT NULL"
    assert connection.execute(rows).fetchone() == (1,)  # carol's, of the room in which she is
    connection.close()
    engine = sqlite_store(path, replace(POLICY, recovery_window=0))
    await engine.open(Recorder())
    while await engine.end_expired_sessions():
        pass
    await engine.close(5)
    tx = SQLiteTransaction(open_database(str(path)), POLICY, Clocks(time.time, time.monotonic), slice_time=1)
    tx.begin()
    while tx.maintain():
        pass
    tx.flush()
    tx.commit()
    for table in ("sessions", "members", "rooms", "ended_rooms", "log", "trimmed_messages"):
        assert tx._db.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table  # noqa: S608 - its names
    tx.close()
