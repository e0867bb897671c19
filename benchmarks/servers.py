"""The servers that are compared: how each is started, and that it has a core to itself."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from benchmarks import tools

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
SERVER_CORE, GENERATOR_CORE = 0, 1
READY = re.compile(r"http://[^:/]+:(\d+)")
_libc = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Kind:
    """A server as the table names it. ``command`` is given a folder on disk that is the server's alone."""

    name: str
    command: Callable[[Path], list[str]]
    wire: str = "socketio"
    sends_welcome: bool = False


def _gateway(store: Callable[[Path], str], *, module: str = "gateway.cli") -> Callable[[Path], list[str]]:
    start = [sys.executable, "-c", f"from {module} import main; main()"]
    settings = ["--host", "127.0.0.1", "--port", "0", "--log-level", "warning", "--add-limit", "0"]
    return lambda folder: [*start, *settings, "--store", store(folder)]


def _node(_: Path) -> list[str]:
    peer = HERE / "peers" / "node"
    return [str(tools.node()), str(peer / "server.mjs"), str(tools.node_packages(peer))]


def _on_disk(folder: Path) -> str:
    return f"sqlite:///{folder / 'gateway.db'}"


def _in_memory(_: Path) -> str:
    return "sqlite://"


GATEWAY = Kind("gateway", _gateway(_on_disk), sends_welcome=True)
PLAIN = Kind("plain wire", _gateway(_on_disk), wire="plain")
SOCKETIO = replace(GATEWAY, name="Socket.IO wire")
ON_DISK = replace(GATEWAY, name="on disk, synced")
IN_MEMORY = Kind("in memory", _gateway(_in_memory), sends_welcome=True)
STORELESS = Kind("off", _gateway(_in_memory, module="benchmarks.storeless"), sends_welcome=True)
NODE = Kind("Node", _node)
STOCK = Kind("stock", lambda _: [sys.executable, str(HERE / "peers" / "stock.py")])
SEND_LOOP = Kind("send()", lambda _: [str(tools.compiled(HERE / "peers" / "send_loop.c"))])


class Server:
    """A running server. Its store, if it has one, is in a folder that goes with it."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        # Not the system's folder for temporary files, which may be in memory, where nothing is ever synced.
        self._folder = tempfile.TemporaryDirectory(prefix="run-", dir=tools.cache())
        folder = Path(self._folder.name)
        self._log = (folder / "log").open("w+")
        self._process = subprocess.Popen(
            kind.command(folder),
            cwd=HERE.parent,
            env=_environment(),
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            preexec_fn=pinned(SERVER_CORE),
        )
        assert self._process.stdout is not None
        ready = READY.search(self._process.stdout.readline())
        if ready is None:
            self._process.wait()
            raise RuntimeError(f"{kind.name} did not start:\n{self.log()}")
        self.port = int(ready[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """It is killed: how a server stops is not what is measured."""
        self._process.kill()
        self._process.communicate()
        self._log.close()
        self._folder.cleanup()

    @property
    def pid(self) -> int:
        return self._process.pid

    def log(self) -> str:
        self._log.seek(0)
        return self._log.read()[-3000:]

    def resident_memory(self) -> int:
        """Bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024


def pinned(core: int) -> Callable[[], None]:
    """Between fork and exec: one core (of those that we may use), and no life after ours."""
    cores = sorted(os.sched_getaffinity(0))

    def before_exec() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, {cores[core % len(cores)]})

    return before_exec


def _environment() -> dict[str, str]:
    """Ours, without what would set the gateway up."""
    hidden = {"PORT", "REDIS_URL", "DYNO"}
    return {name: value for name, value in os.environ.items() if name not in hidden and not name.startswith("GATEWAY_")}
