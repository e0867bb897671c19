"""The embedded store: what makes a file unusable, and how it says so."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path

import pytest

from engines.conftest import POLICY, Recorder
from gateway.engines.base import ResumePoint
from gateway.engines.sqlite.database import APPLICATION_ID, SCHEMA_VERSION, open_database
from gateway.engines.sqlite.engine import SQLiteEngine
from gateway.errors import StoreError, UsernameTaken
from gateway.tokens import hash_token


def why(path: Path) -> str:
    """Why the file cannot be opened."""
    with pytest.raises(StoreError) as caught:
        open_database(str(path))
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


async def test_memory_keeps_nothing() -> None:
    for _ in range(2):
        engine = SQLiteEngine(":memory:", POLICY)
        await engine.open(Recorder())
        await engine.attach_session("alice", "c", None)
        await engine.create_room("alice", "tea", ())
        await engine.close(5)


def test_a_commit_is_synced_and_the_log_written_ahead(tmp_path: Path) -> None:
    connection = open_database(str(tmp_path / "gateway.db"))
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    connection.close()


def test_garbage_is_no_store(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    path.write_bytes(os.urandom(20_000))
    assert "not an SQLite database" in why(path)


def test_a_damaged_file_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    open_database(str(path)).close()
    pages = bytearray(path.read_bytes())
    for page in range(1, len(pages) // 4096):
        pages[page * 4096 : page * 4096 + 100] = os.urandom(100)
    path.write_bytes(pages)
    assert "damaged" in why(path)


def test_a_truncated_file_is_noticed(tmp_path: Path) -> None:
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


def test_an_older_store_is_brought_up_to_date(tmp_path: Path) -> None:
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


def test_a_store_is_marked_as_ours(tmp_path: Path) -> None:
    connection = open_database(str(tmp_path / "gateway.db"))
    assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    connection.close()


def test_a_store_in_use_is_refused_and_free_after_its_gateway(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    first = open_database(str(path))
    assert "another gateway is using it" in why(path)
    first.close()
    open_database(str(path)).close()


def test_a_missing_folder_is_named_as_the_reason(tmp_path: Path) -> None:
    assert "folder does not exist" in why(tmp_path / "missing" / "gateway.db")


def test_a_folder_is_no_store(tmp_path: Path) -> None:
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


def test_a_pid_is_kept_as_its_hash_alone(tmp_path: Path) -> None:
    """Whoever reads the file, its log or a backup cannot take over a session."""

    async def use() -> list[str]:
        engine, heard = SQLiteEngine(str(tmp_path / "gateway.db"), POLICY), Recorder()
        await engine.open(heard)
        first = await engine.attach_session("alice", "c", None)
        second = await engine.attach_session("alice", "c2", ResumePoint(first.pid, None))
        third = await engine.attach_session("alice", "c3", ResumePoint(first.pid, None))  # the reply may have been lost
        fourth = await engine.attach_session("alice", "c4", ResumePoint(third.pid, heard.last_attachment.offset))
        assert (heard.last_attachment.recovered, fourth.pid) == (True, third.pid)
        with pytest.raises(UsernameTaken):
            await engine.attach_session("alice", "c5", ResumePoint(hash_token(third.pid), None))
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
    engine, heard = SQLiteEngine(str(path), POLICY), Recorder()
    await engine.open(heard)
    for username, pid in (("alice", "plain-pid-old"), ("bob", "plain-pid-bob")):
        session = await engine.attach_session(username, "c2", ResumePoint(pid, None))
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
    engine = SQLiteEngine(str(path), POLICY)
    await engine.open(Recorder())
    await engine.attach_session("alice", "c", None)
    await engine.create_room("alice", "tea", (), "all")
    for _ in range(10):
        await engine.append_message("alice", "tea", "x" * 2000, None)
    await engine.close(5)
    if end == "killed":
        code = (
            "import asyncio, os, sys; from engines.conftest import POLICY, Recorder\n"
            "from gateway.engines.sqlite.engine import SQLiteEngine\n"
            "asyncio.run(SQLiteEngine(sys.argv[1], POLICY).open(Recorder())); os._exit(9)"
        )
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        assert subprocess.run([sys.executable, "-c", code, path], env=environment, check=False).returncode == 9  # noqa: ASYNC221
    elif end == "killed after a start in order":
        open_database(str(path)).close()
    damage(path)
    if end == "in order":
        open_database(str(path)).close()
    assert "damaged" in why(path)
