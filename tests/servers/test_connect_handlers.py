"""Handlers of ``connect`` and ``disconnect``: their replies reach the client, and their errors are logged."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import Any

import pytest
import socketio
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from gateway.servers import EngineServer, SocketServer
from harness.http import WEBSOCKET_HEADERS, Response, request
from harness.http1 import connection, head, masked
from harness.inbox import TIMEOUT
from harness.node import Driver
from harness.waiting import until
from servers.application import serve_alone
from servers.serving import serving
from servers.test_drop_in import Stock

POLLING = "?EIO=4&transport=polling"
WEBSOCKET = "?EIO=4&transport=websocket"
WAYS = [("polling", False), ("websocket", False), ("websocket", True)]
"""Which transport, and whether the handshake may be taken before aiohttp sees it."""


async def shake(url: str, transport: str) -> Response:
    """The reply to a handshake."""
    if transport == "polling":
        return await request("GET", url + POLLING)
    async with connection(url) as tcp:
        tcp.send(head(f"/engine.io/{WEBSOCKET}", WEBSOCKET_HEADERS.items()))
        return await tcp.response()


# --- Engine.IO


@pytest.mark.parametrize(("transport", "past_aiohttp"), WAYS)
@pytest.mark.parametrize("kind", ["function", "coroutine"])
@pytest.mark.parametrize(
    ("returned", "body"),
    [
        (False, "Unauthorized"),
        (0, "Unauthorized"),
        ("", "Unauthorized"),
        ("no, you", "no, you"),
        ({"code": 7, "why": "é"}, {"code": 7, "why": "é"}),
        ([1], [1]),
        (1.5, 1.5),
    ],
    ids=repr,
)
async def test_a_refusal_is_401_with_its_reason(
    transport: str, past_aiohttp: bool, kind: str, returned: Any, body: Any
) -> None:
    """As python-engineio: in JSON, before a WebSocket exists, and no disconnect handler is called."""
    server, ends = EngineServer(), []

    def refuse(sid: str, environ: Any) -> Any:
        assert environ["PATH_INFO"] == "/engine.io/"
        return returned

    async def refuse_later(sid: str, environ: Any) -> Any:
        await asyncio.sleep(0)
        return refuse(sid, environ)

    server.on("connect", refuse if kind == "function" else refuse_later)
    server.on("disconnect", lambda *args: ends.append(args))
    async with serving(server, "engine.io", past_aiohttp=past_aiohttp) as url:
        response = await shake(url, transport)
        assert (response.status, json.loads(response.text)) == (401, body)
        assert response.headers["content-type"].startswith("application/json")
        assert not server.sockets
    assert not ends


@pytest.mark.parametrize(("transport", "past_aiohttp"), WAYS)
async def test_disconnecting_and_then_refusing_a_client_is_401(transport: str, past_aiohttp: bool) -> None:
    """A handler may disconnect the client and then refuse it as well."""
    server = EngineServer()

    @server.on("connect")
    async def on_connect(sid: str, environ: dict[str, Any]) -> str:
        await server.disconnect(sid)
        return "nobody"

    async with serving(server, "engine.io", past_aiohttp=past_aiohttp) as url:
        response = await shake(url, transport)
        assert (response.status, json.loads(response.text)) == (401, "nobody")
    assert not server.sockets


@pytest.mark.parametrize(("transport", "past_aiohttp"), WAYS)
@pytest.mark.parametrize("returned", [None, True])
async def test_an_accepted_client_receives_what_the_handler_sent(
    transport: str, past_aiohttp: bool, returned: Any
) -> None:
    """After the handshake, on every transport; the session of ``eio.session`` is there as well."""
    server = EngineServer()

    @server.on("connect")
    async def on_connect(sid: str, environ: Any) -> Any:
        assert server.transport(sid) == transport
        await server.send(sid, "early")
        await server.send(sid, b"\x01")
        await server.save_session(sid, {"name": "x"})
        return returned

    @server.on("message")
    async def on_message(sid: str, data: Any) -> None:
        await server.send(sid, [data, await server.get_session(sid)])

    async with serving(server, "engine.io", past_aiohttp=past_aiohttp) as url:
        if transport == "polling":
            opened, *early = (await request("GET", url + POLLING)).text.split("\x1e")
            assert (opened[0], early) == ("0", ["4early", "bAQ=="])
            await request("POST", f"{url}{POLLING}&sid={json.loads(opened[1:])['sid']}", data="1")
            return
        async with connect(f"{url.replace('http', 'ws')}{WEBSOCKET}") as socket:
            assert str(await socket.recv()).startswith("0")
            assert [await socket.recv(), await socket.recv()] == ["4early", b"\x01"]
            await socket.send("4x")
            assert await socket.recv() == '4["x",{"name":"x"}]'


@pytest.mark.parametrize("past_aiohttp", [False, True])
async def test_frames_sent_while_the_connect_handler_runs_are_not_lost(past_aiohttp: bool) -> None:
    """Frames after the handshake wait for the decision; a client that leaves meanwhile is reported like any other."""
    server, asked, go, received, ends = EngineServer(), asyncio.Event(), asyncio.Event(), [], []

    @server.on("connect")
    async def on_connect(sid: str, environ: Any) -> None:
        asked.set()
        await go.wait()

    server.on("message", lambda sid, data: received.append(data))
    server.on("disconnect", lambda sid, reason: ends.append(reason))
    async with serving(server, "engine.io", past_aiohttp=past_aiohttp) as url:
        for frames in (["4one", "4two"], []):
            async with connection(url) as tcp:
                tcp.send(head(f"/engine.io/{WEBSOCKET}", WEBSOCKET_HEADERS.items()) + b"".join(map(masked, frames)))
                await asyncio.wait_for(asked.wait(), TIMEOUT)
                if frames:
                    tcp.send(masked("4three"))
                    go.set()
                    assert (await tcp.response()).status == 101
                    await until(lambda: received == ["one", "two", "three"])
            asked.clear()
            go.set()
            await until(lambda: not server.sockets)
            go.clear()
    assert ends == ["transport close", "transport close"]


@pytest.mark.parametrize("past_aiohttp", [False, True])
async def test_a_server_can_stop_while_a_connect_handler_runs(past_aiohttp: bool) -> None:
    server, asked, go = EngineServer(), asyncio.Event(), asyncio.Event()

    @server.on("connect")
    async def on_connect(sid: str, environ: Any) -> None:
        asked.set()
        await go.wait()

    async with serving(server, "engine.io", past_aiohttp=past_aiohttp) as url:
        asking = asyncio.create_task(shake(url, "websocket"))
        await asyncio.wait_for(asked.wait(), TIMEOUT)
        await server.shutdown()
        go.set()
        assert (await asking).status == 503


@pytest.mark.parametrize(("transport", "past_aiohttp"), WAYS)
@pytest.mark.parametrize("kind", ["function", "coroutine"])
async def test_an_error_in_an_engineio_connect_handler_refuses_the_client(
    transport: str, past_aiohttp: bool, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It refuses the client, the error is logged, and the handler is not called again."""
    server, calls = EngineServer(), []

    def fail(sid: str, environ: Any = None) -> None:
        calls.append(sid)
        raise TypeError("a mistake of the application's own")

    async def fail_later(sid: str, environ: Any) -> None:
        fail(sid, environ)

    server.on("connect", fail if kind == "function" else fail_later)
    async with serving(server, "engine.io", past_aiohttp=past_aiohttp) as url:
        response = await shake(url, transport)
    assert (response.status, json.loads(response.text)) == (401, "Unauthorized")
    assert len(calls) == 1
    assert caplog.text.count("TypeError: a mistake of the application's own") == 1


