"""WebSocket handshakes as proxies and libraries write them, on both wires and by every way that they come in."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from harness.http import Response, request
from harness.http1 import Connection, Header, connection, head, masked
from harness.names import fresh_name
from harness.plain import open_websocket, websocket_url
from harness.raw import ENGINE
from harness.stock import SocketIOClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from harness.node import Driver
    from harness.process import GatewayProcess

CONNECTION = ("Connection", "Upgrade")
UPGRADE = ("Upgrade", "websocket")
VERSION = ("Sec-WebSocket-Version", "13")
KEY = ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
STANDARD = (CONNECTION, UPGRADE, VERSION, KEY)

WIRES = ["socketio", "upgrade", "bare", "json"]
"""The last but two: a Socket.IO session that began with long-polling."""

WAYS = ["at once", "in pieces", "after a request"]
"""The first is read before aiohttp sees it, the others are aiohttp's."""


def replaced(*headers: Header) -> list[Header]:
    """The standard handshake with other lines for these headers."""
    names = {name for name, _ in headers}
    return [header for header in STANDARD if header[0] not in names] + list(headers)


@asynccontextmanager
async def handshake(
    gateway: GatewayProcess, wire: str, way: str, headers: list[Header], *, version: str = "1.1", early: bytes = b""
) -> AsyncIterator[tuple[Connection, Response]]:
    """A connection that has sent a handshake, and the reply to it."""
    target = f"{ENGINE}&transport=websocket"
    if wire == "upgrade":
        opened = await request("GET", f"{gateway.url}{ENGINE}&transport=polling")
        target += f"&sid={json.loads(opened.text[1:])['sid']}"
    elif wire != "socketio":
        target = f"/username/{fresh_name()}?format={wire}"
    asked = head(target, headers, version=version) + early
    async with connection(gateway.url) as tcp:
        if way == "after a request":
            tcp.send(head("/health"))
            assert (await tcp.response()).status == 200
        if way == "in pieces":
            await tcp.send_in_pieces(asked)
        else:
            tcp.send(asked)
        yield tcp, await tcp.response()


async def speaks(tcp: Connection, wire: str) -> None:
    """The WebSocket works: a message on it gets its reply."""
    if wire == "upgrade":
        tcp.send(masked("2probe"))
        assert await tcp.frame() == b"3probe"
    elif wire == "socketio":
        assert (await tcp.frame()).startswith(b"0{")
    else:
        if wire == "json":
            assert b'"welcome"' in await tcp.frame()
        tcp.send(masked('{"action":"list-rooms","ref":1}'))
        assert b'"ref":1' in await tcp.frame()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    "headers",
    [
        [("Connection", "keep-alive"), CONNECTION],
        [CONNECTION, ("Connection", "close")],
        [("Connection", "keep-alive, , upgrade")],
        [("Upgrade", "websocket, x")],
        [("Upgrade", "h2c,WebSocket")],
        [("Upgrade", "h2c"), UPGRADE],
        [UPGRADE, ("Upgrade", "h2c")],
        [("Sec-WebSocket-Version", "8"), VERSION],
        [("Sec-WebSocket-Version", "13, 8")],
    ],
    ids=str,
)
async def test_header_lists_may_span_lines_and_hold_several_entries(
    gateway: GatewayProcess, wire: str, way: str, headers: list[Header]
) -> None:
    """RFC 9110, section 5.3: a header that is a list is one, however many lines it comes in."""
    async with handshake(gateway, wire, way, replaced(*headers)) as (tcp, response):
        assert response.status == 101, response
        assert response.headers["sec-websocket-accept"] == ACCEPT
        assert response.headers["upgrade"] == "websocket"
        assert "sec-websocket-protocol" not in response.headers
        await speaks(tcp, wire)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("upgrade", ["websocket", "websocket, x"])
