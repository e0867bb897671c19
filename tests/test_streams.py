"""The log goes to stderr, and nothing waits for its reader; the process works with any standard streams."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

import pytest

from gateway.streams import QueuedStream
from harness.http import request
from harness.inbox import TIMEOUT
from harness.names import fresh_name
from harness.plain import JsonClient
from harness.process import COMMAND, GatewayProcess, clean_environment, die_with_parent, stable_port
from harness.syncs import HeldSyncs
from harness.waiting import poll_until

PIPE_SIZE = 4096


class Unread(GatewayProcess):
    """A gateway whose stderr is a small pipe that nobody reads until `read_log`."""

    async def spawn(self) -> asyncio.subprocess.Process:
        self.reading, writing = os.pipe()
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        self._process = await asyncio.create_subprocess_exec(
            *self.command,
            *self.arguments,
            stdin=self.stdin,
            stdout=asyncio.subprocess.PIPE,
            stderr=writing,
            env=clean_environment(),
            preexec_fn=self._before_exec,
        )
        os.close(writing)
        if self._syncs is not None:
            self._syncs.start()
        self._log_reader = asyncio.create_task(asyncio.sleep(0))
        return self._process

    def close(self) -> None:
        os.close(self.reading)

    def read_log(self) -> str:
        """What is in the pipe now."""
        os.set_blocking(self.reading, False)
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self.reading, 65536):
                self.log += chunk.decode()
        return self.log

    async def __aenter__(self) -> Self:
        await self.start()
        return self


@pytest.fixture
async def unread(request: pytest.FixtureRequest) -> AsyncIterator[Unread]:
    options: dict[str, Any] = getattr(request, "param", {})
    async with Unread(**options) as own:
        yield own
    own.close()


async def log_in(own: GatewayProcess, count: int) -> None:
    for _ in range(count):
        async with JsonClient(own.url, fresh_name()):
            pass


async def test_a_log_that_is_not_read_blocks_nothing(unread: Unread) -> None:
    """Far more log-ins than the pipe holds lines; then SIGTERM ends it, with exit status 0."""
    await log_in(unread, 200)
    assert (await request("GET", f"{unread.url}/health")).status == 200
    started = time.monotonic()
    assert await unread.stop() == 0
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGHUP], ids=lambda number: number.name)
async def test_signals_do_not_wait_for_the_log(unread: Unread, number: signal.Signals) -> None:
    """Neither does a dump of the stacks, nor the second signal that exits at once."""
    await log_in(unread, 60)
    await unread.signal(number)
    if number == signal.SIGQUIT:
        await log_in(unread, 5)
        assert await unread.stop() == 0
    else:
        assert await unread.wait() == 0


async def test_neither_the_disk_nor_the_log_delays_the_exit(tmp_path: Path) -> None:
    """With both of them stuck, SIGTERM still ends it within ten seconds, and the exit status shows it."""
    with contextlib.closing(HeldSyncs()) as syncs:
        async with Unread(f"sqlite:///{tmp_path / 'chat.db'}", syncs=syncs) as own:
            await log_in(own, 60)
            async with JsonClient(own.url, "alice") as alice:
                syncs.hold()
                creating = asyncio.create_task(alice.call("create-room", room="r"))
                async with asyncio.timeout(TIMEOUT):
                    await syncs.came.wait()
                started = time.monotonic()
                assert await own.stop() == 3
                assert time.monotonic() - started < 10
                with pytest.raises(AssertionError, match="1012"):
                    await creating
            own.close()


FLOOD = """
import sys
from gateway import logs
logs.configure("info", sys.argv[1])
logger = logs.get_logger("gateway.test")
for number in range(50_000):
    logger.info("event", number=number)
print("flooded", flush=True)
sys.stdin.readline()
for number in range(50_000, 50_010):
    logger.info("event", number=number)