@pytest.mark.parametrize("takes", [1, 2])
@pytest.mark.parametrize("fails", [False, True])
async def test_an_engineio_disconnect_handler_may_take_a_reason(
    takes: int, fails: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """With a reason or, of the older kind, without; its TypeError is its own."""
    server, calls = EngineServer(), []

    async def end(*args: Any) -> None:
        calls.append(args[1:])
        if fails:
            raise TypeError("a mistake of the application's own")

    async def older(sid: str) -> None:
        await end(sid)

    async def newer(sid: str, reason: str) -> None:
        await end(sid, reason)

    server.on("disconnect", newer if takes == 2 else older)
    async with serving(server, "engine.io") as url:
        async with connect(f"{url.replace('http', 'ws')}{WEBSOCKET}") as socket:
            await socket.recv()
        await until(lambda: calls and not server._ending)
    assert calls == [("transport close",) if takes == 2 else ()]
    assert caplog.text.count("TypeError: a mistake of the application's own") == int(fails)


# --- Socket.IO


def refuse_with(server: SocketServer, refusal: Any) -> None:
    """A ``connect`` handler that refuses, in that way, everybody whose auth is not ``yes``."""

    @server.event
    async def connect(sid: str, environ: Any, auth: Any) -> Any:
        if auth == "yes":
            return None
        if callable(refusal):
            raise refusal()
        return refusal


Refusal = socketio.exceptions.ConnectionRefusedError
REFUSALS = {
    "False": (False, {"message": "Connection rejected by server"}),
    "no reason": (Refusal, {"message": "Connection rejected by server"}),
    "a reason": (partial(Refusal, "no"), {"message": "no"}),
    "data": (partial(Refusal, "no", {"code": 7}), {"message": "no", "data": {"code": 7}}),
    "several": (partial(Refusal, "no", 1, 2), {"message": "no", "data": [1, 2]}),
    "errno": (partial(ConnectionRefusedError, "errno"), {"message": "Connection refused by server"}),
}


@pytest.mark.parametrize("always_connect", [False, True])
@pytest.mark.parametrize(("refusal", "reason"), REFUSALS.values(), ids=REFUSALS)
async def test_a_refusal_gives_the_reason(always_connect: bool, refusal: Any, reason: Any) -> None:
    """In CONNECT_ERROR; with ``always_connect`` in the DISCONNECT that follows CONNECT."""
    server = SocketServer(socketio.AsyncManager(), always_connect=always_connect)
    refuse_with(server, refusal)
    async with serving(server, "socket.io") as url, connect(f"{url.replace('http', 'ws')}{WEBSOCKET}") as socket:
        await socket.recv()
        await socket.send("40")
        if always_connect:
            assert str(await socket.recv()).startswith("40{")
        packet = str(await socket.recv())
        assert (packet[:2], json.loads(packet[2:])) == ("41" if always_connect else "44", reason)


async def test_the_stock_client_receives_the_reason(driver: Driver) -> None:
    """As ``connect_error``, with the data."""
    server = SocketServer(socketio.AsyncManager())
    refuse_with(server, partial(Refusal, "no", {"code": 7}))
    async with serve_alone(server) as url:
        client = Stock(driver, url, transports=["websocket"])
        driver.listeners[client.number] = client._report
        await client._do("open", url=url, options=client._options)
        error = await client.next_notice("connect_error")
        assert error == {"message": "no", "data": {"code": 7}}
        await client.__aexit__()


class Handlers(socketio.AsyncNamespace):  # type: ignore[misc]
    """Handlers that fail, as methods of a class."""

    def __init__(self, fail: Any) -> None:
        super().__init__("/")
        self.on_connect = fail
        self.on_disconnect = fail


@pytest.mark.parametrize("auth", ["", '{"token":"t"}'])
@pytest.mark.parametrize("kind", ["function", "coroutine", "class"])
async def test_an_error_in_a_connect_handler_is_logged_as_its_own(
    auth: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A TypeError does not mean a handler without auth: it is called once, and its own error is logged."""
    server, calls = SocketServer(socketio.AsyncManager()), []

    def fail(sid: str, environ: Any, auth: Any = None) -> None:
        calls.append(auth)
        raise TypeError("a mistake of the application's own")

    async def fail_later(sid: str, environ: Any, auth: Any) -> None:
        fail(sid, environ, auth)

    if kind == "class":
        server.register_namespace(Handlers(fail_later))
    else:
        server.on("connect", fail if kind == "function" else fail_later)
    async with serving(server, "socket.io") as url, connect(f"{url.replace('http', 'ws')}{WEBSOCKET}") as socket:
        await socket.recv()
        await socket.send(f"40{auth}")
        assert await socket.recv() == '44{"message":"Internal server error"}'
    assert calls == [json.loads(auth) if auth else None]
    assert caplog.text.count("TypeError: a mistake of the application's own") == 1
    assert "positional argument" not in caplog.text


@pytest.mark.parametrize("how", ["a packet", "the transport", "the server"])
@pytest.mark.parametrize("kind", ["newer", "older", "function", "class"])
async def test_an_error_in_a_disconnect_handler_is_logged_and_the_client_is_gone(
    how: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is called once, its error is logged, and the client still leaves every namespace."""
    server, calls = SocketServer(socketio.AsyncManager()), []

    def fail(*args: Any) -> None:
        calls.append(args)
        raise TypeError("a mistake of the application's own")

    async def newer(sid: str, reason: str) -> None:
        fail(sid, reason)

    async def older(sid: str) -> None:
        fail(sid)

    def function(sid: str, reason: str = "none") -> None:
        fail(sid, reason)

    if kind == "class":
        handlers = Handlers(newer)
        handlers.on_connect = lambda *_: None
        server.register_namespace(handlers)
    else:
        server.on("disconnect", {"newer": newer, "older": older, "function": function}[kind])
    server.on("disconnect", lambda *args: calls.append(args), namespace="/other")
    async with serving(server, "socket.io") as url:
        async with connect(f"{url.replace('http', 'ws')}{WEBSOCKET}") as socket:
            await socket.recv()
            await socket.send("40")
            sid = json.loads(str(await socket.recv())[2:])["sid"]
            await socket.send("40/other,")
            await socket.recv()
            if how == "a packet":
                await socket.send("41")
                await until(lambda: calls)
            elif how == "the server":
                with pytest.raises(TypeError, match="own"):
                    await server.disconnect(sid)
        await until(lambda: not server.environ)
        assert len(calls) == 2
        assert not server.manager.rooms
    assert len(calls[0]) == (1 if kind == "older" else 2)


async def test_an_error_in_an_event_handler_calls_it_once(caplog: pytest.LogCaptureFixture) -> None:
    """Neither is that called twice."""
    server, calls = SocketServer(socketio.AsyncManager()), []

    @server.event
    async def act(sid: str, value: Any) -> None:
        calls.append(value)
        raise TypeError("a mistake of the application's own")

    async with serving(server, "socket.io") as url, connect(f"{url.replace('http', 'ws')}{WEBSOCKET}") as socket:
        await socket.recv()
        await socket.send("40")
        await socket.recv()
        await socket.send('421["act",1]')
        await until(lambda: "a mistake of the application's own" in caplog.text)
    assert calls == [1]


async def test_what_a_connect_handler_emits_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """One that emits more than ``max_buffer`` has its client closed, once, however much it goes on."""
    server = SocketServer(socketio.AsyncManager(), max_buffer=10_000)

    @server.on("connect")
    async def flood(sid: str, environ: Any) -> None:
        for _ in range(10):
            await server.emit("flood", "x" * 4000, to=sid)

    with caplog.at_level("INFO", "gateway.servers"):
        async with serving(server, "socket.io") as url, connect(f"{url.replace('http', 'ws')}{WEBSOCKET}") as socket:
            await socket.recv()
            await socket.send("40")
            async with asyncio.timeout(TIMEOUT):
                await socket.wait_closed()
            await until(lambda: not server.eio.sockets)
    assert [record.message for record in caplog.records] == ["cut a slow client"]


@pytest.mark.parametrize("drops", [False, True])
async def test_packets_emitted_before_a_refusal_follow_it(drops: bool) -> None:
    """They follow the refusal, unless the handler has dropped them; another attempt is not affected."""
    server = SocketServer(socketio.AsyncManager())

    @server.on("connect")
    async def greet(sid: str, environ: Any, auth: Any) -> bool:
        await server.emit("hello", auth, to=sid)
        client = server.client(sid)
        if drops and auth == "refused" and client is not None:
            client.socket.drop_held()
        return auth != "refused"

    async with serving(server, "socket.io") as url, connect(f"{url.replace('http', 'ws')}{WEBSOCKET}") as socket:
        await socket.recv()
        for auth in ("refused", "accepted"):
            await socket.send(f'40"{auth}"')
        expected = ["44", *([] if drops else ['42["hello","refused"]']), "40", '42["hello","accepted"]']
        for packet in expected:
            assert str(await socket.recv()).startswith(packet)


# --- Origin


@pytest.mark.parametrize("allowed", [None, "*", ["http://a.example"], "function"])
@pytest.mark.parametrize("transport", ["polling", "websocket"])
@pytest.mark.parametrize(
    "origin",
    [b"http://[", b"http://[::1", b"http://]", b"http://a\xff", b"\xff\xfe", "http://a℀b".encode(), b"http://[v1.x"],
    ids=repr,
)
async def test_a_malformed_origin_is_400(origin: bytes, transport: str, allowed: Any) -> None:
    """Neither the server nor its response breaks on it, on either entrance."""
    cors = (lambda origin, environ: True) if allowed == "function" else allowed
    server = EngineServer(cors_allowed_origins=cors)
    headers = list(WEBSOCKET_HEADERS.items()) if transport == "websocket" else []
    for past_aiohttp in (False, True):
        async with serving(server, "engine.io", past_aiohttp=past_aiohttp) as url, connection(url) as tcp:
            server.accepting = True
            asked = head(f"/engine.io/?EIO=4&transport={transport}", headers)
            tcp.send(asked.replace(b"\r\n\r\n", b"\r\nOrigin: " + origin + b"\r\n\r\n"))
            response = await tcp.response()
            assert (response.status, json.loads(response.text)["code"]) == (400, 3), response.text


@pytest.mark.parametrize("origin", ["http://a.example", "null", "", "x", "http://a.example:1:2", "//"])
async def test_other_origins_are_forbidden(origin: str) -> None:
    server = EngineServer()
    async with serving(server, "engine.io") as url, connection(url) as tcp:
        tcp.send(head("/engine.io/?EIO=4&transport=polling", [("Origin", origin)]))
        assert (await tcp.response()).status == 403
        with pytest.raises(InvalidStatus):
            async with connect(f"{url.replace('http', 'ws')}{WEBSOCKET}", origin=origin or "null"):  # type: ignore[arg-type]
                pass
