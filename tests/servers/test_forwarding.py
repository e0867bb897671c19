"""Without sticky sessions: a request that comes to the wrong node is passed on to the one that has its session."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager, suppress
from typing import Any

import aiohttp
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from gateway.servers import EngineServer
from gateway.servers.engineio import forwarding
from gateway.servers.engineio.forwarding import HEADER, Forwarding
from gateway.servers.engineio.nodes import Via, node_of, sid_on
from gateway.servers.http.signatures import MAX_AGE, sign, verify
from harness.balancer import balancing, round_robin
from harness.http import Response, request
from harness.http1 import connection, head, masked
from harness.node import Driver
from harness.process import allow_many_files
from harness.stock import SocketIOClient
from harness.waiting import poll_until, until
from servers.nodes import NodeProcess, Table, address_of, chat_server, free_addresses
from servers.serving import closed, echo_server, serving

POLLING = "?EIO=4&transport=polling"
UNKNOWN = {"code": 1, "message": "Session ID unknown"}
AT_ONCE = 1.0
"""Seconds within which a loss is noticed; pings take longer here."""


class Node:
    """One of several servers in the test's own process."""

    def __init__(self, table: Table, **options: Any) -> None:
        settings = {"reply_timeout": 30.0, "limit": 10, **options.pop("forwarding", {})}
        self.table = table
        self.forwarding = Forwarding(table, **settings)
        self.server = echo_server(**options, forwarder=self.forwarding)
        self.url = ""

    async def open(self) -> str:
        """A new long-polling session, here; its query."""
        response = await request("GET", self.url + POLLING)
        return f"{POLLING}&sid={json.loads(response.text[1:])['sid']}"


class Cluster:
    def __init__(self, stack: AsyncExitStack) -> None:
        self.addresses: dict[str, str] = {}
        self.nodes: list[Node] = []
        self._stack = stack

    async def node(self, name: str, *, key: bytes = b"of the nodes", **options: Any) -> Node:
        defaults = {"ping_interval": 30, "ping_timeout": 30, "max_http_buffer_size": 1_000_000}
        node = Node(Table(name, self.addresses, key), **{**defaults, **options})
        node.url = await self._stack.enter_async_context(serving(node.server, "engine.io", past_aiohttp=True))
        self.addresses[name] = address_of(node.url)
        self.nodes.append(node)
        return node

    def end_sessions(self) -> None:
        """Nobody polls the rest of them, so that a shutdown would wait for that."""
        for node in self.nodes:
            for session in tuple(node.server.sockets.values()):
                session.cut()


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as stack:
        cluster = Cluster(stack)
        yield cluster
        cluster.end_sessions()


@pytest.fixture
async def nodes(cluster: Cluster) -> list[Node]:
    return [await cluster.node(name) for name in "abc"]


async def poll_waits(node: Node) -> None:
    """Until the only session of a node has a poll that waits."""
    (socket,) = node.server.sockets.values()
    await until(lambda: socket.polling is not None and socket.polling.is_polled)


def is_unknown(response: Response) -> bool:
    return response.status == 400 and json.loads(response.text) == UNKNOWN


# --- ids


@pytest.mark.fast
@pytest.mark.parametrize("node", ["", "a.b", "a b", "ä", "x" * 65])
def test_a_node_id_must_fit_into_a_session_id(node: str) -> None:
    """It is part of a URL, and ends at the first dot."""
    with pytest.raises(ValueError, match="letters, digits"):
        sid_on(node, "abc")


@pytest.mark.fast
def test_a_session_id_names_its_node() -> None:
    """Also where an application makes ids of its own; without other nodes, it names none."""
    assert node_of(sid_on("n-1", "a.b")) == "n-1"
    assert node_of("abcdef") is None
    assert node_of(".abc") is None
    assert node_of(EngineServer(forwarder=Forwarding(Table("n1", {}))).new_sid()) == "n1"
    assert node_of(EngineServer().new_sid()) is None


