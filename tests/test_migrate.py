"""`gateway migrate`: the store of a gateway is copied into another one, and its clients come back to that."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engines.test_dump import export
from harness.client import Join, make_room, succeed
from harness.names import fresh_name
from harness.process import COMMAND, GatewayProcess, StartGateway, clean_environment, die_with_parent, stable_port
from harness.stock import SocketIOClient
from harness.valkey import StartValkey, ValkeyServer
from harness.waiting import poll_until, until

NewStore = Callable[[str], str]
RETURNING = {"reconnection": True, "reconnectionDelay": 20, "reconnectionDelayMax": 50}


@pytest.fixture
def new_store(valkey: ValkeyServer, tmp_path: Path) -> NewStore:
    """The URL of a store that does not exist yet."""

    def name(kind: str) -> str:
        return f"sqlite:///{tmp_path / fresh_name()}.db" if kind == "sqlite" else valkey.store(fresh_name("store"))

    return name


async def start_migration(*arguments: object) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        COMMAND,
        "migrate",
        *map(str, arguments),
        env=clean_environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=die_with_parent,
    )


async def migrate(*arguments: object) -> tuple[int | None, str]:
    """Exit status and output of the command, without the lines about its progress."""
    process = await start_migration(*arguments)
    out, err = await process.communicate()
    lines = (err + out).decode().splitlines(keepends=True)
    return process.returncode, "".join(line for line in lines if not line.endswith(" so far\n"))


async def send(client: Any, room: str, *contents: str) -> None:
    for content in contents:
        await succeed(client, "send-msg", room=room, content=content, id=f"id of {content}")


async def contents_of(client: Any, room: str) -> list[str]:
    return [message["content"] for message in (await succeed(client, "history", room=room))["messages"]]


async def has_returned(client: SocketIOClient) -> bool:
    """Whether a stock client that comes back by itself is `recovered`."""
    notice = await client.notices.take(lambda notice: notice.name == "connect", "the return")
    return bool(notice.fields["recovered"])


@pytest.mark.parametrize(
    ("source", "target"), [("sqlite", "valkey"), ("valkey", "sqlite"), ("sqlite", "sqlite"), ("valkey", "valkey")]
)
async def test_clients_come_back_recovered(
    start_gateway: StartGateway, join: Join, new_store: NewStore, source: str, target: str
) -> None:
    """Stock clients return by themselves, with their pids and offsets; one that was away is sent what it missed.

    History goes on, messages that are sent again are known, and so is what was sent in the old store to the old ids.
    """
    stores = new_store(source), new_store(target)
    own = await start_gateway(store=stores[0], port=stable_port())
    alice = await join("socketio-websocket", to=own, **RETURNING)
    bob = await join("socketio-polling", to=own, **RETURNING)
    carol = await join("json", to=own)
    room = await make_room(alice, bob, carol)
    await send(alice, room, "one", "two")
    for client in (bob, carol):
        assert [(await client.next_event("message")).fields["content"] for _ in range(2)] == ["one", "two"]
    ids = [message["id"] for message in (await succeed(bob, "history", room=room))["messages"]]
    await carol.drop()
    await send(bob, room, "missed")
    assert (await alice.next_event("message")).fields["content"] == "missed"
    await own.stop()
    for client in (alice, bob):
        await client.next_notice("disconnect")
    status, output = await migrate(*stores)
    assert (status, output.count("\n")) == (0, 1), output
    assert "1 rooms, 3 events, 3 sessions" in output
    own.store = stores[1]
    await own.start()
    assert [await has_returned(client) for client in (alice, bob)] == [True, True]
    back = await join("json", carol.username, to=own, query={"pid": carol.pid, "offset": carol.offset})
    assert back.welcome.fields["recovered"] is True
    assert (await back.next_event("message")).fields["content"] == "missed"
    reply = await succeed(alice, "send-msg", room=room, content="two", id="id of two")
    assert reply["duplicate"] is True
    await send(alice, room, "new")
    for client in (bob, back):
        assert (await client.next_event("message")).fields["content"] == "new"
    history = (await succeed(bob, "history", room=room))["messages"]
    assert [message["content"] for message in history] == ["one", "two", "missed", "new"]
    assert [message["id"] for message in history][:2] == ids
    other = await make_room(bob, alice)
    await send(alice, other, "in another room")
    assert (await bob.next_event("message")).fields["room"] == other
    assert "message" not in [event.name for event in await bob.drain()]


async def test_a_store_is_moved_to_several_workers_and_back(join: Join, tmp_path: Path) -> None:
    """Their store is a folder next to where the database would be; a path too long for a Unix socket is none."""
    database, back = f"sqlite:///{tmp_path / 'chat.db'}", f"sqlite:///{tmp_path / 'back.db'}"
    port = stable_port()
    with tempfile.TemporaryDirectory(prefix="gateway-") as short:
        folder = f"sqlite:///{short}/chat.db"
        one, two = GatewayProcess(database, port), GatewayProcess(folder, port, workers=2)
        async with one:
            alice = await join("socketio-websocket", to=one, **RETURNING)
            room = await make_room(alice)
            await send(alice, room, "one")
        await alice.next_notice("disconnect")
        status, output = await migrate("--for-workers", database, folder)
        assert (status, output.count("\n")) == (0, 1), output
        assert "1 rooms, 1 events, 1 sessions" in output
        async with two:
            assert await has_returned(alice)
            await send(alice, room, "two")
        await alice.next_notice("disconnect")
        status, output = await migrate(folder, back)
        assert (status, output.count("\n")) == (0, 1), output
        one.store = back
        async with one:
            assert await has_returned(alice)
            assert await contents_of(alice, room) == ["one", "two"]


async def test_a_source_is_not_changed(
    start_gateway: StartGateway, join: Join, start_valkey: StartValkey, tmp_path: Path
) -> None:
    """Not a byte, of a file (also if its gateway was killed) and of what a server has."""
    server = await start_valkey()
    own = await start_gateway(on_disk=True)
    alice = await join(to=own)
    await send(alice, await make_room(alice), "one")
    await own.kill9()
    names = [tmp_path / f"chat.db{suffix}" for suffix in ("", "-wal")]
    before = [name.read_bytes() for name in names]
    assert (await migrate(own.store, server.store("moved")))[0] == 0
    assert [name.read_bytes() for name in names] == before
    digest = await server.command("DEBUG", "DIGEST")
    assert (await migrate(server.store("moved"), f"sqlite:///{tmp_path / 'back.db'}"))[0] == 0
    assert await server.command("DEBUG", "DIGEST") == digest
    assert await export(f"sqlite:///{tmp_path / 'back.db'}") == await export(own.store)


@pytest.mark.parametrize("kind", ["sqlite", "valkey"])
async def test_a_store_in_use_is_refused(start_gateway: StartGateway, new_store: NewStore, kind: str) -> None:
    """As the source and as the target: one line, and nothing is written."""
    used, other = new_store(kind), new_store("sqlite")
    own = await start_gateway(store=used)
    for arguments in ((used, other), (other, used)):
        if arguments[0] == other:
            await (await start_gateway(store=other)).stop()
        status, output = await migrate(*arguments)
        assert (status, output.count("\n")) == (1, 1), output
        assert "gateway" in output.removeprefix("gateway migrate:") or "not empty" in output
    assert own.running


async def test_what_cannot_be_migrated_is_reported_in_one_line(
    start_gateway: StartGateway, valkey: ValkeyServer, start_valkey: StartValkey, tmp_path: Path
) -> None:
    """Exit status 1, or 2 for a wrong argument; and no file is written."""
    own = await start_gateway(on_disk=True)
    await own.stop()
    garbage, other, old = tmp_path / "garbage", tmp_path / "other.db", tmp_path / "old.db"
    garbage.write_bytes(os.urandom(9000))
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE things (name TEXT)")
    connection.close()
    old.write_bytes((tmp_path / "chat.db").read_bytes())
    connection = sqlite3.connect(old)
    connection.execute("PRAGMA user_version = 5")
    connection.close()
    evicting = await start_valkey(maxmemory=100_000_000, maxmemory_policy="allkeys-lru")
    both = tmp_path / "both.db"
    both.touch()
    os.makedirs(f"{both}.valkey/appendonlydir")
    taken = valkey.store(fresh_name("taken"))
    assert (await migrate(own.store, taken))[0] == 0
    before, new = set(os.listdir(tmp_path)), f"sqlite:///{tmp_path / 'new.db'}"
    for status, words, arguments in (
        (1, "no store", (f"sqlite:///{tmp_path / 'nothing.db'}", new)),
        (1, "no store", (valkey.store("nothing"), new)),
        (1, "not an SQLite database", (f"sqlite:///{garbage}", new)),
        (1, "not a gateway's store", (f"sqlite:///{other}", new)),
        (1, "earlier gateway", (f"sqlite:///{old}", new)),
        (1, "folder does not exist", (own.store, f"sqlite:///{tmp_path / 'missing' / 'new.db'}")),
        (1, "another program", (own.store, f"sqlite:///{other}")),
        (1, "the same store", (own.store, f"sqlite:///{tmp_path / '.' / 'chat.db'}")),
        (1, "not empty", (own.store, taken)),
        (1, "move the wrong one away", (own.store, f"sqlite:///{both}")),
        (1, "move the wrong one away", (f"sqlite:///{both}", new)),
        (1, "choose a new path", ("--for-workers", own.store, own.store)),
        (2, "--for-workers", ("--for-workers", own.store, taken)),
        (1, "evict", (own.store, evicting.url)),
        (1, "cannot be used", (own.store, f"redis://127.0.0.1:{stable_port()}")),
        (2, "memory", (own.store, "sqlite://")),
        (2, "memory", ("sqlite://", new)),
        (2, "TARGET", (own.store,)),
        (2, "redis", (own.store, "http://example")),
    ):
        result, output = await migrate(*arguments)
        assert (result, output.count("\n")) == (status, 1), output
        assert words in output, output
    assert set(os.listdir(tmp_path)) == before


async def large_store(start_gateway: StartGateway, tmp_path: Path, megabytes: int) -> str:
    """A store with a room that has so much history."""
    own = await start_gateway(on_disk=True)
    await own.stop()
    make_large(tmp_path / "chat.db", megabytes)
    return own.store


def make_large(path: Path, megabytes: int) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("INSERT INTO rooms (id, name, member_count) VALUES (7, 'large', 1)")
        connection.execute("INSERT INTO sessions (username, sid, pid, suspended_at) VALUES ('idle', 's', 'p', 1)")
        connection.execute("INSERT INTO members (room_id, username, joined) VALUES (7, 'idle', 0)")
        body = b'{"id":"x","room":"large","from":"idle","content":"%s","ts":1}' % (b"x" * 900)
        rows = ((number, 7, 0, "message", "idle", 1, number, 0, 0, body) for number in range(1, megabytes * 1000))
        connection.executemany(
            "INSERT INTO log (position, room_id, kind, event, author, ts, number, size, other, body) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
    connection.close()


async def test_a_killed_migration_to_a_server_can_be_repeated(
    start_gateway: StartGateway, start_valkey: StartValkey, tmp_path: Path
) -> None:
    """No gateway starts on what it leaves behind; the next one deletes that, and all is there."""
    server = await start_valkey()
    source, target = await large_store(start_gateway, tmp_path, 15), server.store("target")
    process = await start_migration(source, target)
    await poll_until(lambda: has_keys(server, 3))
    process.kill()
    await process.wait()
    broken = GatewayProcess(target)
    await broken.spawn()
    assert await broken.wait() == 1
    assert "was not completed" in broken.log
    assert broken.log.count("\n") == 1
    assert "not completed" in (await migrate(target, f"sqlite:///{tmp_path / 'other.db'}"))[1]
    status, output = await migrate(source, target)
    assert status == 0, output
    assert await export(target) == await export(source)
    await (await start_gateway(store=target)).stop()


async def has_keys(server: ValkeyServer, number: int) -> bool:
    return int(await server.command("DBSIZE")) >= number


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
async def test_a_migration_to_a_file_that_is_interrupted_can_be_repeated(
    start_gateway: StartGateway, tmp_path: Path, number: signal.Signals
) -> None:
    """An empty store is left, or no file at all."""
    source, target = await large_store(start_gateway, tmp_path, 30), tmp_path / "target.db"
    process = await start_migration(source, f"sqlite:///{target}")
    await until(lambda: target.exists() and target.stat().st_size > 5_000_000)
    process.send_signal(number)
    await process.communicate()
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    assert target.exists() == (number == signal.SIGKILL)
    if target.exists():
        assert "not completed" in (await migrate(f"sqlite:///{target}", f"sqlite:///{tmp_path / 'other.db'}"))[1]
    status, output = await migrate(source, f"sqlite:///{target}")
    assert status == 0, output
    assert await export(f"sqlite:///{target}") == await export(source)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_an_interrupted_migration_to_a_server_leaves_nothing(
    start_gateway: StartGateway, start_valkey: StartValkey, tmp_path: Path, number: signal.Signals
) -> None:
    server = await start_valkey()
    process = await start_migration(await large_store(start_gateway, tmp_path, 15), server.store("target"))
    await poll_until(lambda: has_keys(server, 3))
    process.send_signal(number)
    _, err = await process.communicate()
    assert process.returncode == 128 + number
    assert b"Traceback" not in err
    assert await server.command("DBSIZE") == 0


async def test_a_full_server_refuses_and_is_empty_again(
    start_gateway: StartGateway, start_valkey: StartValkey, tmp_path: Path
) -> None:
    server = await start_valkey(maxmemory=10_000_000)
    status, output = await migrate(await large_store(start_gateway, tmp_path, 15), server.store("target"))
    assert (status, output.count("\n")) == (1, 1), output
    assert "maxmemory" in output
    assert await server.command("DBSIZE") == 0


async def test_a_large_store_takes_little_memory(
    start_gateway: StartGateway, start_valkey: StartValkey, tmp_path: Path
) -> None:
    """50 MB more of history are at most a few more of memory, in either direction."""
    server = await start_valkey()
    small = await large_store(start_gateway, tmp_path, 0)
    sizes: dict[str, int] = {}
    for name in ("small", "large"):
        there = await peak_memory(small, server.store(name))
        back = await peak_memory(server.store(name), f"sqlite:///{tmp_path / name}.db")
        sizes[name] = max(there, back)
        if name == "small":
            (tmp_path / "chat.db").unlink()
            await (await start_gateway(on_disk=True)).stop()
            make_large(tmp_path / "chat.db", 50)
    assert await export(f"sqlite:///{tmp_path / 'large.db'}") == await export(small)
    assert sizes["large"] - sizes["small"] < 30_000, sizes


async def peak_memory(*arguments: str) -> int:
    """KiB that a migration has taken at most."""

    def run() -> int:
        with subprocess.Popen([COMMAND, "migrate", *arguments], preexec_fn=die_with_parent) as process:  # noqa: PLW1509
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = status
        assert status == 0
        return usage.ru_maxrss

    return await asyncio.to_thread(run)