async def test_frames_sent_with_the_handshake_are_not_lost(gateway: GatewayProcess, way: str, upgrade: str) -> None:
    """aiohttp would drop what follows an `Upgrade` that it does not know."""
    early = masked('{"action":"list-rooms","ref":"early"}')
    headers = replaced(("Upgrade", upgrade))
    async with handshake(gateway, "bare", way, headers, early=early) as (tcp, response):
        assert response.status == 101
        assert b'"early"' in await tcp.frame()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    ("headers", "version", "word"),
    [
        ([KEY, KEY], "1.1", "Sec-WebSocket-Key"),
        ([KEY, ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")], "1.1", "Sec-WebSocket-Key"),
        ([("Sec-WebSocket-Key", f"{KEY[1]}, {KEY[1]}")], "1.1", "Sec-WebSocket-Key"),
        ([KEY], "1.0", "HTTP/1.1"),
        *(
            ([("Sec-WebSocket-Protocol", offered)], "1.1", "Sec-WebSocket-Protocol")
            for offered in ("", "a b", "a,,b", "json,", "json, json", "a;b", 'a"b', "\xe4")
        ),
        ([("Sec-WebSocket-Protocol", "json"), ("Sec-WebSocket-Protocol", "json")], "1.1", "Sec-WebSocket-Protocol"),
    ],
)
async def test_a_refused_handshake_says_what_is_wrong(
    gateway: GatewayProcess, wire: str, way: str, headers: list[Header], version: str, word: str
) -> None:
    """400, the header that is wrong, and the end of the connection."""
    async with handshake(gateway, wire, way, replaced(*headers), version=version) as (tcp, response):
        assert response.status == 400, response
        assert word in response.text
        assert await tcp.ended() == b""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    ("headers", "chosen"),
    [
        ([("Sec-WebSocket-Protocol", "json")], "json"),
        ([("Sec-WebSocket-Protocol", "v2.json,v1.json")], "v2.json"),
        ([("Sec-WebSocket-Protocol", "one ,two"), ("Sec-WebSocket-Protocol", "three")], "one"),
    ],
)
async def test_the_first_of_the_subprotocols_is_chosen(
    gateway: GatewayProcess, wire: str, way: str, headers: list[Header], chosen: str
) -> None:
    """As Node's servers do: a browser closes a WebSocket that has none of those that it offered."""
    async with handshake(gateway, wire, way, replaced(*headers)) as (tcp, response):
        assert response.status == 101
        assert response.headers["sec-websocket-protocol"] == chosen
        await speaks(tcp, wire)


async def test_client_libraries_accept_the_chosen_subprotocol(gateway: GatewayProcess, driver: Driver) -> None:
    """`new WebSocket(url, ["json"])`, and the stock client's option `protocols`, with an upgrade and without."""
    url = f"{websocket_url(gateway.url)}/username/{fresh_name()}"
    async with await open_websocket(url, subprotocols=["json", "other"]) as socket:
        assert socket.subprotocol == "json"
    for transports in (["websocket"], ["polling", "websocket"]):
        options = {"transports": transports, "protocols": ["json", "other"]}
        async with SocketIOClient(driver, gateway.url, fresh_name(), **options) as client:
            await client.wait_for_transport("websocket")
            assert (await client.call("list-rooms"))["ok"]


@pytest.mark.parametrize("wire", WIRES)
async def test_a_wrong_version_is_refused_with_the_supported_one(gateway: GatewayProcess, wire: str) -> None:
    """RFC 6455, section 4.4."""
    headers = replaced(("Sec-WebSocket-Version", "8"))
    async with handshake(gateway, wire, "at once", headers) as (_, response):
        assert response.status == (426 if wire in {"bare", "json"} else 400)
        assert response.headers["sec-websocket-version"] == "13"


@pytest.mark.parametrize("way", WAYS)
async def test_a_log_in_that_the_store_refuses_fails_the_handshake(gateway: GatewayProcess, way: str) -> None:
    """A taken name is 409 with the headers of every reply, and the connection is closed; then the name can be had."""
    name = fresh_name()
    asked = head(f"/username/{name}?format=json", STANDARD)
    async with connection(gateway.url) as holder:
        holder.send(asked)
        assert (await holder.response()).status == 101
        async with connection(gateway.url) as tcp:
            if way == "after a request":
                tcp.send(head("/health"))
                assert (await tcp.response()).status == 200
            if way == "in pieces":
                await tcp.send_in_pieces(asked)
            else:
                tcp.send(asked + masked('{"action":"list-rooms"}'))
            refused = await tcp.response()
            assert (refused.status, json.loads(refused.text)["error"]["code"]) == (409, "username_taken")
            assert refused.headers["x-content-type-options"] == "nosniff"
            assert "server" not in refused.headers
            assert await tcp.ended() == b""
        holder.send(b"\x88\x82\0\0\0\0\x03\xe8")
        await holder.ended()
    async with connection(gateway.url) as tcp:
        tcp.send(asked)
        assert (await tcp.response()).status == 101
