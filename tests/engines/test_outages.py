"""The Valkey server is away, half away, or comes back without its memory: what nodes do then, and after it.

What was acked is there, and every member receives each message once and in order, whatever happened in between.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from engines.conftest import POLICY, SHARED, AddNode, Node, Recorder
from engines.leases import age
from engines.test_nodes import Traveller, meet, sends_again
from gateway.engines.base import Receipt
from gateway.engines.effects import Attachment, Session
from gateway.engines.valkey.engine import ValkeyEngine
from gateway.errors import GatewayError, LimitReached, StoreError, Unavailable
from gateway.observe import NullObserver
from gateway.rules.sessions import Claim, ResumePoint
from harness.valkey import StartValkey, ValkeyProxy, ValkeyServer
from harness.waiting import poll_until, until

QUICKLY = 1.0
"""Seconds within which a call fails when the connection is lost: a client can do something else meanwhile."""

NOTICED = 7.0
"""Seconds within which a subscription that hears nothing is replaced: five, and two for a busy machine."""


class Talk:
    """A user who sends numbered messages, each until it is acked. What was refused may have been stored."""

    def __init__(self, node: Node, username: str) -> None:
        self.acked: list[str] = []
        self.refused = 0
        self._node = node
        self._username = username
        self._numbers = itertools.count()
        self._over = False

    async def run(self) -> None:
        while not self._over:
            content = f"{self._username} {next(self._numbers)}"
            await self._send(content)
            await asyncio.sleep(0.01)  # at its pace

    async def _send(self, content: str) -> None:
        while True:
            try:
                await self._node.append_message(self._username, "tea", content, content)
            except Unavailable as error:
                assert error.retry_after is not None
                self.refused += 1
                await asyncio.sleep(0.05)  # a client that tries again
            else:
                self.acked.append(content)
                return

    def end(self) -> None:
        self._over = True


@asynccontextmanager
async def conversation(*nodes: Node) -> AsyncIterator[list[Talk]]:
    """While the users of the nodes talk, all sorts of things may happen; in the end, all nodes have received the same
    messages, which are those of the history: all that was acked, each once, and each user's in order.
    """
    talks = [Talk(node, f"user{place}") for place, node in enumerate(nodes)]
    running = [asyncio.ensure_future(talk.run()) for talk in talks]
    yield talks
    await said_more(*talks)
    for talk in talks:
        talk.end()
    await asyncio.gather(*running)
    acked = sum(len(talk.acked) for talk in talks)
    for node in nodes:
        await until(lambda node=node: len(node.messages("tea")) >= acked)
        assert node.recorder.gaps == []
    history = await nodes[0].read_history("user0", "tea", None, 10_000)
    stored = [orjson.loads(body)["content"] for body in history.bodies]
    for node in nodes:
        assert node.messages("tea") == stored
    for talk in talks:
        assert [content for content in stored if content in set(talk.acked)] == talk.acked
    assert len(stored) == acked


async def said_more(*talks: Talk) -> None:
    """Wait until messages that are sent from now on are acked."""
    counts = [len(talk.acked) + 10 for talk in talks]
    await until(lambda: all(len(talk.acked) >= count for talk, count in zip(talks, counts, strict=True)))


# --- the connection is lost


async def test_a_lost_connection_makes_calls_unavailable_at_once(add_node: AddNode) -> None:
    """With the time after which to try again; the reason is known, and nothing spins until it is over."""
    node = await add_node()
    await meet(node)
    assert node.problem() is None
    node.cut_off()
    for _ in range(3):
        began, worked = time.monotonic(), time.process_time()
        for call in (
            node.append_message("user0", "tea", "hello", None),
            node.create_room("user0", "other", ()),
            node.list_rooms("user0"),
        ):
            with pytest.raises(Unavailable) as caught:
                await call
            assert caught.value.retry_after is not None
        assert time.monotonic() - began < QUICKLY
        assert "cannot be reached" in (node.problem() or "")
        await asyncio.sleep(1)  # the outage goes on
        assert time.process_time() - worked < 0.3
    await node.proxy.listen()
    await sends_again(node, "user0")
    assert node.problem() is None


async def test_calls_in_flight_when_the_connection_is_lost_fail_at_once(add_node: AddNode) -> None:
    node = await add_node()
    await meet(node)
    node.proxy.stall()
    calls = [asyncio.ensure_future(node.append_message("user0", "tea", str(number), None)) for number in range(20)]
    await asyncio.sleep(0.1)  # they are on their way
    began = time.monotonic()
    node.cut_off()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, Unavailable) for result in results)
    assert time.monotonic() - began < QUICKLY


async def test_after_an_outage_each_node_receives_what_it_missed(add_node: AddNode) -> None:
    """One of two nodes is cut off; what the other's users send reaches it afterwards, in order and once."""
    first, second = await add_node(), await add_node()
    await meet(first, second)
    async with conversation(first, second) as talks:
        await said_more(*talks)
        for _ in range(3):
            first.cut_off()
            await said_more(talks[1])
            await first.proxy.listen()
            await said_more(*talks)
        assert talks[0].refused > 0
        assert talks[1].refused == 0


