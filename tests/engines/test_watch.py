"""The files of the store are lost or replaced while it is open: that is logged, and nothing is acked any more."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import structlog

from engines.conftest import Recorder, sqlite_store
from gateway.engines.sqlite.backup import back_up
from gateway.errors import Unavailable
from gateway.rules.sessions import Claim
from gateway.rules.store import Store
from harness.waiting import until

NOTICED = 2.0
"""Seconds until the loss of a file is noticed, at most."""


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder / "gateway.db"


@pytest.fixture(name="engine")
async def _engine(path: Path) -> AsyncIterator[Store]:
    engine = sqlite_store(path)
    await engine.open(Recorder())
    await engine.attach_session(Claim("alice", "c", None))
    await engine.create_room("alice", "tea", ())
    yield engine
    await engine.close(5)


async def until_noticed(engine: Store) -> str:
    """The problem as it is reported; nothing is written meanwhile."""
    await until(lambda: engine.problem() is not None, NOTICED)
    return str(engine.problem())


def content_of(path: Path) -> bytes:
    return path.read_bytes()


def use_elsewhere(path: Path, sql: str) -> None:
    """What other programs, and an administrator, may do to a store in use."""
    code = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchall())"
    subprocess.run([sys.executable, "-c", code, path, sql], check=True, capture_output=True)
    path.touch()
    path.chmod(0o640)


def delete(path: Path) -> None:
    path.unlink()


def replace_by_copy(path: Path) -> None:
    shutil.copy(path, path.with_name("copy"))
    path.with_name("copy").replace(path)


def rename_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))


def replace_folder(path: Path) -> None:
    """By a copy of all files that are in it."""
    rename_folder(path)
    shutil.copytree(path.parent.with_name("elsewhere"), path.parent)


def delete_log(path: Path) -> None:
    Path(f"{path}-wal").unlink()


def delete_index(path: Path) -> None:
    Path(f"{path}-shm").unlink()


def replace_by_link(path: Path) -> None:
    """By a symbolic link to the same file: after a restart, its log would be looked for where it leads to."""
    path.rename(path.parent.with_name("moved.db"))
    path.symlink_to(path.parent.with_name("moved.db"))


def replace_folder_by_link(path: Path) -> None:
    """By a link to another folder that has copies of the files."""
    replace_folder(path)
    path.parent.rename(path.parent.with_name("copies"))
    path.parent.symlink_to(path.parent.with_name("copies"))


def overwrite(path: Path) -> None:
    """`cp BACKUP gateway.db`: the same inode, and another content."""
    backup = path.with_name("backup.db")
    back_up(str(path), backup, replace=False)
    shutil.copyfile(backup, path)


def empty_log(path: Path) -> None:
    """`> gateway.db-wal`."""
    os.truncate(f"{path}-wal", 0)


def cut_log(path: Path) -> None:
    """After its header."""
    os.truncate(f"{path}-wal", 32)


def overwrite_log(path: Path) -> None:
    log = Path(f"{path}-wal")
    size = log.stat().st_size
    with log.open("r+b") as file:
        file.write(bytes(size))


SPOILED_LOGS = [empty_log, cut_log, overwrite_log]
OVERWRITTEN = [overwrite, *SPOILED_LOGS]
LOSSES = [
    delete,
    replace_by_copy,
    rename_folder,
    replace_folder,
    delete_log,
    delete_index,
    replace_by_link,
    replace_folder_by_link,
    *OVERWRITTEN,
]


@pytest.mark.parametrize("lose", LOSSES)
async def test_a_lost_file_is_noticed_and_nothing_is_acked_afterwards(
    engine: Store, path: Path, lose: Callable[[Path], None]
) -> None:
    """Writes are `unavailable`, reads go on where there is something to read; it is logged once, and again at the
    end.
    """
    await engine.append_message("alice", "tea", "kept", None)
    with structlog.testing.capture_logs() as log:
        lose(path)
        assert str(path) in await until_noticed(engine)
        for _ in range(3):
            for call in (
                engine.append_message("alice", "tea", "lost", None),
                engine.create_room("alice", "cake", ()),
                engine.attach_session(Claim("bob", "c2", None)),
            ):
                with pytest.raises(Unavailable):
                    await call
        if lose not in SPOILED_LOGS:
            assert [room.room for room in await engine.list_rooms("alice")] == ["tea"]
        assert [entry["event"] for entry in log].count("the store is gone") == 1
        assert engine.problem() is not None
        await engine.close(5)
    assert [entry["event"] for entry in log].count("the store was gone at the end") == 1
    assert engine.problem() is not None  # for the exit status


@pytest.mark.parametrize("lose", [delete, replace_by_copy, rename_folder, delete_log, replace_by_link])
async def test_a_commit_checks_the_files_by_itself(engine: Store, path: Path, lose: Callable[[Path], None]) -> None:
    """Messages sent right after the loss are refused already, before the next check of the thread."""
    for _ in range(5):
        await engine.append_message("alice", "tea", "kept", None)
    lose(path)
    with pytest.raises(Unavailable):
        await engine.append_message("alice", "tea", "lost", None)
    assert engine.problem() is not None


@pytest.mark.parametrize("what", ["file", "folder", "all files"])
async def test_the_store_works_again_when_its_files_are_back(engine: Store, path: Path, what: str) -> None:
    moves = {
        "file": [(path, path.with_name("away"))],
        "folder": [(path.parent, path.parent.with_name("away"))],
        "all files": [(Path(f"{path}{s}"), Path(f"{path}{s}.away")) for s in ("", "-wal", "-shm")],
    }[what]
    move(moves)
    await until_noticed(engine)
    with pytest.raises(Unavailable):
        await engine.append_message("alice", "tea", "lost", None)
    with structlog.testing.capture_logs() as log:
        move([(there, here) for here, there in moves])
        await until(lambda: "the store is back" in [entry["event"] for entry in log], NOTICED)
    await engine.append_message("alice", "tea", "kept", None)
    assert engine.problem() is None
    await engine.close(5)
    assert contents(path) == ["kept"]


def move(moves: list[tuple[Path, Path]]) -> None:
    for here, there in moves:
        here.rename(there)


def contents(path: Path) -> list[str]:
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT json_extract(body, '$.content') FROM log WHERE event = 'message'").fetchall()
    connection.close()
    return [content for (content,) in rows]


async def test_files_put_there_by_another_program_are_left_alone(engine: Store, path: Path) -> None:
    """A second gateway's store at the same path keeps its log when the first one ends."""
    move([(path, path.with_name("old.db"))])
    delete_log(path)
    delete_index(path)
    await until_noticed(engine)
    second = sqlite_store(path)
    await second.open(Recorder())
    await second.attach_session(Claim("alice", "c", None))
    await second.create_room("alice", "tea", ())
    await engine.close(5)
    await second.append_message("alice", "tea", "second", None)
    assert second.problem() is None
    copy = path.with_name("copy.db")
    back_up(str(path), copy, replace=False)
    await second.close(5)
    assert contents(copy) == contents(path) == ["second"]


