"""Engine.IO v4, statement by statement (docs/engine.io-protocol/v4-current.md of socketio/socket.io)."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.client import connect

from harness.http import WEBSOCKET_HEADERS, request
from harness.http1 import connection, head, masked
from harness.waiting import until
from servers.nodes import behind_another_node
from servers.serving import closed, echo_server, polled, serving

POLLING = "?EIO=4&transport=polling"
WEBSOCKET = "?EIO=4&transport=websocket"


@pytest.fixture(params=["aiohttp", "past-aiohttp", "another-node"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    """``another-node``: the requests of a session come to another node than the one that has it."""
    if request.param == "another-node":
        async with behind_another_node("engine.io") as server:
            yield server
        return
    server = echo_server()
    async with serving(server, "engine.io", past_aiohttp=request.param == "past-aiohttp") as server.url:
        yield server


async def open_polling(url: str) -> str:
    """The URL of a new long-polling session."""
    response = await request("GET", url + POLLING)
    return f"{url}{POLLING}&sid={json.loads(response.text[1:])['sid']}"


def open_websocket(url: str) -> Any:
    return connect(url.replace("http", "ws"), ping_interval=None)


# --- transports: HTTP long-polling


@pytest.mark.parametrize(
    "query", ["", "?EIO=4", "?transport=polling", "?EIO=3&transport=polling", "?EIO=4&transport=pigeon"]
)
async def test_a_mandatory_parameter_that_is_missing_is_400(server: Any, query: str) -> None:
    """If a mandatory query parameter is missing, then the server MUST respond with an HTTP 400 error status."""
    response = await request("GET", server.url + query)
    assert response.status == 400
    assert set(json.loads(response.text)) == {"code", "message"}


async def test_a_transport_that_is_not_enabled_is_unknown() -> None:
    """As the JavaScript server replies: code 0. The message names those that are enabled."""
    async with serving(echo_server(transports=["websocket"]), "engine.io") as url:
        for method, query in [("GET", POLLING), ("GET", f"{POLLING}&sid=unknown"), ("POST", f"{POLLING}&sid=unknown")]:
            response = await request(method, url + query)
            error = json.loads(response.text)
            assert (response.status, error) == (400, {"code": 0, "message": "Transport unknown: use websocket"})
        async with open_websocket(url + WEBSOCKET) as socket:
            assert json.loads(str(await socket.recv())[1:])["upgrades"] == []


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_unknown_session_is_400(server: Any, method: str) -> None:
    """The server MUST return an HTTP 400 response if the session ID is not known."""
    response = await request(method, f"{server.url}{POLLING}&sid=unknown", data="4x" if method == "POST" else None)
    assert (response.status, json.loads(response.text)["message"]) == (400, "Session ID unknown")


async def test_the_response_to_a_body_is_ok(server: Any) -> None:
    """To indicate success, the server MUST return an HTTP 200 response, with the string `ok` in the body."""
    response = await request("POST", await open_polling(server.url), data="4hello")
    assert (response.status, response.text) == (200, "ok")


async def test_a_second_post_at_once_closes_the_session(server: Any) -> None:
    """The server MUST return an HTTP 400 error status and close the session."""
    url = await open_polling(server.url)
    (socket,) = server.sockets.values()
    is_refused = asyncio.Event()

    async def slow_body() -> AsyncIterator[bytes]:
        yield b"4slow"
        await is_refused.wait()
        yield b"ly"

    first = asyncio.create_task(request("POST", url, data=slow_body()))
    await until(lambda: socket.polling.posting)
    assert (await request("POST", url, data="4quick")).status == 400
    is_refused.set()
    assert (await request("GET", url)).status == 400
    assert (await first).status in {200, 400}, "of the first the protocol does not say it"


async def test_a_poll_waits_until_there_is_something(server: Any) -> None:
    """The server MAY not respond right away if there are no packets buffered for the given session."""
    url = await open_polling(server.url)
    poll = asyncio.create_task(request("GET", url))
    await polled(server)
    assert not poll.done()
    await request("POST", url, data="4hello")
    assert (await poll).text == "4hello"


async def test_a_second_poll_at_once_closes_the_session(server: Any) -> None:
    """The server MUST return an HTTP 400 error status and close the session. The first poll is ended too."""
    url = await open_polling(server.url)
    first = asyncio.create_task(request("GET", url))
    await polled(server)
    assert (await request("GET", url)).status == 400
    assert (await first).text == "1"
    assert (await request("GET", url)).status == 400
    assert server.reasons == ["transport error"]


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
async def test_another_method_is_400(server: Any, method: str) -> None:
    """Neither a handshake nor anything else, as the official suite has it."""
    assert (await request(method, server.url + POLLING)).status == 400


# --- transports: WebSocket


@pytest.mark.parametrize("query", ["?EIO=4", "?transport=websocket", "?EIO=4&transport=pigeon", f"{WEBSOCKET}&sid=no"])
async def test_a_websocket_with_a_wrong_parameter_is_closed(server: Any, query: str) -> None:
    """If a mandatory query parameter is missing, then the server MUST close the WebSocket connection."""
    with pytest.raises(Exception, match="HTTP 400"):
        await open_websocket(server.url + query)


async def test_each_packet_has_a_frame_of_its_own(server: Any) -> None:
    """Each packet (read or write) is sent its own WebSocket frame; binary payloads are sent as they are."""
    async with open_websocket(server.url + WEBSOCKET) as socket:
        assert str(await socket.recv()).startswith("0")
        for packet in ("4hello", "4", "4\x1e4", "4€", b"\x01\x02", b""):
            await socket.send(packet)
            assert await socket.recv() == packet


async def test_a_second_websocket_of_a_session_is_closed(server: Any) -> None:
    """A client MUST NOT open more than one WebSocket connection per session. Should it happen, the server MUST close
    the WebSocket connection. Whether the first one has finished its upgrade or not.
    """
    url = (await open_polling(server.url)).replace("polling", "websocket")
    async with open_websocket(url) as first:
        await first.send("2probe")
        assert await first.recv() == "3probe"
        async with open_websocket(url) as second:
            assert await closed(second)
        await first.send("5")
        async with open_websocket(url) as third:
            assert await closed(third)
        await first.send("4still here")
        assert await first.recv() == "4still here"


async def test_a_refused_websocket_does_not_end_an_upgrade(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first WebSocket is still closed when the client does not go on with it."""
    monkeypatch.setattr("gateway.servers.engineio.upgrade.UPGRADE_TIMEOUT", 0.3)
    url = (await open_polling(server.url)).replace("polling", "websocket")
    async with open_websocket(url) as first:
        await first.send("2probe")
        assert await first.recv() == "3probe"
        async with open_websocket(url) as second:
            assert await closed(second)
        assert await closed(first)