# --- signatures


@pytest.mark.fast
def test_a_signature_holds_for_what_was_signed() -> None:
    """With the same secret, for the same parts, and for a short time, by a clock that may be ahead or behind."""
    parts = ("GET", "/x?y", "https://a.example", "")
    value = sign(b"secret", 1000.0, "node", parts)
    for now in (1000.0, 1000.0 + MAX_AGE, 1000.0 - MAX_AGE):
        assert verify(b"secret", now, value, parts) == "node"
    assert verify(b"other", 1000.0, value, parts) is None
    assert verify(b"secret", 1000.1 + MAX_AGE, value, parts) is None
    assert verify(b"secret", 1000.0, value.replace("node", "lost"), parts) is None
    assert verify(b"secret", 1000.0, value.replace("1000000", "1000001"), parts) is None
    for number in range(len(parts)):
        changed = list(parts)
        changed[number] += "x"
        assert verify(b"secret", 1000.0, value, changed) is None
    for broken in ("", " ", "x", "x y z", "1000000 node", "\udc80 \udc80 \udc80", value[:-1]):
        assert verify(b"secret", 1000.0, broken, parts) is None


# --- requests


async def test_any_node_serves_any_session(nodes: list[Node]) -> None:
    """A body and a poll that come to other nodes reach the session, and their replies the client."""
    a, b, c = nodes
    query = await a.open()
    for _ in range(3):
        poll = asyncio.create_task(request("GET", b.url + query))
        await poll_waits(a)
        posted = await request("POST", c.url + query, data="4hello")
        assert (posted.status, posted.text) == (200, "ok")
        assert (await poll).text == "4hello"
    assert [len(node.server.sockets) for node in nodes] == [1, 0, 0]
    assert [node.forwarding.count for node in nodes] == [0, 0, 0]


async def test_an_upgrade_goes_through_another_node(nodes: list[Node]) -> None:
    """The WebSocket comes to one node, the poll to another, and the session is on a third. Then it is bytes."""
    a, b, c = nodes
    query = await a.open()
    poll = asyncio.create_task(request("GET", c.url + query))
    await poll_waits(a)
    url = (b.url + query).replace("http", "ws").replace("polling", "websocket")
    async with connect(url, ping_interval=None, max_size=None) as socket:
        await socket.send("2probe")
        assert await socket.recv() == "3probe"
        assert (await poll).text == "6"
        await socket.send("5")
        for message in ("4hello", b"\x00\xff", "4" + "x" * 999_000):
            await socket.send(message)
            assert await socket.recv() == message
        assert b.forwarding.count == 1
    await until(lambda: not a.server.sockets)
    assert a.server.reasons == ["transport close"]
    await until(lambda: b.forwarding.count == 0)


async def test_what_follows_the_handshakes_at_once_is_passed_on(nodes: list[Node]) -> None:
    """A client that does not wait for the reply, and a node that closes the WebSocket right after it."""
    a, b, _ = nodes
    query = (await a.open()).replace("polling", "websocket")
    handshake = head(f"/engine.io/{query}", _websocket_headers())
    async with connection(b.url) as first, connection(b.url) as second:
        first.send(handshake + masked("2probe"))
        assert (await first.response(body=False)).status == 101
        assert await first.frame() == b"3probe"
        second.send(handshake)
        assert (await second.response(body=False)).status == 101
        assert (await second.frame())[:2] == (1002).to_bytes(2, "big")
        assert await second.ended() == b""
        first.send(masked("5") + masked("4hello"))
        assert await first.frame() == b"4hello"


def _websocket_headers(**more: str) -> list[tuple[str, str]]:
    return [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        *more.items(),
    ]


async def test_an_upgrade_that_is_no_handshake_is_refused_here(nodes: list[Node]) -> None:
    a, b, _ = nodes
    query = (await a.open()).replace("polling", "websocket")
    async with connection(b.url) as client:
        client.send(head(f"/engine.io/{query}", _websocket_headers()[:-1]))
        response = await client.response()
    assert response.status == 400
    assert "Sec-WebSocket-Key" in json.loads(response.text)["message"]