async def test_what_was_missed_is_received_even_if_nothing_follows(add_node: AddNode) -> None:
    first, second = await add_node(), await add_node()
    await meet(first, second)
    first.cut_off()
    for number in range(3):
        await second.append_message("user1", "tea", str(number), None)
    await first.proxy.listen()
    await until(lambda: first.messages("tea") == ["0", "1", "2"], seconds=7)


# --- the connection is half away


async def test_a_server_that_does_not_reply_is_noticed(add_node: AddNode) -> None:
    """No reset, no reply: calls fail after some seconds, and everything goes on when the network does."""
    node = await add_node()
    await meet(node)
    node.proxy.stall()
    began = time.monotonic()
    with pytest.raises(Unavailable):
        await node.append_message("user0", "tea", "hello", None)
    assert 3 < time.monotonic() - began < NOTICED
    node.proxy.flow()
    await sends_again(node, "user0")


async def test_a_deaf_subscription_is_noticed_and_replaced_alone(add_node: AddNode) -> None:
    """It hears nothing, and commands work: only the subscribing connection is made anew."""
    first, second = await add_node(), await add_node()
    await meet(first, second)
    async with conversation(first, second) as talks:
        await said_more(*talks)
        (deaf,), commanding = first.proxy.subscribing(), first.proxy.commanding()
        deaf.deafen()
        began = time.monotonic()
        await until(lambda: any(link is not deaf for link in first.proxy.subscribing()))
        assert time.monotonic() - began < NOTICED
        assert first.proxy.commanding() == commanding
        assert deaf not in first.proxy.links()
    assert first.problem() is None


async def test_a_deaf_command_connection_is_noticed_and_replaced(add_node: AddNode) -> None:
    """Commands arrive, and their replies do not."""
    first, second = await add_node(), await add_node()
    await meet(first, second)
    async with conversation(first, second) as talks:
        await said_more(*talks)
        for link in first.proxy.commanding():
            link.deafen()
        await said_more(*talks)
        assert talks[0].refused > 0


@pytest.mark.parametrize("connection", ["commands", "subscription"])
async def test_a_connection_that_is_accepted_and_not_served_is_tried_again(add_node: AddNode, connection: str) -> None:
    """The server, or what stands before it, hangs while a node reconnects."""
    node = await add_node()
    await meet(node)
    links = node.proxy.commanding() if connection == "commands" else node.proxy.subscribing()
    node.proxy.holding = (b"",)  # whatever they begin with
    for link in links:
        link.reset()
    await until(lambda: any(not link.flowing for link in node.proxy.links()))
    node.proxy.holding = ()
    began = time.monotonic()
    await sends_again(node, "user0")
    await until(lambda: len(node.messages("tea")) > 0)
    assert time.monotonic() - began < 2 * NOTICED


async def test_a_server_that_does_not_reply_at_the_start_is_named(server: ValkeyServer) -> None:
    async with ValkeyProxy(server.store("x")) as proxy:
        proxy.muted = True
        assert "does not reply within 5 seconds" in await why(proxy.url)


async def test_a_slow_network_changes_nothing_but_the_time(add_node: AddNode) -> None:
    first, second = await add_node(), await add_node()
    await meet(first, second)
    first.proxy.delay = 0.05
    async with conversation(first, second) as talks:
        await said_more(*talks)
        assert talks[0].refused == 0


# --- the server closes subscriptions


async def test_killed_subscriptions_lose_nothing(add_node: AddNode, server: ValkeyServer) -> None:
    """`CLIENT KILL TYPE pubsub`, again and again."""
    first, second = await add_node(), await add_node()
    await meet(first, second)
    async with conversation(first, second) as talks:
        for _ in range(5):
            await said_more(*talks)
            assert await server.kill_subscribers() >= 2
            await until(lambda: bool(first.proxy.subscribing() and second.proxy.subscribing()))
        assert [talk.refused for talk in talks] == [0, 0]


