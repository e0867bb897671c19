"""`gateway backup`: a copy of the store of a gateway that runs, is stopped or was killed, and restoring it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import sys
import time
from pathlib import Path

import pytest

from harness.client import Join, make_room, succeed
from harness.inbox import TIMEOUT
from harness.plain import JsonClient
from harness.process import COMMAND, GatewayProcess, StartGateway, clean_environment, die_with_parent
from harness.syncs import HeldSyncs
from harness.waiting import until

PAUSE = 0.05
"""Seconds by which a backup may delay a client."""


async def start_backup(
    *arguments: object, syncs: HeldSyncs | None = None, **environment: str
) -> asyncio.subprocess.Process:
    def before_exec() -> None:
        die_with_parent()
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # it is ignored where the tests run in the background of a script
        if syncs is not None:
            syncs.before_exec()

    process = await asyncio.create_subprocess_exec(
        COMMAND,
        "backup",
        *map(str, arguments),
        env={**clean_environment(), **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=before_exec,
    )
    if syncs is not None:
        syncs.start()
    return process


async def run_backup(*arguments: object, **environment: str) -> tuple[int | None, str]:
    """Exit status and output of the command."""
    process = await start_backup(*arguments, **environment)
    out, err = await process.communicate()
    return process.returncode, (out + err).decode()


def open_copy(path: Path) -> list[str]:
    """The contents of the messages of a copy, which is whole."""
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    rows = connection.execute(
        "SELECT json_extract(body, '$.content') FROM log WHERE event = 'message' ORDER BY position"
    ).fetchall()
    connection.close()
    return [content for (content,) in rows]


def make_larger(path: Path, megabytes: int) -> None:
    """Give the store of a stopped gateway a room with that much history, and a member who never returns."""
    connection = sqlite3.connect(path)
    with connection:
        window = int(time.time() * 1000) + 10**9
        connection.execute("INSERT INTO rooms (id, name, member_count) VALUES (1000000, 'large', 1)")
        connection.execute(
            "INSERT INTO sessions (username, sid, pid, suspended_at) VALUES ('idle', 's', 'p', ?)", (window,)
        )
        connection.execute("INSERT INTO members (room_id, username, joined) VALUES (1000000, 'idle', 0)")
        body = b'{"id":"x","room":"large","from":"idle","content":"%s","ts":1}' % (b"x" * 900)
        rows = ((1_000_000, "message", "idle", 1, body) for _ in range(megabytes * 1000))
        connection.executemany("INSERT INTO log (room_id, event, author, ts, body) VALUES (?, ?, ?, ?, ?)", rows)
    connection.close()


class Talker:
    """A client that sends one message after the other, and records how long each ack took."""

    def __init__(self, client: JsonClient, room: str) -> None:
        self._client = client
        self._room = room
        self.acked: list[str] = []
        self.waits: list[float] = []

    async def talk(self) -> None:
        while True:
            content = str(len(self.acked))
            started = time.perf_counter()
            await succeed(self._client, "send-msg", room=self._room, content=content)
            self.waits.append(time.perf_counter() - started)
            self.acked.append(content)


async def test_a_backup_of_a_busy_gateway_contains_everything_acked(
    start_gateway: StartGateway, join: Join, tmp_path: Path
) -> None:
    """Every message that was acked before the command began; the copy is whole, private, and one file."""
    own = await start_gateway(on_disk=True, history_size=100_000)
    await own.stop()
    make_larger(tmp_path / "chat.db", 50)
    await own.restart()
    talkers = []
    for _ in range(4):
        client = await join(to=own)
        talkers.append(Talker(client, await make_room(client)))
    talking = [asyncio.create_task(talker.talk()) for talker in talkers]
    for number in range(2):
        done = [len(talker.acked) for talker in talkers]
        await until(lambda done=done: all(len(talker.acked) > n for talker, n in zip(talkers, done, strict=True)))  # type: ignore[misc]
        acked, copy = [len(talker.acked) for talker in talkers], tmp_path / f"copy{number}.db"
        status, output = await run_backup(copy, "--store", own.store)
        assert (status, output.count("\n")) == (0, 1), output
        assert str(copy) in output
        assert copy.stat().st_mode & 0o777 == 0o600
        contents = [content for content in open_copy(copy) if content.isdigit()]
        for talker, count in zip(talkers, acked, strict=True):
            assert set(talker.acked[:count]) <= set(contents)
        assert len(contents) >= sum(acked)
    for task in talking:
        task.cancel()
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".tmp") or name.startswith("copy0.db-")]


async def test_a_backup_delays_no_client(start_gateway: StartGateway, join: Join, tmp_path: Path) -> None:
    """The slowest ack while one is made is not slower by more than 50 ms than without, in as long a time."""
    loop = asyncio.get_running_loop()
    own = await start_gateway(on_disk=True, history_size=100_000)
    await own.stop()
    make_larger(tmp_path / "chat.db", 60)
    await own.restart()
    client = await join(to=own)
    talker = Talker(client, await make_room(client))
    talking = asyncio.create_task(talker.talk())
    await until(lambda: len(talker.waits) >= 200)
    for attempt in range(10):
        process = await start_backup(tmp_path / f"copy{attempt}.db", "--store", own.store)
        begun = len(talker.waits) + 1  # without the ack now awaited: the fork stopped this process, which measures
        start = loop.time()
        await process.communicate()
        during, seconds = talker.waits[begun:], loop.time() - start
        begun = len(talker.waits)
        await asyncio.sleep(seconds)  # as long without a backup, to compare
        beside = talker.waits[begun:]
        if max(during) <= max(beside) + PAUSE:
            break
    else:
        raise AssertionError(f"slowest ack during a backup: {max(during):.3f} s, without one: {max(beside):.3f} s")
    talking.cancel()


@pytest.mark.parametrize("end", ["stop", "kill9"])
async def test_a_backup_can_be_made_while_no_gateway_runs(
    start_gateway: StartGateway, join: Join, tmp_path: Path, end: str
) -> None:
    """Also after kill -9, when what was acked last is in the log alone; and the store itself is as good as before."""
    own = await start_gateway(on_disk=True)
    client = await join(to=own)
    room = await make_room(client)
    for number in range(20):
        await succeed(client, "send-msg", room=room, content=str(number))
    await getattr(own, end)()
    status, output = await run_backup(tmp_path / "copy.db", "--store", own.store)
    assert status == 0, output
    assert open_copy(tmp_path / "copy.db") == [str(number) for number in range(20)]
    await own.restart()
    back = await join("json", client.username, to=own, query={"pid": client.pid, "offset": client.offset})
    assert back.welcome.fields["recovered"] is True


async def test_a_restored_store_continues_from_the_backup(
    start_gateway: StartGateway, join: Join, tmp_path: Path
) -> None:
    """As in the README: stop, move the store's files away, put the copy in their place, start."""
    own = await start_gateway(on_disk=True)
    client = await join(to=own)
    room = await make_room(client)
    await succeed(client, "send-msg", room=room, content="before")
    offset = client.offset
    assert (await run_backup(tmp_path / "copy.db", "--store", own.store))[0] == 0
    await succeed(client, "send-msg", room=room, content="after")
    await own.kill9()
    for name in os.listdir(tmp_path):
        if name.startswith("chat.db"):
            os.unlink(tmp_path / name)
    os.rename(tmp_path / "copy.db", tmp_path / "chat.db")
    await own.restart()
    back = await join("json", client.username, to=own, query={"pid": client.pid, "offset": offset})
    history = await succeed(back, "history", room=room)
    assert [message["content"] for message in history["messages"]] == ["before"]
    await succeed(back, "send-msg", room=room, content="new")


