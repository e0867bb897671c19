"""The options ``json``, ``serializer`` and ``async_mode``: supported, for one server alone, or refused with advice."""

from __future__ import annotations

import json
import sys
from typing import Any

import engineio
import msgpack
import pytest
import socketio
from socketio.msgpack_packet import MsgPackPacket
from websockets.asyncio.client import connect

from gateway.servers import EngineServer, SocketServer
from harness.inbox import TIMEOUT
from servers.application import serve_alone
from servers.serving import closed, echo_server, serving

pytestmark = pytest.mark.fast

WEBSOCKET = "?EIO=4&transport=websocket"


class Marked:
    """A JSON module of an application, which marks what passed through it."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def dumps(self, value: Any, **options: Any) -> str:
        return json.dumps({"marked": value} if isinstance(value, dict) else value, default=str, **options)

    def loads(self, text: str) -> Any:
        self.read.append(text)
        return json.loads(text, parse_float=str)


class Backwards(socketio.packet.Packet):  # type: ignore[misc]
    """A serializer of an application: the default's packets, letter by letter from the end."""

    uses_binary_events = False

    def encode(self) -> str:
        return str(super().encode())[::-1]

    def decode(self, encoded_packet: str) -> int:
        return int(super().decode(encoded_packet[::-1]))


def application(**options: Any) -> SocketServer:
    server = SocketServer(socketio.AsyncManager(), **options)

    @server.event
    async def echo(sid: str, *args: Any) -> Any:
        return args

    @server.event
    async def shout(sid: str, word: Any) -> None:
        await server.emit("said", (word, {"more": word}), to=sid)

    @server.event
    async def ask_back(sid: str, question: Any) -> Any:
        return {"answer": await server.call("question", question, to=sid, timeout=TIMEOUT)}

    return server


async def converse(server: SocketServer, data: Any, transport: str, serializer: Any) -> None:
    """Events, acks, and acks the other way, with python-socketio's own client."""
    received: list[Any] = []
    client = socketio.AsyncClient(reconnection=False, serializer=serializer)
    client.on("said", lambda *args: received.append(args))
    client.on("question", lambda question: question)
    async with serve_alone(server) as url:
        await client.connect(url, transports=[transport], auth={"a": 1})
        assert list(await client.call("echo", (data, 1), timeout=TIMEOUT)) == [data, 1]
        await client.call("shout", data, timeout=TIMEOUT)
        assert received == [(data, {"more": data})]
        if transport == "websocket":  # a long-polling body gets its response when its events are handled
            assert await client.call("ask_back", data, timeout=TIMEOUT) == {"answer": data}
        await client.disconnect()
        await client.shutdown()


@pytest.mark.parametrize("transport", ["websocket", "polling"])
@pytest.mark.parametrize("serializer", ["msgpack", MsgPackPacket.configure()], ids=["by name", "configured"])
async def test_msgpack_events_and_acks(transport: str, serializer: Any) -> None:
    """Bytes anywhere, integers, and text; with the client of the same library."""
    data = {"bytes": b"\x00\xff", "list": [1.5, None, "é"], "deep": [{"b": b""}]}
    await converse(application(serializer=serializer), data, transport, "msgpack")


@pytest.mark.parametrize("auth", [{}, {"data": None}, {"data": msgpack.ExtType(0, b"\x00")}], ids=str)
async def test_msgpack_clients_may_send_no_auth(auth: Any) -> None:
    """The last is what socket.io-msgpack-parser sends, ``undefined``. The handler may be of the older kind."""
    server, calls = SocketServer(socketio.AsyncManager(), serializer="msgpack"), []
    server.on("connect", lambda sid, environ: calls.append(environ["PATH_INFO"]))
    async with (
        serving(server, "socket.io") as url,
        connect(f"{url.replace('http', 'ws')}{WEBSOCKET}") as socket,
    ):
        await socket.recv()
        await socket.send(msgpack.dumps({"type": 0, "nsp": "/", **auth}))
        assert msgpack.loads(await socket.recv())["type"] == 0
    assert calls == ["/socket.io/"]


