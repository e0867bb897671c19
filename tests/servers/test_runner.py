"""HTTP connections that take their time: idle, in the middle of a head, or of a response."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from gateway.servers.http import runner as httpserver
from gateway.servers.http.runner import Runner
from gateway.servers.http.upgrades import Upgrades
from harness.http1 import Connection, connection, head
from harness.memory import traced, tracing
from harness.waiting import until

SOON = 5.0
"""Seconds that only a failing test waits."""

LARGE = 4_000_000
"""Bytes that do not fit into the buffers of the system between two sockets, as `a_slow_reader` has them."""

MOST = 6_000_000
"""Bytes that a body can have."""

SMALL = 50_000
"""Bytes that fit into the buffers of the process and the system, but not into those of the system alone."""


class Site:
    """An application on a `Runner`."""

    def __init__(self, folder: Path, **options: float) -> None:
        self.url = ""
        self.large = folder / "large"
        self.large.write_bytes(b"x" * LARGE)
        self.waits, self.release = asyncio.Event(), asyncio.Event()
        app = web.Application(client_max_size=MOST)
        app.router.add_get("/", self._page)
        app.router.add_get("/wait", self._wait)
        app.router.add_get("/file", self._file)
        app.router.add_get("/large", self._large)
        app.router.add_get("/small", self._small)
        app.router.add_post("/read/{end}", self._read)
        self._runner = Runner(app, access_log=None, shutdown_timeout=0.1, headers={"X-Frame": "none"}, **options)

    async def _page(self, request: web.Request) -> web.Response:
        return web.Response(text="a page")

    async def _wait(self, request: web.Request) -> web.Response:
        self.waits.set()
        await self.release.wait()
        return web.Response(text="at last")

    async def _file(self, request: web.Request) -> web.FileResponse:
        return web.FileResponse(self.large)

    async def _large(self, request: web.Request) -> web.Response:
        return web.Response(body=b"x" * LARGE)

    async def _small(self, request: web.Request) -> web.Response:
        return web.Response(body=b"x" * SMALL)

    async def _read(self, request: web.Request) -> web.Response:
        """Read the body and keep it, for as long as whatever keeps this frame."""
        body = await request.read()
        match request.match_info["end"]:
            case "refused":
                raise web.HTTPBadRequest(text=f"{len(body)} bytes")
            case "refused-after-another-error":
                try:
                    int(body)
                except ValueError as error:
                    raise web.HTTPUnprocessableEntity from error
            case "failed":
                raise LookupError(len(body))
        return web.Response(text="read")

    @property
    def connections(self) -> int:
        assert self._runner.server is not None
        return len(self._runner.server.connections)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Site]:
        await self._runner.setup()
        assert self._runner.server is not None
        upgrades = Upgrades(self._runner.server, [], timeout=SOON)
        listening = await asyncio.get_running_loop().create_server(upgrades, "127.0.0.1", 0)
        for listener in listening.sockets:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            listening.close()
            upgrades.close()
            await self._runner.cleanup()


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_an_idle_connection_has_its_own_timeout(tmp_path: Path) -> None:
    """Not that of a request head, which is shorter here, as in the gateway."""
    async with Site(tmp_path, head_timeout=0.1, keepalive_timeout=0.6).open() as site, connection(site.url) as tcp:
        for _ in range(2):
            await asyncio.sleep(0.3)  # less than it may be idle, and more than a head may take
            tcp.send(head("/"))
            assert (await tcp.response()).status == 200
        start = now()
        assert await tcp.ended() == b""
        assert 0.5 < now() - start < SOON


@pytest.mark.parametrize("before", [0, 1, 2])
@pytest.mark.parametrize("rest", [b"", b"x"])
async def test_a_request_head_has_one_timeout_in_all(tmp_path: Path, before: int, rest: bytes) -> None:
    """As the first of a connection and after others; further bytes do not extend it. The response is 408."""
    async with Site(tmp_path, head_timeout=0.4, keepalive_timeout=60).open() as site, connection(site.url) as tcp:
        for _ in range(before):
            tcp.send(head("/"))
            assert (await tcp.response()).status == 200
        start = now()
        tcp.send(b"GET / HTTP/1.1\r\nHost: x\r\nX: ")
        response = asyncio.create_task(tcp.response())
        while not response.done():
            if rest:
                tcp.send(rest)
            await asyncio.wait([response], timeout=0.05)
        assert (await response).status == 408
        assert 0.3 < now() - start < SOON
        assert await tcp.ended() == b""
        await until(lambda: site.connections == 0, SOON)


async def test_a_connection_is_not_idle_once_a_head_has_begun(tmp_path: Path) -> None:
    """The idle timeout passes in the middle of the head, which has its own."""
    async with Site(tmp_path, head_timeout=SOON, keepalive_timeout=0.4).open() as site, connection(site.url) as tcp:
        tcp.send(head("/"))
        await tcp.response()
        await asyncio.sleep(0.2)  # half of the time that it may be idle
        tcp.send(head("/")[:10])
        await asyncio.sleep(0.6)  # beyond its end
        tcp.send(head("/")[10:])
        assert (await tcp.response()).status == 200
        assert await tcp.ended() == b""


async def test_a_head_after_a_slow_request_has_its_timeout(tmp_path: Path) -> None:
    """It has its timeout as well, and the request before it gets its response first."""
    async with Site(tmp_path, head_timeout=0.2, keepalive_timeout=60).open() as site, connection(site.url) as tcp:
        tcp.send(head("/wait"))
        await site.waits.wait()
        tcp.send(b"GET / HTTP/1.1\r\nHo")
        await asyncio.sleep(0.4)  # twice the time that a head has
        site.release.set()
        assert (await tcp.response()).text == "at last"
        assert (await tcp.response()).status == 408


@pytest.mark.parametrize("pieces", [False, True])
async def test_the_size_of_a_head_is_limited(tmp_path: Path, pieces: bool) -> None:
    """Many headers, none of them too long: 60 KB pass, 72 KB are refused, in one read or in many."""
    async with Site(tmp_path).open() as site:
        for count, status in ((10, 200), (12, 400)):
            async with connection(site.url) as tcp:
                asked = head("/", [(f"X-{number}", "x" * 6000) for number in range(count)])
                if pieces:
                    await tcp.send_in_pieces(asked, 5000)
                else:
                    tcp.send(asked)
                response = await tcp.response()
                assert response.status == status
                assert status == 200 or "65536" in response.text


async def test_an_endless_head_is_refused_at_the_limit(tmp_path: Path) -> None:
    """It is refused as soon as it is too large."""
    async with Site(tmp_path, head_timeout=60).open() as site, connection(site.url) as tcp:
        tcp.send(head("/")[:-2])
        sent, response = 0, asyncio.create_task(tcp.response())
        while not response.done() and sent < 200_000:
            tcp.send(b"X-%06d: %b\r\n" % (sent, b"x" * 600))
            sent += 600
            await asyncio.wait([response], timeout=0.001)
        assert (await response).status == 400


@asynccontextmanager
async def a_slow_reader(url: str) -> AsyncIterator[Connection]:
    """A connection that reads only what the test asks for, with the smallest buffers there are."""
    host, port = url.removeprefix("http://").split(":")
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, (host, int(port)))
    reader, writer = await asyncio.open_connection(sock=raw, limit=1024)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()


@pytest.mark.parametrize("path", ["/file", "/large"])
@pytest.mark.parametrize("reads", [0, 20])
async def test_sending_a_response_has_a_timeout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, reads: int
) -> None:
    """A file, or what is in memory, read 20 bytes at a time or not at all: what served it is freed."""
    monkeypatch.setattr(httpserver, "MIN_RATE", LARGE)
    files = _open_files()
    async with Site(tmp_path, reply_timeout=0.2).open() as site, a_slow_reader(site.url) as tcp:
        tasks = len(asyncio.all_tasks())
        start = now()
        tcp.send(head(path))
        await until(lambda: site.connections == 1, SOON)
        while site.connections:
            if reads and not tcp.reader.at_eof():
                await tcp.reader.read(reads)
            await asyncio.sleep(0.02)  # it reads slowly
            assert now() - start < SOON
        assert now() - start > 1.0
        await until(lambda: len(asyncio.all_tasks()) <= tasks, SOON)
    await until(lambda: _open_files() <= files, SOON)


async def test_a_response_that_is_read_in_time_is_complete(tmp_path: Path) -> None:
    """And so is the next one on the connection, for which the timeout starts again."""
    async with Site(tmp_path, reply_timeout=SOON).open() as site, connection(site.url) as tcp:
        for path in ("/file", "/large", "/"):
            tcp.send(head(path))
            response = await tcp.response()
            assert (response.status, len(response.body)) == (200, 6 if path == "/" else LARGE)


async def test_flushing_the_buffer_has_a_timeout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The response is written and the idle connection closed: what remains of it is not kept in memory for ever."""
    monkeypatch.setattr(httpserver, "MIN_RATE", LARGE)
    async with (
        Site(tmp_path, reply_timeout=0.3, keepalive_timeout=0.1).open() as site,
        a_slow_reader(site.url) as tcp,
    ):
        tcp.send(head("/small"))
        await until(lambda: site.connections == 1, SOON)
        await until(lambda: site.connections == 0, SOON)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            async with asyncio.timeout(SOON):
                await tcp.reader.readexactly(SMALL)