@pytest.mark.parametrize("spoil", OVERWRITTEN)
@pytest.mark.parametrize("noticed", [True, False])
async def test_an_overwritten_file_is_not_written_to_when_closing(
    engine: Store, path: Path, spoil: Callable[[Path], None], noticed: bool
) -> None:
    """The file that replaced it, most likely a backup, is not changed, and a foreign WAL is not copied into it."""
    await engine.append_message("alice", "tea", "kept", None)
    spoil(path)
    if noticed:
        await until_noticed(engine)
    before = content_of(path)
    assert await engine.close(5) is False
    assert content_of(path) == before


async def test_a_commit_after_a_truncation_does_not_hide_it(engine: Store, path: Path) -> None:
    """The log is as long as before, with a hole."""
    engine._engine._database.watch.look()  # as its thread has, twice a second
    cut_log(path)
    for _ in range(3):
        await engine.append_message("alice", "tea", "lost", None)
    assert f"{path}-wal was overwritten" in await until_noticed(engine)


async def test_acked_events_are_saved_where_only_the_wal_is_lost(engine: Store, path: Path) -> None:
    await engine.append_message("alice", "tea", "kept", None)
    delete_log(path)
    await until_noticed(engine)
    await engine.close(5)
    assert contents(path) == ["kept"]


