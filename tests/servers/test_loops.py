"""The servers on every event loop, in the clear and over TLS: nothing of the wire layer depends on either."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp
import pytest
import socketio
import trustme
import uvloop
from aiohttp import web
from websockets.asyncio.client import connect

from gateway.servers import SocketServer
from gateway.servers.http.upgrades import Upgrades
from harness.inbox import TIMEOUT
from harness.waiting import until
from servers.echo import Echo, handle_with

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@dataclass
class Certificates:
    """What a server and a client need to trust each other."""

    server: ssl.SSLContext
    client: ssl.SSLContext

    @classmethod
    def issue(cls) -> Self:
        authority = trustme.CA()
        server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
        authority.issue_cert("127.0.0.1").configure_cert(server)
        authority.configure_trust(client)
        return cls(server, client)


@dataclass
class Site:
    """A server that runs on a loop and a thread of its own: a Socket.IO server, and a plain echo at ``/echo``."""

    loop: asyncio.AbstractEventLoop
    tls: Certificates | None
    port: int = 0
    sio: SocketServer = field(init=False)
    echoes: list[Echo] = field(default_factory=list)
    _listening: asyncio.Server = field(init=False)

    def url(self, scheme: str, path: str = "") -> str:
        return f"{scheme}{'s' if self.tls else ''}://127.0.0.1:{self.port}{path}"

    @property
    def client_context(self) -> ssl.SSLContext | None:
        return self.tls.client if self.tls else None

    @contextmanager
    def serving(self) -> Iterator[Self]:
        thread = threading.Thread(target=self.loop.run_forever)
        thread.start()
        runner = asyncio.run_coroutine_threadsafe(self._start(), self.loop).result(TIMEOUT)
        try:
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(self._stop(runner), self.loop).result(TIMEOUT)
            self.loop.call_soon_threadsafe(self.loop.stop)
            thread.join(TIMEOUT)
            self.loop.close()

    async def _start(self) -> web.AppRunner:
        self.sio = SocketServer(socketio.AsyncManager(), ping_interval=0.1, ping_timeout=5)
        self.sio.on("echo", _echo)
        self.sio.on("flood", self._flood)
        app = web.Application()
        app.router.add_get("/echo", handle_with(self.echoes))
        self.sio.attach(app)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        assert runner.server is not None
        upgrades = Upgrades(runner.server, [self.sio.eio.take_handshake], timeout=TIMEOUT)
        context = self.tls and self.tls.server
        self._listening = await asyncio.get_running_loop().create_server(upgrades, "127.0.0.1", 0, ssl=context)
        self.port = self._listening.sockets[0].getsockname()[1]
        return runner

    async def _stop(self, runner: web.AppRunner) -> None:
        self._listening.close()
        await runner.cleanup()

    async def _flood(self, sid: str) -> None:
        while self.sio.eio.sockets:
            await self.sio.emit("drop", b"x" * 10_000, to=sid)


async def _echo(sid: str, *arguments: Any) -> tuple[Any, ...]:
    return arguments


@pytest.fixture(scope="module")
def certificates() -> Certificates:
    return Certificates.issue()


@pytest.fixture(params=[(loop, tls) for loop in LOOPS for tls in (False, True)], ids=lambda p: f"{p[0]}-{p[1]}")
def site(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[Site]:
    loop, tls = request.param
    with Site(LOOPS[loop](), certificates if tls else None).serving() as site:
        yield site


@asynccontextmanager
async def client_of(site: Site, *transports: str) -> AsyncIterator[socketio.AsyncClient]:
    """A client of python-socketio, until the block ends."""
    connector = aiohttp.TCPConnector(ssl=site.client_context or True)
    async with aiohttp.ClientSession(connector=connector) as http:
        client = socketio.AsyncClient(reconnection=False, http_session=http)
        await client.connect(site.url("http"), transports=list(transports), wait_timeout=TIMEOUT)
        try:
            yield client
        finally:
            await client.disconnect()


@pytest.mark.parametrize("transports", [["websocket"], ["polling"], ["polling", "websocket"]], ids="-".join)
async def test_a_client_of_each_transport_works(site: Site, transports: list[str]) -> None:
    """Acks, bytes, and packets larger than a segment or a TLS record, while pings come and go."""
    async with client_of(site, *transports) as client:
        for value in ("short", "long" * 50_000, b"bytes" * 50_000):
            assert await client.call("echo", value, timeout=TIMEOUT) == value
        await asyncio.sleep(0.25)  # two pings, which the client does not report
        assert await client.call("echo", "still here", timeout=TIMEOUT) == "still here"


async def test_either_side_can_close(site: Site) -> None:
    """A client that closes gets a close frame; one that is closed reads all that was written, and the reason."""
    async with connect(site.url("ws", "/echo"), ssl=site.client_context, compression=None) as socket:
        await socket.send("x" * 300_000)
        assert len(await socket.recv()) == 300_000
    assert socket.close_code == 1000
    async with connect(site.url("ws", "/echo"), ssl=site.client_context, compression=None) as socket:
        await socket.send("y" * 300_000)
        site.loop.call_soon_threadsafe(site.echoes[1].stream.close, 1012, "restart")
        async with asyncio.timeout(TIMEOUT):
            await socket.wait_closed()
        assert (socket.close_code, socket.close_reason) == (1012, "restart")


async def test_a_client_that_does_not_read_is_disconnected(site: Site) -> None:
    """Unsent bytes are counted below TLS too, and the connection is gone."""
    async with connect(
        site.url("ws", "/socket.io/?EIO=4&transport=websocket"), ssl=site.client_context, compression=None
    ) as socket:
        await socket.recv()
        await socket.send("40")
        await socket.recv()
        socket.transport.pause_reading()
        await socket.send('42["flood"]')
        await until(lambda: not site.sio.eio.sockets)
        socket.transport.abort()