async def test_an_upgrade_that_completes_too_late_changes_nothing(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The upgrade has timed out by then; the session goes on with long-polling."""
    monkeypatch.setattr("gateway.servers.engineio.upgrade.UPGRADE_TIMEOUT", 0.1)
    url = await open_polling(server.url)
    async with connection(server.url) as tcp:
        path = "/engine.io/" + url.replace("polling", "websocket").partition("/engine.io/")[2]
        tcp.send(head(path, WEBSOCKET_HEADERS.items()) + masked("2probe"))
        assert (await tcp.response()).status == 101
        assert [await tcp.frame(), await tcp.frame()] == [b"3probe", b"\x03\xea"]
        tcp.send(masked("5") + b"\x88\x80\0\0\0\0")
        await tcp.ended()
    assert (await request("POST", url, data="4still here")).status == 200
    assert "4still here" in (await request("GET", url)).text


# --- handshake and heartbeat


@pytest.mark.parametrize(("transport", "upgrades"), [("polling", ["websocket"]), ("websocket", [])])
async def test_the_handshake_has_the_five_keys_of_the_open_packet(
    server: Any, transport: str, upgrades: list[str]
) -> None:
    """The five keys of the open packet; intervals in milliseconds, fractions of a second included."""
    if transport == "polling":
        opened = (await request("GET", server.url + POLLING)).text
    else:
        async with open_websocket(server.url + WEBSOCKET) as socket:
            opened = str(await socket.recv())
    handshake = json.loads(opened.removeprefix("0"))
    assert isinstance(handshake.pop("sid"), str)
    assert handshake == {"upgrades": upgrades, "pingInterval": 300, "pingTimeout": 200, "maxPayload": 1000}


async def test_pings_come_at_their_interval_and_pongs_keep_a_client(server: Any) -> None:
    """At a given interval the server sends a `ping` packet; on a busy machine, some come later."""
    loop = asyncio.get_running_loop()
    intervals: list[float] = []
    async with open_websocket(server.url + WEBSOCKET) as socket:
        await socket.recv()
        while len(intervals) < 3 or (min(intervals) >= 0.45 and len(intervals) < 20):
            since = loop.time()
            assert await socket.recv() == "2"
            intervals.append(loop.time() - since)
            await socket.send("3")
    assert 0.28 < min(intervals) < 0.45
    assert server.reasons != ["ping timeout"]


@pytest.mark.parametrize("transport", ["polling", "websocket"])
async def test_a_client_without_pongs_is_closed(server: Any, transport: str) -> None:
    """If the server does not receive a `pong` packet back, the connection is closed."""
    if transport == "websocket":
        async with open_websocket(server.url + WEBSOCKET) as socket:
            assert await closed(socket)
    else:
        url = await open_polling(server.url)
        while (response := await request("GET", url)).status == 200:
            assert response.text in {"2", "6"}
    assert server.reasons == ["ping timeout"]


async def test_an_unsolicited_pong_does_not_delay_the_next_ping(server: Any) -> None:
    """A client cannot postpone its ping."""
    async with open_websocket(server.url + WEBSOCKET) as socket:
        await socket.recv()
        loop = asyncio.get_running_loop()
        intervals: list[float] = []
        while not intervals or (min(intervals) >= 0.4 and len(intervals) < 20):
            since = loop.time()
            await socket.send("3")
            await asyncio.sleep(0.2)  # in the middle of the interval
            await socket.send("3")
            assert await socket.recv() == "2"
            intervals.append(loop.time() - since)
        assert min(intervals) < 0.4


# --- upgrade


async def test_an_upgrade_ends_the_poll_and_moves_waiting_packets(server: Any) -> None:
    """The server sends `noop` to a pending GET and replies to the probe; what was sent meanwhile arrives in order."""
    polling = await open_polling(server.url)
    poll = asyncio.create_task(request("GET", polling))
    await polled(server)
    async with open_websocket(polling.replace("polling", "websocket")) as socket:
        await socket.send("2probe")
        assert await socket.recv() == "3probe"
        assert (await poll).text == "6"
        await request("POST", polling, data="4one\x1e4two")
        await socket.send("5")
        await socket.send("4three")
        assert [await socket.recv() for _ in range(3)] == ["4one", "4two", "4three"]
        assert (await request("GET", polling)).status == 400
        assert (await request("POST", polling, data="4x")).status == 400


@pytest.mark.parametrize("frame", ["2", "4hello", "5", "zzz", b"2probe", None])
async def test_a_failed_probe_leaves_the_session_on_long_polling(server: Any, frame: str | bytes | None) -> None:
    """Whatever a proxy does to the WebSocket, the client continues on long-polling."""
    polling = await open_polling(server.url)
    async with open_websocket(polling.replace("polling", "websocket")) as socket:
        if frame is not None:
            await socket.send(frame)
            assert await closed(socket)
    await request("POST", polling, data="4hello")
    assert (await request("GET", polling)).text == "4hello"


async def test_a_hanging_probe_does_not_affect_long_polling(server: Any) -> None:
    """While a WebSocket is silent, polls wait for packets as usual, and return them."""
    polling = await open_polling(server.url)
    async with open_websocket(polling.replace("polling", "websocket")):
        poll = asyncio.create_task(request("GET", polling))
        await polled(server)
        assert not poll.done()
        await request("POST", polling, data="4hello")
        assert (await poll).text == "4hello"


async def test_an_upgrade_can_be_tried_again(server: Any) -> None:
    """After a probe that failed, another WebSocket may come."""
    url = (await open_polling(server.url)).replace("polling", "websocket")
    async with open_websocket(url) as socket:
        await socket.send("nonsense")
        assert await closed(socket)
    async with open_websocket(url) as socket:
        await socket.send("2probe")
        await socket.recv()
        await socket.send("5")
        await socket.send("4hello")
        assert await socket.recv() == "4hello"


# --- packets and payloads


async def test_a_payload_holds_packets_and_binary_in_base64(server: Any) -> None:
    """Binary payloads MUST be base64-encoded and prefixed with a `b` character, packets separated by 0x1e."""
    url = await open_polling(server.url)
    body = "4hello\x1eb" + base64.b64encode(b"\x01\x02\x03\x04").decode() + "\x1e4€"
    await request("POST", url, data=body.encode())
    assert (await request("GET", url)).text == body


@pytest.mark.parametrize("body", ["", "abc", "4a\x1e", "\x1e4a", "bnot base64", "7", b"4\xff", "4a\x1e9"])
async def test_a_body_that_is_not_a_payload_closes_the_session(server: Any, body: str | bytes) -> None:
    """400, and the session is over."""
    url = await open_polling(server.url)
    assert (await request("POST", url, data=body)).status == 400
    response = await request("GET", url)
    if response.text == "2":  # a ping that was due before
        response = await request("GET", url)
    assert response.status == 400


@pytest.mark.parametrize("frame", ["", "abc", "7", "b!", "bé", "x"])
async def test_a_frame_that_is_not_a_packet_closes_the_websocket(server: Any, frame: str) -> None:
    async with open_websocket(server.url + WEBSOCKET) as socket:
        await socket.send(frame)
        assert await closed(socket)
    assert server.reasons == ["transport error"]


async def test_a_close_packet_closes_the_session(server: Any) -> None:
    """On a WebSocket the connection ends; a pending poll is ended with `noop`, as the official suite has it."""
    async with open_websocket(server.url + WEBSOCKET) as socket:
        await socket.send("1")
        assert await closed(socket)
    url = await open_polling(server.url)
    poll = asyncio.create_task(request("GET", url))
    await polled(server)
    await request("POST", url, data="1")
    assert (await poll).text == "6"
    assert (await request("GET", url)).status == 400
    assert server.reasons == ["client disconnect"] * 2


async def test_a_body_over_max_payload_is_413(server: Any) -> None:
    """The bound that the handshake has announced, to the byte."""
    url = await open_polling(server.url)
    assert (await request("POST", url, data="4" + "x" * 999)).status == 200
    assert len((await request("GET", url)).text) == 1000
    assert (await request("POST", url, data="4" + "x" * 1000)).status == 413
    assert (await request("GET", url)).status == 400


async def test_the_last_packets_of_a_session_can_still_be_polled(server: Any) -> None:
    """A session that the server ends between two polls is there for one more; CLOSE comes after it, alone: the stock
    client drops acks that come with it.
    """
    url = await open_polling(server.url)
    (sid,) = server.sockets
    await server.send(sid, "goodbye")
    await server.disconnect(sid)
    assert (await request("GET", url)).text == "4goodbye"
    assert (await request("GET", url)).text == "1"
    assert (await request("GET", url)).status == 400