async def test_a_link_that_now_leads_elsewhere_counts_as_a_loss(path: Path) -> None:
    """The store was opened by a link, which is changed: after a restart the gateway would open another file."""
    link, other = path.with_name("link.db"), path.with_name("other.db")
    path.with_name("link.db").symlink_to(path)
    engine = sqlite_store(link)
    await engine.open(Recorder())
    move([(link, path.with_name("old-link.db"))])
    link.symlink_to(other)
    assert str(other) in await until_noticed(engine)
    move([(path.with_name("old-link.db"), link)])
    await until(lambda: engine.problem() is None, NOTICED)
    await engine.close(5)


async def test_moved_files_that_are_still_found_are_not_a_loss(engine: Store, path: Path) -> None:
    """All of them in their folder, with a link to it in its old place: a restart finds everything."""
    rename_folder(path)
    path.parent.symlink_to(path.parent.with_name("elsewhere"))
    engine._engine._database.watch.look()  # as its thread does
    assert engine.problem() is None
    await engine.append_message("alice", "tea", "kept", None)
    await engine.close(5)
    assert contents(path) == ["kept"]


async def test_a_checkpoint_during_a_check_is_not_a_loss(
    engine: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It begins and ends after the index was read, and before the database file is looked at."""
    watch = engine._engine._database.watch
    signature = engine._engine._database.files.signature

    def signature_after_checkpoint() -> tuple[int, bytes]:
        use_elsewhere(path, "PRAGMA wal_checkpoint(PASSIVE)")
        return signature()

    for _ in range(3):
        await engine.append_message("alice", "tea", "x" * 5000, None)
        watch.look()
        with monkeypatch.context() as patched:
            patched.setattr(engine._engine._database.files, "signature", signature_after_checkpoint)
            watch.look()
        watch.look()
        assert watch.problem is None


async def test_a_check_at_any_moment_reports_no_loss(engine: Store, path: Path) -> None:
    """Also in the middle of a commit, of a checkpoint of the gateway or of others, or of a restart of the WAL."""
    watch = engine._engine._database.watch
    stop = asyncio.Event()

    def look() -> None:
        while not stop.is_set():
            watch.look()

    def check_point() -> None:
        modes = itertools.cycle(["PASSIVE", "FULL", "RESTART", "TRUNCATE"])
        while not stop.is_set():
            with contextlib.closing(sqlite3.connect(path)) as connection, contextlib.suppress(sqlite3.Error):
                connection.execute(f"PRAGMA wal_checkpoint({next(modes)})").fetchall()
            time.sleep(0.01)  # others commit

    threads = [asyncio.create_task(asyncio.to_thread(run)) for run in (look, check_point)]
    end = asyncio.get_running_loop().time() + 2
    while asyncio.get_running_loop().time() < end and watch.problem is None:
        with contextlib.suppress(Unavailable):  # the other program has locked it
            await asyncio.gather(*(engine.append_message("alice", "tea", "x" * 3000, None) for _ in range(20)))
    stop.set()
    await asyncio.gather(*threads)
    assert watch.problem is None


async def test_ordinary_access_to_the_files_is_not_a_loss(engine: Store, path: Path) -> None:
    """Checkpoints of the gateway and of others, readers, backups, `touch` and another mode are not a loss."""
    for number in range(3):
        for _ in range(20):
            await engine.append_message("alice", "tea", "x" * 5000, None)
        for sql in ("SELECT count(*) FROM log", f"PRAGMA wal_checkpoint({['PASSIVE', 'FULL', 'TRUNCATE'][number]})"):
            use_elsewhere(path, sql)
        engine._engine._database.watch.look()  # as its thread does
        assert engine.problem() is None
    await engine.append_message("alice", "tea", "kept", None)
