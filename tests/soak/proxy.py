"""A TCP proxy that stalls and cuts."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from soak.members import reset

if TYPE_CHECKING:
    from random import Random


class Link:
    """One connection through the proxy. `head` is how its client began."""

    def __init__(self, *writers: asyncio.StreamWriter) -> None:
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.head = b""
        self._writers = writers

    def stall(self, seconds: float) -> None:
        """Let nothing through for a while; neither side hears of it."""
        self.flowing.clear()
        asyncio.get_running_loop().call_later(seconds, self.flowing.set)

    def cut(self) -> None:
        """Reset both sides; what was on the way is lost."""
        for writer in self._writers:
            reset(writer.transport)


class Proxy:
    """Between clients and a gateway that may be down at times."""

    def __init__(self, target: str, *, holding: tuple[bytes, ...] = ()) -> None:
        """New connections that begin with one of `holding` stay stalled."""
        self.holding = holding
        self.muted = False
        """Whether what the gateway says is dropped."""
        parts = urlsplit(target)
        self._target = (parts.hostname, parts.port)
        self._links: dict[Link, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for link in tuple(self._links):
            link.flowing.set()
            link.cut()
        if self._tasks:
            await asyncio.wait(self._tasks)

    @property
    def url(self) -> str:
        host, port = self._server.sockets[0].getsockname()
        return f"http://{host}:{port}"

    def pick(self, chance: Random) -> Link | None:
        """One of the connections, handshakes included."""
        return chance.choice(list(self._links)) if self._links else None

    def links(self) -> tuple[Link, ...]:
        return tuple(self._links)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            reset(writer.transport)
            return
        link = Link(writer, far_writer)
        self._links[link] = None
        try:
            with suppress(OSError):
                link.head = await reader.read(65536)
            if link.head.startswith(self.holding):
                link.flowing.clear()
            await asyncio.gather(
                self._pump(reader, far_writer, link, link.head), self._pump(far_reader, writer, link, is_answer=True)
            )
        finally:
            del self._links[link]
            for end in (writer, far_writer):
                end.close()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        link: Link,
        data: bytes = b"",
        *,
        is_answer: bool = False,
    ) -> None:
        with suppress(OSError):
            while data := data or await reader.read(65536):
                await link.flowing.wait()
                if not (is_answer and self.muted):
                    writer.write(data)
                    await writer.drain()
                data = b""
        writer.close()