async def test_a_failed_backup_is_reported_in_one_line(start_gateway: StartGateway, tmp_path: Path) -> None:
    """Exit status 1, or 2 for a wrong setting, one line on stderr; and no file is written."""
    own = await start_gateway(on_disk=True)
    store, there, garbage = tmp_path / "chat.db", tmp_path / "there", tmp_path / "garbage"
    there.write_text("precious")
    garbage.write_bytes(os.urandom(9000))
    (tmp_path / "stale-wal").write_text("x")
    (tmp_path / "link").symlink_to(there)
    os.mkfifo(tmp_path / "pipe")
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE things (name TEXT)")
    other.close()
    before = set(os.listdir(tmp_path))
    for status, words, arguments in (
        (1, "already", (there, "--store", own.store)),
        (1, "already", (tmp_path / "link", "--store", own.store)),
        (1, "store itself", (store, "--store", own.store)),
        (1, "store itself", (store, "--replace", "--store", own.store)),
        (1, "store itself", (f"{store}-wal", "--replace", "--store", own.store)),
        (1, "stale-wal", (tmp_path / "stale", "--store", own.store)),
        (1, "folder", (tmp_path / "missing" / "copy.db", "--store", own.store)),
        (1, "is a folder", (tmp_path, "--store", own.store)),
        (1, "is not a file", (tmp_path / "pipe", "--replace", "--store", own.store)),
        (1, "no store", (tmp_path / "copy.db", "--store", f"sqlite:///{tmp_path / 'nothing.db'}")),
        (1, "not an SQLite database", (tmp_path / "copy.db", "--store", f"sqlite:///{garbage}")),
        (1, "not a gateway's store", (tmp_path / "copy.db", "--store", f"sqlite:///{tmp_path / 'other.db'}")),
        (2, "memory", (tmp_path / "copy.db", "--store", "sqlite://")),
        (2, "PATH", ("--store", own.store)),
    ):
        result, output = await run_backup(*arguments)
        assert (result, output.count("\n")) == (status, 1), output
        assert words in output, output
    assert there.read_text() == "precious"
    assert set(os.listdir(tmp_path)) == before


