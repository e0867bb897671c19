"""What an idle client costs."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from harness.http import WEBSOCKET_HEADERS
from harness.inbox import PATIENCE
from harness.process import GatewayProcess, StartGateway
from harness.raw import ENGINE

WARM, MEASURED, AT_ONCE = 500, 1_500, 50
BOUND = 8 * 1024
"""Bytes for each logged-in connection that says nothing."""

HEAD = "".join(f"{name}: {value}\r\n" for name, value in {"Host": "x", **WEBSOCKET_HEADERS}.items())


def resident(gateway: GatewayProcess) -> int:
    """Bytes of memory that the process has now."""
    status = Path(f"/proc/{gateway.pid}/status").read_text()
    (kilobytes,) = re.findall(r"VmRSS:\s+(\d+) kB", status)
    return int(kilobytes) * 1024


async def log_in(gateway: GatewayProcess, wire: str, name: str) -> asyncio.StreamWriter:
    """A connection of its own making: clients of a library would fill the machine before the gateway does."""
    address = urlsplit(gateway.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port, limit=4096)
    path = f"/username/{name}?format=json" if wire == "json" else f"{ENGINE}&transport=websocket"
    writer.write(f"GET {path} HTTP/1.1\r\n{HEAD}\r\n".encode())
    if wire == "socketio":
        connect = f'40{{"username":"{name}"}}'.encode()
        writer.write(bytes([0x81, 0x80 | len(connect)]) + b"\0\0\0\0" + connect)
    async with asyncio.timeout(PATIENCE):
        await reader.readuntil(b'"recovered":false')
    return writer


@pytest.mark.parametrize("wire", ["json", "socketio"])
async def test_an_idle_client_costs_little(start_gateway: StartGateway, wire: str) -> None:
    """A logged-in client that says nothing takes at most 8 KiB of the gateway's memory."""
    own = await start_gateway()
    writers: list[asyncio.StreamWriter] = []

    async def crowd(size: int) -> int:
        while len(writers) < size:
            names = [f"user{len(writers) + number}" for number in range(AT_ONCE)]
            writers.extend(await asyncio.gather(*(log_in(own, wire, name) for name in names)))
        return resident(own)

    before = await crowd(WARM)
    after = await crowd(WARM + MEASURED)
    for writer in writers:
        writer.transport.abort()
    assert (after - before) / MEASURED <= BOUND
