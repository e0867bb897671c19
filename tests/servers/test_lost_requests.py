"""A long-polling client whose connection is lost is gone at once, whatever its request was doing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.asyncio.client import connect

from gateway.servers.engineio import polling
from gateway.servers.engineio.socket import EngineState
from harness.client import Join, make_room
from harness.http import WEBSOCKET_HEADERS, request
from harness.memory import traced, tracing
from harness.node import Driver, install_packages
from harness.process import GatewayProcess
from harness.stock import SocketIOClient
from harness.waiting import until
from servers.nodes import behind_another_node
from servers.serving import echo_server, serving

POLLING = "?EIO=4&transport=polling"
AT_ONCE = 1.0
"""Seconds within which a loss is noticed, on a machine that may have much else to do; pings take longer here."""


@pytest.fixture(params=["aiohttp", "handlers-cancelled", "another-node"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    """On aiohttp's own server, also where it cancels the handlers of lost requests; and where the requests of a session
    come to another node than the one that has it.
    """
    options = {"ping_interval": 60, "ping_timeout": 60, "max_http_buffer_size": 10_000_000}
    if request.param == "another-node":
        async with behind_another_node("engine.io", **options) as server:
            yield server
        return
    server = echo_server(**options)
    cancelling = request.param == "handlers-cancelled"
    async with serving(server, "engine.io", handler_cancellation=cancelling) as server.url:
        yield server


class Connection:
    """One HTTP connection that sends any bytes."""

    def __init__(self, url: str) -> None:
        self.address = urlsplit(url)
        self.path = f"{self.address.path}?{self.address.query}"

    async def __aenter__(self) -> Connection:
        self.reader, self.writer = await asyncio.open_connection(self.address.hostname, self.address.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()

    def poll(self) -> None:
        self.writer.write(f"GET {self.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    def post(self, body: str, *, length: int | None = None) -> None:
        size = len(body) if length is None else length
        self.writer.write(f"POST {self.path} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n{body}".encode())

    async def lose(self, how: str) -> None:
        if how == "reset":
            self.writer.transport.abort()
        else:
            self.writer.close()


async def open_polling(server: Any) -> tuple[str, str]:
    """The URL and the sid of a new long-polling session."""
    response = await request("GET", server.url + POLLING)
    sid = json.loads(response.text[1:])["sid"]
    return f"{server.url}{POLLING}&sid={sid}", sid


async def test_partial_messages_are_freed_with_their_connection(server: Any) -> None:
    """Half a body, half a message, half a fragmented one: all are gone with their connection, without waiting for
    Python's garbage collector, which comes rarely to what is old.
    """
    handshake = "".join(f"{name}: {value}\r\n" for name, value in {"Host": "x", **WEBSOCKET_HEADERS}.items())
    opening = f"GET {urlsplit(server.url).path}?EIO=4&transport=websocket HTTP/1.1\r\n{handshake}\r\n".encode()
    size = (2_000_000).to_bytes(8, "big") + bytes(4)
    with tracing():
        for beginning in (
            b"",
            opening + b"\x81\xff" + size,
            opening + b"\x01\xfe\x00\x05" + bytes(9) + b"\x80\xff" + size,
        ):
            url = server.url if beginning else (await open_polling(server))[0]
            before = traced()
            async with Connection(url) as connection:
                if beginning:
                    connection.writer.write(beginning + b"x" * 1_000_000)
                else:
                    connection.post("4" + "x" * 1_000_000, length=2_000_000)
                await connection.writer.drain()
                await until(lambda: traced() - before > 900_000)  # noqa: B023 - called before the next one
            await until(lambda: not server.sockets)
            await until(lambda: traced() - before < 300_000, AT_ONCE)  # noqa: B023


CHUNKED = "Transfer-Encoding: chunked\r\n\r\n7a1200\r\n"


@pytest.mark.parametrize(
    ("head", "packet", "status"),
    [
        ("Content-Length: 8000001\r\n\r\n", "4", 413),
        (CHUNKED, "4", 413),
        ("Content-Length: 900000\r\n\r\n", "9", 400),
        ("Content-Length: 900000\r\n\r\n", "bnot base64", 400),
    ],
    ids=["too-large", "too-large-chunked", "no-packet", "no-base64"],
)
async def test_a_refused_body_is_freed(server: Any, head: str, packet: str, status: int) -> None:
    """As above: a body that is refused takes no memory afterwards."""
    server.max_http_buffer_size = 1_000_000
    with tracing():
        for attempt in range(5):
            url, _ = await open_polling(server)
            async with Connection(url) as connection:
                connection.writer.write(f"POST {connection.path} HTTP/1.1\r\nHost: x\r\n{head}{packet}".encode())
                connection.writer.write(b"x" * (900_000 - len(packet) if status == 400 else 8_000_000))
                async with asyncio.timeout(5):
                    assert (await connection.reader.readline()).split()[1] == str(status).encode()
            await until(lambda: not server.sockets)
            if attempt == 0:
                before = traced()
        await until(lambda: traced() - before < 300_000, AT_ONCE)


async def is_polled(server: Any, sid: str) -> None:
    await until(lambda: server.sockets[sid].polling.is_polled)


async def is_gone(server: Any, reason: str = "transport close") -> None:
    """The application is told of the end, once and at once."""
    await until(lambda: bool(server.reasons), AT_ONCE)
    assert server.reasons == [reason]
    assert not server.sockets


@pytest.mark.parametrize("how", ["reset", "closed"])
async def test_a_lost_poll_ends_the_session(server: Any, how: str) -> None:
    """Whether the system of the dead client sends FIN or RST."""
    url, sid = await open_polling(server)
    async with Connection(url) as poll:
        poll.poll()
        await is_polled(server, sid)
        await poll.lose(how)
        await is_gone(server)


async def test_a_lost_pipelined_poll_ends_the_session(server: Any) -> None:
    """The requests before it get their responses, and the poll is the last one of the connection."""
    url, sid = await open_polling(server)
    async with Connection(url) as both:
        both.post("4hello")
        both.poll()
        both.poll()
        await both.reader.readuntil(b"ok")
        await both.reader.readuntil(b"4hello")
        await is_polled(server, sid)
        await both.lose("reset")
        await is_gone(server)


async def test_a_lost_partial_body_ends_the_session(server: Any) -> None:
    """The rest of it will never come."""
    url, sid = await open_polling(server)
    async with Connection(url) as post:
        post.post("4hello", length=1000)
        await until(lambda: server.sockets[sid].polling.posting)
        await post.lose("reset")
        await is_gone(server)


async def test_a_body_that_takes_too_long_is_408(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """408 says so, and the session ends; further bytes do not extend the timeout."""
    monkeypatch.setattr(polling, "BODY_TIMEOUT", 0.3)
    url, _ = await open_polling(server)
    async with Connection(url) as post:
        post.post("4hello", length=1000)
        response = asyncio.create_task(post.reader.readuntil(b"}"))
        while not response.done():
            post.writer.write(b"x")
            await asyncio.wait([response], timeout=0.02)
        head, body = (await response).split(b"\r\n\r\n")
        assert b" 408 " in head.splitlines()[0]
        assert json.loads(body) == {"code": 3, "message": "Bad request: a body must come within 0.3 seconds"}
        await is_gone(server, "transport error")


async def test_a_body_lost_while_it_is_handled_ends_the_session(server: Any) -> None:
    """Its sender does not learn that it arrived, and cannot continue."""
    url, _ = await open_polling(server)
    handling = asyncio.Event()

    @server.on("message")
    async def on_message(sid: str, data: Any) -> None:
        handling.set()
        await until(lambda: not server.sockets)

    async with Connection(url) as post:
        post.post("4hello")
        await handling.wait()
        await post.lose("reset")
        await is_gone(server)


async def test_a_lost_response_ends_the_session(server: Any) -> None:
    """Half of it is on its way when the client dies."""
    url, sid = await open_polling(server)
    async with Connection(url) as poll:
        poll.writer.transport.pause_reading()
        poll.poll()
        await is_polled(server, sid)
        await server.send(sid, "x" * 20_000_000)
        await until(lambda: not server.sockets[sid].polling.is_polled)
        assert (await request("POST", url, data="3")).status == 200, "it is there, and gets its response"
        assert not server.reasons
        await poll.lose("reset")
        await is_gone(server)


async def test_a_poll_may_be_repeated_during_an_upgrade(server: Any) -> None:
    """While a client upgrades to a WebSocket it may abort a poll, and send another or finish."""
    url, sid = await open_polling(server)
    async with connect(url.replace("http", "ws").replace("polling", "websocket")) as socket:
        for _ in range(2):
            async with Connection(url) as poll:
                poll.poll()
                await is_polled(server, sid)
                await poll.lose("reset")
                await until(lambda: not server.sockets[sid].polling.is_polled)
        await socket.send("2probe")
        assert await socket.recv() == "3probe"
        await socket.send("5")
        await socket.send("4still here")
        assert await socket.recv() == "4still here"
        assert not server.reasons


async def test_losing_both_transports_during_an_upgrade_ends_the_session(server: Any) -> None:
    """A client that dies in the middle of it loses the poll and the WebSocket, in either order."""
    for first, between in (("poll", EngineState.STRANDED), ("websocket", EngineState.POLLING)):
        url, sid = await open_polling(server)
        socket = await connect(url.replace("http", "ws").replace("polling", "websocket"))
        async with Connection(url) as poll:
            poll.poll()
            await is_polled(server, sid)
            losing = [poll.writer.transport, socket.transport]
            for transport in losing if first == "poll" else reversed(losing):
                assert not server.reasons
                transport.abort()
                await until(lambda: not server.sockets or server.sockets[sid].state is between)  # noqa: B023
            await is_gone(server)
        server.reasons.clear()
        await socket.wait_closed()


async def test_a_client_between_two_polls_keeps_its_session(server: Any) -> None:
    """The end of an idle connection is not a loss: a client may use one for each request."""
    url, _ = await open_polling(server)
    for _ in range(3):
        async with Connection(url) as post:
            post.post("4hello")
            await post.reader.readuntil(b"ok")
        async with Connection(url) as poll:
            poll.poll()
            await poll.reader.readuntil(b"4hello")
    assert (await request("POST", url, data="4still here")).status == 200
    assert (await request("GET", url)).text == "4still here"
    assert not server.reasons


async def test_a_killed_stock_client_is_offline_at_once(gateway: GatewayProcess, join: Join) -> None:
    """kill -9 of the client's process: the room receives at once that it is offline."""
    alice = await join()
    doomed = Driver(install_packages())
    await doomed.start()
    client = SocketIOClient(doomed, gateway.url, f"{alice.username}x", transports=["polling"])
    await client.__aenter__()
    room = await make_room(alice, client)
    doomed._process.kill()
    started = asyncio.get_running_loop().time()
    gone = await alice.next_event("presence")
    assert gone.fields == {"room": room, "username": client.username, "online": False}
    assert asyncio.get_running_loop().time() - started < AT_ONCE
    await doomed.stop()


async def test_a_stock_client_that_upgrades_keeps_its_session(join: Join) -> None:
    """Many of them, so that every order of the poll's end and the WebSocket's probe comes up."""
    alice = await join()
    clients = [await join("socketio-polling") for _ in range(20)]
    room = await make_room(alice, *clients)
    for client in clients:
        await client.wait_for_transport("websocket")
    assert [event.fields for event in await alice.drain() if event.name == "presence"] == []
    for client in clients:
        assert [notice.name for notice in client.notices.log] == ["connect"]
    assert room
