"""Socket.IO over long polling, over WebSocket, and through the upgrade from one to the other."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from harness.client import RefusedError, make_room, succeed
from harness.http import request
from harness.names import fresh_name
from harness.raw import ENGINE, RawSocketIO
from harness.stock import TRANSPORTS as STOCK_TRANSPORTS
from harness.stock import SocketIOClient
from harness.waiting import until

if TYPE_CHECKING:
    from harness.client import Action, ChatClient, Join
    from harness.node import Driver
    from harness.process import GatewayProcess, StartGateway
    from harness.valkey import ValkeyServer

TRANSPORTS = ["socketio-websocket", "socketio-polling", "socketio-polling-only"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_conversation_on_every_transport(join: Join, transport: str) -> None:
    """Log in, create, add, send, receive and leave work alike on every transport."""
    alice, bob = await join(transport), await join(transport)
    room = await make_room(alice, bob)
    for number in range(5):
        await succeed(alice, "send-msg", room=room, content=f"{number} é🙂")
        assert (await bob.next_event("message")).fields["content"] == f"{number} é🙂"
        await succeed(bob, "send-msg", room=room, content="yes")
        assert (await alice.next_event("message")).fields["content"] == "yes"
    await bob.leave()
    assert (await alice.next_event("user-left")).fields == {"room": room, "username": bob.username}


async def test_polling_upgrades_to_websocket(join: Join) -> None:
    """The stock client's default, polling first, ends on WebSocket, and the session goes on."""
    client = await join("socketio-polling")
    await client.wait_for_transport("websocket")
    room = await make_room(client)
    await succeed(client, "send-msg", room=room, content="x")


async def test_a_client_may_stay_on_long_polling(join: Join) -> None:
    """A client that may not upgrade keeps polling."""
    client = await join("socketio-polling-only")
    await client.drain()
    assert (await client.state())["transport"] == "polling"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_burst_of_actions_is_acked_completely_and_in_order(join: Join, transport: str) -> None:
    """Many actions at once, as one long-polling body or across the upgrade, are all done, in order."""
    client, bob = await join(transport), await join()
    room = await make_room(client, bob)
    actions: list[Action] = [("send-msg", {"room": room, "content": str(number)}) for number in range(200)]
    replies = await client.burst(actions)
    assert all(reply["ok"] for reply in replies)
    contents = [(await bob.next_event("message")).fields["content"] for _ in actions]
    assert contents == [str(number) for number in range(200)]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_burst_of_events_arrives_completely_and_in_order(join: Join, transport: str) -> None:
    """Many messages to one client, in one long poll or across the upgrade, all arrive, in order."""
    client, bob = await join(transport), await join()
    room = await make_room(bob, client)
    await bob.burst([("send-msg", {"room": room, "content": str(number)}) for number in range(200)])
    contents = [(await client.next_event("message")).fields["content"] for _ in range(200)]
    assert contents == [str(number) for number in range(200)]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_large_messages_arrive_on_every_transport(join: Join, transport: str) -> None:
    """The longest content arrives on every transport, many in a row."""
    client, bob = await join(transport), await join(transport)
    room = await make_room(client, bob)
    for letter in "abc":
        await succeed(client, "send-msg", room=room, content=letter * 10_000)
    for letter in "abc":
        assert (await bob.next_event("message")).fields["content"] == letter * 10_000