@pytest.mark.parametrize("transport", ["websocket", "polling"])
async def test_an_application_may_bring_its_own_serializer(transport: str) -> None:
    await converse(application(serializer=Backwards), ["text", {"a": [1]}], transport, Backwards)


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\xc1",
        b"\x83\xa4type",
        b"text",
        "40",
        [2, "/", []],
        {"type": 2},
        {"type": "2", "nsp": "/", "data": ["echo"]},
        {"type": [2], "nsp": "/", "data": ["echo"]},
        {"type": 2, "nsp": ["/"], "data": ["echo"]},
        {"type": 2, "nsp": 1, "data": ["echo"]},
        {"type": 2, "nsp": "/", "data": ["echo"], "id": "1"},
        {"type": 2, "nsp": "/", "data": ["echo"], "id": {}},
        {"type": 2, "nsp": "/", "data": "echo"},
        {"type": 2, "nsp": "/", "data": [b"echo"]},
        {"type": 2, "nsp": "/", "data": ["connect", {}]},
        {"type": 2, "nsp": "/", "data": ["disconnect"]},
        {"type": 3, "nsp": "/", "data": 1, "id": 1},
        {"type": 4, "nsp": "/", "data": {}},
        {"type": 9, "nsp": "/"},
    ],
    ids=repr,
)
async def test_invalid_msgpack_closes_the_connection(packet: Any, caplog: pytest.LogCaptureFixture) -> None:
    """As with the default serializer; nothing of it reaches a handler, or the log as an error."""
    server = application(serializer="msgpack")
    async with (
        serving(server, "socket.io") as url,
        connect(f"{url.replace('http', 'ws')}{WEBSOCKET}") as socket,
    ):
        await socket.recv()
        await socket.send(msgpack.dumps({"type": 0, "nsp": "/"}))
        assert msgpack.loads(await socket.recv())["type"] == 0
        await socket.send(packet if isinstance(packet, bytes | str) else msgpack.dumps(packet))
        assert await closed(socket)
        assert socket.close_code == 1002
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("transport", ["websocket", "polling"])
async def test_an_application_may_bring_its_own_json(transport: str) -> None:
    """It writes what is emitted, acked and welcomed, and reads all that comes; other servers keep theirs."""
    module = Marked()
    server, other = application(json=module), application()
    received: list[Any] = []
    client = socketio.AsyncClient(reconnection=False)
    client.on("said", lambda *args: received.append(args))
    async with serve_alone(server) as url:
        await client.connect(url, transports=[transport])
        assert await client.call("echo", 1.5, timeout=TIMEOUT) == "1.5"
        await client.call("shout", [1.5], timeout=TIMEOUT)
        assert received == [(["1.5"], {"more": ["1.5"]})]
        assert await client.call("echo", b"\x00", timeout=TIMEOUT) == b"\x00"
        await client.disconnect()
        await client.shutdown()
    assert '["echo",1.5]' in module.read
    await converse(other, 1.5, transport, "default")
    assert socketio.packet.Packet.json is not module
    assert engineio.packet.Packet.json is not module


async def test_short_packets_use_the_json_of_the_application() -> None:
    """The CONNECT packet, and an event that has a namespace of its own beside an ack."""
    server = application(json=Marked())
    async with serving(server, "socket.io") as url, connect(f"{url.replace('http', 'ws')}{WEBSOCKET}") as socket:
        await socket.recv()
        await socket.send("40")
        assert set(json.loads(str(await socket.recv())[2:])) == {"marked"}
        await socket.send('420["echo",{}]')
        assert await socket.recv() == "430[{}]"


async def test_an_engineio_application_may_bring_its_own_json() -> None:
    """What is sent as an object, and what comes as JSON; other text, and JSON that begins with a digit, stays text."""
    module = Marked()
    server = echo_server(json=module)
    async with serving(server, "engine.io") as url, connect(f"{url.replace('http', 'ws')}{WEBSOCKET}") as socket:
        await socket.recv()
        for sent, back in (('{"a":1.5}', '{"marked": {"a": "1.5"}}'), ("text", "text"), ("1.50", "1.50"), ("", "")):
            await socket.send(f"4{sent}")
            assert str(await socket.recv()).replace(" ", "") == f"4{back}".replace(" ", "")


@pytest.mark.parametrize("text", ['{"a":[1,null]}', "[]", "true", '"x"'])
async def test_engineio_messages_that_are_json_are_decoded(text: str) -> None:
    """As python-engineio's client and server do for one another."""
    server, received = EngineServer(), []

    @server.on("message")
    async def on_message(sid: str, data: Any) -> None:
        received.append(data)
        await server.send(sid, "done")

    async with serving(server, "engine.io") as url, connect(f"{url.replace('http', 'ws')}{WEBSOCKET}") as socket:
        await socket.recv()
        await socket.send(f"4{text}")
        assert await socket.recv() == "4done"
    assert received == [json.loads(text)]


class Bytes:
    """As orjson: its ``dumps`` returns bytes, and takes no separators."""

    @staticmethod
    def dumps(value: Any) -> bytes:
        return json.dumps(value).encode()

    loads = staticmethod(json.loads)


@pytest.mark.parametrize("module", [Bytes, object(), 1, "json", type("", (), {"dumps": json.dumps})])
@pytest.mark.parametrize("server", [SocketServer, EngineServer])
def test_an_incomplete_json_module_is_refused(module: Any, server: Any) -> None:
    with pytest.raises(ValueError, match=r"json= must be .* dumps\(value, separators"):
        server(json=module)


@pytest.mark.parametrize("serializer", ["pickle", "cbor", "", None, object, socketio.packet, 1, Backwards(2)])
def test_another_serializer_is_refused(serializer: Any) -> None:
    with pytest.raises(ValueError, match=r"use 'default', 'msgpack', or a subclass of socketio\.packet\.Packet"):
        SocketServer(serializer=serializer)


def test_a_serializer_together_with_json_is_refused() -> None:
    with pytest.raises(ValueError, match="json= is for the default serializer"):
        SocketServer(serializer="msgpack", json=json)


def test_msgpack_without_its_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "socketio.msgpack_packet", None)
    with pytest.raises(ValueError, match="pip install msgpack"):
        SocketServer(serializer="msgpack")


@pytest.mark.parametrize("mode", ["asgi", "sanic", "tornado", "threading", "gevent", ""])
@pytest.mark.parametrize("server", [SocketServer, EngineServer])
def test_another_async_mode_is_refused(server: Any, mode: str) -> None:
    """Before, it became aiohttp silently."""
    with pytest.raises(ValueError, match=r"runs on aiohttp.*socketio\.AsyncServer"):
        server(async_mode=mode)


@pytest.mark.parametrize("mode", [None, "aiohttp"])
@pytest.mark.parametrize("server", [SocketServer, EngineServer])
def test_the_aiohttp_async_mode_is_accepted(server: Any, mode: str | None) -> None:
    assert server(async_mode=mode).async_mode == "aiohttp"
