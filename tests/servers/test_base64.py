"""Binary data for clients that take text alone: ``b64=1``, the option ``forceBase64`` of the JavaScript client."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import socketio
from websockets.asyncio.client import connect

from gateway.servers import SocketServer
from harness.http import request
from harness.node import Driver
from servers.application import Log, serve
from servers.serving import closed, echo_server, serving
from servers.test_drop_in import TRANSPORTS, Stock

DATA = b"\x00\x01\xfe\xff"
ENCODED = "b" + base64.b64encode(DATA).decode()
WEBSOCKET = "?EIO=4&transport=websocket"


@pytest.fixture(params=["aiohttp", "past-aiohttp"])
async def url(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    options: dict[str, Any] = {"ping_interval": 30, "max_http_buffer_size": 1_000_000}
    async with serving(echo_server(**options), "engine.io", past_aiohttp=request.param == "past-aiohttp") as url:
        yield url


@pytest.mark.parametrize("transports", TRANSPORTS, ids="-".join)
@pytest.mark.parametrize("force", [True, False])
async def test_the_stock_client_exchanges_bytes_in_base64(driver: Driver, transports: list[str], force: bool) -> None:
    """Bytes both ways, in events and in acks, empty ones and long ones, before an upgrade and after it."""
    async with serve(SocketServer(socketio.AsyncManager()), Log()) as url:
        client = Stock(driver, url, transports=transports, forceBase64=force)
        async with client:
            for round_ in range(2):
                for data in (DATA, b"", bytes(50_000)):
                    sent = {"$bytes": base64.b64encode(data).decode()}
                    reply = await client.ack("echo", sent, {"inside": [sent, "text"]})
                    buffer = {"type": "Buffer", "data": list(data)}
                    assert reply == [buffer, {"inside": [buffer, "text"]}]
                if round_ == 0 and transports[-1] == "websocket":
                    await client.wait_for_transport("websocket")
            await client.emit_without_ack("enter", "r")
            async with Stock(driver, url, transports=transports, forceBase64=force) as other:
                await other.ack("enter", "r")
                await client.ack("say", "r", {"$bytes": "AAEC"})
                await other.next_event("said")
                said = [args for name, args in other.raw if name == "said"]
                assert said == [[{"type": "Buffer", "data": [0, 1, 2]}]]


@pytest.mark.fast
@pytest.mark.parametrize(("query", "expected"), [("", DATA), ("&b64=1", ENCODED), ("&b64=", DATA)])
async def test_the_encoding_of_a_websocket_is_the_one_requested(url: str, query: str, expected: str | bytes) -> None:
    """Whatever it sends itself: both forms are understood."""
    async with connect(f"{url.replace('http', 'ws')}{WEBSOCKET}{query}") as socket:
        assert str(await socket.recv()).startswith("0")
        for sent in (DATA, ENCODED):
            await socket.send(sent)
            assert await socket.recv() == expected
        await socket.send("4text €")
        assert await socket.recv() == "4text €"
        await socket.send("b")
        assert await socket.recv() == (b"" if expected == DATA else "b")


@pytest.mark.fast
@pytest.mark.parametrize("asked", ["at the handshake", "at the upgrade", "at both", "never"])
async def test_an_upgrade_keeps_base64(url: str, asked: str) -> None:
    """What waits for a poll comes over the WebSocket, in base64 too."""
    first = "&b64=1" if asked in {"at the handshake", "at both"} else ""
    then = "&b64=1" if asked in {"at the upgrade", "at both"} else ""
    polling = f"{url}?EIO=4&transport=polling"
    sid = json.loads((await request("GET", polling + first)).text[1:])["sid"]
    await request("POST", f"{polling}&sid={sid}", data=ENCODED)
    assert (await request("GET", f"{polling}&sid={sid}")).text == ENCODED
    async with connect(f"{url.replace('http', 'ws')}{WEBSOCKET}&sid={sid}{then}") as socket:
        await request("POST", f"{polling}&sid={sid}", data=ENCODED)
        await socket.send("2probe")
        assert await socket.recv() == "3probe"
        await socket.send("5")
        await socket.send(ENCODED)
        expected = DATA if asked == "never" else ENCODED
        assert [await socket.recv(), await socket.recv()] == [expected, expected]


@pytest.mark.fast
@pytest.mark.parametrize("frame", ["b!", "bAAA", "b€", "b AAAA", "b\n"])
async def test_what_is_not_base64_closes_the_connection(url: str, frame: str) -> None:
    async with connect(f"{url.replace('http', 'ws')}{WEBSOCKET}&b64=1") as socket:
        await socket.send(frame)
        assert await closed(socket)
        assert socket.close_code == 1002


@pytest.mark.fast
async def test_encoded_attachments_are_bounded_like_others() -> None:
    """The count and the size of attachments are those of their bytes."""
    server = SocketServer(socketio.AsyncManager(), max_attachments_size=1000, max_http_buffer_size=10_000)

    @server.event
    async def size(sid: str, data: bytes) -> int:
        return len(data)

    async with serving(server, "socket.io") as url:
        for count, accepted in ((1000, True), (1001, False)):
            async with connect(f"{url.replace('http', 'ws')}{WEBSOCKET}&b64=1") as socket:
                await socket.recv()
                await socket.send("40")
                await socket.recv()
                await socket.send('451-1["size",{"_placeholder":true,"num":0}]')
                await socket.send("b" + base64.b64encode(bytes(count)).decode())
                if accepted:
                    assert await socket.recv() == "431[1000]"
                else:
                    assert await closed(socket)