async def test_a_session_that_moves_while_subscriptions_are_killed_misses_nothing(
    add_node: AddNode, server: ValkeyServer
) -> None:
    """A log-in that has returned has been delivered, and all that comes after it is, although what is published is
    received now, and read then.
    """
    first, second, third = [await add_node() for _ in range(3)]
    alice, *_ = await meet(first, third)
    client = Traveller(alice, first.recorder, "c-user0", first.recorder.last_attachment.offset, [])

    async def talk() -> None:
        for number in range(1000):
            await third.append_message("user1", "tea", str(number), None)

    async def kill() -> None:
        while True:
            await server.kill_subscribers()
            await asyncio.sleep(0.03)  # they subscribe again

    talking, killing = asyncio.ensure_future(talk()), asyncio.ensure_future(kill())
    for number, node in enumerate(itertools.cycle([second, first])):
        await client.go_to(node, f"c{number}")
        if talking.done():
            break
    killing.cancel()
    await until(lambda: client.look() or client.seen[-1:] == ["999"])
    assert client.seen == [str(number) for number in range(1000)]


async def test_a_subscription_closed_for_its_output_buffer_loses_nothing(
    add_node: AddNode, server: ValkeyServer
) -> None:
    """A node that reads too slowly for the server's limit is closed, and reads what it has missed from the log."""
    first, second = await add_node(), await add_node()
    await meet(first, second)
    await server.configure("client-output-buffer-limit", "pubsub 32kb 16kb 1")
    (slow,) = first.proxy.subscribing()
    slow.stall()
    closed = server.log.count("scheduled to be closed")
    for number in range(800):  # more than the buffers of the system hold
        await second.append_message("user1", "tea", f"{number} {'x' * 15_000}", None)
    await until(lambda: server.log.count("scheduled to be closed") > closed)
    slow.flow()
    await until(lambda: len(first.messages("tea")) >= 800)
    assert first.messages("tea") == second.messages("tea")
    assert len(first.messages("tea")) == 800


# --- the server is restarted, killed, stopped, emptied


@pytest.mark.parametrize("way", ["stopped", "killed"])
async def test_a_server_that_is_started_again_has_all_that_was_acked(
    add_node: AddNode, server: ValkeyServer, way: str
) -> None:
    """With ``appendfsync always``, whether it was stopped or killed; sessions go on."""
    first, second = await add_node(), await add_node()
    await meet(first, second)
    async with conversation(first, second) as talks:
        for _ in range(3):
            await said_more(*talks)
            await (server.kill9() if way == "killed" else server.stop())
            await asyncio.sleep(0.5)  # it is away
            await server.restart()
            await said_more(*talks)
        assert all(talk.refused for talk in talks)


async def test_a_client_recovers_after_a_restart_of_the_server(add_node: AddNode, server: ValkeyServer) -> None:
    """The epoch is another one; the offsets of the one before are good up to its end."""
    first, second = await add_node(), await add_node()
    alice, _ = await meet(first, second)
    await second.append_message("user1", "tea", "seen", None)
    await until(lambda: first.messages("tea") == ["seen"])
    offset = first.recorder.publications[-1].offset
    await second.append_message("user1", "tea", "missed 1", None)
    await server.kill9()
    await server.restart()
    await sends_again(second, "user1")
    attachment = await second.resume(alice, offset)
    assert attachment.recovered
    missed = [orjson.loads(event.body)["content"] for event in attachment.missed]
    assert missed == ["missed 1", "again"]


async def test_connections_stay_however_long_the_server_is_away(add_node: AddNode, server: ValkeyServer) -> None:
    """No node could extend its lease, and none loses it: the first to be back does not take those of the others, which
    have some time to come back as well.
    """
    nodes = [await add_node() for _ in range(3)]
    await meet(*nodes)
    async with conversation(*nodes) as talks:
        for node in nodes:
            node.cut_off()
        await server.stop()
        await server.restart()
        await age(server, SHARED, 60)
        await nodes[0].proxy.listen()
        await said_more(talks[0])
        await asyncio.sleep(2.1)  # the first node shows that it lives
        for node in nodes[1:]:
            await node.proxy.listen()
        await said_more(*talks)
    assert not any(event == "presence" for node in nodes for event, _ in node.recorder.events)


@pytest.mark.parametrize("seconds", [1.0, 7.0])
async def test_a_server_that_was_stopped_goes_on(add_node: AddNode, server: ValkeyServer, seconds: float) -> None:
    """SIGSTOP: connections stay open and nothing is replied to, for less time than a reply may take, and for more."""
    first, second = await add_node(), await add_node()
    await meet(first, second)
    async with conversation(first, second) as talks:
        await said_more(*talks)
        server.pause()
        await asyncio.sleep(seconds)  # it is stopped
        server.resume()
        await said_more(*talks)
        assert all(bool(talk.refused) == (seconds > 5) for talk in talks)


