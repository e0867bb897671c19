"""A TCP proxy that stalls and resets connections."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from soak.members import reset

if TYPE_CHECKING:
    from random import Random


class Link:
    """One connection through the proxy. `head` is how its client began."""

    def __init__(self, proxy: Proxy) -> None:
        self.head = b""
        self.client = End(self)
        self.gateway = End(self)
        self.flowing = True
        self._held: list[tuple[End, bytes]] = []
        self._proxy = proxy

    def stall(self, seconds: float | None = None) -> None:
        """Let nothing through for a while, or until it is to `flow`; neither side is told."""
        self.flowing = False
        self._update()
        if seconds is not None:
            asyncio.get_running_loop().call_later(seconds, self.flow)

    def flow(self) -> None:
        """Go on with what was stalled."""
        self.flowing = True
        held, self._held = self._held, []
        for end, data in held:
            self._pass_on(end, data)
        self._update()

    def cut(self) -> None:
        """Reset both sides; what was on the way is lost."""
        for end in (self.client, self.gateway):
            if end.transport is not None:
                reset(end.transport)

    # --- what the ends report

    def received(self, end: End, data: bytes) -> None:
        if end is self.client and not self.head:
            self.head = data
            if data.startswith(self._proxy.holding):
                self.stall()
        if self.flowing:
            self._pass_on(end, data)
        else:
            self._held.append((end, data))

    def _pass_on(self, end: End, data: bytes) -> None:
        far = self.other(end)
        if far.transport is None:
            far.early.append(data)
        elif end is self.client or not self._proxy.muted:
            far.transport.write(data)

    def ended(self, end: End) -> None:
        """One side has hung up: what came from it goes to the other side, and then that is over, too."""
        far = self.other(end).transport
        if far is not None:
            far.close()
        self._proxy.forget(self)

    def other(self, end: End) -> End:
        return self.gateway if end is self.client else self.client

    def _update(self) -> None:
        for end in (self.client, self.gateway):
            end.read(wanted=self.flowing)


class End(asyncio.Protocol):
    """One side of a link."""

    def __init__(self, link: Link) -> None:
        self.transport: asyncio.Transport | None = None
        self.early: list[bytes] = []
        """What is to be sent once there is a transport."""
        self._link = link

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.writelines(self.early)

    def data_received(self, data: bytes) -> None:
        self._link.received(self, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._link.ended(self)

    def pause_writing(self) -> None:
        self._link.other(self).read(wanted=False)

    def resume_writing(self) -> None:
        self._link.other(self).read(wanted=self._link.flowing)

    def read(self, *, wanted: bool) -> None:
        """Go on reading, or read no more."""
        if self.transport is not None and not self.transport.is_closing():
            (self.transport.resume_reading if wanted else self.transport.pause_reading)()


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
        self._opening: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server

    async def __aenter__(self) -> Self:
        self._server = await asyncio.get_running_loop().create_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for link in self.links():
            link.cut()
        if self._opening:
            await asyncio.wait(self._opening)

    @property
    def url(self) -> str:
        host, port = self._server.sockets[0].getsockname()
        return f"http://{host}:{port}"

    def pick(self, chance: Random) -> Link | None:
        """One of the connections, handshakes included."""
        return chance.choice(self.links()) if self._links else None

    def links(self) -> tuple[Link, ...]:
        return tuple(self._links)

    def forget(self, link: Link) -> None:
        self._links.pop(link, None)

    def _accept(self) -> End:
        link = Link(self)
        self._links[link] = None
        task = asyncio.create_task(self._open(link))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        return link.client

    async def _open(self, link: Link) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: link.gateway, *self._target)
        except OSError:
            link.cut()
            return
        if link.client.transport is None:  # it has hung up in the meantime
            link.cut()