"""


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_dropped_log_lines_are_counted_and_reported(log_format: str) -> None:
    """Lines that do not fit into the queue are dropped, whole. When somebody reads again, the log says how many, where
    they are missing, in its own format, and goes on.
    """
    pipe = subprocess.PIPE
    words = [sys.executable, "-c", FLOOD, log_format]
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "flooded\n"
        _, log = process.communicate("\n", timeout=60)
    lines = log.splitlines()
    (place,) = [index for index, line in enumerate(lines) if "log lines were dropped" in line]
    (dropped,) = map(int, re.findall(r'lines"?[=:] ?(\d+)', lines.pop(place)))
    numbers = [int(re.findall(r'number"?[=:] ?(\d+)', line)[0]) for line in lines]
    assert numbers == [*range(place), *range(place + dropped, 50_010)]
    if log_format == "json":
        assert all(json.loads(line) for line in lines)


@pytest.mark.parametrize("closed", ["0", "1", "2", "01", "12", "02", "012"])
async def test_the_gateway_runs_with_closed_standard_streams(closed: str, tmp_path: Path) -> None:
    """Any of stdin, stdout and stderr: it serves, logs nothing into other files, and exits with status 0."""
    store, port = tmp_path / "chat.db", stable_port()

    def before_exec() -> None:
        die_with_parent()
        for descriptor in closed:
            os.close(int(descriptor))

    words = [COMMAND, "--store", f"sqlite:///{store}", "--port", str(port)]
    process = await asyncio.create_subprocess_exec(
        *words, env=clean_environment(), preexec_fn=before_exec, stderr=asyncio.subprocess.PIPE, close_fds=True
    )
    try:
        await until_it_replies(f"http://127.0.0.1:{port}/health")
        async with JsonClient(f"http://127.0.0.1:{port}", "alice"):
            links = [os.readlink(f"/proc/{process.pid}/fd/{number}") for number in closed]
            assert set(links) == {"/dev/null"}
        process.terminate()
        _, log = await asyncio.wait_for(process.communicate(), TIMEOUT)
        assert process.returncode == 0, log
        assert b"Traceback" not in log
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    with contextlib.closing(sqlite3.connect(store)) as database:
        assert database.execute("PRAGMA quick_check").fetchone() == ("ok",)


async def until_it_replies(url: str) -> None:
    async def has_reply() -> bool:
        with contextlib.suppress(OSError):
            return (await request("GET", url)).status == 200
        return False

    await poll_until(has_reply)


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["--port", "x"]], ids=" ".join)
@pytest.mark.parametrize("closed", [1, 2])
def test_a_short_command_runs_with_closed_standard_streams(words: list[str], closed: int) -> None:
    """The exit status is the same, and no traceback goes to the other stream."""
    result = subprocess.run(
        [COMMAND, *words],
        env=clean_environment(),
        capture_output=True,
        preexec_fn=lambda: os.close(closed),
        timeout=30,
        check=False,
    )
    assert result.returncode == (2 if "x" in words else 0)
    assert b"Traceback" not in result.stdout + result.stderr


@pytest.mark.parametrize("kind", ["reader gone", "full disk", "does not block"])
async def test_a_log_that_cannot_be_written_stops_nothing(kind: str) -> None:
    """Lines are lost, and nothing else: the gateway serves, and ends with status 0."""
    port = stable_port()
    reading, writing = os.pipe()
    if kind == "reader gone":
        os.close(reading)
    elif kind == "full disk":
        writing = os.open("/dev/full", os.O_WRONLY)
    else:
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        os.set_blocking(writing, False)
    process = await asyncio.create_subprocess_exec(
        COMMAND,
        *["--store", "sqlite://", "--port", str(port)],
        env=clean_environment(),
        preexec_fn=die_with_parent,
        stdout=writing,
        stderr=writing,
    )
    os.close(writing)
    await until_it_replies(f"http://127.0.0.1:{port}/health")
    for number in range(60):
        async with JsonClient(f"http://127.0.0.1:{port}", f"user{number}"):
            pass
    if kind == "does not block":  # nothing is lost only because the pipe was full for a moment
        log = ""
        while "user59" not in log:
            log += (await asyncio.to_thread(os.read, reading, 4096)).decode()
        assert len(re.findall(r"connected .*username=user\d", log)) == 60
    process.terminate()
    async with asyncio.timeout(TIMEOUT):
        assert await process.wait() == 0


def test_output_of_python_itself_does_not_block() -> None:
    """`sys.stderr` is the queue also for those who write to it directly: warnings, and what nobody catches."""
    words = (
        "import sys\n"
        "from gateway import logs\n"
        "logs.configure('info', 'text')\n"
        "for _ in range(3000): print('x' * 100, file=sys.stderr)\n"
        "raise SystemExit(5)\n"
    )
    with subprocess.Popen([sys.executable, "-c", words], stderr=subprocess.PIPE) as process:
        assert process.wait(30) == 5


def test_lines_of_several_processes_do_not_get_mixed_up() -> None:
    """Workers share one stderr. A pipe takes 4096 bytes in one piece; more may have those of another process in it."""
    reading, writing = os.pipe()
    streams = [QueuedStream(writing, str) for _ in range(2)]  # two queues, as in two processes
    lines = [f"{letter * 500}\n" for letter in "ab"] + [f"{'c' * 9000}\n"]
    received = bytearray()
    reader = threading.Thread(
        target=lambda: [received.extend(data) for data in iter(lambda: os.read(reading, 777), b"")]
    )
    reader.start()
    for _ in range(300):
        streams[0].write(lines[0])
        streams[1].write(lines[1])
    assert all(stream.drain(TIMEOUT) for stream in streams)
    streams[0].write(lines[0] + lines[2] + lines[0])
    assert streams[0].drain(TIMEOUT)
    os.close(writing)
    reader.join(TIMEOUT)
    os.close(reading)
    counts = Counter(received.decode().splitlines(keepends=True))
    assert counts == {lines[0]: 302, lines[1]: 300, lines[2]: 1}