async def test_a_server_that_forgets_the_scripts_is_told_them_again(add_node: AddNode, server: ValkeyServer) -> None:
    """An operator may flush them at any time."""
    first, second = await add_node(), await add_node()
    await meet(first, second)
    async with conversation(first, second) as talks:
        for _ in range(3):
            await said_more(*talks)
            await server.command("SCRIPT", "FLUSH")
        await said_more(*talks)


async def test_an_emptied_store_recovers_nothing_and_goes_on(add_node: AddNode, server: ValkeyServer) -> None:
    """FLUSHALL: whoever comes back gets a new session, and not what others sent since."""
    first, second = await add_node(), await add_node()
    alice, _ = await meet(first, second)
    for number in range(5):
        await second.append_message("user1", "tea", str(number), None)
    await until(lambda: len(first.messages("tea")) == 5)
    offset = first.recorder.publications[-2].offset
    await server.flush()
    await until(lambda: None in first.recorder.gaps and None in second.recorder.gaps)
    await second.login("user1")
    await second.create_room("user1", "tea", ())
    for number in range(100):
        await second.append_message("user1", "tea", f"new {number}", None)
    claim = Claim("user0", "c-back", ResumePoint(alice.pid, offset))
    back = await first.attach_session(claim)
    attachment = first.recorder.last_attachment
    assert attachment.session == back
    assert (attachment.recovered, attachment.missed, attachment.rooms) == (False, (), ())
    await second.add_members("user1", "tea", ("user0",))
    resumed = await first.resume(back, offset)
    assert (resumed.recovered, resumed.missed) == (False, ())


async def test_a_server_that_comes_back_without_the_newest_recovers_nothing_wrong(
    add_node: AddNode, server: ValkeyServer, tmp_path: Path
) -> None:
    """As a replica that had not received all: positions are used again, and name other events."""
    first, second = await add_node(), await add_node()
    alice, _ = await meet(first, second)
    for number in range(3):
        await second.append_message("user1", "tea", f"old {number}", None)
    shutil.copytree(server.folder, tmp_path / "replica")
    for number in range(3):
        await second.append_message("user1", "tea", f"lost {number}", None)
    await until(lambda: len(first.messages("tea")) == 6)
    offset = first.recorder.publications[-1].offset
    await server.kill9()
    shutil.rmtree(server.folder)
    shutil.copytree(tmp_path / "replica", server.folder)
    await server.restart()
    await until(lambda: None in first.recorder.gaps and None in second.recorder.gaps)
    session = (await second.resume(session_of(second, "user1"), None)).session
    for number in range(10):
        await second.append_message(session.username, "tea", f"new {number}", None)
    attachment = await first.resume(alice, offset)
    assert (attachment.recovered, attachment.missed) == (False, ())
    history = await first.read_history("user0", "tea", None, 100)
    contents = [orjson.loads(body)["content"] for body in history.bodies]
    assert contents == [*(f"old {number}" for number in range(3)), *(f"new {number}" for number in range(10))]


def session_of(node: Node, username: str) -> Session:
    attachments = [effect for effect in node.recorder.effects if isinstance(effect, Attachment)]
    return [attachment.session for attachment in attachments if attachment.session.username == username][-1]


async def test_what_is_written_to_an_emptied_store_before_it_is_noticed_is_refused(
    add_node: AddNode, server: ValkeyServer
) -> None:
    """No call of a node that has not noticed yet may succeed on what is not there any more."""
    node = await add_node()
    await meet(node)
    await server.flush()
    for call in (node.append_message("user0", "tea", "hello", None), node.create_room("user0", "other", ())):
        with pytest.raises(GatewayError):
            await call
    await until(lambda: None in node.recorder.gaps)
    assert isinstance(await node.attach_session(Claim("user0", "c-back", None)), Session)


# --- a server that cannot be used


async def why(url: str) -> str:
    """Why the store cannot be opened, in one line."""
    engine = ValkeyEngine(url, POLICY, NullObserver())
    with pytest.raises(StoreError) as caught:
        await engine.open(Recorder())
    await engine.close(1)
    message = str(caught.value)
    assert "\n" not in message
    return message


