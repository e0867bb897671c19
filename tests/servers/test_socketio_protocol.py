"""Socket.IO v5, statement by statement (docs/socket.io-protocol/v5-current.md of socketio/socket.io)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from harness.waiting import until
from servers.serving import closed, namespaces_server, serving

pytestmark = pytest.mark.fast


@pytest.fixture
async def server(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    connect_timeout = getattr(request, "param", 30)
    server = namespaces_server(ping_interval=30, ping_timeout=30, connect_timeout=connect_timeout)
    async with serving(server, "socket.io") as url:
        server.url = url.replace("http", "ws") + "?EIO=4&transport=websocket"
        yield server


@pytest.fixture
async def socket(server: Any) -> AsyncIterator[ClientConnection]:
    """A WebSocket after the Engine.IO handshake."""
    async with connect(server.url, ping_interval=None) as socket:
        assert str(await socket.recv()).startswith("0")
        yield socket


async def join(socket: ClientConnection, namespace: str = "") -> None:
    """Connect to a namespace and read what it says."""
    await socket.send(f"40{namespace}")
    assert str(await socket.recv()).startswith(f"40{namespace}")
    assert str(await socket.recv()).endswith('["auth",{}]')


# --- connection to a namespace


@pytest.mark.parametrize("auth", ["", '{"token":"123"}'])
@pytest.mark.parametrize("namespace", ["", "/custom,"])
async def test_the_reply_to_connect_precedes_everything_else(
    socket: ClientConnection, namespace: str, auth: str
) -> None:
    """A client sends CONNECT, with or without a payload; the server replies with a `sid`, and only then come the events
    that the application sends.
    """
    await socket.send(f"40{namespace}{auth}")
    reply = str(await socket.recv())
    assert reply.startswith(f"40{namespace}{{")
    assert set(json.loads(reply.removeprefix(f"40{namespace}"))) == {"sid"}
    assert await socket.recv() == f'42{namespace}["auth",{auth or "{}"}]'


@pytest.mark.parametrize("namespace", ["/random", "/random,", '/random,{"token":"1"}', "/random?token=1,"])
async def test_an_unknown_namespace_is_a_connect_error(socket: ClientConnection, namespace: str) -> None:
    """In case of an error, the server MUST send a CONNECT_ERROR packet. The connection stays."""
    await socket.send(f"40{namespace}")
    assert await socket.recv() == '44/random,{"message":"Invalid namespace"}'
    await join(socket)


@pytest.mark.parametrize("server", [0.3], indirect=True)
async def test_a_client_that_joins_no_namespace_is_closed(server: Any) -> None:
    """If the server does not receive a CONNECT packet first, then it MUST close the connection after a delay, and not
    before. A client that has joined meanwhile stays.
    """
    loop = asyncio.get_running_loop()
    since = loop.time()
    async with connect(server.url, ping_interval=None) as member, connect(server.url, ping_interval=None) as silent:
        assert str(await member.recv()).startswith("0")
        await join(member)
        assert await closed(silent)
        assert 0.3 <= loop.time() - since < 3
        await member.send('42["message","still here"]')
        assert await member.recv() == '42["message-back","still here"]'


async def test_every_namespace_has_a_sid_of_its_own(socket: ClientConnection) -> None:
    sids = set()
    for namespace in ("", "/custom,"):
        await socket.send(f"40{namespace}")
        sids.add(json.loads(str(await socket.recv()).removeprefix(f"40{namespace}"))["sid"])
        await socket.recv()
    assert len(sids) == 2


async def test_joining_twice_closes_the_connection(socket: ClientConnection) -> None:
    """A client that is connected to a namespace has nothing to ask there."""
    await join(socket)
    await socket.send("40")
    assert await closed(socket)


# --- disconnection


async def test_a_disconnect_leaves_one_namespace_and_keeps_the_others(server: Any, socket: ClientConnection) -> None:
    """At any time, one side can end the connection by sending a DISCONNECT packet; the transport stays."""
    await join(socket)
    await join(socket, "/custom,")
    await socket.send("41/custom,")
    await socket.send('42/custom,["message","nobody"]')
    await socket.send('42["message","somebody"]')
    assert await socket.recv() == '42["message-back","somebody"]'
    assert server.handled == [("disconnect", "/custom", "client disconnect")]


async def test_the_end_of_a_transport_ends_all_its_namespaces(server: Any, socket: ClientConnection) -> None:
    await join(socket)
    await join(socket, "/custom,")
    socket.transport.abort()
    await until(lambda: len(server.handled) == 2)
    assert sorted(server.handled) == [
        ("disconnect", "/", "transport close"),
        ("disconnect", "/custom", "transport close"),
    ]


# --- events and acknowledgements


async def test_an_event_carries_its_arguments(socket: ClientConnection) -> None:
    """Any JSON after the name, to the namespace that the packet names."""
    await join(socket)
    await join(socket, "/custom,")
    await socket.send('42["message",1,"2",{"3":[true,null,1.5]},"€"]')
    assert await socket.recv() == '42["message-back",1,"2",{"3":[true,null,1.5]},"€"]'
    await socket.send('42/custom,["message"]')
    assert await socket.recv() == '42/custom,["message-back"]'


@pytest.mark.parametrize("number", ["0", "1", "456", "9007199254740991"])
async def test_an_event_with_an_id_is_acknowledged(socket: ClientConnection, number: str) -> None:
    """The receiver MUST respond with an ACK packet with the same event ID, its payload an array."""
    await join(socket)
    await socket.send(f'42{number}["ask",1,"2",{{"3":[false]}}]')
    assert await socket.recv() == f'43{number}[1,"2",{{"3":[false]}}]'
    await socket.send(f'42{number}["ask"]')
    assert await socket.recv() == f"43{number}[]"


async def test_the_server_can_request_acks_too(server: Any, socket: ClientConnection) -> None:
    """Please note that both sides can send an event with an ack request."""
    await join(socket)
    ((sid, _),) = server.manager.get_participants("/", None)
    asking = asyncio.create_task(server.call("question", {"a": 1}, to=sid))
    question = str(await socket.recv())
    assert question.startswith("42")
    assert question.endswith('["question",{"a":1}]')
    number = question[2 : question.index("[")]
    await socket.send(f'43{number}["answer",2]')
    assert await asking == ("answer", 2)


async def test_an_unexpected_ack_is_ignored(socket: ClientConnection) -> None:
    await join(socket)
    await socket.send('43999["answer"]')
    await socket.send('42["message"]')
    assert await socket.recv() == '42["message-back"]'


# --- binary


async def test_binary_arguments_are_sent_in_frames_of_their_own(socket: ClientConnection) -> None:
    """Placeholders in the text, the buffers after it in their order, in both directions and in acks."""
    await join(socket)
    await socket.send('452-["message",{"_placeholder":true,"num":0},{"deep":[{"_placeholder":true,"num":1}]}]')
    await socket.send(b"\x01\x02\x03")
    await socket.send(b"\x04\x05")
    text = '["message-back",{"_placeholder":true,"num":0},{"deep":[{"_placeholder":true,"num":1}]}]'
    assert [await socket.recv() for _ in range(3)] == [f"452-{text}", b"\x01\x02\x03", b"\x04\x05"]
    await socket.send('451-7["ask",{"_placeholder":true,"num":0}]')
    await socket.send(b"buffer")
    assert [await socket.recv() for _ in range(2)] == ['461-7[{"_placeholder":true,"num":0}]', b"buffer"]


BROKEN = [
    "4",
    "4abc",
    "47",
    "49",
    "42{}",
    '42"text"',
    "42[]",
    "42[5]",
    "42[null]",
    '42["message"',
    '42abc["message"]',
    "43",
    "43[]",
    "431{}",
    '44{"message":"no"}',
    "45",
    '4511-["message"]',
    '45-["message"]',
    '451-"x"',
    '45999999999999-["message"]',
    "41x",
    '42["connect"]',
    '42["connect_error"]',
    '42["disconnect"]',
    '42["disconnecting"]',
    '42["newListener"]',
    '42["removeListener"]',
    '42/custom,["connect"]',
    b"an attachment of nothing",
]


@pytest.mark.parametrize("packet", BROKEN, ids=str)
@pytest.mark.parametrize("joined", [False, True])
async def test_a_broken_packet_closes_the_connection_and_runs_no_handler(
    server: Any, socket: ClientConnection, packet: str | bytes, joined: bool
) -> None:
    """Malformed packets, and the event names that are reserved on both sides."""
    if joined:
        await join(socket)
    await socket.send(packet)
    assert await closed(socket)
    assert [event for event in server.handled if event[0] != "disconnect"] == []


@pytest.mark.parametrize("second", ['42["message"]', "40", "2", '451-["message"]'])
async def test_a_binary_packet_must_be_completed_first(socket: ClientConnection, second: str) -> None:
    """Text where an attachment is due closes the connection; Engine.IO's own packets may come in between."""
    await join(socket)
    await socket.send('451-["message",{"_placeholder":true,"num":0}]')
    await socket.send(f"4{second[1:]}" if second[0] == "4" else second)
    if second == "2":
        await socket.send(b"here")
        assert str(await socket.recv()).startswith("451-")
    else:
        assert await closed(socket)


@pytest.mark.parametrize("number", ["1", "-1", '"0"', "null", "0.5", "true"])
async def test_a_placeholder_must_name_an_attachment(socket: ClientConnection, number: str) -> None:
    await join(socket)
    await socket.send(f'451-["message",{{"_placeholder":true,"num":{number}}}]')
    await socket.send(b"buffer")
    assert await closed(socket)
