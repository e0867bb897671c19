"""HTTP/1 by hand, on a connection of the test's own: requests, and timing, that no library would produce."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from harness.http import Response
from harness.inbox import TIMEOUT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

Header = tuple[str, str]


def head(target: str, headers: Iterable[Header] = (), *, method: str = "GET", version: str = "1.1") -> bytes:
    """A request without a body. A header may come in several lines."""
    headers = list(headers)
    if not any(name == "Host" for name, _ in headers):
        headers.insert(0, ("Host", "gateway.example"))
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"{method} {target} HTTP/{version}\r\n{lines}\r\n".encode("latin-1")


class Connection:
    """One TCP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def send_in_pieces(self, data: bytes, size: int = 40) -> None:
        for start in range(0, len(data), size):
            self.writer.write(data[start : start + size])
            await asyncio.sleep(0.002)  # so that each is read for itself

    async def response(self, *, body: bool = True) -> Response:
        """The next response, with its body; that to HEAD has none."""
        async with asyncio.timeout(TIMEOUT):
            first, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
            size = int(headers.get("content-length", 0)) if body else 0
            return Response(int(first.split()[1]), headers, await self.reader.readexactly(size))

    async def frame(self) -> bytes:
        """The payload of the next WebSocket frame, of less than 64 KiB."""
        async with asyncio.timeout(TIMEOUT):
            length = (await self.reader.readexactly(2))[1]
            if length == 126:
                length = int.from_bytes(await self.reader.readexactly(2), "big")
            return await self.reader.readexactly(length)

    async def ended(self, seconds: float = TIMEOUT) -> bytes:
        """What is still received until the server closes the connection."""
        async with asyncio.timeout(seconds):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""


@asynccontextmanager
async def connection(url: str) -> AsyncIterator[Connection]:
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()


def masked(text: str) -> bytes:
    """The frame of a client's short text message; the mask is zeros."""
    payload = text.encode()
    assert len(payload) < 126
    return bytes((0x81, 0x80 | len(payload), 0, 0, 0, 0)) + payload
