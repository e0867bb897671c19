"""The write-ahead log: it stays short, is truncated where it has grown, and nobody waits for that."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

from gateway.engines.sqlite.checkpoints import LONG_LOG, MAX_FILE_SIZE, TRUNCATE_STEP
from gateway.engines.sqlite.database import StoreConnection, open_database

PAGE = 4096


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.db"


def log_size(path: Path) -> int:
    return Path(f"{path}-wal").stat().st_size


def write(connection: StoreConnection, pages: int) -> float:
    """Commit that many pages, 100 at a time; returns how long the slowest commit took."""
    slowest = 0.0
    for _ in range(0, pages, 100):
        connection.execute("BEGIN")
        connection.execute("INSERT INTO log (room_id, event, body) VALUES (1, 'x', zeroblob(409600))")
        connection.execute("DELETE FROM log")
        started = time.perf_counter()
        connection.commit_written()
        slowest = max(slowest, time.perf_counter() - started)
    return slowest


def open_guarded(path: Path) -> StoreConnection:
    connection = open_database(str(path))
    connection.execute("INSERT INTO rooms (id, name, member_count) VALUES (1, 'tea', 0)")
    connection.guard()
    return connection


def test_the_wal_is_restarted_while_commits_go_on(path: Path) -> None:
    """However fast they come: the thread that copies never reaches their end, and they copy the rest."""
    connection = open_guarded(path)
    for _ in range(10):
        write(connection, LONG_LOG)
        time.sleep(0.05)  # others have the processor: the thread copies
    assert log_size(path) < 4 * LONG_LOG * PAGE
    connection.close()
    assert not Path(f"{path}-wal").exists()


def test_a_wal_that_grew_during_a_long_read_is_truncated(path: Path) -> None:
    """As a backup does. It is copied in the background and truncated in pieces: no commit waits for all of it."""
    connection = open_guarded(path)
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM log").fetchone()
    write(connection, 10 * LONG_LOG)
    grown = log_size(path)
    assert grown > 8 * LONG_LOG * PAGE
    reader.close()
    deadline = time.monotonic() + 20
    while log_size(path) > MAX_FILE_SIZE and time.monotonic() < deadline:
        before = log_size(path)
        write(connection, 100)
        assert log_size(path) >= before - TRUNCATE_STEP - 100 * PAGE
        time.sleep(0.01)  # others have the processor: the thread copies
    assert log_size(path) <= MAX_FILE_SIZE
    connection.close()


@pytest.mark.parametrize("number", range(8))
def test_closing_does_not_wait_for_a_checkpoint(path: Path, number: int) -> None:
    """Whatever the thread is doing at that moment."""
    connection = open_guarded(path)
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM log").fetchone()
    write(connection, LONG_LOG + 100)
    time.sleep(number / 400)  # at some moment of the pass
    started = time.monotonic()
    connection.close()
    assert time.monotonic() - started < 0.9  # the pause after a pass that a reader kept from ending is a second
    reader.close()
