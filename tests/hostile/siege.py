"""A gateway under attack, another one beside it in peace, and what is looked at while it lasts and afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from harness.http import WEBSOCKET_HEADERS, request
from harness.inbox import PATIENCE
from harness.names import fresh_name
from harness.plain import JsonClient, websocket_url
from harness.process import GatewayProcess, die_with_parent
from harness.raw import ENGINE

SLOW = float(os.environ.get("HOSTILE_P99", "0.250"))
"""Seconds that the 99th percentile of the bystanders' messages may take in any case."""

PAGE = os.sysconf("SC_PAGE_SIZE")
FOUND_AFTER = 2.0
"""Seconds after an attack within which everything is as before."""


class Bystanders:
    """The process of ``bystander.py``."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self._gateway = gateway
        self._process: asyncio.subprocess.Process

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            Path(__file__).with_name("bystander.py"),
            websocket_url(self._gateway.url),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=2**24,
            preexec_fn=die_with_parent,
        )
        assert self._process.stdout is not None
        assert await self._process.stdout.readline() == b"ready\n"

    async def stop(self) -> float:
        """The 99th percentile, in seconds."""
        output, _ = await self._process.communicate(b"\n")
        assert self._process.returncode == 0, "a bystander was not heard, or lost its connection"
        times = sorted(json.loads(output))
        return float(times[int(0.99 * (len(times) - 1))])

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


class Siege:
    """Use as a context manager around an attack; leaving it checks that nobody else was hurt and nothing is left."""

    def __init__(self, attacked: GatewayProcess, calm: GatewayProcess, *, memory: float = 2.0) -> None:
        """``memory``: MB that the attacked process may have grown by."""
        self.gateway = attacked
        self._calm = calm
        self._memory = memory
        self._bystanders = [Bystanders(attacked), Bystanders(calm)]

    async def __aenter__(self) -> Self:
        for bystanders in self._bystanders:
            await bystanders.start()
        await self.settle()
        return self

    async def settle(self) -> None:
        """Take what there is now as what is to be there afterwards; behind a first, small attack."""
        self._files = self.open_files
        self._size = self.size
        self._peak = 0.0

    async def __aexit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                await self._check()
        finally:
            for bystanders in self._bystanders:
                await bystanders.kill()

    async def _check(self) -> None:
        self.note_size()
        attacked, calm = [await bystanders.stop() for bystanders in self._bystanders]
        async with asyncio.timeout(PATIENCE):
            async with asyncio.timeout(FOUND_AFTER):
                while self.open_files > self._files - 2:  # noqa: ASYNC110 (in another process; 2: the bystanders)
                    await asyncio.sleep(0.02)
            async with JsonClient(self.gateway.url, fresh_name()) as client:
                assert (await client.call("find-users"))["users"] == [client.username]
        self.gateway.check_log()
        grown = self.size - self._size
        print(  # noqa: T201 (shown by `pytest -rP`: the table of the attacks)
            f"p99 {attacked * 1e3:.1f} ms (calm {calm * 1e3:.1f}), peak +{self._peak:.1f} MB, left +{grown:.1f} MB"
        )
        assert attacked <= max(SLOW, 3 * calm), f"bystanders waited {attacked * 1e3:.0f} ms, else {calm * 1e3:.0f} ms"
        assert self._peak <= self._memory, f"{self._peak:.1f} MB more"

    @property
    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.gateway.pid}/fd"))

    @property
    def size(self) -> float:
        """Resident memory of the attacked process in MB."""
        return int(Path(f"/proc/{self.gateway.pid}/statm").read_text().split()[1]) * PAGE / 1e6

    def note_size(self) -> None:
        """Remember the memory of this moment, if it is the most."""
        self._peak = max(self._peak, self.size - self._size)


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
    """A TCP connection that says whatever it likes."""

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

    async def shake_hands(self, path: str) -> bytes:
        """Become a WebSocket; the head of the answer."""
        head = "".join(f"{name}: {value}\r\n" for name, value in {"Host": "x", **WEBSOCKET_HEADERS}.items())
        self.writer.write(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode())
        async with asyncio.timeout(PATIENCE):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def send(self, data: bytes) -> None:
        """Write, as fast as the gateway reads; what it no longer wants is dropped."""
        try:
            self.writer.write(data)
            await self.writer.drain()
        except ConnectionError:
            pass

    async def read_until(self, sign: bytes) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.reader.readuntil(sign)

    async def closed(self, seconds: float) -> None:
        """The gateway closes the connection, or its side of it, within that time."""
        try:
            async with asyncio.timeout(seconds):
                while await self.reader.read(65536):
                    pass
        except ConnectionError:
            pass
        except TimeoutError:
            raise AssertionError(f"still open after {seconds} s") from None


class SocketIOAttacker(Attacker):
    """On Socket.IO over WebSocket."""

    async def open(self) -> None:
        await self.shake_hands(f"{ENGINE}&transport=websocket")
        await self.read_until(b"}")

    async def log_in(self) -> str:
        await self.open()
        name = fresh_name()
        await self.send(message(f'40{{"username":"{name}"}}'))
        await self.read_until(b'42["welcome"')
        return name


class PlainAttacker(Attacker):
    """On the plain wire."""

    async def log_in(self) -> str:
        name = fresh_name()
        assert b" 101 " in (await self.shake_hands(f"/username/{name}?format=json")).splitlines()[0]
        await self.read_until(b'"welcome"')
        return name


async def open_polling(url: str) -> str:
    """A long-polling session; its URL."""
    opened = await request("GET", f"{url}{ENGINE}&transport=polling")
    return f"{url}{ENGINE}&transport=polling&sid={json.loads(opened.text[1:])['sid']}"
