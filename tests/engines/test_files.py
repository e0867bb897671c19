"""The files of the embedded store: who may read them, who may use them, and which must not be mixed."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.engines.sqlite.backup import back_up
from gateway.engines.sqlite.database import open_database
from gateway.errors import StoreError

FILES = ("", "-wal", "-shm")


def modes(path: Path) -> dict[str, int]:
    """The permissions of each of a store's files that is there."""
    return {s: Path(f"{path}{s}").stat().st_mode & 0o777 for s in FILES if Path(f"{path}{s}").exists()}


def leave_killed(path: Path) -> None:
    """Have a process end while it writes to the store, as by kill -9."""
    code = (
        "import os, sys; from gateway.engines.sqlite.database import open_database\n"
        "connection = open_database(sys.argv[1])\n"
        "connection.execute(\"INSERT INTO rooms (name, member_count) VALUES ('tea', 0)\"); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, path], check=True)


def open_elsewhere(path: Path) -> str:
    """What another process that opens the store is told."""
    code = (
        "import sys; from gateway.engines.sqlite.database import open_database\n"
        "try: open_database(sys.argv[1]).close(); print('opened')\n"
        "except Exception as error: print(error)"
    )
    result = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    return result.stdout.strip()


def test_the_files_are_private_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    before = os.umask(0)
    try:
        connection = open_database(str(path))
        assert modes(path) == dict.fromkeys(FILES, 0o600)
        connection.close()
    finally:
        os.umask(before)


def test_files_readable_by_others_are_made_private(tmp_path: Path) -> None:
    """The files of an earlier version; also those that a killed gateway left."""
    path = tmp_path / "gateway.db"
    leave_killed(path)
    for suffix in FILES:
        Path(f"{path}{suffix}").chmod(0o644)
    connection = open_database(str(path))
    assert modes(path) == dict.fromkeys(FILES, 0o600)
    connection.close()


@pytest.mark.parametrize("other_name", ["symlink", "hard link", "relative", "renamed"])
def test_a_store_in_use_is_refused_under_any_name(tmp_path: Path, other_name: str) -> None:
    """Two gateways on one file would each believe that they know what is in it."""
    path, other = tmp_path / "gateway.db", tmp_path / "other.db"
    connection = open_database(str(path))
    if other_name == "symlink":
        other.symlink_to(path)
    elif other_name == "hard link":
        other.hardlink_to(path)
    elif other_name == "relative":
        other = Path(os.path.relpath(path))
    else:
        path.rename(other)
    assert "another gateway is using it" in open_elsewhere(other)
    with pytest.raises(StoreError, match="another gateway is using it"):
        open_database(str(other))
    # Being refused must not have taken the lock away (POSIX: closing a file drops all locks of the process on it).
    assert "another gateway is using it" in open_elsewhere(other)
    connection.close()
    assert open_elsewhere(other) == "opened"


def test_other_programs_may_read_the_store_in_use(tmp_path: Path) -> None:
    """SQLite's own ways to back up work, and disturb nobody."""
    path, copy = tmp_path / "gateway.db", tmp_path / "copy.db"
    connection = open_database(str(path))
    connection.execute("INSERT INTO rooms (name, member_count) VALUES ('tea', 0)")
    code = (
        "import sqlite3, sys; source, copy = map(sqlite3.connect, sys.argv[1:]); source.backup(copy);"
        "print(copy.execute('SELECT name FROM rooms').fetchall(), copy.execute('PRAGMA integrity_check').fetchall())"
    )
    result = subprocess.run([sys.executable, "-c", code, path, copy], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[('tea',)] [('ok',)]"
    connection.execute("INSERT INTO rooms (name, member_count) VALUES ('cake', 0)")
    connection.close()


def test_a_copy_ignores_the_wal_of_another_store(tmp_path: Path) -> None:
    """A backup put in the place of a killed store whose log is still there: refused, for SQLite would apply the log."""
    path, copy = tmp_path / "gateway.db", tmp_path / "copy.db"
    open_database(str(path)).close()
    back_up(str(path), copy, replace=False)
    leave_killed(path)
    assert Path(f"{path}-wal").stat().st_size
    copy.replace(path)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"gateway\.db-wal is still there"):
        open_database(str(path))
    assert path.read_bytes() == before
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink()
    connection = open_database(str(path))
    assert connection.execute("SELECT count(*) FROM rooms").fetchone() == (0,)
    connection.close()


def test_the_database_of_another_program_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE things (name TEXT)")
    other.close()
    path.chmod(0o644)
    with pytest.raises(StoreError, match="another program"):
        open_database(str(path))
    assert path.stat().st_mode & 0o777 == 0o644
