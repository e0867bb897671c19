"""Several processes on one port: they share the clients, are restarted, and stop together.

On a store in memory, which only these tests may have: each worker has one of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import click
import pytest

from gateway.commands import launch
from gateway.memory import machine_memory
from gateway.signals import REPEAT_WINDOW
from gateway.workers.assignment import Assignment
from gateway.workers.backoff import LONGEST, SHORTEST, STABLE, Backoff
from gateway.workers.child import Child, State
from harness.client import Join
from harness.http import request
from harness.inbox import TIMEOUT
from harness.plain import JsonClient
from harness.process import COMMAND, GatewayProcess, clean_environment, die_with_parent, stable_port
from harness.valkey import ValkeyServer
from harness.waiting import until
from test_config import parse, run

SUPERVISE = """
import sys
from gateway.commands.launch import supervise
from gateway.options import SettingsCommand, settings_from
from gateway.workers.program import Worker

command = sys.argv[1:] if sys.argv[1] == sys.executable else [sys.executable, "-m", "gateway", *sys.argv[1:]]
words = command[command.index("--host"):]
Worker.silence_limit = 2.0
supervise(settings_from(SettingsCommand("gateway").make_context("gateway", words)), command, None)
"""
"""Supervises workers without asking whether they can share their store; one that is stuck is noticed soon."""


ALL_READY = "all workers are ready"


class Workers(GatewayProcess):
    """Two workers, or as many as ``workers`` says; ``program`` runs in the place of a worker's command."""

    def __init__(self, *, program: str | None = None, workers: int = 2, **settings: Any) -> None:
        super().__init__(workers=workers, **settings)
        instead = [] if program is None else [sys.executable, "-c", program]
        self.command = (sys.executable, "-c", SUPERVISE, *instead)

    async def start(self) -> None:
        """Also until the log says so, which is read beside it."""
        before = self.log.count(ALL_READY)
        await super().start()
        await until(lambda: self.log.count(ALL_READY) > before)

    def pids(self) -> dict[str, int]:
        """The newest process of each worker that has been ready, by its name."""
        return {name: int(pid) for pid, name in re.findall(r"process ready .*pid=(\d+) process='(\w+ \d)'", self.log)}

    def starts(self) -> int:
        """How often a worker has become ready."""
        return self.log.count("process ready")


