"""Several gateways on one Valkey server are one chat: what clients of any two of them see of each other, and of a
gateway or a server that is killed, stopped, paused or not there.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.exceptions import WebSocketException

from harness.client import ChatClient, Join, RefusedError, check_error, fail, make_room, members, succeed
from harness.inbox import TIMEOUT
from harness.names import fresh_name
from harness.plain import JsonClient
from harness.process import GatewayProcess, StartGateway, stable_port
from harness.proxy import Proxy
from harness.stock import SocketIOClient
from harness.valkey import StartValkey, ValkeyProxy, ValkeyServer
from harness.waiting import poll_until
from test_health import ask, wait_for

SUSPENDED = 10.0
"""Seconds within which the others notice that a node is gone."""

WIRES = ("socketio-websocket", "json")

RECONNECTION = {"reconnection": True, "reconnectionDelay": 20, "reconnectionDelayMax": 100}
"""Options of a stock client that comes back by itself, and soon."""

StartNodes = Callable[..., Awaitable[list[GatewayProcess]]]


@pytest.fixture
def start_nodes(valkey: ValkeyServer, start_gateway: StartGateway) -> StartNodes:
    """Starts gateways on one new store."""

    async def start(count: int, server: ValkeyServer = valkey, **settings: Any) -> list[GatewayProcess]:
        store = server.store(fresh_name("store"))
        starting = [start_gateway(store=store, port=stable_port(), **settings) for _ in range(count)]
        return await asyncio.gather(*starting)

    return start


class Returning:
    """A client that comes back when its connection is lost, through a balancer, to a node that is there."""

    def __init__(self, join: Join, balancer: Proxy, wire: str) -> None:
        self.client: ChatClient
        self._join = join
        self._balancer = balancer
        self._wire = wire
        self._clients: list[ChatClient] = []
        """Its connections on the plain wire; a stock client is one."""

    async def log_in(self) -> ChatClient:
        options = {} if self._wire == "json" else RECONNECTION
        self.client = await self._join(self._wire, to=self._balancer, **options)
        self._clients = [self.client]
        return self.client

    async def come_back(self) -> bool:
        """Wait until its connection is lost, and it is back. Returns whether it missed nothing."""
        client = self.client
        if isinstance(client, SocketIOClient):
            await client.next_notice("disconnect")
            await client.next_notice("connect")
            client.welcome = await client.next_event("welcome")
        else:
            assert isinstance(client, JsonClient)
            await client.wait_closed()
            self.client = await self._resume(client)
            self._clients.append(self.client)
        return bool(self.client.welcome.fields["recovered"])

    async def _resume(self, client: JsonClient) -> JsonClient:
        """Try until a node takes it."""
        query = {"pid": client.pid, "offset": client.offset}
        async with asyncio.timeout(TIMEOUT):
            while True:
                try:
                    return await self._join("json", client.username, to=self._balancer, query=query)
                except (OSError, EOFError, WebSocketException, RefusedError):
                    await asyncio.sleep(0.05)  # before the next attempt

    @property
    def seen(self) -> list[str]:
        """The contents of all messages that it has received."""
        events = [event for client in self._clients for event in client.events.log]
        return [event.fields["content"] for event in events if event.name == "message"]


@asynccontextmanager
async def balancing(*nodes: GatewayProcess) -> AsyncIterator[Proxy]:
    """A balancer before nodes, which passes over those that are not there."""
    async with Proxy(*(node.url for node in nodes)) as proxy:
        yield proxy


async def say(client: ChatClient, room: str, *contents: str) -> None:
    """Send messages until they are acked."""
    for content in contents:
        while True:
            reply = await client.call("send-msg", room=room, content=content, id=content)
            if reply["ok"]:
                break
            check_error(reply["error"], "unavailable")
            await asyncio.sleep(0.05)  # before the next attempt


def contents_of(client: ChatClient) -> list[str]:
    return [event.fields["content"] for event in client.events.log if event.name == "message"]


async def read_log(client: ChatClient, room: str) -> list[str]:
    reply = await succeed(client, "history", room=room, limit=100)
    assert not reply["more"]
    return [message["content"] for message in reply["messages"]]


# --- one chat


@pytest.mark.parametrize("count", [2, 3])
async def test_a_room_over_nodes_has_one_order(start_nodes: StartNodes, join: Join, count: int) -> None:
    """Each member, wherever it is, receives what the others send, in the order of the history, which all nodes have."""
    nodes = await start_nodes(count)
    clients = [await join(wire, to=node) for node in nodes for wire in WIRES]
    bare = await join("bare", to=nodes[0])
    room = await make_room(*clients)
    await succeed(clients[-1], "add-user", room=room, users=[bare.username])
    sent = [[f"{place} {number}" for number in range(10)] for place in range(len(clients))]
    await asyncio.gather(*(say(client, room, *contents) for client, contents in zip(clients, sent, strict=True)))
    await bare.echo("send-msg", room=room, content="last")
    log = await read_log(clients[0], room)
    assert sorted(log) == sorted(["last", *(content for contents in sent for content in contents)])
    for client, contents in zip(clients, sent, strict=True):
        assert await read_log(client, room) == log
        expected = [content for content in log if content not in contents]
        await client.events.take(lambda event: event.fields.get("content") == "last", "the last message")
        assert contents_of(client) == expected
        assert [content for content in log if content in contents] == contents
    assert [frame for frame in await bare.drain() if frame in log] == log[:-1]


@pytest.mark.parametrize("wire", WIRES)
async def test_a_name_that_is_raced_for_on_all_nodes_is_won_once(
    start_nodes: StartNodes, join: Join, wire: str
) -> None:
    """The others are told that it is taken; when its holder has left, it is free on every node."""
    nodes = await start_nodes(3)
    for _ in range(3):
        name = fresh_name()
        logins = [join(wire, name, to=node) for node in nodes for _ in range(2)]
        results = await asyncio.gather(*logins, return_exceptions=True)
        refused = [result for result in results if isinstance(result, RefusedError)]
        (winner,) = [result for result in results if not isinstance(result, BaseException)]
        assert [refusal.code for refusal in refused] == ["username_taken"] * 5
        await winner.leave()
        place = (results.index(winner) // 2 + 1) % 3
        await join(wire, name, to=nodes[place])


async def test_a_log_in_with_a_name_that_is_taken_elsewhere_costs_little(
    start_nodes: StartNodes, start_valkey: StartValkey, join: Join
) -> None:
    """It waits a moment for the holder, who may be leaving, without asking the server all the time."""
    server = await start_valkey()
    first, second = await start_nodes(2, server)
    alice = await join(to=first)
    scripts = await count_scripts(server)
    with pytest.raises(RefusedError, match="username_taken"):
        await join("json", alice.username, to=second)
    assert await count_scripts(server) - scripts < 30
    await alice.leave()
    await join("json", alice.username, to=second)


async def count_scripts(server: ValkeyServer) -> int:
    """How many scripts it has run."""
    return int((await server.command("INFO", "commandstats"))["cmdstat_evalsha"]["calls"])


async def test_actions_reach_users_on_other_nodes(start_nodes: StartNodes, join: Join) -> None:
    """Rooms, direct rooms, who joins and who leaves; refusals are those of one gateway."""
    nodes = await start_nodes(2)
    alice, bob = await join("socketio-websocket", to=nodes[0]), await join("json", to=nodes[1])
    carol = await join("json", to=nodes[1])
    room = await make_room(alice, bob)
    await fail(carol, "create-room", "room_exists", room=room)
    await fail(carol, "send-msg", "room_not_found", room=room, content="x")
    await fail(alice, "add-user", "unknown_user", room=room, users=["nobody"])
    assert (await succeed(bob, "add-user", room=room, users=[carol.username]))["added"] == [carol.username]
    joined = await alice.next_event("user-joined")
    assert (joined.fields["username"], joined.fields["by"]) == (carol.username, bob.username)
    listed = (await succeed(carol, "list-members", room=room))["members"]
    assert listed == members(**{client.username: True for client in (alice, bob, carol)})
    assert alice.username in (await succeed(bob, "find-users", prefix=alice.username))["users"]

    direct = (await succeed(alice, "open-direct", user=carol.username))["room"]
    assert (await carol.events.take(lambda event: event.fields.get("room") == direct, "the direct room")).name == (
        "room-joined"
    )
    assert (await succeed(carol, "open-direct", user=alice.username))["room"] == direct
    await say(carol, direct, "just for you")
    assert (await alice.next_event("message")).fields["content"] == "just for you"

    await succeed(bob, "leave-room", room=room)
    assert (await alice.next_event("user-left")).fields["username"] == bob.username
    await say(carol, room, "without bob")
    assert (await alice.next_event("message")).fields["content"] == "without bob"
    await carol.leave()
    left = [(await alice.next_event("user-left")).fields for _ in range(2)]
    assert {fields["room"] for fields in left} == {room, direct}
    assert "message" not in [event.name for event in await bob.drain()]


@pytest.mark.parametrize("wire", WIRES)
async def test_presence_and_typing_reach_other_nodes(start_nodes: StartNodes, join: Join, wire: str) -> None:
    nodes = await start_nodes(2)
    async with balancing(nodes[0]) as balancer:
        alice = Returning(join, balancer, wire)
        client, bob = await alice.log_in(), await join(to=nodes[1])
        room = await make_room(client, bob)
        await succeed(client, "typing", room=room)
        assert (await bob.next_event("typing")).fields == {"room": room, "username": client.username}
        balancer.targets = (nodes[1].url,)
        balancer.reset()
        assert await alice.come_back()
        shown = [(await bob.next_event("presence")).fields["online"] for _ in range(2)]
        assert shown == [False, True]


# --- coming back to another node


@pytest.mark.parametrize("wire", WIRES)
async def test_a_session_that_is_resumed_on_another_node_is_closed_where_it_was(
    start_nodes: StartNodes, join: Join, wire: str
) -> None:
    """The connection that the node still believes alive is closed with 4001, the rooms are not told of anything, and
    what was missed follows.
    """
    first, second = await start_nodes(2)
    bob = await join(to=second)
    old = await join("json", to=first)
    room = await make_room(bob, old)
    offset = old.offset
    await say(bob, room, "1", "2", "3")
    for number in "123":
        assert (await old.next_event("message")).fields["content"] == number
    point = {"pid": old.pid, "offset": offset}
    options: dict[str, Any] = {"query": point} if wire == "json" else {"auth": point}
    new = await join(wire, old.username, to=second, **options)
    assert await old.wait_closed() == 4001
    assert new.welcome.fields["recovered"] is True
    await say(bob, room, "4")
    await new.events.take(lambda event: event.fields.get("content") == "4", "the last message")
    assert contents_of(new) == ["1", "2", "3", "4"]
    assert contents_of(old) == ["1", "2", "3"]
    assert [event.name for event in await bob.drain()] == []


@pytest.mark.parametrize("wire", WIRES)
async def test_clients_of_a_killed_node_recover_on_another(start_nodes: StartNodes, join: Join, wire: str) -> None:
    """At once, before anybody has noticed that the node is gone; they miss nothing."""
    first, second = await start_nodes(2)
    async with balancing(first, second) as balancer:
        alice = Returning(join, balancer, wire)
        client, bob = await alice.log_in(), await join(to=second)
        room = await make_room(client, bob)
        await say(bob, room, "1")
        await client.next_event("message")
        _, back, _ = await asyncio.gather(first.kill9(), alice.come_back(), say(bob, room, *map(str, range(2, 20))))
        assert back
        await say(bob, room, "last")
        await alice.client.events.take(lambda event: event.fields.get("content") == "last", "the last message")
        assert alice.seen == await read_log(bob, room)
        await say(alice.client, room, "here")
        assert (await bob.next_event("message")).fields["content"] == "here"


async def test_users_of_a_killed_node_are_suspended_and_then_gone(start_nodes: StartNodes, join: Join) -> None:
    """Within ten seconds their friends see that they are offline; their names are reserved, and free when the recovery
    window is over.
    """
    first, second = await start_nodes(2, recovery_window=3)
    alice, bob = await join(to=first), await join(to=second)
    room = await make_room(alice, bob)
    await first.kill9()
    began = time.monotonic()
    with pytest.raises(RefusedError) as refusal:
        await join("json", alice.username, to=second)
    check_error(refusal.value.error, "username_taken")
    gone = await bob.next_event("presence")
    assert gone.fields == {"room": room, "username": alice.username, "online": False}
    assert time.monotonic() - began < SUSPENDED
    with pytest.raises(RefusedError) as refusal:
        await join("json", alice.username, to=second)
    assert refusal.value.code == "username_taken"
    assert 0 < refusal.value.error["retry_after"] <= 3
    assert (await bob.next_event("user-left")).fields == {"room": room, "username": alice.username}
    assert (await join("json", alice.username, to=second)).welcome.fields["rooms"] == []


async def test_a_node_that_was_paused_sends_its_clients_back(start_nodes: StartNodes, join: Join) -> None:
    """Stopped for twelve seconds, as a virtual machine may be: the others take its sessions for lost, and when it goes
    on, it closes its clients, which recover. Nothing is lost or doubled, of what they sent either.
    """
    first, second = await start_nodes(2)
    async with balancing(first, second) as balancer:
        balancer.targets = (first.url,)
        users = [Returning(join, balancer, wire) for wire in WIRES for _ in range(3)]
        clients = [await user.log_in() for user in users]
        balancer.targets = (first.url, second.url)
        bob = await join(to=second)
        room = await make_room(bob, *clients)
        await first.signal(signal.SIGSTOP)
        began = time.monotonic()
        late = [
            asyncio.create_task(client.call("send-msg", room=room, content=f"late {client.username}"))
            for client in clients
        ]
        while time.monotonic() - began < 12:
            await say(bob, room, f"{time.monotonic() - began:.2f}")
            await asyncio.sleep(0.2)  # the pause goes on
        gone = {(await bob.next_event("presence")).fields["username"] for _ in clients}
        assert gone == {client.username for client in clients}
        await first.signal(signal.SIGCONT)
        assert all(await asyncio.gather(*(user.come_back() for user in users)))
        assert time.monotonic() - began < 12 + SUSPENDED
        replies = await asyncio.gather(*late, return_exceptions=True)
        assert not [reply for reply in replies if isinstance(reply, dict) and reply["ok"]]
        await say(bob, room, "last")
        log = await read_log(bob, room)
        for user in users:
            await user.client.events.take(lambda event: event.fields.get("content") == "last", "the last message")
            assert user.seen == log


@pytest.mark.parametrize("wire", WIRES)
async def test_clients_of_a_node_that_is_stopped_go_to_another(start_nodes: StartNodes, join: Join, wire: str) -> None:
    """SIGTERM: what was asked for is replied to, and the clients recover elsewhere."""
    first, second = await start_nodes(2)
    async with balancing(first, second) as balancer:
        balancer.targets = (first.url,)
        users = [Returning(join, balancer, wire) for _ in range(5)]
        clients = [await user.log_in() for user in users]
        balancer.targets = (first.url, second.url)
        bob = await join(to=second)
        room = await make_room(bob, *clients)
        status, *back = await asyncio.gather(first.stop(), *(user.come_back() for user in users))
        assert status == 0
        assert all(back)
        await say(bob, room, "last")
        for user in users:
            await user.client.events.take(lambda event: event.fields.get("content") == "last", "the last message")
            assert user.seen == ["last"]
        listed = (await succeed(bob, "list-members", room=room))["members"]
        assert all(member["online"] for member in listed)


# --- the server


@pytest.mark.parametrize("way", ["stopped", "killed"])
async def test_clients_stay_connected_while_the_server_is_started_again(
    start_nodes: StartNodes, start_valkey: StartValkey, join: Join, way: str
) -> None:
    """Meanwhile what must be stored is `unavailable`, and the gateways are live and not ready; then everything goes on
    by itself, with all that was acked.
    """
    server = await start_valkey()
    nodes = await start_nodes(2, server)
    clients = [await join(wire, to=node) for node in nodes for wire in WIRES]
    room = await make_room(*clients)
    await say(clients[0], room, "before")
    await (server.kill9() if way == "killed" else server.stop())
    for node in nodes:
        body = await wait_for(node, 503)
        assert body["status"] == "unavailable"
        assert "cannot be reached" in body["reason"]
        assert (await ask(node, "/health/live"))[0] == 200
    for client in clients:
        for action, payload in (("send-msg", {"room": room, "content": "x"}), ("create-room", {"room": "y"})):
            error = await fail(client, action, "unavailable", **payload)
            assert error["retry_after"] > 0
    for wire in WIRES:
        with pytest.raises(RefusedError) as refusal:
            await join(wire, to=nodes[0])
        assert refusal.value.code == "unavailable"
    await server.restart()
    for node in nodes:
        await wait_for(node, 200)
    await asyncio.gather(*(say(client, room, f"after {place}") for place, client in enumerate(clients)))
    log = await read_log(clients[0], room)
    assert log[0] == "before"
    assert sorted(log[1:]) == [f"after {place}" for place in range(4)]
    for place, client in enumerate(clients):
        await client.drain()
        own = ["before"] if place == 0 else []
        assert contents_of(client) == [content for content in log if content not in [*own, f"after {place}"]]
        if isinstance(client, SocketIOClient):
            assert client.notices.take_all() == []
        else:
            assert isinstance(client, JsonClient)
            assert not client.closed


@pytest.mark.parametrize("wire", WIRES)
async def test_a_log_in_whose_outcome_is_unknown_reserves_no_name(
    valkey: ValkeyServer, start_gateway: StartGateway, join: Join, wire: str
) -> None:
    """The server's reply was lost: the client is refused, and so has no pid with which it could return to what may have
    begun.
    """
    username = fresh_name("user")
    async with ValkeyProxy(valkey.store(store := fresh_name("store"))) as way:
        node = await start_gateway(store=way.url)
        await join(to=node)  # so that the server knows the scripts
        way.deafening = b"put_session"
        refused = asyncio.create_task(join(wire, username, to=node))
        await poll_until(lambda: valkey.command("EXISTS", f"{{{store}}}:user:{username}"))
        way.deafening = b""
        way.reset()
        with pytest.raises(RefusedError) as refusal:
            await refused
        assert refusal.value.code == "unavailable"
        async with asyncio.timeout(SUSPENDED):
            while True:
                try:
                    await join(wire, username, to=node)
                except RefusedError as error:
                    assert error.code in {"unavailable", "username_taken"}
                    await asyncio.sleep(0.05)  # before the next attempt
                else:
                    break


async def test_a_gateway_says_in_one_line_that_the_server_is_not_there(start_valkey: StartValkey) -> None:
    """With exit status 1, and without a password of the URL."""
    server = await start_valkey()
    await server.stop()
    own = GatewayProcess(store=f"redis://user:secret@127.0.0.1:{server.port}/0")
    await own.spawn()
    assert await own.wait() == 1
    assert len(own.log.strip().splitlines()) == 1, own.log
    assert f"127.0.0.1:{server.port}" in own.log
    assert "secret" not in own.log
    own.check_log()