@pytest.mark.parametrize("asked", [head("/"), head("/nothing"), head("/", method="POST"), b"no http\r\n\r\n"])
async def test_every_response_has_the_headers_and_no_server(tmp_path: Path, asked: bytes) -> None:
    """Also those that aiohttp makes by itself."""
    async with Site(tmp_path).open() as site, connection(site.url) as tcp:
        tcp.send(asked)
        response = await tcp.response()
        assert response.headers["x-frame"] == "none"
        assert "server" not in response.headers


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize(
    ("path", "length", "status"),
    [
        ("/read/refused", LARGE, 400),
        ("/read/refused-after-another-error", LARGE, 422),
        ("/read/failed", LARGE, 500),
        ("/read/too-much", 2 * LARGE, 413),
        ("/nowhere", LARGE, 404),
        ("/file", LARGE, 405),
        ("/read/lost", 2 * LARGE, None),
    ],
)
async def test_a_body_is_freed_with_its_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, path: str, length: int, status: int | None
) -> None:
    """However its request ended: an error that aiohttp replies with, or keeps, is not to keep the frames it has gone
    through, and with them what they had read, until Python's collector comes.
    """
    caplog.set_level(logging.CRITICAL, "aiohttp.server")  # what is captured keeps its error
    async with Site(tmp_path).open() as site:
        with tracing():
            for attempt in range(4):
                async with connection(site.url) as tcp:
                    tcp.send(head(path, [("Content-Length", str(length))], method="POST") + b"x" * (LARGE - 1))
                    if status is None:
                        await tcp.writer.drain()
                    else:
                        tcp.send(b"x" * (length - LARGE + 1))
                        assert (await tcp.response()).status == status
                await until(lambda: site.connections == 0, SOON)
                if attempt == 0:
                    before = traced()
            await until(lambda: traced() - before < LARGE / 20, SOON)


@pytest.mark.parametrize("data", [b"x" * LARGE, b"GET /" + b"x" * LARGE, b"GET / HTTP/1.1\r\nA: " + b"x" * LARGE])
async def test_malformed_requests_are_freed(tmp_path: Path, data: bytes) -> None:
    async with Site(tmp_path).open() as site:
        with tracing():
            for attempt in range(21):
                async with connection(site.url) as tcp:
                    tcp.send(data)
                    assert (await tcp.response()).status == 400
                await until(lambda: site.connections == 0, SOON)
                if attempt == 0:
                    before = traced()
            await until(lambda: traced() - before < LARGE / 20, SOON)
