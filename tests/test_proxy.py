"""The harness's proxy does to connections what its methods say."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from harness.proxy import Proxy
from harness.waiting import until

pytestmark = pytest.mark.fast

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def repeat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that sends back what it receives."""
    with suppress(OSError):
        while data := await reader.read(1000):
            writer.write(data)
    writer.close()


@asynccontextmanager
async def echo(mark: bytes = b"") -> AsyncIterator[Proxy]:
    """A proxy before a server that echoes."""
    server = await asyncio.start_server(repeat, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with Proxy(f"tcp://127.0.0.1:{port}", mark=mark) as proxy:
        yield proxy
    server.close()


async def connect(proxy: Proxy) -> Connection:
    return await asyncio.open_connection("127.0.0.1", int(proxy.url.rpartition(":")[2]))


async def says(connection: Connection, data: bytes) -> bytes:
    """What comes back within a moment."""
    reader, writer = connection
    writer.write(data)
    try:
        async with asyncio.timeout(0.3):
            return await reader.readexactly(len(data))
    except TimeoutError:
        return b""


async def test_connections_are_reset() -> None:
    async with echo() as proxy:
        reader, writer = connection = await connect(proxy)
        assert await says(connection, b"one") == b"one"
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        await until(lambda: proxy.links() == ())
        writer.close()


async def test_connections_are_refused_until_it_listens_again() -> None:
    """Those that there are remain."""
    async with echo() as proxy:
        old = await connect(proxy)
        assert await says(old, b"one") == b"one"
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            await connect(proxy)
        assert await says(old, b"two") == b"two"
        await proxy.listen()
        new = await connect(proxy)
        assert await says(new, b"three") == b"three"
        for _, writer in (old, new):
            writer.close()


async def test_what_is_stalled_arrives_later() -> None:
    """On connections that are opened meanwhile as well."""
    async with echo() as proxy:
        old = await connect(proxy)
        assert await says(old, b"one") == b"one"
        proxy.stall()
        new = await connect(proxy)
        assert [await says(connection, b"two") for connection in (old, new)] == [b"", b""]
        proxy.flow()
        for reader, writer in (old, new):
            assert await reader.readexactly(3) == b"two"
            writer.close()


async def test_a_deaf_client_sends_and_receives_nothing() -> None:
    async with echo() as proxy:
        deaf, other = await connect(proxy), await connect(proxy)
        for connection in (deaf, other):
            assert await says(connection, b"one") == b"one"
        proxy.links()[0].deafen()
        assert [await says(connection, b"two") for connection in (deaf, other)] == [b"", b"two"]
        for _, writer in (deaf, other):
            writer.close()


async def test_what_is_delayed_keeps_its_order() -> None:
    """Also where the delay becomes shorter."""
    async with echo() as proxy:
        reader, writer = await connect(proxy)
        proxy.delay = 0.05
        began = time.monotonic()
        writer.write(b"one ")
        await until(lambda: bool(proxy.links()[0].head))
        proxy.delay = 0.01
        writer.write(b"two")
        assert await reader.readexactly(7) == b"one two"
        assert time.monotonic() - began > 0.05
        writer.close()


async def test_connections_are_told_from_each_other_by_what_their_clients_send() -> None:
    """However it is cut into segments."""
    async with echo(mark=b"SUBSCRIBE") as proxy:
        plain, marked = await connect(proxy), await connect(proxy)
        assert await says(plain, b"SUBSCRIPTION") == b"SUBSCRIPTION"
        for part in (b"abc", b"SUB", b"SCR", b"IBE"):
            assert await says(marked, part) == part
        assert [link.marked for link in proxy.links()] == [False, True]
        for _, writer in (plain, marked):
            writer.close()