async def test_large_bodies_pass_in_both_directions(nodes: list[Node]) -> None:
    """In pieces or not; one that is too large is refused by the node that has the session, as always."""
    a, b, _ = nodes
    query = await a.open()
    text = "4" + "x" * 900_000

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(text), 100_000):
            yield text[start : start + 100_000].encode()

    for data in (text, pieces()):
        assert (await request("POST", b.url + query, data=data)).status == 200
        assert (await request("GET", b.url + query)).text == text
    (sid,) = a.server.sockets
    await a.server.send(sid, "y" * 20_000_000)
    a.server.limits.max_buffer = 10**9
    refused = await request("POST", b.url + query, data="4" + "x" * 1_000_001)
    assert refused.status == 413
    await until(lambda: not a.server.sockets)


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "PATCH"])
async def test_a_wrong_method_is_refused_as_by_its_node(nodes: list[Node], method: str) -> None:
    """It closes the session. A poll with a body, which no client sends, is a poll; nothing is left of it."""
    a, b, _ = nodes
    query = await a.open()
    (sid,) = a.server.sockets
    for _ in range(2):
        await a.server.send(sid, "x")
        assert (await request("GET", b.url + query, data="a body")).text == "4x"
    assert (await request(method, b.url + query)).status == 400
    await until(lambda: a.server.reasons == ["transport error"])


async def test_headers_survive(cluster: Cluster) -> None:
    """Both ways: an allowed origin may read the reply, which is compressed if the client accepts it, and the session's
    node sees the client's address, cookies and host.
    """
    seen: list[Any] = []
    options = {"cors_allowed_origins": ["https://page.example"], "cors_credentials": True}
    a, b = await cluster.node("a", **options), await cluster.node("b", **options)
    query = await a.open()
    handle = a.server._poll_requests.poll

    async def watch(request: Any, socket: Any) -> Any:
        seen.append(dict(request.headers))
        return await handle(request, socket)

    a.server._poll_requests.poll = watch
    (sid,) = a.server.sockets
    await a.server.send(sid, "x" * 5000)
    headers = {
        "Origin": "https://page.example",
        "Cookie": "a=1; b=2",
        "Host": "chat.example",
        "Accept-Encoding": "gzip",
        "X-Forwarded-For": "203.0.113.9",
        "Connection": "keep-alive, X-Secret",
        "X-Secret": "for one connection",
    }
    async with connection(b.url) as client:
        client.send(head(f"/engine.io/{query}", headers.items()))
        response = await client.response()
        client.send(head("/nothing", method="OPTIONS"))
        assert (await client.response()).status == 404, "the connection goes on"
    assert response.status == 200
    assert gzip.decompress(response.body) == b"4" + b"x" * 5000
    assert response.headers["access-control-allow-origin"] == "https://page.example"
    assert response.headers["access-control-allow-credentials"] == "true"
    assert {seen[0].get(name) for name in ("Cookie", "Host")} == {"a=1; b=2", "chat.example"}
    assert seen[0]["X-Forwarded-For"] == "203.0.113.9, 127.0.0.1"
    assert "X-Secret" not in seen[0]


async def test_the_origin_is_checked_where_the_request_comes(cluster: Cluster) -> None:
    """That node knows the proxy in front of it. The other one trusts it, for the reply to be sent at all."""
    a = await cluster.node("a", cors_allowed_origins=["https://other.example"])
    b = await cluster.node("b", cors_allowed_origins=["https://page.example"])
    query = await a.open()
    allowed = await request("POST", b.url + query, data="4x", headers={"Origin": "https://page.example"})
    assert allowed.status == 200
    refused = await request("POST", b.url + query, data="4x", headers={"Origin": "https://other.example"})
    assert (refused.status, json.loads(refused.text)["code"]) == (403, 4)


