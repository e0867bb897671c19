"""Handshakes that are taken before aiohttp makes requests of them, and all else that comes to the same port."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from gateway.servers.engineio.server import EngineServer
from gateway.servers.http.runner import Runner
from gateway.servers.http.upgrades import Upgrades
from harness.http import WEBSOCKET_HEADERS, request
from harness.waiting import until
from servers.serving import echo_server

pytestmark = pytest.mark.fast

QUERY = "?EIO=4&transport=websocket"
PATH = f"/engine.io/{QUERY}"
SOON = 5.0
"""Seconds that only a failing test waits."""


class Site:
    """An echo server and a page beside it, on one port."""

    def __init__(self, server: EngineServer, *, timeout: float = SOON) -> None:
        self.server = server
        app = web.Application()
        server.attach(app)
        app.router.add_get("/", self._reply)
        self._runner = Runner(app, access_log=None, shutdown_timeout=0.1)
        self._timeout = timeout
        self.upgrades: Upgrades
        self.port = 0

    async def _reply(self, request: web.Request) -> web.Response:
        return web.Response(text="a page")

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Site]:
        await self._runner.setup()
        assert self._runner.server is not None
        self.upgrades = Upgrades(self._runner.server, [self.server.take_handshake], timeout=self._timeout)
        listening = await asyncio.get_running_loop().create_server(self.upgrades, "127.0.0.1", 0)
        self.port = listening.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            await self.server.shutdown()
            listening.close()
            self.upgrades.close()
            await self._runner.cleanup()

    def url(self, scheme: str, path: str) -> str:
        return f"{scheme}://127.0.0.1:{self.port}{path}"

    @property
    def seen_by_aiohttp(self) -> int:
        """How many requests aiohttp has had."""
        assert self._runner.server is not None
        return self._runner.server.requests_count

    async def connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with Site(echo_server(ping_interval=30)).open() as site:
        yield site


def head(path: str = PATH, **more: str) -> bytes:
    """A handshake, as bytes."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in {"Host": "x", **WEBSOCKET_HEADERS, **more}.items())
    return f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode()


async def read_until(reader: asyncio.StreamReader, what: bytes) -> bytes:
    async with asyncio.timeout(SOON):
        return await reader.readuntil(what)


async def test_a_handshake_is_taken_before_aiohttp_sees_it(site: Site) -> None:
    async with connect(site.url("ws", PATH), ping_interval=None, compression=None) as client:
        assert str(await client.recv()).startswith("0{")
        await client.send("4hello")
        assert await client.recv() == "4hello"
    assert site.seen_by_aiohttp == 0


async def test_a_handshake_in_pieces_is_left_to_aiohttp(site: Site) -> None:
    """It works as well."""
    reader, writer = await site.connection()
    for piece in (head()[:20], head()[20:60], head()[60:]):
        writer.write(piece)
        await asyncio.sleep(0.02)  # so that each is read for itself
    assert b" 101 " in await read_until(reader, b"\r\n\r\n")
    assert b'"sid"' in await read_until(reader, b"}")
    assert site.seen_by_aiohttp == 1
    writer.close()


async def test_frames_sent_with_a_handshake_are_received(site: Site) -> None:
    """Of a client that does not wait for the response, and has sent half a frame more."""
    reader, writer = await site.connection()
    writer.write(head() + b"\x81\x86\0\0\0\x004early" + b"\x81\x85\0\0")
    await read_until(reader, b"\r\n\r\n")
    await read_until(reader, b"}")
    await read_until(reader, b"\x81\x064early")
    writer.write(b"\0\x004bird")
    await read_until(reader, b"\x81\x054bird")
    assert site.seen_by_aiohttp == 0
    writer.close()


async def test_a_page_is_left_to_aiohttp(site: Site) -> None:
    """Also after another on the same connection, and where it asks for an unknown upgrade."""
    reader, writer = await site.connection()
    for _ in range(2):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 200 " in await read_until(reader, b"\r\n\r\n")
        await read_until(reader, b"a page")
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
    assert b" 200 " in await read_until(reader, b"\r\n\r\n")
    writer.close()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200),
        (f"/engine.io{QUERY}", 404),
        ("/engine.io/?EIO=3&transport=websocket", 400),
        ("/engine.io/?EIO=4&transport=telegraph", 400),
        (f"{PATH}&sid=unknown", 400),
    ],
)
async def test_requests_that_open_no_session_are_left_to_aiohttp(site: Site, path: str, status: int) -> None:
    with pytest.raises(InvalidStatus) as refusal:
        await connect(site.url("ws", path))
    assert refusal.value.response.status_code == status
    assert not site.server.sockets


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Sec-WebSocket-Version", "8"),
        ("Sec-WebSocket-Key", "short"),
        ("Content-Length", "5"),
        ("Content-Length", "50"),
        ("Content-Length", "much"),
        ("Transfer-Encoding", "chunked"),
    ],
)
async def test_invalid_handshakes_are_refused_by_aiohttp(site: Site, header: str, value: str) -> None:
    reader, writer = await site.connection()
    writer.write(head(**{header: value}) + b"12345")
    assert b" 400 " in await read_until(reader, b"\r\n\r\n")
    assert not site.server.sockets
    writer.close()