async def test_a_backup_replaces_the_previous_one(start_gateway: StartGateway, tmp_path: Path) -> None:
    """With --replace; the store may be named by its variable, and a link is replaced, not what it leads to."""
    own = await start_gateway(on_disk=True)
    copy, target = tmp_path / "copy.db", tmp_path / "target"
    copy.write_text("old")
    assert (await run_backup(copy, "--replace", GATEWAY_STORE=own.store))[0] == 0
    assert open_copy(copy) == []
    target.write_text("precious")
    copy.unlink()
    copy.symlink_to(target)
    assert (await run_backup(copy, "--replace", GATEWAY_STORE=own.store))[0] == 0
    assert target.read_text() == "precious"
    assert open_copy(copy) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.skipif(sys.platform != "linux", reason="holds system calls back as Linux can")
async def test_an_interrupted_backup_leaves_no_files(
    start_gateway: StartGateway, tmp_path: Path, number: signal.Signals
) -> None:
    """During the copy, when a part of it is written."""
    own = await start_gateway(on_disk=True)
    await own.stop()
    make_larger(tmp_path / "chat.db", 10)
    folder = tmp_path / "copies"
    folder.mkdir()
    with contextlib.closing(HeldSyncs()) as syncs:
        syncs.hold()
        process = await start_backup(folder / "copy.db", "--store", own.store, syncs=syncs)
        while not sum(part.stat().st_size for part in folder.iterdir()):
            syncs.release()
            syncs.hold()
            async with asyncio.timeout(TIMEOUT):
                await syncs.came.wait()
        process.send_signal(number)
        syncs.release()
        _, err = await process.communicate()
    assert process.returncode == 128 + number
    assert b"Traceback" not in err
    assert os.listdir(folder) == []


async def test_a_full_disk_leaves_no_partial_backup(start_gateway: StartGateway, tmp_path: Path) -> None:
    own = await start_gateway(on_disk=True)
    await own.stop()
    make_larger(tmp_path / "chat.db", 5)
    folder = tmp_path / "copies"
    folder.mkdir()
    process = await asyncio.create_subprocess_exec(
        "prlimit", "--fsize=1000000", COMMAND, "backup", folder / "copy.db", "--store", own.store,
        env=clean_environment(), stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, err = await process.communicate()
    assert (process.returncode, err.count(b"\n")) == (1, 1), err
    assert os.listdir(folder) == []


async def test_a_store_whose_file_was_deleted_cannot_be_backed_up(
    start_gateway: StartGateway, join: Join, tmp_path: Path
) -> None:
    """Actions that write, and log-ins, are `unavailable`; it is logged once, and again when it is over."""
    own: GatewayProcess = await start_gateway(on_disk=True)
    client = await join(to=own)
    room = await make_room(client)
    await succeed(client, "send-msg", room=room, content="kept")
    os.unlink(tmp_path / "chat.db")
    for _ in range(3):
        reply = await client.call("send-msg", room=room, content="lost")
        assert reply["error"]["code"] == "unavailable"
    assert (await succeed(client, "list-rooms"))["rooms"]
    await own.stop()
    assert own.log.count("the store is gone") == 1
    assert own.log.count("the store was gone at the end") == 1