async def test_headers_that_are_not_text_are_not_passed_on(nodes: list[Node]) -> None:
    """Bytes that aiohttp accepts from a client, and cannot send."""
    a, b, _ = nodes
    query = await a.open()
    async with connection(b.url) as client:
        client.send(head(f"/engine.io/{query}", [("Cookie", "\xff\xfe"), ("X-Name", "é")], method="POST"))
        assert (await client.response()).status in {200, 400}
    assert not b.forwarding.count


# --- nodes that are gone, slow, or somewhere else


async def test_the_session_of_an_unknown_node_is_unknown(nodes: list[Node]) -> None:
    """So is one that its node does not have, and one of a node that is known but refuses connections."""
    a, b, _ = nodes
    a.table.addresses["gone"] = "127.0.0.1:1"
    for sid in ("z.abc", "a.abc", "b.abc", "abc", "gone.abc", "..", "a."):
        for method in ("GET", "POST"):
            assert is_unknown(await request(method, f"{b.url}{POLLING}&sid={sid}", data=None)), sid
        with pytest.raises(Exception, match="HTTP 400"):
            await connect(f"{b.url}?EIO=4&transport=websocket&sid={sid}".replace("http", "ws"))
    assert b.forwarding.count == 0


class Silent:
    """A server that accepts connections, and replies nothing or ``reply``."""

    def __init__(self, reply: bytes = b"") -> None:
        self._reply = reply
        self.address = ""
        self.connections: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Silent:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(self._reply)

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self.connections:
            writer.transport.abort()


