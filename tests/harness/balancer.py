"""A load balancer without sticky sessions: each request goes to the next server."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class Balancer:
    """Passes on each connection, with one request on it unless ``keep_alive``, to the server that is chosen for it."""

    def __init__(self, choose: Callable[[str], str], *, keep_alive: bool = False) -> None:
        """``choose``: the address for a request, ``host:port``, by its first line."""
        self._choose = choose
        self._keep_alive = keep_alive
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._writers.add(writer)
        with suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            host, _, port = self._choose(head.decode("latin-1").split("\r\n")[0]).rpartition(":")
            up_reader, up_writer = await asyncio.open_connection(host, int(port))
            up_writer.write(head if self._keep_alive or b"pgrade: " in head else _close_after(head))
            await asyncio.gather(_pipe(reader, up_writer), _pipe(up_reader, writer))
            up_writer.close()
        self._writers.discard(writer)
        writer.close()

    async def close(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _close_after(head: bytes) -> bytes:
    lines = [line for line in head.split(b"\r\n")[:-2] if not line.lower().startswith(b"connection:")]
    return b"\r\n".join([*lines, b"Connection: close", b"", b""])


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        finally:
            writer.write_eof()


@asynccontextmanager
async def balancing(balancer: Balancer) -> AsyncIterator[str]:
    """The URL of a balancer."""
    server = await asyncio.start_server(balancer.serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await balancer.close()


def round_robin(addresses: list[str]) -> Balancer:
    """One request to each of ``addresses``, in turns; one that is removed from the list gets no more."""
    turns = itertools.count()
    return Balancer(lambda _: addresses[next(turns) % len(addresses)])
