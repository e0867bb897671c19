"""The gateway as a process: started, waited for, stopped, killed, and its log kept."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import random
import re
import resource
import signal
import socket
import sys
from pathlib import Path
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

from harness.http import request
from harness.inbox import TIMEOUT
from harness.syncs import HeldSyncs
from harness.waiting import until

COMMAND = Path(sys.executable).with_name("gateway")
READY = re.compile(r"https?://\S+?(?=/?(\s|$))")
STOP_TIMEOUT = 0.3
"""Seconds that a gateway has, when a test is over, to disconnect its clients."""

_libc = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Between fork and exec, on Linux: no process outlives the tests, however they end."""
    if sys.platform == "linux":
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def clean_environment() -> dict[str, str]:
    """Our environment, without the variables of the gateway."""
    hidden = {"PORT", "REDIS_URL", "WEB_CONCURRENCY"}
    return {name: value for name, value in os.environ.items() if name not in hidden and not name.startswith("GATEWAY_")}


def stable_port() -> int:
    """A free port from below the range that outgoing connections take theirs from.

    A gateway that is to come back on its port needs one: a port chosen with 0 could be taken while it is down.
    """
    while True:
        port = random.randint(10_000, 30_000)  # noqa: S311 (no secret)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class GatewayProcess:
    """The installed `gateway` command. Settings are its flags: `rate_limit=5` is `--rate-limit 5`."""

    command: tuple[str | Path, ...] = (COMMAND,)
    stdin = asyncio.subprocess.DEVNULL

    def __init__(
        self, store: str = "sqlite://", port: int = 0, syncs: HeldSyncs | None = None, **settings: Any
    ) -> None:
        """``syncs`` holds back what the process asks of its disk."""
        self.url = ""
        self.log = ""
        self._log_checked = 0
        self.store = store
        self._port = port
        self._settings = settings
        self._syncs = syncs
        self._process: asyncio.subprocess.Process | None = None
        self._log_reader: asyncio.Task[None] | None = None

    @property
    def arguments(self) -> list[str]:
        flags = {"host": "127.0.0.1", "port": self._port, "store": self.store, **self._settings}
        return [word for name, value in flags.items() for word in (f"--{name.replace('_', '-')}", str(value))]

    @property
    def environment(self) -> dict[str, str]:
        return clean_environment()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.running:
            await self._end()
        self.check_log()

    async def _end(self) -> None:
        """Stop, by a second signal without waiting for clients that the test has left connected."""
        process = await self.signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT):
                await process.wait()
        if self.running:
            process.terminate()
        await self.wait()

    def check_log(self) -> None:
        """Nothing that the gateway has logged since the last check is a traceback."""
        news, self._log_checked = self.log[self._log_checked :], len(self.log)
        assert "Traceback" not in news, news

    async def spawn(self) -> asyncio.subprocess.Process:
        """Start the process, and do not wait for anything."""
        self._process = await asyncio.create_subprocess_exec(
            *self.command,
            *self.arguments,
            stdin=self.stdin,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=2**24,
            env=self.environment,
            preexec_fn=self._before_exec,
        )
        if self._syncs is not None:
            self._syncs.start()
        self._log_reader = asyncio.create_task(self._read_log(self._process))
        return self._process

    def _before_exec(self) -> None:
        die_with_parent()
        if self._syncs is not None:
            self._syncs.before_exec()

    async def _read_log(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        while chunk := await process.stderr.read(65536):
            self.log += chunk.decode(errors="replace")

    async def start(self) -> None:
        """Start, and wait until it prints that it is ready."""
        process = await self.spawn()
        assert process.stdout is not None
        async with asyncio.timeout(TIMEOUT):
            line = (await process.stdout.readline()).decode()
        ready = READY.search(line)
        if ready is None:
            await self.wait()
            raise AssertionError(f"the gateway did not start: {line!r}\n{self.log}")
        self.url = ready.group()

    async def wait(self) -> int:
        """Its exit status, once it has ended."""
        assert self._process is not None
        assert self._log_reader is not None
        try:
            async with asyncio.timeout(TIMEOUT):
                status = await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
            raise AssertionError(f"the gateway did not end\n{self.log}") from None
        finally:
            await self._log_reader
        return status

    async def stop(self) -> int:
        """SIGTERM, as an operator stops it."""
        assert self._process is not None
        self._process.terminate()
        return await self.wait()

    async def signal(self, number: int) -> asyncio.subprocess.Process:
        """Send a signal and do not wait for anything."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process

    async def kill9(self) -> None:
        assert self._process is not None
        self._process.kill()
        await self.wait()

    async def restart(self, **changes: Any) -> None:
        """Start again with the same settings but for ``changes``, on the same port if it was chosen."""
        self._settings |= changes
        await self.start()

    def count_files(self) -> int:
        """How many file descriptors the process has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    async def has_read_everything(self) -> None:
        """Wait until the process has taken what its clients have sent, and their connections (Linux)."""
        await until(lambda: not self._unread())
        await request("GET", f"{self.url}/health")  # an iteration of its loop later

    def _unread(self) -> int:
        """Bytes, and connections, that wait at its port."""
        port = f"{urlsplit(self.url).port:04X}"
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return sum(int(row[4].split(":")[1], 16) for row in rows if row[1].endswith(f":{port}"))

    def cpu_seconds(self) -> float:
        """How long the process has worked so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def limit_file_size(self, size: int) -> None:
        """Let no file of the process grow past `size` bytes: to its store, this is a full disk. -1 lifts the limit."""
        _, hard = resource.prlimit(self.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (hard if size < 0 else size, hard))


class StartGateway(Protocol):
    """Starts a gateway of the test's own; `on_disk` gives it a store in the test's directory."""

    async def __call__(self, *, on_disk: bool = False, **settings: Any) -> GatewayProcess: ...


def allow_many_files() -> None:
    """Raise this process's limit of open files, which the gateway inherits, as far as it goes without privileges."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
