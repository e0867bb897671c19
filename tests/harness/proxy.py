"""A TCP proxy that does to connections what networks do: it resets, stalls, delays and refuses them, or drops one side.

What `Proxy` does is for all connections, those to come included; what `Link` does is for one.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import struct
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from harness.process import stable_port

if TYPE_CHECKING:
    from random import Random
    from ssl import SSLContext


def reset(transport: Any) -> None:
    """End a TCP connection with a reset instead of a close."""
    with suppress(OSError, AttributeError):
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class Link:
    """One connection through the proxy. ``head`` is how its client began; ``marked``: it has sent `Proxy.mark`."""

    def __init__(self, proxy: Proxy) -> None:
        self.head = b""
        self.marked = False
        self.client = End(self)
        self.server = End(self)
        self.flowing = True
        self.deaf = False
        self._tail = b""
        self._held: list[tuple[End, bytes]] = []
        self._proxy = proxy

    def stall(self, seconds: float | None = None) -> None:
        """Let nothing through for a while, or until `flow`; neither side is told."""
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

    def deafen(self) -> None:
        """Drop what the server sends from here on, as on a half-open connection: the client is not told, and what it
        sends arrives.
        """
        self.deaf = True

    def reset(self) -> None:
        """Reset both sides; what was on the way is lost."""
        for end in (self.client, self.server):
            if end.transport is not None:
                reset(end.transport)

    # --- what the ends report

    def received(self, end: End, data: bytes) -> None:
        if end is self.client:
            self._look_at(data)
        if self.flowing:
            self._pass_on(end, data)
        else:
            self._held.append((end, data))

    def _look_at(self, data: bytes) -> None:
        """What the client sends tells what kind of connection it is."""
        if not self.head:
            self.head = data
            if data.startswith(self._proxy.holding):
                self.stall()
        if self._proxy.mark and not self.marked:
            seen = self._tail + data
            self.marked = self._proxy.mark in seen
            self._tail = seen[-len(self._proxy.mark) :]
        if self._proxy.deafening and self._proxy.deafening in data:
            self.deafen()

    def _pass_on(self, end: End, data: bytes) -> None:
        if end is self.server and (self.deaf or self._proxy.muted):
            return
        self.other(end).send(data, self._proxy.delay)

    def ended(self, end: End) -> None:
        """One side has hung up: what came from it goes to the other side, and then that is over, too."""
        self.other(end).end()
        self._proxy.forget(self)

    def other(self, end: End) -> End:
        return self.server if end is self.client else self.client

    def _update(self) -> None:
        for end in (self.client, self.server):
            end.read(wanted=self.flowing)


class End(asyncio.Protocol):
    """One side of a link."""

    def __init__(self, link: Link) -> None:
        self.transport: asyncio.Transport | None = None
        """None before the connection is there, and when it is gone."""
        self.is_gone = False
        self._early: list[bytes] = []
        """What is to be sent once there is a transport."""
        self._late: deque[bytes] = deque()
        """What is to be sent later."""
        self._link = link

    def send(self, data: bytes, delay: float) -> None:
        """Send ``data`` in ``delay`` seconds, and never before what was to be sent earlier."""
        if delay or self._late:
            self._late.append(data)
            asyncio.get_running_loop().call_later(delay, self._send_next)
        else:
            self._write(data)

    def end(self) -> None:
        """Close the connection after what is to be sent, which is sent now."""
        while self._late:
            self._send_next()
        if self.transport is not None:
            self.transport.close()

    def _send_next(self) -> None:
        """Send the oldest of what waits. Each that waits has a call of this, whichever comes first."""
        if self._late:
            self._write(self._late.popleft())

    def _write(self, data: bytes) -> None:
        if self.transport is None:
            self._early.append(data)
        else:
            self.transport.write(data)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.writelines(self._early)

    def data_received(self, data: bytes) -> None:
        self._link.received(self, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.is_gone = True
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
    """Between clients and servers that may be down at times."""

    def __init__(
        self, *targets: str, holding: tuple[bytes, ...] = (), mark: bytes = b"", tls: SSLContext | None = None
    ) -> None:
        """``targets``: the URLs of the servers; each connection goes to the next one that accepts it. New connections
        that begin with one of ``holding`` are stalled. Those whose clients have sent ``mark`` can be told from others.
        ``tls``: clients connect with TLS, which ends here.
        """
        self._tls = tls
        self.targets = targets
        """Where connections go; those that there are stay where they went."""
        self.holding = holding
        self.mark = mark
        self.muted = False
        """Whether what the server sends is dropped."""
        self.deafening = b""
        """A connection whose client sends this, in one piece, is deafened before it reaches the server."""
        self.delay = 0.0
        """By how many seconds everything is delayed, in each direction."""
        self._turns = itertools.count()
        self._stalled = False
        self._port = stable_port()
        self._links: dict[Link, None] = {}
        self._opening: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.refuse()
        self.reset()
        if self._opening:
            await asyncio.wait(self._opening)

    @property
    def url(self) -> str:
        """The URL of the servers, through the proxy."""
        return urlsplit(self.targets[0])._replace(netloc=f"127.0.0.1:{self._port}").geturl()

    def pick(self, chance: Random) -> Link | None:
        """One of the connections, handshakes included."""
        return chance.choice(self.links()) if self._links else None

    def links(self) -> tuple[Link, ...]:
        return tuple(self._links)

    async def listen(self) -> None:
        """Accept connections again."""
        if self._server is None:
            self._server = await asyncio.get_running_loop().create_server(
                self._accept, "127.0.0.1", self._port, ssl=self._tls
            )

    def refuse(self) -> None:
        """Refuse new connections from here on; those that there are remain."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def reset(self) -> None:
        """Reset all connections."""
        for link in self.links():
            link.reset()

    def stall(self) -> None:
        """Stall all connections, and those to come."""
        self._stalled = True
        for link in self.links():
            link.stall()

    def flow(self) -> None:
        """Go on with all that was stalled."""
        self._stalled = False
        for link in self.links():
            link.flow()

    def forget(self, link: Link) -> None:
        self._links.pop(link, None)

    def _accept(self) -> End:
        link = Link(self)
        if self._stalled:
            link.stall()
        self._links[link] = None
        task = asyncio.create_task(self._open(link))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        return link.client

    async def _open(self, link: Link) -> None:
        if not await self._connect(link) or link.client.is_gone:  # it has hung up in the meantime
            link.reset()

    async def _connect(self, link: Link) -> bool:
        """Connect to the next server that accepts. Returns whether one did."""
        first = next(self._turns)
        for number in range(len(self.targets)):
            target = urlsplit(self.targets[(first + number) % len(self.targets)])
            with suppress(OSError):
                await asyncio.get_running_loop().create_connection(lambda: link.server, target.hostname, target.port)
                return True
        return False