async def test_a_body_in_two_segments_is_read_completely(gateway: GatewayProcess, join: Join) -> None:
    """A long-polling POST that arrives in pieces is one body: nothing of it is lost."""
    bob, name = await join(), fresh_name()
    path = await open_polling(gateway)
    response = await request("POST", gateway.url + path, data=f'40{{"username":"{name}"}}')
    assert response.status == 200
    assert (await request("GET", gateway.url + path)).text.startswith("40")
    room = fresh_name("room")
    create = dumps("create-room", {"room": room, "users": [bob.username]})
    body = "\x1e".join([f"42{create}", f"42{dumps('send-msg', {'room': room, 'content': 'x' * 9_000})}"]).encode()
    address = urlsplit(gateway.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    head = f"POST {path} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    for piece in (head.encode(), body[:40], body[40:5000], body[5000:]):
        writer.write(piece)
        await writer.drain()
        # The pieces must leave as segments of their own; another client's round trip lets the gateway read each.
        await succeed(bob, "list-rooms")
    assert b"200" in await reader.readline()
    writer.close()
    assert (await bob.next_event("message")).fields["content"] == "x" * 9_000


async def open_polling(gateway: GatewayProcess) -> str:
    """The path of a new long-polling session."""
    opened = await request("GET", f"{gateway.url}{ENGINE}&transport=polling")
    return f"{ENGINE}&transport=polling&sid={json.loads(opened.text[1:])['sid']}"


def dumps(*event: object) -> str:
    return json.dumps(event)


async def test_the_handshake_contains_the_settings(start_gateway: StartGateway) -> None:
    """Engine.IO's handshake carries the ping settings in milliseconds and the largest payload, and no cookie."""
    own = await start_gateway(ping_interval=7, ping_timeout=3, max_frame_size=5000, max_content_length=100)
    response = await request("GET", f"{own.url}{ENGINE}&transport=polling")
    handshake = json.loads(response.text[1:])
    assert response.text.startswith("0")
    assert (handshake["pingInterval"], handshake["pingTimeout"]) == (7000, 3000)
    assert handshake["maxPayload"] == 5000
    assert handshake["upgrades"] == ["websocket"]
    assert "set-cookie" not in response.headers


async def test_a_client_that_stops_responding_is_noticed(start_gateway: StartGateway, join: Join) -> None:
    """A long-polling client that just stops is suspended after --ping-interval and --ping-timeout."""
    own = await start_gateway(ping_interval=1, ping_timeout=1)
    bob = await join(to=own)
    url = own.url + await open_polling(own)
    await request("POST", url, data='40{"username":"alice"}')
    assert (await request("GET", url)).text.startswith("40")
    await succeed(bob, "create-room", room="r", users=["alice"])
    since = time.monotonic()
    event = await bob.next_event("presence")
    assert event.fields == {"room": "r", "username": "alice", "online": False}
    assert 0.9 < time.monotonic() - since < 10


async def test_a_response_that_is_not_read_is_aborted(start_gateway: StartGateway, join: Join) -> None:
    """A client that asks for a large payload and does not read it holds its connection as long as a session."""
    own = await start_gateway(ping_interval=1, ping_timeout=1)
    bob = await join(to=own)
    path, name = await open_polling(own), fresh_name()
    await request("POST", own.url + path, data=f'40{{"username":"{name}"}}')
    assert (await request("GET", own.url + path)).text.startswith("40")
    room = fresh_name("room")
    await succeed(bob, "create-room", room=room, users=[name])
    files = own.count_files()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((urlsplit(own.url).hostname, urlsplit(own.url).port))
        await bob.burst([("send-msg", {"room": room, "content": "x" * 10_000}) for _ in range(50)])
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await until(lambda: own.count_files() > files)
        await until(lambda: own.count_files() <= files, seconds=10)


async def test_a_websocket_without_pongs_is_closed(start_gateway: StartGateway, join: Join) -> None:
    """A WebSocket whose client hangs is suspended as well, on both wires."""
    own = await start_gateway(ping_interval=1, ping_timeout=1)
    bob = await join(to=own)
    hung = await join(to=own)
    async with RawSocketIO(own.url) as raw:
        await raw.connect({"username": "alice"})
        await succeed(bob, "create-room", room="r", users=["alice", hung.username])
        raw.socket.transport.pause_reading()
        hung.socket.transport.pause_reading()
        since = time.monotonic()
        lost = {(await bob.next_event("presence")).fields["username"] for _ in range(2)}
        assert lost == {"alice", hung.username}
        assert 0.9 < time.monotonic() - since < 10


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_pings_keep_an_idle_client_connected(start_gateway: StartGateway, join: Join, transport: str) -> None:
    """A client that sends nothing but pongs stays connected over several pings."""
    own = await start_gateway(ping_interval=1, ping_timeout=1)
    client: ChatClient = await join(transport, to=own)
    assert isinstance(client, SocketIOClient)
    gone, bob = await join(to=own), await join(to=own)
    await make_room(bob, client, gone)
    gone.socket.transport.pause_reading()  # lost after the time in which the idle client must be kept
    assert (await bob.next_event("presence")).fields["username"] == gone.username
    assert [event.name for event in await client.drain()] == ["presence"]
    assert (await client.state())["connected"]


BAD_REQUESTS = [
    ("GET", "/socket.io/?EIO=3&transport=polling"),
    ("GET", "/socket.io/?transport=polling"),
    ("GET", "/socket.io/?EIO=4&transport=carrier-pigeon"),
    ("GET", "/socket.io/?EIO=4&transport=polling&sid=nobody"),
    ("POST", "/socket.io/?EIO=4&transport=polling&sid=nobody"),
    ("POST", "/socket.io/?EIO=4&transport=polling"),
    ("PUT", "/socket.io/?EIO=4&transport=polling"),
]


@pytest.mark.parametrize(("method", "path"), BAD_REQUESTS)
async def test_wrong_engine_requests_are_refused(gateway: GatewayProcess, method: str, path: str) -> None:
    """A request that Engine.IO does not know is 400, and no trouble."""
    response = await request(method, gateway.url + path)
    assert response.status == 400, response


LONG_POLLING_IS_REFUSED = "long-polling is refused"
NODES_REACH_EACH_OTHER = "other nodes reach this one"


async def test_websocket_only_serves_those_who_begin_with_it(start_gateway: StartGateway, join: Join) -> None:
    """Stock clients, and plain ones; the log says once what is refused."""
    own = await start_gateway(transports="websocket")
    options = {"transports": ["polling", "websocket"], "tryAllTransports": True}
    direct, falling_back = await join("socketio-websocket", to=own), await join("socketio-polling", to=own, **options)
    room = await make_room(direct, falling_back, await join(to=own))
    await succeed(falling_back, "send-msg", room=room, content="hello")
    assert (await direct.next_event("message")).fields["content"] == "hello"
    await until(lambda: " started " in own.log)
    assert own.log.count(LONG_POLLING_IS_REFUSED) == 1


@pytest.mark.parametrize("transport", ["socketio-polling", "socketio-polling-only"])
async def test_websocket_only_refuses_long_polling_with_the_reason(
    start_gateway: StartGateway, driver: Driver, transport: str
) -> None:
    """The stock client reports a failed request, with its response."""
    own = await start_gateway(transports="websocket")
    client = SocketIOClient(driver, own.url, fresh_name(), transports=STOCK_TRANSPORTS[transport])
    with pytest.raises(RefusedError):
        await client.__aenter__()
    (refusal,) = client.notices.log
    assert refusal.name == "connect_error"
    assert json.loads(refusal.fields["response"]) == {"code": 0, "message": "Transport unknown: use websocket"}


async def test_nodes_with_websocket_only_need_not_reach_each_other(
    start_gateway: StartGateway, valkey: ValkeyServer, join: Join
) -> None:
    """They announce no address, and their sessions are found by no other node. Other nodes say what they need."""
    store = valkey.store(fresh_name("store"))
    isolated = [await start_gateway(store=store, transports="websocket") for _ in range(2)]
    alice, bob = [await join("socketio-websocket", to=node) for node in isolated]
    room = await make_room(alice, bob)
    await succeed(alice, "send-msg", room=room, content="hello")
    assert (await bob.next_event("message")).fields["content"] == "hello"
    assert not any(NODES_REACH_EACH_OTHER in node.log for node in isolated)
    usual = await start_gateway(store=store)
    await until(lambda: " started " in usual.log)
    assert usual.log.count(NODES_REACH_EACH_OTHER) == 1
    assert usual.log.count(f"address={usual.url.removeprefix('http://')} ") == 1
    assert LONG_POLLING_IS_REFUSED not in usual.log


async def test_another_namespace_is_refused(gateway: GatewayProcess) -> None:
    """There is one namespace, `/`: another is a connect_error, and `/` can still be joined."""
    async with RawSocketIO(gateway.url) as raw:
        await raw.send('40/admin,{"username":"x"}')
        assert str(await raw.next_frame()).startswith("44/admin,")
        assert (await raw.connect({"username": fresh_name()})).startswith("40")
