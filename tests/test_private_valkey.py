"""The Valkey server that the workers of one machine share, run by their supervisor."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from gateway.memory import machine_memory
from gateway.workers import valkey
from gateway.workers.valkey import MAX_SOCKET_PATH, PrivateServerError, PrivateValkey, find_server, folder_of
from harness.client import Join, make_room, succeed
from harness.plain import JsonClient
from harness.process import GatewayProcess, stable_port
from harness.waiting import until
from test_config import run
from test_workers import ALL_READY, exists, gone_after_kill

SUPERVISE = """
import sys
from pathlib import Path
from gateway.commands.launch import supervise
from gateway.options import SettingsCommand, settings_from

program, folder, *words = sys.argv[1:]
settings = settings_from(SettingsCommand("gateway").make_context("gateway", words))
supervise(settings, [sys.executable, "-c", program], Path(folder))
"""

WORKER = """
import json, os, signal, socket, sys, time

part = json.loads(os.environ["_CHAT_GATEWAY_WORKER"])
print("store", sys.argv[-2:], file=sys.stderr)

def stop(*_):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect("valkey.sock")
        connection.sendall(b"PING\\\\r\\\\n")
        print("at the stop", connection.recv(64), file=sys.stderr)
    os._exit(0)

signal.signal(signal.SIGTERM, stop)
os.chdir(sys.argv[-1].removeprefix("unix://").removesuffix("valkey.sock"))
while True:
    os.write(part["channel"], b".")
    time.sleep(0.5)  # as often as the supervisor expects it
