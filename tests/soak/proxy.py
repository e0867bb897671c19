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
    """One connection through the proxy."""

    def __init__(self, *writers: asyncio.StreamWriter) -> None:
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.answered = False
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

    def __init__(self, target: str) -> None:
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
        """One of the connections on which the gateway has answered."""
        links = [link for link in self._links if link.answered]
        return chance.choice(links) if links else None

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
            await asyncio.gather(_pump(reader, far_writer, link), _pump(far_reader, writer, link, answers=True))
        finally:
            del self._links[link]
            for end in (writer, far_writer):
                end.close()


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: Link, *, answers: bool = False
) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            await link.flowing.wait()
            writer.write(data)
            await writer.drain()
            link.answered |= answers
    writer.close()
