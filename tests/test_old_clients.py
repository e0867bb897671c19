"""Clients of other protocols: they, and the operator, learn why they are refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from harness.http import WEBSOCKET_HEADERS, request
from harness.http1 import connection, head
from harness.raw import ENGINE, RawSocketIO
from harness.waiting import until

if TYPE_CHECKING:
    from harness.process import StartGateway

MSGPACK = b"\x83\xa4type\x00\xa4data\x81\xa8username\xa5alice\xa3nsp\xa1/"
"""What socket.io-client sends with socket.io-msgpack-parser to connect."""


@pytest.mark.parametrize("version", ["EIO=3&", "EIO=2&", "EIO=4x&", ""])
@pytest.mark.parametrize("transport", ["polling", "websocket"])
async def test_another_version_of_the_protocol_is_refused_with_the_reason(
    start_gateway: StartGateway, version: str, transport: str
) -> None:
    """In the reply and, once for many, in the log at its usual level."""
    own = await start_gateway()
    path = f"/socket.io/?{version}transport={transport}"
    version_text = version.rstrip("&") or "no EIO"
    for _ in range(5):
        async with connection(own.url) as tcp:
            tcp.send(head(path, WEBSOCKET_HEADERS.items() if transport == "websocket" else ()))
            response = await tcp.response()
        error = json.loads(response.text)
        assert (response.status, error["code"]) == (400, 5)
        assert error["message"].startswith("Unsupported protocol version")
        assert version_text in error["message"]
        assert "EIO=4" in error["message"]
    await until(lambda: "another version of Engine.IO" in own.log)
    assert own.log.count("another version of Engine.IO") == 1
    assert version_text in own.log
    assert "socket.io-client 3" in own.log


@pytest.mark.parametrize("version", ["%1b%5b2J", "%ff%fe", "\xff\xfe", "%ed%a0%bd", "%22%0d%0a"])
async def test_text_of_a_client_is_quoted_in_the_refusal(start_gateway: StartGateway, version: str) -> None:
    """It breaks neither the terminal nor the log nor the response."""
    own = await start_gateway()
    async with connection(own.url) as tcp:
        tcp.send(head(f"/socket.io/?EIO={version}&transport=polling", [("User-Agent", "a\xff")]))
        response = await tcp.response()
    assert response.status == 400
    if response.headers["content-type"].startswith("application/json"):
        assert json.loads(response.text)["code"] == 5
        await until(lambda: "another version of Engine.IO" in own.log)
    assert "\x1b" not in own.log
    own.check_log()


async def test_another_parser_is_refused_with_the_reason_on_a_websocket(start_gateway: StartGateway) -> None:
    """In a packet that its client understands: {type: 4, nsp: "/", data: {message}} in MessagePack."""
    own = await start_gateway()
    for _ in range(5):
        async with RawSocketIO(own.url) as raw:
            await raw.send(MSGPACK)
            refusal = await raw.next_frame()
            assert isinstance(refusal, bytes)
            assert refusal.startswith(b"\x83\xa4type\x04\xa3nsp\xa1/\xa4data\x81\xa7message")
            assert b"socket.io-msgpack-parser" in refusal
            assert await raw.wait_closed() == 1002
    await until(lambda: "another parser" in own.log)
    assert own.log.count("refused a client with another parser") == 1


async def test_another_parser_is_refused_with_the_reason_over_long_polling(start_gateway: StartGateway) -> None:
    own = await start_gateway()
    url = f"{own.url}{ENGINE}&transport=polling"
    sid = json.loads((await request("GET", url)).text[1:])["sid"]
    response = await request("POST", f"{url}&sid={sid}", data="bg6R0eXBlAKRkYXRhgah1c2VybmFtZaVhbGljZaNuc3ChLw==")
    assert response.status == 400
    assert "socket.io-msgpack-parser" in json.loads(response.text)["message"]
    await until(lambda: "another parser" in own.log)


@pytest.mark.parametrize("data", [b"\x83", b"\x80\xff\xff", b"binary", b""])
async def test_other_binary_messages_are_not_logged(start_gateway: StartGateway, data: bytes) -> None:
    """They end the connection, as before, and nothing is logged."""
    own = await start_gateway()
    async with RawSocketIO(own.url) as raw:
        await raw.send(data)
        assert await raw.wait_closed() == 1002
    await request("GET", f"{own.url}/socket.io/?EIO=3&transport=polling")
    await until(lambda: "another version of Engine.IO" in own.log)  # which is logged after that
    assert "parser" not in own.log