async def test_a_node_that_does_not_reply_is_given_up(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A poll, a body and an upgrade: the client learns that its session is unknown."""
    monkeypatch.setattr(forwarding, "HANDSHAKE_TIMEOUT", 0.3)
    b = await cluster.node("b", forwarding={"reply_timeout": 0.3})
    async with Silent() as silent:
        cluster.addresses["s"] = silent.address
        query = f"{POLLING}&sid=s.abc"
        assert is_unknown(await request("GET", b.url + query))
        assert is_unknown(await request("POST", b.url + query, data="4x"))
        with pytest.raises(Exception, match="HTTP 400"):
            await connect((b.url + query).replace("http", "ws").replace("polling", "websocket"))
    assert b.forwarding.count == 0


NONSENSE = [b"nonsense\r\n\r\n", b"x" * 100_000]
HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"


@pytest.mark.parametrize("reply", [*NONSENSE, HALF], ids=["nonsense", "long-nonsense", "half"])
async def test_a_node_that_replies_nonsense_is_given_up(cluster: Cluster, reply: bytes) -> None:
    """What is at the address may be something else by now. The client never gets a part of a reply as a whole one."""
    b = await cluster.node("b", forwarding={"reply_timeout": 0.3})
    async with Silent(reply) as other:
        cluster.addresses["s"] = other.address
        query = f"{POLLING}&sid=s.abc"
        if reply == HALF:
            with pytest.raises(aiohttp.ClientError):
                await request("GET", b.url + query)
        else:
            assert is_unknown(await request("GET", b.url + query))
        with pytest.raises(Exception, match="HTTP 400"):
            await connect((b.url + query).replace("http", "ws").replace("polling", "websocket"))
    await until(lambda: b.forwarding.count == 0)


@contextmanager
def full_backlog() -> Iterator[str]:
    """An address at which connections are neither accepted nor refused (Linux)."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            with suppress(BlockingIOError):
                waiting.connect(listening.getsockname())
        yield f"127.0.0.1:{listening.getsockname()[1]}"


async def test_an_address_that_nobody_has_is_given_up_soon(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connecting has a timeout of its own, for a poll may wait much longer than that for its reply."""
    monkeypatch.setattr(forwarding, "CONNECT_TIMEOUT", 0.3)
    monkeypatch.setattr(forwarding, "HANDSHAKE_TIMEOUT", 0.3)
    b = await cluster.node("b")
    with full_backlog() as address:
        cluster.addresses["s"] = address
        assert is_unknown(await request("GET", f"{b.url}{POLLING}&sid=s.abc"))
        with pytest.raises(Exception, match="HTTP 400"):
            await connect(f"{b.url}?EIO=4&transport=websocket&sid=s.abc".replace("http", "ws"))


async def test_what_is_forwarded_to_a_node_can_be_dropped(nodes: list[Node]) -> None:
    """Its lease is over: its clients do not wait for their pings to time out, and those of others go on."""
    a, b, c = nodes
    query, other = await a.open(), await c.open()
    poll = asyncio.create_task(request("GET", b.url + query))
    await poll_waits(a)
    bystander = asyncio.create_task(request("GET", b.url + other))
    await poll_waits(c)
    query = await a.open()
    async with connect((b.url + query).replace("http", "ws").replace("polling", "websocket")) as socket:
        b.forwarding.drop("a")
        assert is_unknown(await poll)
        assert await closed(socket)
    assert b.forwarding.count == 1
    await request("POST", b.url + other, data="4still here")
    assert (await bystander).text == "4still here"


async def test_a_stopping_node_ends_what_it_forwards(nodes: list[Node]) -> None:
    """Clients come back elsewhere: a poll is 503, and so is all that comes later; a WebSocket is closed."""
    a, b, _ = nodes
    query = await a.open()
    poll = asyncio.create_task(request("GET", b.url + query))
    await poll_waits(a)
    upgraded = await a.open()
    async with connect((b.url + upgraded).replace("http", "ws").replace("polling", "websocket")) as socket:
        await b.server.shutdown()
        assert (await poll).status == 503
        assert await closed(socket)
    assert (await request("GET", b.url + query)).status == 503
    assert b.forwarding.count == 0
    await until(lambda: not any(socket.polling.is_polled for socket in a.server.sockets.values()))


async def test_a_node_may_get_another_id(nodes: list[Node]) -> None:
    """Its lease was lost: sessions of the old id are reached where they are, and new ones have the new id."""
    a, b, _ = nodes
    old = await a.open()
    a.table.node = "a2"
    a.table.addresses["a2"] = a.table.addresses.pop("a")
    new = await a.open()
    assert (await request("POST", a.url + old, data="4x")).status == 200
    assert is_unknown(await request("POST", b.url + old, data="4x"))
    assert (await request("POST", b.url + new, data="4x")).status == 200
    assert is_unknown(await request("POST", f"{a.url}{POLLING}&sid=a.abc", data="4x"))


# --- limits


async def test_only_so_much_is_forwarded_at_once(cluster: Cluster) -> None:
    """More is refused at once, as where the server is full; what is done makes room."""
    a, b = await cluster.node("a"), await cluster.node("b", forwarding={"limit": 2})
    queries = [await a.open() for _ in range(3)]
    upgrade = (b.url + queries[0]).replace("http", "ws").replace("polling", "websocket")
    async with connect(upgrade):
        poll = asyncio.create_task(request("GET", b.url + queries[1]))
        await until(lambda: b.forwarding.count == 2)
        refused = await request("GET", b.url + queries[2])
        assert (refused.status, json.loads(refused.text)["code"]) == (503, 7)
        with pytest.raises(Exception, match="HTTP 503"):
            await connect((b.url + queries[2]).replace("http", "ws").replace("polling", "websocket"))
    await until(lambda: b.forwarding.count == 1)
    await request("POST", b.url + queries[1], data="4x")
    assert (await poll).text == "4x"


async def test_a_client_that_does_not_read_its_relay_is_too_slow_for_its_node(cluster: Cluster) -> None:
    """The relay holds little: nearly all that is unsent waits at the node of the session, whose limits count it."""
    a, b = await cluster.node("a", max_buffer=200_000), await cluster.node("b")
    query = (await a.open()).replace("polling", "websocket")
    async with connection(b.url) as client:
        client.send(head(f"/engine.io/{query}", _websocket_headers()) + masked("2probe"))
        assert (await client.response(body=False)).status == 101
        assert await client.frame() == b"3probe"
        client.send(masked("5") + masked("4hello"))
        assert await client.frame() == b"4hello"
        client.writer.transport.pause_reading()
        (sid,) = a.server.sockets
        async with asyncio.timeout(30):
            while a.server.sockets:
                await a.server.send(sid, "x" * 50_000)
                await asyncio.sleep(0.001)  # so that the connections take what they can
    await until(lambda: a.server.reasons == ["transport error"])
    await until(lambda: b.forwarding.count == 0)


# --- who is believed


async def test_a_forged_header_gains_nothing(cluster: Cluster) -> None:
    """A client that claims to be a node is served like any other: its origin is checked, nothing is reported lost. Its
    request is not passed on, so that no header of a client can have nodes pass it to each other.
    """
    origins = ["https://page.example"]
    a = await cluster.node("a", cors_allowed_origins=origins)
    b = await cluster.node("b", cors_allowed_origins=origins)
    query = await a.open()
    target, evil = f"/engine.io/{query}", "https://evil.example"
    good = sign(a.table.secret, a.table.now(), "node", ("POST", target, evil, ""))
    old = sign(a.table.secret, a.table.now() - MAX_AGE - 1, "node", ("POST", target, evil, ""))
    other = sign(a.table.secret, a.table.now(), "node", ("POST", target.replace("a.", "b."), evil, ""))
    for forged in ("", "yes", good[:-1] + ("0" if good[-1] != "0" else "1"), old, other):
        headers = {HEADER: forged, "Origin": evil}
        assert (await request("POST", a.url + query, data="4x", headers=headers)).status == 403
        headers["Origin"] = origins[0]
        assert is_unknown(await request("POST", b.url + query, data="4x", headers=headers))
        assert (await request("POST", a.url + query, data="4x", headers=headers)).status == 200
    lost = {HEADER: sign(b"another secret", a.table.now(), "lost", ("DELETE", target, "", ""))}
    (socket,) = a.server.sockets.values()
    assert (await request("GET", a.url + query, headers=lost)).text == "\x1e".join(["4x"] * 5)
    assert not socket.closed
    assert (await request("POST", a.url + query, data="4x", headers={HEADER: good, "Origin": evil})).status == 200


async def test_nodes_with_different_secrets_or_clocks_do_not_loop(cluster: Cluster) -> None:
    """They forward to each other, but the origin is checked again, and nothing is passed on twice."""
    a, b = await cluster.node("a", key=b"another"), await cluster.node("b")
    b.table.late = 3600.0
    for first, second in ((a, b), (b, a)):
        query = await first.open()
        assert (await request("POST", second.url + query, data="4x")).status == 200
        assert (await request("GET", second.url + query)).text == "4x"


async def test_an_address_of_another_node_makes_no_loop(cluster: Cluster) -> None:
    """Each node takes the other for the one that has the session; or the load balancer's address was announced."""
    a, b = await cluster.node("a"), await cluster.node("b")
    async with balancing(round_robin([address_of(a.url), address_of(b.url)])) as balancer:
        for address in (address_of(a.url), address_of(b.url), address_of(balancer)):
            cluster.addresses["c"] = address
            for node in (a, b):
                assert is_unknown(await request("GET", f"{node.url}{POLLING}&sid=c.abc"))
                with pytest.raises(Exception, match="HTTP 400"):
                    await connect(f"{node.url}?EIO=4&transport=websocket&sid=c.abc".replace("http", "ws"))
    assert a.forwarding.count == b.forwarding.count == 0


# --- losses


async def test_a_poll_whose_reply_is_lost_on_its_way_ends_the_session(
    nodes: list[Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session's node has sent the reply, and its client is gone before the other node can send it on: that is
    reported, and does not wait for a ping to time out.
    """
    a, b, _ = nodes
    query = await a.open()
    pass_back = forwarding._pass_back

    async with connection(b.url) as client:

        async def lose(request: Any, reply: Any) -> Any:
            client.writer.transport.abort()
            await until(lambda: request.transport is None)
            return await pass_back(request, reply)

        monkeypatch.setattr(forwarding, "_pass_back", lose)
        client.send(head(f"/engine.io/{query}"))
        await poll_waits(a)
        (sid,) = a.server.sockets
        await a.server.send(sid, "lost")
        await until(lambda: bool(a.server.reasons), AT_ONCE)
    assert a.server.reasons == ["transport close"]
    await until(lambda: b.forwarding.count == 0)


async def test_a_client_that_leaves_with_its_reply_keeps_its_session(
    nodes: list[Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that closes its connection as soon as it has the whole reply has lost nothing."""
    a, b, _ = nodes
    query = await a.open()

    async def release_slowly(reply: aiohttp.ClientResponse) -> None:
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr(aiohttp.ClientResponse, "wait_for_close", release_slowly)
        async with connection(b.url) as client:
            client.send(head(f"/engine.io/{query}", [("Content-Length", "6")], method="POST") + b"4hello")
            assert (await client.response()).text == "ok"
            assert b.forwarding.count == 1
        await until(lambda: b.forwarding.count == 0)
    assert (await request("GET", b.url + query)).text == "4hello"
    assert a.server.reasons == []


# --- processes, and stock clients


@pytest.fixture
async def processes() -> AsyncIterator[dict[str, NodeProcess]]:
    addresses = free_addresses("abc")
    async with AsyncExitStack() as stack:
        yield {node: await stack.enter_async_context(NodeProcess(node, addresses)) for node in addresses}


async def open_on(process: NodeProcess) -> str:
    response = await request("GET", f"{process.url}/socket.io/{POLLING}")
    return f"/socket.io/{POLLING}&sid={json.loads(response.text[1:])['sid']}"


async def test_a_killed_node_ends_what_was_forwarded_to_it(processes: dict[str, NodeProcess]) -> None:
    """kill -9: a poll that waits is told that the session is unknown, a WebSocket is closed, and so is all later."""
    a, b = processes["a"], processes["b"]
    query, upgraded = await open_on(a), await open_on(a)
    assert (await request("POST", b.url + query, data="40")).status == 200
    assert "welcome" in (await request("GET", b.url + query)).text
    poll = asyncio.create_task(request("GET", b.url + query))
    async with connect((b.url + upgraded).replace("http", "ws").replace("polling", "websocket")) as socket:
        await socket.send("2probe")
        assert await socket.recv() == "3probe"
        assert (await request("GET", b.url + upgraded)).text == "6"
        assert not poll.done()
        await a.kill()
        assert is_unknown(await poll)
        with pytest.raises(ConnectionClosed):
            await socket.recv()
    assert is_unknown(await request("GET", b.url + query))
    assert is_unknown(await request("POST", b.url + query, data="4x"))


async def test_stock_clients_come_back_when_a_node_is_killed(processes: dict[str, NodeProcess], driver: Driver) -> None:
    """With their defaults, behind a load balancer that knows nothing of sessions."""
    alive = list(processes.values())
    addresses = [address_of(process.url) for process in alive]
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(balancing(round_robin(addresses)))
        clients = [
            await stack.enter_async_context(
                SocketIOClient(driver, url, reconnection=True, reconnectionDelay=100, reconnectionDelayMax=300)
            )
            for _ in range(20)
        ]
        for client in clients:
            await client.wait_for_transport("websocket")
        at_home = {client.number: (await client._do("emit", name="node", args=[], ack=True))[0] for client in clients}
        doomed = [client for client in clients if at_home[client.number] == {"node": "a"}]
        assert 0 < len(doomed) < len(clients)
        await processes["a"].kill()
        addresses.remove(address_of(processes["a"].url))
        for client in doomed:
            await client.next_notice("disconnect")
            await client.next_notice("connect")
        for client in clients:
            await client.wait_for_transport("websocket")
            value = await client._do("emit", name="echo", args=[client.number], ack=True)
            assert value == [client.number]


@pytest.mark.parametrize("transports", [["polling", "websocket"], ["polling"]], ids=["defaults", "polling"])
async def test_stock_clients_need_no_sticky_sessions(driver: Driver, transports: list[str]) -> None:
    """Many of them, behind a balancer: everything arrives once and in order, and nothing is left when they have gone,
    no session, nothing forwarded, no file descriptor.
    """
    allow_many_files()
    addresses: dict[str, str] = {}
    forwardings = [Forwarding(Table(node, addresses)) for node in "abc"]
    servers = [chat_server(each) for each in forwardings]
    async with AsyncExitStack() as stack:
        for forwarder, server in zip(forwardings, servers, strict=True):
            url = await stack.enter_async_context(serving(server, "socket.io", past_aiohttp=True))
            addresses[forwarder.node] = address_of(url)
        front = await stack.enter_async_context(balancing(round_robin(list(addresses.values()))))
        before = len(os.listdir("/proc/self/fd"))
        async with AsyncExitStack() as clients_stack:
            clients = [SocketIOClient(driver, front, transports=transports) for _ in range(30)]
            await asyncio.gather(*(clients_stack.enter_async_context(client) for client in clients))
            for client in clients:
                await client.wait_for_transport(transports[-1])
            await asyncio.gather(*(_echo_in_order(client) for client in clients))
            assert all(server.eio.sockets for server in servers), "each has some"
            await until(lambda: sum(each.count for each in forwardings) > 5)
        await until(lambda: not any(server.eio.sockets for server in servers))
        await until(lambda: not any(each.count for each in forwardings))
        for each in forwardings:
            await each.close()
        await until(lambda: len(os.listdir("/proc/self/fd")) <= before)


async def _echo_in_order(client: SocketIOClient) -> None:
    for number in range(10):
        await client.emit_without_ack("echo", {"n": number})
    for number in range(10):
        assert (await client.next_event("echoed")).fields == {"n": number}


async def test_a_stopped_node_keeps_nobody(processes: dict[str, NodeProcess]) -> None:
    """SIGSTOP: a client that gives up waiting takes its request along, and the node that forwarded it is as before."""
    a, b = processes["a"], processes["b"]
    query = await open_on(a)
    a.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await request("GET", b.url + query)
        assert "0{" in (await request("GET", f"{b.url}/socket.io/{POLLING}")).text
    finally:
        a.send_signal(signal.SIGCONT)

    async def is_over() -> bool:
        return is_unknown(await request("GET", a.url + query))

    await poll_until(is_over)  # whether it sees this poll or the loss of the last one first


async def test_problems_are_logged(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    """For the operator: which node cannot be reached, at which address."""
    a, b = await cluster.node("a"), await cluster.node("b")
    cluster.addresses["gone"] = "127.0.0.1:1"
    with caplog.at_level(logging.INFO, logger="gateway.servers"):
        await request("GET", f"{b.url}{POLLING}&sid=gone.abc")
        with pytest.raises(Exception, match="HTTP 400"):  # whose node knows no such session, as often
            await connect(f"{a.url}?EIO=4&transport=websocket&sid=b.abc".replace("http", "ws"))
        await request("GET", f"{b.url}{POLLING}&sid=b.abc", headers={HEADER: "forged"})
    unreachable, unsigned = caplog.records
    assert unreachable.getMessage() == "cannot reach another node"
    assert (unreachable.__dict__["node"], unreachable.__dict__["address"]) == ("gone", "127.0.0.1:1")
    assert unsigned.getMessage().startswith("a request claims to come from another node")
    assert {via.value for via in Via} == {"client", "node", "lost"}
