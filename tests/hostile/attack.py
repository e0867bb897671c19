"""A gateway under attack, another one that is not attacked, and what is checked meanwhile and afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from harness.http import WEBSOCKET_HEADERS
from harness.inbox import TIMEOUT
from harness.names import fresh_name
from harness.plain import JsonClient, websocket_url
from harness.process import GatewayProcess, die_with_parent
from harness.raw import ENGINE
from hostile.scale import FULL, SCALE, STOCK

HERE = Path(__file__).parent
PAGE = os.sysconf("SC_PAGE_SIZE")

TRACEBACK = "Traceback (most recent call last)"

AT_ONCE = 16
"""Attackers of a `tally` at a time."""


def crowding() -> float:
    """How many processes want each processor of this machine; at least 1. Beside the suite's other tests, and beside
    another run of it, everybody waits that much longer, attacked or not.
    """
    return max(1.0, os.getloadavg()[0] / len(os.sched_getaffinity(0)))


def allow(seconds: float) -> float:
    """The bound, in seconds, for something that may take ``seconds`` on an idle machine."""
    return seconds if SCALE is FULL else seconds * crowding()


class Target(GatewayProcess):
    """The process of ``target.py``: the gateway, or an application on our servers or on the stock ones."""

    stdin = asyncio.subprocess.PIPE

    def __init__(self, kind: str, **settings: Any) -> None:
        # `who_is_there` asks for everybody; an idle connection is to be gone when what an attack left is counted.
        super().__init__(**{"list_users": "all", "keep_alive": 5, **settings})
        self.command = (sys.executable, HERE / "target.py", "stock" if STOCK else kind)

    async def counts(self) -> dict[str, int]:
        """The number of its tasks, and what else it counts."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"?")
        async with asyncio.timeout(TIMEOUT):
            counts: dict[str, int] = json.loads(await self._process.stdout.readline())
        return counts

    @property
    def open_files(self) -> int:
        """Files and sockets, without what the event loop opens for itself when it first has much to do."""
        count = 0
        for link in Path(f"/proc/{self.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                count += not os.readlink(link).startswith("anon_inode:")
        return count

    @property
    def size(self) -> float:
        """Resident memory in MB."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * PAGE / 1e6


class Bystanders:
    """The process of ``bystander.py``."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._process: asyncio.subprocess.Process

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            HERE / "bystander.py",
            websocket_url(self._target.url),
            str(SCALE.people),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=2**24,
            preexec_fn=die_with_parent,
        )
        assert self._process.stdout is not None
        assert await self._process.stdout.readline() == b"ready\n"

    def begin(self) -> None:
        """Forget what was measured until now."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"!")

    async def p99(self) -> float:
        """The 99th percentile since they `begin`, in seconds; infinite where somebody was not received, or was
        disconnected.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(TIMEOUT):
                self._process.stdin.write(b"?")
                times = sorted(json.loads(await self._process.stdout.readline() or "[]"))
                if times:
                    return float(times[int(0.99 * (len(times) - 1))])
        return float("inf")

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


class Environment:
    """The gateway under attack, an identical one that is not attacked, and the bystanders of both."""

    def __init__(self, kind: str, folder: Path, settings: dict[str, Any]) -> None:
        stores = [f"sqlite:///{folder / name}" for name in ("attacked.db", "calm.db")]
        self.attacked, self.calm = (Target(kind, store=store, **settings) for store in stores)
        self.bystanders = [Bystanders(self.attacked), Bystanders(self.calm)]

    async def __aenter__(self) -> Self:
        for target, bystanders in zip((self.attacked, self.calm), self.bystanders, strict=True):
            await target.start()
            await bystanders.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for bystanders in self.bystanders:
            await bystanders.kill()
        for target in (self.attacked, self.calm):
            if not STOCK:
                await target.__aexit__()
            elif target.running:
                await target.kill9()