""".replace("\\\\", "\\")
"""A worker that serves nobody. When it is told to stop, it asks the server for the last time."""


class Keeping(GatewayProcess):
    """A supervisor of one such worker and of a server, whose files are in ``folder``."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.command = (sys.executable, "-c", SUPERVISE, WORKER, folder)

    def _before_exec(self) -> None:
        super()._before_exec()
        os.setpgid(0, 0)

    async def start(self) -> None:
        await super().start()
        await until(lambda: ALL_READY in self.log)

    @property
    def server(self) -> int:
        """The process id of the server."""
        return int(re.findall(r"process ready .*pid=(\d+) process=valkey", self.log)[-1])

    async def ask(self, *words: str) -> str:
        """What the server replies to a command."""
        reading, writing = await asyncio.open_unix_connection(str(self.folder / "valkey.sock"))
        writing.write(f"{' '.join(words)}\r\nPING\r\n".encode())
        reply = await reading.readuntil(b"+PONG\r\n")
        writing.close()
        return reply.decode().removesuffix("+PONG\r\n")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not in the folder of the test, whose path may be too long for a Unix socket."""
    with tempfile.TemporaryDirectory(prefix="gateway-") as parent:
        yield Path(parent, "gateway.db.valkey")


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_every_write_is_synced_and_nobody_else_can_reach_it(folder: Path) -> None:
    """The promise is that of the SQLite store: what is acked is on disk, and readable for its owner only."""
    async with Keeping(folder) as own:
        for name, value in {
            "appendonly": "yes",
            "appendfsync": "always",
            "maxmemory-policy": "noeviction",
            "save": "",
            "port": "0",
            "maxmemory": str(min(10 * 2**30, machine_memory() // 4)),
        }.items():
            assert (await own.ask("CONFIG", "GET", name)).split("\r\n")[-2] == value, name
        assert mode_of(folder) == 0o700
        assert mode_of(folder / "valkey.sock") == 0o700
        assert f"store ['--store', 'unix://{folder}/valkey.sock']" in own.log
        assert await own.stop() == 0


async def test_the_server_is_stopped_after_the_workers(folder: Path) -> None:
    """So that they can end their sessions; then nothing is left of it but its files."""
    async with Keeping(folder) as own:
        assert await own.ask("SET", "k", "kept") == "+OK\r\n"
        server = own.server
        os.kill(server, signal.SIGTERM)  # as systemd does
        os.killpg(own.pid, signal.SIGINT)  # as a terminal does
        assert await own.wait() == 0
        assert "at the stop b'+PONG" in own.log
        assert not exists(server)
        assert not (folder / "valkey.sock").exists()
    async with Keeping(folder) as own:
        assert "kept" in await own.ask("GET", "k")


@pytest.mark.parametrize("delay", [0.15, 0.25, 0.35, 0.5])
async def test_a_stop_during_the_start_takes_no_time(folder: Path, delay: float) -> None:
    """At whatever moment: the server, which may not be listening yet, is stopped as well."""
    own = Keeping(folder)
    process = await own.spawn()
    await asyncio.sleep(delay)  # at some moment of its start
    began = time.monotonic()
    process.terminate()
    assert await own.wait() in {0, -signal.SIGTERM}
    assert time.monotonic() - began < 3


async def test_a_killed_server_is_restarted_with_everything_that_was_acked(folder: Path) -> None:
    """The workers go on meanwhile."""
    async with Keeping(folder) as own:
        for number in range(100):
            assert await own.ask("SET", f"k{number}", "kept") == "+OK\r\n"
        killed = own.server
        os.kill(killed, signal.SIGKILL)
        await until(lambda: own.log.count("process=valkey") == 3)  # ready, ended, ready
        assert own.server != killed
        assert await own.ask("DBSIZE") == ":100\r\n"
        assert own.log.count("process='worker 1'") == 1
        assert await own.stop() == 0


async def test_the_server_ends_with_its_supervisor(folder: Path) -> None:
    """Even if that is killed; and the next one can start at once."""
    own = Keeping(folder)
    await own.start()
    assert await own.ask("SET", "k", "kept") == "+OK\r\n"
    server = own.server
    with gone_after_kill(server) as is_gone:
        await own.signal(signal.SIGKILL)
        await until(is_gone)
        await own.wait()
    async with Keeping(folder) as again:
        assert not exists(server)
        assert "kept" in await again.ask("GET", "k")


async def test_a_second_gateway_is_refused(folder: Path) -> None:
    """In one line, and the first one goes on."""
    async with Keeping(folder) as own:
        store = f"sqlite:///{folder.with_suffix('')}"
        result = await asyncio.to_thread(run, "--workers", "2", "--store", store, "--port", "0")
        assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1)
        assert f"The store {folder} cannot be used: another gateway is using it." in result.stderr
        assert await own.ask("SET", "k", "v") == "+OK\r\n"
        assert await own.stop() == 0


def test_the_folder_is_locked_as_long_as_a_server_writes_to_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when its supervisor has just gone: two servers would spoil each other's files."""
    monkeypatch.setattr(valkey, "LOCK_TIMEOUT", 0.1)
    server = PrivateValkey(folder, 2**30)
    process = server.start()
    try:
        server.release()
        with pytest.raises(PrivateServerError, match="another gateway is using it"):
            PrivateValkey(folder, 2**30)
    finally:
        process.kill()
        process.wait()
    PrivateValkey(folder, 2**30).release()


def test_a_server_that_cannot_start_is_reported_with_its_reason(folder: Path) -> None:
    """What it has logged, and where; nothing of its data is touched."""
    spoilt = folder / "appendonlydir" / "appendonly.aof.manifest"
    spoilt.parent.mkdir(parents=True)
    spoilt.write_text("spoilt\n")
    result = run("--workers", "2", "--store", f"sqlite:///{folder.with_suffix('')}", "--port", "0")
    assert (result.returncode, result.stdout) == (1, "")
    last = result.stderr.splitlines()[-1]
    assert last.startswith("gateway: The Valkey server that keeps the store did not start: ")
    assert last.endswith(f"({folder / 'valkey.log'})")
    assert spoilt.read_text() == "spoilt\n"


def test_an_unusable_folder_is_reported_in_one_line(folder: Path) -> None:
    for unusable, problem in {
        folder / "missing" / "gateway.db.valkey": "No such file or directory",
        folder / ("x" * MAX_SOCKET_PATH): "too long for a Unix socket",
    }.items():
        with pytest.raises(PrivateServerError, match=problem) as caught:
            PrivateValkey(unusable, 2**30)
        assert "\n" not in str(caught.value)


def test_the_url_of_the_store_names_any_path(folder: Path) -> None:
    """Characters that a URL cannot have are quoted."""
    server = PrivateValkey(folder.parent / "a b%?", 2**30)
    assert server.url == f"unix://{folder.parent}/{quote('a b%?')}/valkey.sock"
    server.release()


