"""A real Valkey server as a process: started, paused, killed, and started again with what its disk has."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any, Protocol, Self

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from gateway.workers.valkey import find_server
from harness.inbox import TIMEOUT
from harness.process import die_with_parent, stable_port
from harness.proxy import Link, Proxy
from harness.waiting import poll_until

DURABLE = {"appendonly": "yes", "appendfsync": "always", "save": ""}
"""What the server is told unless a test changes it: what it has replied to is on its disk."""


def server_program() -> str:
    """The path of the server that the tests have installed."""
    program = find_server()
    assert program is not None
    return program


class ValkeyServer:
    """A server for this machine alone. Its port and its folder stay the same however often it is started."""

    def __init__(self, folder: Path, **settings: str | int) -> None:
        """``settings`` are directives of its configuration: `maxmemory_policy="allkeys-lru"`."""
        self.port = stable_port()
        self.log = ""
        self.folder = folder
        self._settings = {**DURABLE, **settings}
        self._process: asyncio.subprocess.Process | None = None
        self._log_reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.running:
            await self.kill9()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def store(self, prefix: str) -> str:
        """The URL of a store all of whose keys begin with ``prefix``: one server has room for many."""
        return f"{self.url}?prefix={prefix}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def _running_process(self) -> asyncio.subprocess.Process:
        assert self._process is not None, "start() comes first"
        return self._process

    @property
    def pid(self) -> int:
        return self._running_process.pid

    @property
    def _arguments(self) -> list[str]:
        directives = {
            "bind": "127.0.0.1",
            "port": self.port,
            "dir": self.folder,
            "enable-debug-command": "yes",
            **self._settings,
        }
        return [word for name, value in directives.items() for word in (f"--{name.replace('_', '-')}", str(value))]

    # --- the process

    async def start(self) -> None:
        """Start, and wait until it has read what is on its disk."""
        self._process = await asyncio.create_subprocess_exec(
            server_program(), *self._arguments, stdout=asyncio.subprocess.PIPE, preexec_fn=die_with_parent
        )
        self._log_reader = asyncio.create_task(self._read_log(self._process))
        await poll_until(self._is_ready)

    async def _read_log(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while chunk := await process.stdout.read(65536):
            self.log += chunk.decode(errors="replace")

    async def _is_ready(self) -> bool:
        assert self.running, f"the server did not start\n{self.log}"
        try:
            return bool(await self.command("PING"))
        except (OSError, RedisError):
            return False

    async def stop(self) -> None:
        """SIGTERM, as an operator stops it."""
        self._running_process.terminate()
        await self._wait()

    async def kill9(self) -> None:
        self._running_process.kill()
        await self._wait()

    async def restart(self) -> None:
        """Start again on the same port, with what is on its disk."""
        await self.start()

    async def _wait(self) -> None:
        assert self._log_reader is not None
        async with asyncio.timeout(TIMEOUT):
            await self._running_process.wait()
            await self._log_reader

    def pause(self) -> None:
        """Let it do nothing until `resume`; its connections stay, and the system accepts more for it."""
        self._running_process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._running_process.send_signal(signal.SIGCONT)

    # --- commands

    def client(self) -> Redis:
        """A client that sees bytes, and errors at once."""
        return Redis(
            port=self.port, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, retry=Retry(NoBackoff(), 0)
        )

    async def command(self, *words: str | int) -> Any:
        """What the server replies to one command, on a connection of its own."""
        async with self.client() as client:
            return await client.execute_command(*words)  # type: ignore[no-untyped-call]

    async def flush(self) -> None:
        """Delete everything."""
        await self.command("FLUSHALL")

    async def kill_subscribers(self) -> int:
        """Close the connections that subscribe; how many there were."""
        return int(await self.command("CLIENT", "KILL", "TYPE", "pubsub"))

    async def configure(self, name: str, value: str | int) -> None:
        """Change a directive while it runs."""
        await self.command("CONFIG", "SET", name, value)


class StartValkey(Protocol):
    """Starts a Valkey server of the test's own."""

    async def __call__(self, **settings: str | int) -> ValkeyServer: ...


class ValkeyProxy(Proxy):
    """Between a node and its server. It tells the connections that subscribe from those that command."""

    def __init__(self, url: str) -> None:
        super().__init__(url, mark=b"SUBSCRIBE\r\n")

    def subscribing(self) -> list[Link]:
        return [link for link in self.links() if link.marked]

    def commanding(self) -> list[Link]:
        return [link for link in self.links() if not link.marked]
