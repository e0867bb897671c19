"""The servers that are compared: how each is started, and on which core it runs."""

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
from typing import TYPE_CHECKING, Self, TextIO

from benchmarks import tools
from benchmarks.valkey import Valkey

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
SERVER_CORE, GENERATOR_CORE = 0, 1
READY = re.compile(r"http://[^:/]+:(\d+)")
_libc = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Site:
    """Where a server runs: a folder on disk that is its alone, and the URL of its Valkey server ("": it has none)."""

    folder: Path
    valkey: str


@dataclass(frozen=True, slots=True)
class Kind:
    """A server as the table names it.

    - ``nodes``: processes that have clients, each the same share of them
    - ``bystanders``: processes beside them that have none
    - ``fsync``: the setting ``appendfsync`` of the Valkey server that all of them share; "": there is none
    """

    name: str
    command: Callable[[Site], list[str]]
    wire: str = "socketio"
    sends_welcome: bool = False
    nodes: int = 1
    bystanders: int = 0
    fsync: str = ""


def _gateway(store: Callable[[Site], str], *, module: str = "gateway.cli") -> Callable[[Site], list[str]]:
    start = [sys.executable, "-c", f"from {module} import main; main()"]
    settings = ["--host", "127.0.0.1", "--port", "0", "--log-level", "warning", "--add-limit", "0"]
    return lambda site: [*start, *settings, "--store", store(site)]


def _node(adapter: str = "") -> Callable[[Site], list[str]]:
    peer = HERE / "peers" / "node"

    def command(site: Site) -> list[str]:
        shared = [adapter, site.valkey] if adapter else []
        return [str(tools.node()), str(peer / "server.mjs"), str(tools.node_packages(peer)), *shared]

    return command


def _stock(site: Site) -> list[str]:
    return [sys.executable, str(HERE / "peers" / "stock.py"), *([site.valkey] if site.valkey else [])]


def _on_disk(site: Site) -> str:
    return f"sqlite:///{site.folder / 'gateway.db'}"


def _in_memory(_: Site) -> str:
    return "sqlite://"


def _on_valkey(site: Site) -> str:
    return site.valkey


GATEWAY = Kind("gateway", _gateway(_on_disk), sends_welcome=True)
PLAIN = Kind("plain wire", _gateway(_on_disk), wire="plain")
SOCKETIO = replace(GATEWAY, name="Socket.IO wire")
ON_DISK = replace(GATEWAY, name="on disk, synced")
IN_MEMORY = Kind("in memory", _gateway(_in_memory), sends_welcome=True)
STORELESS = Kind("off", _gateway(_in_memory, module="benchmarks.storeless"), sends_welcome=True)
NODE = Kind("Node", _node())
STOCK = Kind("stock", _stock)
SEND_LOOP = Kind("send()", lambda _: [str(tools.compiled(HERE / "peers" / "send_loop.c"))])

ON_VALKEY = Kind("gateway", _gateway(_on_valkey), sends_welcome=True, fsync="always")
SYNCED_LATER = replace(ON_VALKEY, name="gateway, everysec", fsync="everysec")
REDIS = Kind("redis", _node("redis"), fsync="everysec")
SHARDED = Kind("sharded", _node("sharded"), fsync="everysec")
STREAMS = Kind("streams", _node("streams"), fsync="everysec")
MANAGER = Kind("manager", _stock, fsync="everysec")


class Process:
    """A process of a server. It accepts clients when `wait` has returned."""

    def __init__(self, kind: Kind, site: Site, log: TextIO) -> None:
        self._kind = kind
        self._log = log
        self._process = subprocess.Popen(
            kind.command(site),
            cwd=HERE.parent,
            env=_environment(),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            preexec_fn=pinned(SERVER_CORE),
        )
        self.port = 0

    def wait(self) -> None:
        """Wait until it says on which port it listens."""
        assert self._process.stdout is not None
        ready = READY.search(self._process.stdout.readline())
        if ready is None:
            self._process.wait()
            raise RuntimeError(f"{self._kind.name} did not start:\n{_end_of(self._log)}")
        self.port = int(ready[1])

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()

    @property
    def pid(self) -> int:
        return self._process.pid

    def resident_memory(self) -> int:
        """Bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024


class Server:
    """A running server: one process, or several that share a Valkey server.

    What it stores is in a folder that goes with it.
    """

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        # Not the system's folder for temporary files, which may be in memory, where nothing is ever synced.
        self._folder = tempfile.TemporaryDirectory(prefix="run-", dir=tools.cache())
        folder = Path(self._folder.name)
        self._log = (folder / "log").open("w+")
        # A database is on another machine: it is not kept waiting by the nodes.
        self.valkey = Valkey(folder, kind.fsync, pinned(GENERATOR_CORE)) if kind.fsync else None
        site = Site(folder, self.valkey.url if self.valkey else "")
        processes = [Process(kind, site, self._log) for _ in range(kind.nodes + kind.bystanders)]
        for process in processes:
            process.wait()
        self.nodes, self.bystanders = processes[: kind.nodes], processes[kind.nodes :]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """It is killed: how a server stops is not what is measured."""
        for process in (*self.nodes, *self.bystanders):
            process.kill()
        if self.valkey is not None:
            self.valkey.kill()
        self._log.close()
        self._folder.cleanup()

    def log(self) -> str:
        return _end_of(self._log)

    def resident_memory(self) -> int:
        """Bytes, of all nodes that have clients."""
        return sum(node.resident_memory() for node in self.nodes)


def _end_of(log: TextIO) -> str:
    log.seek(0)
    return log.read()[-3000:]


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