def test_the_folder_is_next_to_the_file_itself(tmp_path: Path) -> None:
    """Whichever link leads to it, as with SQLite's own files."""
    (tmp_path / "link.db").symlink_to(tmp_path / "data" / "gateway.db")
    assert folder_of(str(tmp_path / "link.db")) == tmp_path / "data" / "gateway.db.valkey"


def test_the_server_of_the_extra_is_found() -> None:
    """Or, without it, one on PATH."""
    found = find_server()
    assert found is not None
    assert os.access(found, os.X_OK)


# --- the gateway with its own server


class Machine(GatewayProcess):
    """The command as it is documented for one machine."""

    def __init__(self, folder: Path, workers: int = 2) -> None:
        super().__init__(f"sqlite:///{folder.with_suffix('')}", stable_port(), workers=workers)

    def worker_of(self, client: JsonClient) -> int:
        """Which worker a client is connected to."""
        return int(re.findall(rf"connected .* username={client.username} wire=json worker=(\d)", self.log)[-1])

    def pid_of(self, name: str) -> int:
        return int(re.findall(rf"process ready .*pid=(\d+) process='?{name}", self.log)[-1])


async def join_each_worker(own: Machine, join: Join) -> tuple[JsonClient, JsonClient]:
    """Clients of the first and of the second worker."""
    found: dict[int, JsonClient] = {}
    while len(found) < 2:
        client = await join("json", to=own)
        await until(lambda client=client: f"username={client.username}" in own.log)  # type: ignore[misc]
        found[own.worker_of(client)] = client
    return found[1], found[2]


async def test_clients_of_all_workers_share_rooms_and_survive_the_end_of_one(folder: Path, join: Join) -> None:
    """One command, two processes, one chat: a client of a killed worker recovers on the other and misses nothing."""
    async with Machine(folder) as own:
        alice, bob = await join_each_worker(own, join)
        room = await make_room(alice, bob)
        await succeed(alice, "send-msg", room=room, content="to the other worker")
        assert (await bob.next_event("message")).fields["content"] == "to the other worker"
        await succeed(bob, "send-msg", room=room, content="and back")
        assert (await alice.next_event("message")).fields["content"] == "and back"
        os.kill(own.pid_of("worker 1"), signal.SIGKILL)
        await alice.wait_closed()
        await succeed(bob, "send-msg", room=room, content="meanwhile")
        back = await join("json", alice.username, to=own, query={"pid": alice.pid, "offset": alice.offset})
        assert back.welcome.fields["recovered"]
        assert (await back.next_event("message")).fields["content"] == "meanwhile"
        assert await own.stop() == 0


@pytest.mark.parametrize("wire", ["socketio-polling", "socketio-polling-only"])
async def test_clients_that_poll_need_no_sticky_sessions(folder: Path, join: Join, wire: str) -> None:
    """Each of their requests may come to another worker than the one that has their session."""
    async with Machine(folder) as own:
        alice, *others = [await join(wire, to=own) for _ in range(6)]
        room = await make_room(alice, *others)
        for number in range(5):
            await succeed(alice, "send-msg", room=room, content=str(number))
            for other in others:
                assert (await other.next_event("message")).fields["content"] == str(number)
        assert await own.stop() == 0


async def test_everything_acked_survives_the_end_of_all_processes(folder: Path, join: Join) -> None:
    """Killed all at once, and started again, with another number of workers."""
    own = Machine(folder)
    await own.start()
    alice, bob = await join_each_worker(own, join)
    room = await make_room(alice, bob)
    acked = [(await succeed(alice, "send-msg", room=room, content=str(number)))["id"] for number in range(50)]
    with gone_after_kill(own.pid_of("valkey"), own.pid_of("worker 1"), own.pid_of("worker 2")) as are_gone:
        await own.signal(signal.SIGKILL)
        await until(are_gone)
        await own.wait()
    async with own:
        await own.stop()
        await own.restart(workers=1)
        back = await join("json", alice.username, to=own, query={"pid": alice.pid, "offset": alice.offset})
        assert back.welcome.fields["recovered"]
        history = await succeed(back, "history", room=room, limit=100)
        assert [message["id"] for message in history["messages"]] == acked
        assert await own.stop() == 0