@pytest.mark.parametrize(("method", "status"), [("POST", 400), ("OPTIONS", 200), ("BREW", 400)])
async def test_only_get_is_a_handshake(site: Site, method: str, status: int) -> None:
    reader, writer = await site.connection()
    writer.write(head().replace(b"GET", method.encode(), 1))
    assert str(status).encode() in await read_until(reader, b"\r\n")
    assert not site.server.sockets
    writer.close()


async def test_a_handshake_may_have_an_empty_body(site: Site) -> None:
    reader, writer = await site.connection()
    writer.write(head(**{"Content-Length": "0"}) + b"\x81\x86\0\0\0\x004early")
    await read_until(reader, b"\x81\x064early")
    writer.close()


async def test_a_line_that_is_too_long_is_refused(site: Site) -> None:
    reader, writer = await site.connection()
    writer.write(head(**{"X-Long": "x" * 20_000}))
    assert b" 400 " in await read_until(reader, b"\r\n")
    writer.close()


async def ask_later(origin: str) -> bool:
    """Whether pages of ``origin`` may connect, found out elsewhere."""
    await asyncio.sleep(0)
    return origin == "http://friend"


@pytest.mark.parametrize("policy", [["http://friend"], lambda origin: origin == "http://friend", ask_later])
async def test_pages_of_other_origins_are_refused(policy: object) -> None:
    async with Site(echo_server(cors_allowed_origins=policy)).open() as site:
        url = site.url("ws", PATH)
        async with connect(url, origin="http://friend") as client:  # type: ignore[arg-type]
            assert str(await client.recv()).startswith("0{")
        with pytest.raises(InvalidStatus) as refusal:
            await connect(url, origin="http://foe")  # type: ignore[arg-type]
        assert refusal.value.response.status_code == 403


async def _connect(url: str) -> ClientConnection:
    return await connect(url, ping_interval=None)


@pytest.mark.parametrize("welcome", [True, False])
async def test_a_client_waits_until_the_application_has_decided(welcome: bool) -> None:
    """Its handshake gets a response once the application has accepted or refused it."""
    server = echo_server(ping_interval=30)
    decided = asyncio.Event()

    @server.on("connect")
    async def on_connect(sid: str, environ: dict[str, object]) -> bool:
        await decided.wait()
        return welcome

    async with Site(server).open() as site:
        connecting = asyncio.create_task(_connect(site.url("ws", PATH)))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(connecting), 0.1)
        decided.set()
        if welcome:
            client = await connecting
            await client.send("4hello")
            assert [str(await client.recv())[0], await client.recv()] == ["0", "4hello"]
            await client.close()
        else:
            with pytest.raises(InvalidStatus) as refusal:
                await connecting
            assert refusal.value.response.status_code == 401
            assert not server.sockets


async def test_a_silent_connection_is_closed() -> None:
    """After a while, and when the server stops."""
    async with Site(echo_server(), timeout=0.1).open() as site:
        reader, writer = await site.connection()
        async with asyncio.timeout(SOON):
            assert await reader.read() == b""
        writer.close()
        assert not site.upgrades.silent
    async with Site(echo_server()).open() as site:
        reader, writer = await site.connection()
        await until(lambda: len(site.upgrades.silent) == 1)
        site.upgrades.close()
        async with asyncio.timeout(SOON):
            assert await reader.read() == b""
        writer.close()


async def test_a_connection_that_ends_early_is_forgotten(site: Site) -> None:
    _, writer = await site.connection()
    await until(lambda: len(site.upgrades.silent) == 1)
    writer.transport.abort()
    await until(lambda: not site.upgrades.silent)


async def test_long_polling_is_left_to_aiohttp(site: Site) -> None:
    url = site.url("http", "/engine.io/?EIO=4&transport=polling")
    response = await request("GET", url)
    assert response.text.startswith("0{")
    sid = json.loads(response.text[1:])["sid"]
    assert (await request("POST", f"{url}&sid={sid}", data="1")).text == "ok"