class Attack:
    """A context manager around an attack; at its end it checks that nobody else was affected and nothing is left."""

    def __init__(self, environment: Environment, *, memory: float, left: float) -> None:
        """``memory``: MB by which the attacked process may grow meanwhile; ``left``: what may be left afterwards."""
        self.gateway = environment.attacked
        self.facts: dict[str, str] = {}
        """What was measured, for the table."""
        self.problems: list[str] = []
        self._memory = memory
        self._left = left
        self._bystanders = environment.bystanders

    async def __aenter__(self) -> Self:
        self._users = await self.who_is_there()
        before = [await self._what_is_there() for _ in range(5)]
        self._before = {name: min(counts[name] for counts in before) for name in before[0]}
        for bystanders in self._bystanders:
            bystanders.begin()
        self._logged = self.gateway.log.count(TRACEBACK)
        self.settle()
        return self

    def settle(self) -> None:
        """Take the memory of now as what is to be there afterwards; after a first, smaller attack."""
        self._size = self.gateway.size
        self._peak = 0.0

    def take_for_granted(self) -> None:
        """Allow for what the process has grown by since it `settle`d: it does so without the attack as well."""
        self._memory += self._peak

    def begin_again(self) -> None:
        """Count from now on: earlier frames were not part of the attack."""
        for bystanders in self._bystanders:
            bystanders.begin()
        self.settle()

    def note(self, name: str, value: object) -> None:
        self.facts[name] = str(value)

    def note_size(self) -> None:
        """Remember the memory of this moment, if it is the most."""
        self._peak = max(self._peak, self.gateway.size - self._size)

    @property
    def peak(self) -> float:
        """MB by which the attacked process has grown since it `settle`d, at most."""
        return self._peak

    async def watch(self, work: Awaitable[None]) -> None:
        """Note the memory until the attack is over."""
        running = asyncio.ensure_future(work)
        while not running.done():
            self.note_size()
            await asyncio.wait([running], timeout=0.02)
        await running

    async def tally(self, attempts: Iterable[tuple[object, Callable[[], Awaitable[None]]]]) -> None:
        """Make attempts, a few at a time; each that fails is a problem under its label."""
        free = asyncio.Semaphore(AT_ONCE)
        failed = []

        async def one(label: object, attempt: Callable[[], Awaitable[None]]) -> None:
            async with free:
                try:
                    await attempt()
                except (AssertionError, OSError, EOFError, TimeoutError) as error:
                    failed.append(f"{label!r:.80}: {error!r:.200}")

        labelled = list(attempts)
        await asyncio.gather(*(one(label, attempt) for label, attempt in labelled))
        self.note("as it should", f"{len(labelled) - len(failed)} of {len(labelled)}")
        assert not failed, f"{len(failed)} of {len(labelled)}: " + "; ".join(failed[:5])

    async def __aexit__(self, kind: object, *_: object) -> None:
        if kind is None or STOCK:
            await self._check()
        if not STOCK:
            assert not self.problems, "; ".join(self.problems)

    def _expect(self, met: bool, otherwise: str) -> None:
        if not met:
            self.problems.append(otherwise)

    async def _check(self) -> None:
        self.note_size()
        attacked, calm = await asyncio.gather(*(bystanders.p99() for bystanders in self._bystanders))
        self.note("p99", f"{attacked * 1e3:.0f} ms")
        self.note("p99 beside", f"{calm * 1e3:.0f} ms")
        self.note("peak", f"{self._peak:+.1f} MB")
        self._expect(
            attacked <= min(max(allow(SCALE.slow), 3 * calm), TIMEOUT), f"bystanders waited {attacked * 1e3:.0f} ms"
        )
        self._expect(self._peak <= self._memory, f"{self._peak:.1f} MB more")
        await self._check_what_is_left()
        tracebacks = self.gateway.log.count(TRACEBACK) - self._logged
        self.note("tracebacks", tracebacks)
        self._expect(not tracebacks, self.gateway.log[-2000:])

    async def _check_what_is_left(self) -> None:
        start = asyncio.get_running_loop().time()
        while True:
            left = {name: count - self._before[name] for name, count in (await self._what_is_there()).items()}
            size = self.gateway.size - self._size
            seconds = asyncio.get_running_loop().time() - start
            back = max(left.values()) <= 0 and size <= self._left
            if back or seconds > SCALE.soon:
                break
            await asyncio.sleep(0.02)  # the state is in another process
        self.note("left", f"{size:+.1f} MB, {left['tasks']:+d} tasks, {left['files']:+d} files")
        self._expect(back, f"after {seconds:.1f} s there are left: {left}, {size:.1f} MB")
        try:
            while still := len(await self.who_is_there() - self._users):
                if asyncio.get_running_loop().time() - start > SCALE.soon:
                    break
            self.note("left", f"{self.facts['left']}, {still} sessions")
            self._expect(not still, f"{still} sessions are still there")
        except (AssertionError, OSError) as error:
            self.problems.append(f"nobody can log in: {error!r}"[:300])

    async def _what_is_there(self) -> dict[str, int]:
        counts = await self.gateway.counts()
        return {"tasks": counts["tasks"], "files": self.gateway.open_files}

    async def who_is_there(self) -> set[str]:
        """Everyone who is online, from a round trip of one more client."""
        async with JsonClient(self.gateway.url, fresh_name()) as client:
            return set((await client.call("find-users", limit=100))["users"]) - {client.username}


