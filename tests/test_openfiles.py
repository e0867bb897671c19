"""Running out of files: logged before it happens and while it lasts, and over when connections are closed."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway import openfiles
from harness.plain import JsonClient
from harness.process import COMMAND, GatewayProcess, allow_many_files
from harness.waiting import poll_until, until

LIMIT = 80
NEARLY, NONE = "files are running out", "no more files can be opened"
WITHOUT_UVLOOP = (
    sys.executable,
    "-c",
    "import sys; sys.modules['uvloop'] = None; from gateway.cli import main; main()",
)


@pytest.fixture(params=["uvloop", "asyncio"])
async def own(request: pytest.FixtureRequest) -> AsyncIterator[GatewayProcess]:
    """A gateway on each event loop: they do different things where no file is left."""
    allow_many_files()
    process = GatewayProcess()
    process.command = (COMMAND,) if request.param == "uvloop" else WITHOUT_UVLOOP
    async with process:
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
        yield process


@asynccontextmanager
async def connections(own: GatewayProcess, count: int) -> AsyncIterator[None]:
    """``count`` connections that say nothing."""
    port = int(own.url.rpartition(":")[2])
    writers = [(await asyncio.open_connection("127.0.0.1", port))[1] for _ in range(count)]
    try:
        yield
    finally:
        for writer in writers:
            writer.close()


async def test_a_warning_precedes_running_out_of_files(own: GatewayProcess) -> None:
    """At 90 % of the limit; not at 80 %."""
    room = LIMIT - own.count_files()
    async with connections(own, room - LIMIT * 2 // 10):
        await asyncio.sleep(2.5 * openfiles.INTERVAL)  # it has checked twice, without an event
        assert NEARLY not in own.log
        async with connections(own, LIMIT * 2 // 10 - 3):
            await until(lambda: NEARLY in own.log)
            async with JsonClient(own.url, "alice"):
                pass
            assert NONE not in own.log
            assert f"limit={LIMIT}" in own.log


async def test_running_out_of_files_does_not_spin_and_ends_by_itself(own: GatewayProcess) -> None:
    """Far more connections than files: it is logged once, those who are in keep talking, the process is idle, and
    when connections are closed there is room for others.
    """
    async with JsonClient(own.url, "alice") as alice:
        async with connections(own, 2 * LIMIT):
            await until(lambda: NONE in own.log)
            used, began = own.cpu_seconds(), time.monotonic()
            while time.monotonic() - began < 5:
                assert (await alice.call("list-rooms"))["ok"]
                await asyncio.sleep(0.2)  # nobody has it work while what it uses by itself is measured
            assert (own.cpu_seconds() - used) / (time.monotonic() - began) < 0.05

        async def lets_bob_in() -> bool:
            with contextlib.suppress(Exception):
                async with JsonClient(own.url, "bob"):
                    return True
            return False

        await poll_until(lets_bob_in, 15)
        assert own.log.count(NONE) == 1
        assert "Traceback" not in own.log
    assert await own.stop() == 0


def test_running_out_of_files_is_logged_once_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    """Each warning comes once a minute at most, however long it lasts."""
    now = 0.0
    watch = openfiles.FileWatch(lambda: now)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = openfiles.count()
    assert files is not None
    try:
        for allowed, word in ((files + 1, NEARLY), (files, NONE)):
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
            logged = []
            for now in (0.0, 1.0, 59.0, 61.0, 62.0, 122.0):
                watch.check()
                if word in capsys.readouterr().out:
                    logged.append(now)
            assert logged == [0.0, 61.0, 122.0]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