async def test_a_server_that_cannot_be_reached_is_named_without_its_password(server: ValkeyServer) -> None:
    await server.stop()
    message = await why(server.store("x").replace("//", "//user:secret@"))
    assert "secret" not in message
    assert f"127.0.0.1:{server.port}" in message


async def test_a_wrong_password_is_refused_and_not_shown(server: ValkeyServer) -> None:
    await server.configure("requirepass", "right")
    assert "wrong-one" not in await why(server.store("x").replace("//", "//:wrong-one@"))


async def test_a_server_that_may_evict_is_refused(start_valkey: StartValkey) -> None:
    """It could take away a room and leave its log."""
    server = await start_valkey(maxmemory="100mb", maxmemory_policy="allkeys-lru")
    assert "maxmemory-policy" in await why(server.store("x"))


async def test_a_replica_is_refused(start_valkey: StartValkey, server: ValkeyServer) -> None:
    replica = await start_valkey()
    await replica.command("REPLICAOF", "127.0.0.1", server.port)
    assert "replica" in await why(replica.store("x"))


# --- a server that cannot be written to for a while


@asynccontextmanager
async def refusing(node: Node) -> AsyncIterator[None]:
    """While calls are `Unavailable`; afterwards they work again, by themselves."""
    with pytest.raises(Unavailable) as caught:
        await node.append_message("user0", "tea", "hello", None)
    assert caught.value.retry_after is not None
    yield
    await sends_again(node, "user0")
    assert "hello" not in node.messages("tea")


async def test_a_server_with_too_few_replicas_is_unavailable(add_node: AddNode, server: ValkeyServer) -> None:
    node = await add_node()
    await meet(node)
    await server.configure("min-replicas-to-write", 1)
    async with refusing(node):
        await server.configure("min-replicas-to-write", 0)


async def test_a_server_that_runs_a_script_for_too_long_is_unavailable(add_node: AddNode, server: ValkeyServer) -> None:
    """Somebody else's script: it replies BUSY to all others."""
    node = await add_node()
    await meet(node)
    await server.configure("busy-reply-threshold", 100)
    script = asyncio.ensure_future(server.command("EVAL", "while true do end", 0))
    await asyncio.sleep(0.3)  # the script has run for longer than the threshold
    async with refusing(node):
        await server.command("SCRIPT", "KILL")
        await asyncio.gather(script, return_exceptions=True)


async def test_a_server_that_becomes_a_replica_is_unavailable(
    add_node: AddNode, server: ValkeyServer, start_valkey: StartValkey
) -> None:
    """A fail-over to another server, and back, without what the clients had."""
    other = await start_valkey()
    node = await add_node()
    await meet(node)
    await server.command("REPLICAOF", "127.0.0.1", other.port)
    with pytest.raises(Unavailable):
        await node.append_message("user0", "tea", "hello", None)
    await server.command("REPLICAOF", "NO", "ONE")
    await until(lambda: None in node.recorder.gaps or node.problem() is None)
    await poll_until(lambda: succeeds(node.attach_session(Claim("new", "c-new", None))))


async def succeeds(call: Coroutine[Any, Any, object]) -> bool:
    try:
        await call
    except Unavailable:
        return False
    return True


async def test_a_full_server_refuses_what_adds_to_it(add_node: AddNode, server: ValkeyServer) -> None:
    """As a limit, not as an outage; users can still leave, and everything goes on when there is room again."""
    node = await add_node()
    alice, *_ = await meet(node)
    await server.configure("maxmemory", 1)
    with pytest.raises(LimitReached):
        await node.append_message("user0", "tea", "hello", None)
    with pytest.raises(LimitReached):
        await node.create_room("user0", "other", ())
    await node.suspend_session(alice, "c-user0")
    await server.configure("maxmemory", 0)
    await node.resume(alice, None)
    await node.append_message("user0", "tea", "hello", None)
    assert node.messages("tea") == ["hello"]


async def test_closing_while_the_server_is_away_ends_every_call(add_node: AddNode) -> None:
    """Also those that the server has replied to, and whose messages were not received here: what is acked is stored."""
    node, other = await add_node(), await add_node()
    await meet(node, other)
    for link in node.proxy.subscribing():
        link.deafen()
    calls = [asyncio.ensure_future(node.append_message("user0", "tea", str(number), None)) for number in range(5)]
    await asyncio.sleep(0.3)  # the server has replied
    node.cut_off()
    assert not await node.close(0.5)
    async with asyncio.timeout(5):
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, Receipt | Unavailable) for result in results)
    acked = [str(number) for number, result in enumerate(results) if isinstance(result, Receipt)]
    await until(lambda: other.messages("tea")[: len(acked)] == acked)