def masked(opcode: int, payload: bytes = b"", *, head: int = 0x80) -> bytes:
    """A client's frame, with a mask of zeros. ``head``: FIN and the reserved bits."""
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 65536:
        length = b"\xfe" + size.to_bytes(2, "big")
    else:
        length = b"\xff" + size.to_bytes(8, "big")
    return bytes([head | opcode]) + length + bytes(4) + payload


def message(packet: str | bytes) -> bytes:
    return masked(1, packet.encode()) if isinstance(packet, str) else masked(2, packet)


class Attacker:
    """A TCP connection that sends any bytes."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._host, self._port = address.hostname, address.port
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection(self._host, self._port, limit=2**22)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()

    async def shake_hands(self, path: str, headers: str = "") -> bytes:
        """Become a WebSocket, with further ``headers``; the head of the response."""
        head = "".join(f"{name}: {value}\r\n" for name, value in {"Host": "x", **WEBSOCKET_HEADERS}.items())
        self.writer.write(f"GET {path} HTTP/1.1\r\n{head}{headers}\r\n".encode())
        async with asyncio.timeout(TIMEOUT):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def send(self, data: bytes) -> None:
        """Write, as fast as the gateway reads; bytes after its close are dropped."""
        if self.writer.is_closing():
            await asyncio.sleep(0)  # a sender that never ends must not block the event loop
            return
        try:
            self.writer.write(data)
            await self.writer.drain()
        except ConnectionError:
            pass

    async def read_until(self, sign: bytes) -> None:
        async with asyncio.timeout(TIMEOUT):
            await self.reader.readuntil(sign)

    async def closed(self, seconds: float) -> None:
        """The gateway closes the connection, or its side of it, within that time."""
        try:
            async with asyncio.timeout(allow(seconds)):
                while await self.reader.read(65536):
                    pass
        except ConnectionError:
            pass
        except TimeoutError:
            raise AssertionError(f"still open after {seconds} s") from None

    async def replies_or_closes(self, question: bytes, replies: tuple[bytes, ...], seconds: float) -> None:
        """Within that time the gateway sends one of ``replies``, or closes the connection."""
        await self.send(question)
        received = b""
        try:
            async with asyncio.timeout(allow(seconds)):
                while not any(reply in received for reply in replies):
                    data = await self.reader.read(65536)
                    if not data:
                        return
                    received += data
        except ConnectionError:
            pass
        except TimeoutError:
            raise AssertionError(f"neither a reply nor a close in {seconds} s") from None


class SocketIOAttacker(Attacker):
    """On Socket.IO over WebSocket."""

    async def open(self, headers: str = "") -> None:
        await self.shake_hands(f"{ENGINE}&transport=websocket", headers)
        await self.read_until(b"}")

    async def log_in(self, headers: str = "") -> str:
        await self.open(headers)
        name = fresh_name()
        await self.send(message(f'40{{"username":"{name}"}}'))
        await self.read_until(b'42["welcome"')
        return name


class PlainAttacker(Attacker):
    """On the plain wire."""

    async def log_in(self, headers: str = "") -> str:
        name = fresh_name()
        assert b" 101 " in (await self.shake_hands(f"/username/{name}?format=json", headers)).splitlines()[0]
        await self.read_until(b'"welcome"')
        return name