def exists(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


@contextlib.contextmanager
def gone_after_kill(*pids: int) -> Iterator[Callable[[], bool]]:
    """For a test that kills the supervisor of these processes: asks whether they are gone, and leaves none."""
    assert all(map(exists, pids))
    try:
        yield lambda: not any(map(exists, pids))
    finally:
        for pid in filter(exists, pids):
            os.kill(pid, signal.SIGKILL)


def connections(pid: int) -> int:
    """How many sockets a process has open."""
    sockets = 0
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            sockets += os.readlink(file).startswith("socket:")
    return sockets


async def open_clients(own: GatewayProcess, join: Join, count: int) -> list[JsonClient]:
    return list(await asyncio.gather(*(join("json", to=own) for _ in range(count))))


async def ask(own: GatewayProcess) -> int:
    """The status of a request; 0 if the connection was lost."""
    try:
        return (await request("GET", f"{own.url}/health")).status
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
        return 0


# --- a port for all


async def test_new_connections_are_distributed_evenly(join: Join) -> None:
    """Each worker gets its share of the clients, whoever of them wakes up first."""
    async with Workers() as own:
        pids = own.pids()
        assert set(pids) == {"worker 1", "worker 2"}
        before = {name: connections(pid) for name, pid in pids.items()}
        clients = await open_clients(own, join, 100)
        shares = {name: connections(pid) - before[name] for name, pid in pids.items()}
        assert sum(shares.values()) == 100
        assert min(shares.values()) > 20, shares
        assert not any(client.closed for client in clients)


async def test_each_worker_can_be_reached_by_itself() -> None:
    """By the others, at a port of its own: a request may belong to another worker than the one that got it."""
    async with Workers(log_format="json") as own:
        lines = [json.loads(line) for line in own.log.splitlines()]
        addresses = [set(line["addresses"]) for line in lines if line["event"] == "started"]
        (shared,) = set.intersection(*addresses)
        assert own.url == f"http://{shared}"
        apart = {address for each in addresses for address in each - {shared}}
        assert len(apart) == 2
        for address in apart:
            assert (await request("GET", f"http://{address}/health")).status == 200
        assert await own.stop() == 0


async def test_the_unix_socket_is_shared(tmp_path: Path) -> None:
    """It is for all workers, survives the end of one, and is removed at the stop."""
    path = tmp_path / "gateway.sock"
    async with Workers(unix_socket=path) as own:

        async def status() -> int:
            connector = aiohttp.UnixConnector(str(path))
            async with (
                aiohttp.ClientSession(connector=connector) as session,
                session.get("http://chat.example/health") as response,
            ):
                return response.status

        assert await status() == 200
        os.kill(own.pids()["worker 1"], signal.SIGTERM)
        await until(lambda: own.starts() == 3)
        assert await status() == 200
        assert await own.stop() == 0
    assert not path.exists()


def test_a_port_in_use_is_reported_once(tmp_path: Path) -> None:
    """In the line that one process reports, before any worker is started: also if that is another gateway's."""
    store = f"sqlite:///{tmp_path / 'gateway.db'}"
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        result = run("--workers", "2", "--store", store, "--port", port)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert f"Cannot listen on 127.0.0.1:{port}: Address already in use" in result.stderr


async def test_each_line_of_the_log_names_its_worker(join: Join) -> None:
    """The lines of the supervisor have no such field."""
    async with Workers(log_format="json") as own:
        assert await own.stop() == 0
        lines = [json.loads(line) for line in own.log.splitlines()]
    workers = Counter(line.get("worker") for line in lines if line["event"] in {"started", "stopped"})
    assert workers == {1: 2, 2: 2, None: 1}


# --- processes that end


async def test_a_killed_worker_is_replaced_and_nobody_else_notices(join: Join) -> None:
    """Clients of the others stay, the port is never closed, and the new worker gets its share again."""
    async with Workers() as own:
        clients = await open_clients(own, join, 20)
        killed = own.pids()["worker 1"]
        os.kill(killed, signal.SIGKILL)
        await until(lambda: any(client.closed for client in clients))
        outcomes = Counter([await ask(own) for _ in iter(own.starts, 3)])
        assert outcomes[200] > outcomes.total() - 2, outcomes  # the killed one may have had one
        assert 0 < sum(client.closed for client in clients) < 20
        assert own.pids()["worker 1"] != killed
        assert "signal=SIGKILL" in own.log
        before = connections(own.pids()["worker 1"])
        await open_clients(own, join, 30)
        assert connections(own.pids()["worker 1"]) > before
        assert await own.stop() == 0


async def test_workers_end_with_their_supervisor() -> None:
    """Even if it is killed. The port is free at once."""
    own = Workers(port=stable_port())
    await own.start()
    with gone_after_kill(*own.pids().values()) as are_gone:
        await own.signal(signal.SIGKILL)
        await until(are_gone)
        await own.wait()
    async with own:
        assert await ask(own) == 200


FAILING = """
import json, os, sys, time
part = json.loads(os.environ["_CHAT_GATEWAY_WORKER"])
if part["number"] == 2:
    sys.exit(7)
while True:
    os.write(part["channel"], b".")
    time.sleep(0.5)  # as often as the supervisor expects it
"""
"""The first worker reports that it serves; the second ends at once."""


async def test_a_worker_that_ends_again_and_again_is_started_less_and_less_often() -> None:
    """Each wait is about twice as long as the one before, the others go on, and nothing spins."""
    own = Workers(program=FAILING)
    await own.spawn()
    try:
        await until(lambda: own.log.count("a process ended") == 5)
        used = own.cpu_seconds()
        began = time.monotonic()
        await until(lambda: own.log.count("a process ended") == 6)
        assert time.monotonic() - began > 1
        assert own.cpu_seconds() - used < 0.5
        waits = [float(wait) for wait in re.findall(r"restart_in=([\d.]+)", own.log)]
        for number, wait in enumerate(waits):
            bound = SHORTEST * 2**number
            assert bound / 2 <= wait + 0.01 <= bound + 0.02
        assert own.log.count("status=7") == 6
        assert exists(own.pids()["worker 1"])
    finally:
        assert await own.stop() == 0


ANSWERING = """
import json, os, socket, sys, threading, time
part = json.loads(os.environ["_CHAT_GATEWAY_WORKER"])
if part["number"] == 2:
    try:
        open({flag!r}, "x").close()
    except FileExistsError:
        sys.exit(7)
listening = socket.socket(fileno=part["sockets"][0])
listening.listen()

def answer():
    while True:
        connection, _ = listening.accept()
        connection.sendall(b"%d" % part["number"])
        connection.close()

threading.Thread(target=answer, daemon=True).start()
while True:
    os.write(part["channel"], b".")
    time.sleep(0.5)  # as often as the supervisor expects it
"""
"""Workers that reply to a connection with their number. The second can be started only once."""


async def test_nobody_waits_for_a_worker_that_is_not_there(tmp_path: Path) -> None:
    """While it is not started again, new connections are for the others, although its socket is kept."""
    async with Workers(program=ANSWERING.format(flag=str(tmp_path / "flag"))) as own:
        port = int(own.url.rpartition(":")[2])

        def answers() -> Counter[bytes]:
            found: Counter[bytes] = Counter()
            for _ in range(40):
                with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as connection:
                    found[connection.recv(1)] += 1
            return found

        both = await asyncio.to_thread(answers)
        assert min(both[b"1"], both[b"2"]) > 5, both
        os.kill(own.pids()["worker 2"], signal.SIGKILL)
        await until(lambda: own.log.count("a process ended") == 2)
        assert await asyncio.to_thread(answers) == {b"1": 40}
        own.check_log()
        assert await own.stop() == 0


class Foreground(Workers):
    """In a process group of its own, as a shell starts what it runs in the foreground."""

    def _before_exec(self) -> None:
        super()._before_exec()
        os.setpgid(0, 0)


async def test_a_terminal_reaches_the_supervisor_alone() -> None:
    """Ctrl-C is sent to all processes in the foreground; the workers are stopped once, and by their supervisor."""
    async with Foreground() as own:
        os.killpg(own.pid, signal.SIGINT)
        assert await own.wait() == 0
        assert own.log.count("signal=SIGINT") == 1
        assert own.log.count("signal=SIGTERM") == 2


async def test_sigquit_dumps_the_stacks_of_all_processes() -> None:
    """And they go on."""
    async with Workers() as own:
        await own.signal(signal.SIGQUIT)
        await until(lambda: own.log.count("the stacks of all threads") == 3)
        assert await ask(own) == 200
        assert await own.stop() == 0


@pytest.mark.parametrize(
    ("program", "status", "line"),
    [
        ("import sys; print('the reason', file=sys.stderr); sys.exit(2)", 2, "the reason"),
        ("import os; os.kill(os.getpid(), 9)", 1, "A worker ended while it started: signal SIGKILL."),
    ],
)
async def test_a_gateway_that_cannot_start_ends(program: str, status: int, line: str) -> None:
    """If the first worker ends before it has served: with its status, and its reason once."""
    own = Workers(program=program)
    await own.spawn()
    assert await own.wait() == status
    assert own.log.count(line) == 1


async def test_a_stuck_worker_is_killed(join: Join) -> None:
    """Its clients could wait forever. It is given the time to log its stacks, if it can."""
    async with Workers() as own:
        stuck = own.pids()["worker 2"]
        os.kill(stuck, signal.SIGSTOP)
        await until(lambda: own.starts() == 3)
        assert not exists(stuck)
        assert "a process is stuck" in own.log
        assert await own.stop() == 0


async def test_the_workers_can_be_restarted_one_by_one(join: Join) -> None:
    """With SIGUSR1, to run a new version: one of them always serves, and clients are told to reconnect."""
    async with Workers() as own:
        before = own.pids()
        clients = await open_clients(own, join, 10)
        await own.signal(signal.SIGUSR1)
        outcomes = Counter([await ask(own) for _ in iter(own.starts, 4)])
        assert outcomes[200] > outcomes.total() - 3, outcomes  # each of the two may just have had one when it stopped
        assert {await client.wait_closed() for client in clients} == {1012}
        assert not any(map(exists, before.values()))
        assert set(before.values()).isdisjoint(own.pids().values())
        assert await own.stop() == 0


# --- the stop


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
async def test_a_signal_drains_all_workers_together(join: Join, number: signal.Signals) -> None:
    """Each client is closed with 1012, none of the processes is left, and the exit status is 0."""
    async with Workers() as own:
        pids = own.pids()
        clients = await open_clients(own, join, 20)
        began = time.monotonic()
        await own.signal(number)
        assert {await client.wait_closed() for client in clients} == {1012}
        assert await own.wait() == 0
        assert time.monotonic() - began < 5
        assert not any(map(exists, pids.values()))
        assert own.log.count("process stopped") == 2


async def test_a_second_signal_ends_all_processes_at_once(join: Join) -> None:
    """An operator who does not want to wait for a client that does not read."""
    async with Workers() as own:
        pids = own.pids()
        for silent in await open_clients(own, join, 4):
            silent.socket.transport.pause_reading()
        process = await own.signal(signal.SIGTERM)
        await until(lambda: "signal=SIGTERM worker=1" in own.log and "signal=SIGTERM worker=2" in own.log)
        await asyncio.sleep(2 * REPEAT_WINDOW)  # signals that are closer are one
        assert process.returncode is None
        began = time.monotonic()
        process.terminate()
        assert await own.wait() == -signal.SIGTERM
        await until(lambda: not any(map(exists, pids.values())))
        assert time.monotonic() - began < 2


async def test_a_worker_that_does_not_stop_is_killed_in_time() -> None:
    """Ten seconds are promised for the whole gateway; the exit status says that it was not complete."""
    async with Workers() as own:
        os.kill(own.pids()["worker 1"], signal.SIGSTOP)
        began = time.monotonic()
        await own.signal(signal.SIGTERM)
        assert await own.wait() == 3
        assert time.monotonic() - began < 10.5
        assert "processes did not stop in time" in own.log


def test_a_signal_during_the_start_leaves_no_process() -> None:
    """At whatever moment it comes."""
    words = [sys.executable, "-c", SUPERVISE, "--host", "127.0.0.1", "--port", "0", "--store", "sqlite://"]
    for delay in (0.3, 0.6, 0.9, 1.3):
        with subprocess.Popen(
            [*words, "--workers", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            time.sleep(delay)  # at some moment of its start
            process.terminate()
            _, log = process.communicate(timeout=TIMEOUT)  # until the last process has closed the pipes
            assert process.returncode in {0, -signal.SIGTERM}
            assert "Traceback" not in log


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a process the first of its namespace")
async def test_the_supervisor_can_be_the_first_process_of_a_container(join: Join) -> None:
    """It reaps the orphans that it inherits, and stops at a signal."""
    words = [sys.executable, "-c", SUPERVISE, "--host", "127.0.0.1", "--port", "0", "--store", "sqlite://"]
    process = await asyncio.create_subprocess_exec(
        *["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"],
        *words,
        "--workers",
        "2",
        stdout=asyncio.subprocess.PIPE,
        preexec_fn=die_with_parent,
    )
    assert process.stdout is not None
    if not (line := await process.stdout.readline()):
        pytest.skip("no new namespaces here")
    assert b"ready" in line
    first = children(process.pid)[0]
    orphan = f"nsenter --target {first} --pid sh -c".split()
    await asyncio.to_thread(subprocess.run, [*orphan, "(sleep 0.2 &)"], check=True)
    await until(lambda: len(children(first)) == 2)
    os.kill(first, signal.SIGTERM)
    async with asyncio.timeout(TIMEOUT):
        assert await process.wait() == 0


def children(pid: int) -> list[int]:
    """The children of a process, also those that have ended and were not reaped."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


# --- settings


@pytest.mark.fast
def test_what_the_platform_suggests_never_moves_the_store() -> None:
    """WEB_CONCURRENCY, which Heroku sets by itself, is for stores that can be shared; --workers is a decision."""
    assert parse(WEB_CONCURRENCY="4").workers == 1
    assert parse(GATEWAY_WORKERS="3", WEB_CONCURRENCY="4").workers == 3
    assert parse(["--workers", "2"], WEB_CONCURRENCY="4").workers == 2
    assert parse(REDIS_URL="redis://server", WEB_CONCURRENCY="4").workers == 4


async def test_a_platform_sets_everything_by_variables(valkey: ValkeyServer) -> None:
    """As Heroku does for ``web: gateway``: with a server, its suggestion is followed."""
    variables = {
        "PORT": str(stable_port()),
        "GATEWAY_HOST": "127.0.0.1",
        "REDIS_URL": valkey.store("platform"),
        "WEB_CONCURRENCY": "2",
    }
    process = await asyncio.create_subprocess_exec(
        COMMAND,
        env={**clean_environment(), **variables},
        stdout=asyncio.subprocess.PIPE,
        preexec_fn=die_with_parent,
    )
    assert process.stdout is not None
    async with asyncio.timeout(TIMEOUT):
        assert (await process.stdout.readline()).decode().endswith("with 2 workers\n")
        assert (await request("GET", f"http://127.0.0.1:{variables['PORT']}/health")).status == 200
        process.terminate()
        assert await process.wait() == 0


def test_an_unused_suggestion_of_the_platform_is_logged(tmp_path: Path) -> None:
    """And an invalid one is refused."""
    with socket.create_server(("127.0.0.1", 0)) as taken:  # so that it ends again
        words = ["--store", f"sqlite:///{tmp_path / 'gateway.db'}", "--port", str(taken.getsockname()[1])]
        assert "WEB_CONCURRENCY is not used" in run(*words, WEB_CONCURRENCY="2").stderr
        assert "WEB_CONCURRENCY" not in run(*words, WEB_CONCURRENCY="1").stderr
        assert "WEB_CONCURRENCY" not in run(*words).stderr
    result = run(WEB_CONCURRENCY="many")
    assert (result.returncode, " WEB_CONCURRENCY (--workers)" in result.stderr) == (2, True)


def test_a_store_that_one_process_uses_is_refused(tmp_path: Path) -> None:
    """In one line, with what to do; and nothing takes the place of its messages."""
    database = tmp_path / "gateway.db"
    database.touch()
    for store in ("sqlite://", f"sqlite:///{database}"):
        result = run("--workers", "2", "--store", store)
        assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
        assert "--workers 2 cannot share" in result.stderr
        assert "redis://" in result.stderr
    assert f"gateway migrate --for-workers sqlite:///{database} " in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["gateway.db"]


@pytest.mark.fast
def test_the_data_decides_which_store_a_path_names(tmp_path: Path) -> None:
    """A database, or the folder of a Valkey server: whichever is there, also with another number of workers."""
    database, folder = tmp_path / "gateway.db", tmp_path / "gateway.db.valkey"
    one = parse(["--store", f"sqlite:///{database}"])
    two = parse(["--store", f"sqlite:///{database}", "--workers", "2"])
    assert launch.private_folder(one) is None
    assert launch.private_folder(two) == folder
    folder.mkdir()
    assert launch.private_folder(one) is None  # it could not be started, for example
    (folder / "appendonlydir").mkdir()
    assert launch.private_folder(one) == launch.private_folder(two) == folder
    database.touch()
    for settings in (one, two):
        with pytest.raises(click.UsageError, match="move the wrong one away"):
            launch.private_folder(settings)
    (folder / "appendonlydir").rmdir()
    assert launch.private_folder(one) is None
    with pytest.raises(click.UsageError, match="which one process uses"):
        launch.private_folder(two)


@pytest.mark.fast
def test_without_a_server_the_refusal_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "find_server", lambda: None)
    store = f"sqlite:///{tmp_path / 'gateway.db'}"
    with pytest.raises(click.UsageError) as caught:
        launch.private_folder(parse(["--workers", "2", "--store", store]))
    assert "--workers 2 needs a Valkey server: install one (pip install 'chat-gateway[local]')" in caught.value.message


@pytest.mark.fast
def test_limits_are_for_all_workers_together() -> None:
    """Each gets its share of the connections and of the memory."""
    part = Assignment(number=1, workers=3, channel=0, sockets=(), unix_socket=None)
    assert part.settings_for(parse(["--max-connections", "100"]), 1).max_connections == 34
    assert part.settings_for(parse(["--max-memory", "600"]), 1).max_memory == 200
    assert part.settings_for(parse(), 1).max_memory == machine_memory() // 6


@pytest.mark.fast
@pytest.mark.parametrize(
    ("given", "announced"),
    [(None, None), ("node7.example:8080", "node7.example:41234"), ("[fd00::7]:8080", "[fd00::7]:41234")],
)
def test_workers_are_reached_at_ports_of_their_own(given: str | None, announced: str | None) -> None:
    """At the address that is named: its port is that of all workers."""
    part = Assignment(number=1, workers=2, channel=0, sockets=(), unix_socket=None)
    words = [] if given is None else ["--node-address", given]
    assert part.settings_for(parse(words), 41234).node_address == announced


# --- states and times


@pytest.mark.fast
def test_waits_double_up_to_a_bound_and_begin_anew_after_a_stable_run() -> None:
    waits = Backoff(lambda low, high: high)
    assert [waits.after(1) for _ in range(4)] == [SHORTEST * 2**number for number in range(4)]
    assert [waits.after(1) for _ in range(100)][-1] == LONGEST
    assert waits.after(STABLE) == SHORTEST
    lows = Backoff(lambda low, high: low)
    assert [lows.after(1) for _ in range(2)] == [SHORTEST / 2, SHORTEST]


class Silent:
    """A program whose process is heard once, and exists only here."""

    name = "worker 1"
    silence_limit: float | None = 5.0

    def __init__(self) -> None:
        self.heard = iter([True])
        self.signals: list[int] = []

    def start(self) -> Any:
        return self

    def is_heard(self) -> bool:
        return next(self.heard, False)

    def stop(self, process: Any) -> None:
        """It is never asked to."""

    def ended(self) -> None:
        """Nothing to release."""

    pid = 1

    def send_signal(self, number: int) -> None:
        self.signals.append(number)


@pytest.mark.fast
def test_time_in_which_the_supervisor_stood_still_is_not_silence() -> None:
    """A machine that was suspended wakes up with all its processes, and none is killed for it."""
    program = Silent()
    child = Child(program)
    child.check(0, 0)
    child.check(1, 1)
    assert child.state is State.SERVING
    child.check(1000, 999)
    assert child.state is State.SERVING
    for now in range(1001, 1006):
        child.check(now, 1)
    assert (child.state, program.signals) == (State.STUCK, [signal.SIGQUIT])
    child.check(1007, 1)
    assert program.signals == [signal.SIGQUIT, signal.SIGKILL]


@pytest.mark.fast
def test_a_program_without_a_limit_may_be_silent() -> None:
    program = Silent()
    program.silence_limit = None
    child = Child(program)
    for now in range(100):
        child.check(now, 1)
    assert (child.state, program.signals) == (State.SERVING, [])
    assert math.isclose(child.due, 0)
