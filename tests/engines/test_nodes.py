"""Several nodes on one Valkey server: one order, unique names, sessions that move, and leases that are taken."""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import dataclass

import orjson
import pytest

from engines.conftest import SHARED, AddNode, Clock, Node, Recorder
from gateway.engines.effects import Attachment, Detachment, Publication, Session
from gateway.errors import GatewayError, RoomExists, Unavailable, UsernameTaken
from gateway.rules.sessions import Claim, ResumePoint
from harness.valkey import ValkeyProxy, ValkeyServer
from harness.waiting import poll_until, until


async def meet(*nodes: Node) -> list[Session]:
    """A user on each node, user0 on the first; all are members of the room ``tea``."""
    names = [f"user{number}" for number in range(len(nodes))]
    sessions = [await node.login(name) for node, name in zip(nodes, names, strict=True)]
    await nodes[0].create_room(names[0], "tea", tuple(names[1:]))
    for node, name in zip(nodes, names, strict=True):
        await until(lambda node=node, name=name: name in node.recorder.live.of("tea"))
    return sessions


async def received(nodes: list[Node] | tuple[Node, ...], count: int) -> list[str]:
    """Wait until all nodes have received that many messages; their contents, which are the same everywhere."""
    for node in nodes:
        await until(lambda node=node: len(node.messages("tea")) >= count)
    first, *others = [node.messages("tea") for node in nodes]
    assert all(messages == first for messages in others)
    assert len(first) == count
    return first


def went_offline(node: Node, username: str) -> bool:
    return any(event == "presence" and body["username"] == username for event, body in node.recorder.events)


# --- one order


@pytest.mark.parametrize("count", [2, 4])
async def test_all_nodes_receive_a_room_in_one_order(add_node: AddNode, count: int) -> None:
    """Which is that of its history; the messages of each user are in the order in which they were sent."""
    nodes = [await add_node() for _ in range(count)]
    await meet(*nodes)
    sends = [
        node.append_message(f"user{place}", "tea", f"{place} {number}", None)
        for number in range(50)
        for place, node in enumerate(nodes)
    ]
    await asyncio.gather(*sends)
    order = await received(nodes, 50 * count)
    for place in range(count):
        assert [content for content in order if content[0] == str(place)] == [f"{place} {n}" for n in range(50)]
    history = await nodes[-1].read_history("user0", "tea", None, 1000)
    assert [orjson.loads(body)["content"] for body in history.bodies] == order
    for node in nodes:
        positions = [publication.offset for publication in node.recorder.publications if publication.event == "message"]
        assert positions == [orjson.loads(body)["offset"] for body in history.bodies]


async def test_a_member_who_joins_while_others_talk_receives_all_from_then_on(add_node: AddNode) -> None:
    """Its node was not subscribed to the room before."""
    first, second, third = [await add_node() for _ in range(3)]
    await meet(first, second)
    await third.login("late")

    async def talk() -> None:
        for number in range(200):
            await second.append_message("user1", "tea", str(number), None)

    talking = asyncio.ensure_future(talk())
    await until(lambda: len(first.messages("tea")) > 50)
    await first.add_members("user0", "tea", ("late",))
    await talking
    order = await received((first, second), 200)
    await until(lambda: third.messages("tea")[-1:] == ["199"])
    heard = third.messages("tea")
    assert 0 < len(heard) < 200
    assert heard == order[-len(heard) :]
    joined = next(effect for effect in third.recorder.publications if effect.event == "room-joined")
    later = [effect for effect in third.recorder.publications if effect.event == "message"]
    assert position(joined) < position(later[0])
    history = await third.read_history("late", "tea", joined.offset, 1)
    assert orjson.loads(history.bodies[-1])["content"] == order[-len(heard) - 1]


def position(publication: Publication) -> int:
    assert publication.offset is not None
    return int(publication.offset.rpartition("-")[2])


async def test_volatile_events_reach_the_members_on_other_nodes(add_node: AddNode) -> None:
    first, second = await add_node(), await add_node()
    sessions = await meet(first, second)
    await first.publish_typing("user0", "tea")
    await until(lambda: ("typing", {"room": "tea", "username": "user0"}) in second.recorder.events)
    await first.suspend_session(sessions[0], "c-user0")
    gone = ("presence", {"room": "tea", "username": "user0", "online": False})
    await until(lambda: gone in second.recorder.events)


async def test_a_node_without_members_receives_nothing_of_a_room(add_node: AddNode) -> None:
    """Neither before its first member comes nor, a while later, when its last one has left."""
    first, second, idle = [await add_node() for _ in range(3)]
    await meet(first, second)
    await idle.login("other")
    await first.append_message("user0", "tea", "one", None)
    await received((first, second), 1)
    await idle.create_room("other", "own", ())
    assert idle.messages("tea") == []


# --- names


async def test_a_name_that_is_raced_for_on_many_nodes_is_won_once(add_node: AddNode) -> None:
    nodes = [await add_node() for _ in range(4)]
    for name in ("ann", "bea", "cid"):
        claims = [
            node.attach_session(Claim(name, f"c-{name}-{place}-{number}", None))
            for number in range(5)
            for place, node in enumerate(nodes)
        ]
        results = await asyncio.gather(*claims, return_exceptions=True)
        assert sum(isinstance(result, Session) for result in results) == 1
        assert sum(isinstance(result, UsernameTaken) for result in results) == 19


async def test_a_room_that_is_raced_for_on_many_nodes_is_created_once(add_node: AddNode) -> None:
    nodes = [await add_node() for _ in range(4)]
    for place, node in enumerate(nodes):
        await node.login(f"user{place}")
    for room in ("tea", "rum"):
        creations = [node.create_room(f"user{place}", room, ()) for place, node in enumerate(nodes)]
        results = await asyncio.gather(*creations, return_exceptions=True)
        assert sum(isinstance(result, RoomExists) for result in results) == 3


async def test_many_who_are_added_on_many_nodes_at_once_all_become_members(add_node: AddNode) -> None:
    """However often the nodes conflict, none starves."""
    nodes = [await add_node() for _ in range(4)]
    await meet(*nodes)
    names = {place: [f"guest{place}x{number}" for number in range(25)] for place in range(4)}
    await asyncio.gather(*(node.login(*names[place]) for place, node in enumerate(nodes)))
    began = time.monotonic()
    adding = [
        node.add_members(f"user{place}", "tea", (name,)) for place, node in enumerate(nodes) for name in names[place]
    ]
    added = await asyncio.gather(*adding)
    assert [len(one.added) for one in added] == [1] * 100
    assert time.monotonic() - began < 10
    assert (await nodes[0].list_members("user0", "tea", "", 1)).member_count == 104


async def test_a_whole_room_can_leave_on_many_nodes_at_once(add_node: AddNode) -> None:
    """While others talk in it. Those of a node leave together, and nobody has to try again."""
    nodes = [await add_node() for _ in range(4)]
    await meet(*nodes)
    names = {place: [f"guest{place}x{number}" for number in range(45)] for place in range(4)}
    for place, node in enumerate(nodes):
        await node.login(*names[place])
        await node.add_members(f"user{place}", "tea", tuple(names[place]))
    leaving = [node.remove_member(name, "tea") for place, node in enumerate(nodes) for name in names[place]]
    talking = [nodes[place % 4].append_message(f"user{place % 4}", "tea", str(place), None) for place in range(100)]
    began = time.monotonic()
    await asyncio.gather(*leaving, *talking)
    assert time.monotonic() - began < 2
    assert (await nodes[0].list_members("user0", "tea", "", 1)).member_count == 4


async def test_a_message_id_is_appended_once_whatever_the_node(add_node: AddNode) -> None:
    first, second = await add_node(), await add_node()
    alice, _ = await meet(first, second)
    receipts = list(await asyncio.gather(*(first.append_message("user0", "tea", "once", "id1") for _ in range(5))))
    await second.resume(alice, None)
    receipts += await asyncio.gather(*(second.append_message("user0", "tea", "once", "id1") for _ in range(5)))
    assert sum(not receipt.duplicate for receipt in receipts) == 1
    assert len({(receipt.id, receipt.ts) for receipt in receipts}) == 1
    assert await received((first, second), 1) == ["once"]


# --- sessions that move


async def test_a_resume_on_another_node_detaches_the_connection_that_held_the_session(add_node: AddNode) -> None:
    first, second = await add_node(), await add_node()
    alice, _ = await meet(first, second)
    attachment = await second.resume(alice, None)
    assert attachment.replaces is not None
    assert attachment.replaces.connection == "c-user0"
    assert attachment.replaces.node != attachment.holder.node
    await until(lambda: Detachment("c-user0") in first.recorder.effects)
    await second.append_message("user1", "tea", "for alice", None)
    assert (await received((second,), 1)) == ["for alice"]
    await first.suspend_session(alice, "c-user0")  # too late: it is not its session any more
    assert (await first.find_users("user1", "user0", 1)).users == ("user0",)


async def test_a_new_session_receives_nothing_of_the_rooms_of_the_one_before(add_node: AddNode) -> None:
    """It takes the name of one to which no client can return, and which ends with that; others talk meanwhile."""
    first, second = await add_node(), await add_node()
    await meet(first, second)

    async def talk() -> None:
        for number in itertools.count():
            await second.append_message("user1", "tea", str(number), None)

    talking = asyncio.ensure_future(talk())
    for number in range(20):
        session = await first.attach_session(Claim("guest", f"c{number}", None, resumable=False))
        assert first.recorder.last_attachment.missed == ()
        await second.add_members("user1", "tea", ("guest",))
        await first.suspend_session(session, f"c{number}")
    talking.cancel()


@dataclass
class Traveller:
    """A client that continues its session now on this node, and now on that one."""

    session: Session
    recorder: Recorder
    connection: str
    offset: str
    seen: list[str]

    def look(self) -> None:
        """See what has arrived on the connection, after what was seen before."""
        effects = self.recorder.effects
        start = next(
            place
            for place, effect in enumerate(effects)
            if isinstance(effect, Attachment) and effect.holder.connection == self.connection
        )
        attachment = effects[start]
        assert isinstance(attachment, Attachment)
        assert attachment.recovered or self.connection == "c-user0"
        end = effects.index(Detachment(self.connection)) if Detachment(self.connection) in effects else None
        live = [effect for effect in effects[start:end] if isinstance(effect, Publication)]
        arrived = [event for event in (*attachment.missed, *live) if event.event == "message"]
        offsets = [event.offset for event in arrived]
        fresh = arrived[offsets.index(self.offset) + 1 :] if self.offset in offsets else arrived
        self.seen += [orjson.loads(event.body)["content"] for event in fresh]
        self.offset = (fresh[-1].offset if fresh else None) or self.offset

    async def go_to(self, node: Node, connection: str) -> None:
        self.look()
        claim = Claim(self.session.username, connection, ResumePoint(self.session.pid, self.offset))
        self.session = await node.attach_session(claim)
        self.recorder, self.connection = node.recorder, connection


async def test_a_session_that_moves_while_others_talk_misses_nothing(add_node: AddNode) -> None:
    """A client that moves from node to node receives each message once, and in order."""
    first, second, third = [await add_node() for _ in range(3)]
    alice, *_ = await meet(first, third)
    welcome = first.recorder.last_attachment.offset
    client = Traveller(alice, first.recorder, "c-user0", welcome, [])

    async def talk() -> None:
        for number in range(300):
            await third.append_message("user1", "tea", str(number), None)

    talking = asyncio.ensure_future(talk())
    places = itertools.cycle([second, first])
    moves = 0
    while not talking.done():
        await client.go_to(next(places), f"c{moves}")
        moves += 1
        await asyncio.sleep(0.005)  # the client reads what arrives meanwhile
    await talking
    await until(lambda: client.look() or client.seen[-1:] == ["299"])
    assert client.seen == [str(number) for number in range(300)]
    assert moves > 5


# --- leases


async def test_the_sessions_of_a_node_that_is_gone_are_suspended_within_ten_seconds(add_node: AddNode) -> None:
    """Their users recover on another node, and the others in their rooms see them go."""
    first, second = await add_node(), await add_node()
    alice, _ = await meet(first, second)
    offset = first.recorder.publications[-1].offset if first.recorder.publications else None
    offset = offset or first.recorder.last_attachment.offset
    first.cut_off()
    began = time.monotonic()
    await second.append_message("user1", "tea", "missed", None)
    await until(lambda: went_offline(second, "user0"))
    assert 3 < time.monotonic() - began < 10
    attachment = await second.resume(alice, offset)
    assert attachment.recovered
    assert [orjson.loads(event.body)["content"] for event in attachment.missed if event.event == "message"] == [
        "missed"
    ]


async def test_a_session_stays_live_while_its_node_is_away_for_a_moment(add_node: AddNode) -> None:
    first, second = await add_node(), await add_node()
    await meet(first, second)
    for _ in range(3):
        first.cut_off()
        await asyncio.sleep(1)  # a short outage
        await first.proxy.listen()
        await sends_again(first, "user0")
    assert not went_offline(second, "user0")
    assert first.recorder.gaps == []


async def sends_again(node: Node, username: str) -> None:
    """Wait until a user can send on a node."""
    async with asyncio.timeout(15):
        while True:
            try:
                await node.append_message(username, "tea", "again", None)
            except Unavailable:
                await asyncio.sleep(0.05)  # the node is reconnecting
            else:
                return


async def test_a_node_that_comes_back_after_its_lease_was_taken_is_fenced(add_node: AddNode) -> None:
    """It was cut off. Its clients must come back, and what it still believes of them changes nothing."""
    first, second = await add_node(), await add_node()
    alice, _ = await meet(first, second)
    first.cut_off()
    await first.end_lease()
    await until(lambda: went_offline(second, "user0"))
    await second.resume(alice, None)
    await first.proxy.listen()
    await until(lambda: None in first.recorder.gaps)
    await first.suspend_session(alice, "c-user0")
    await first.end_session(alice, "c-user0")
    assert (await second.find_users("user1", "user0", 1)).users == ("user0",)
    await second.append_message("user0", "tea", "here", None)
    assert second.messages("tea") == ["here"]
    await first.login("new")  # the node goes on, with nobody of before
    await second.add_members("user1", "tea", ("new",))
    await second.append_message("user1", "tea", "hello", None)
    await until(lambda: first.messages("tea")[-1:] == ["hello"])


async def test_a_node_whose_calls_are_all_refused_takes_one_new_identity(
    add_node: AddNode, server: ValkeyServer
) -> None:
    """However many of its clients find out at once that its lease was taken."""
    first, second = await add_node(), await add_node()
    await meet(first, second)
    first.proxy.stall()
    calls = [asyncio.ensure_future(first.append_message("user0", "tea", str(number), None)) for number in range(20)]
    await asyncio.sleep(0.1)  # the commands are sent, and held by the proxy
    leases = f"{{{SHARED}}}:leases"
    await server.command("ZREM", leases, first.recorder.last_attachment.holder.node)
    first.proxy.flow()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, Unavailable) for result in results)
    assert await server.command("ZCARD", leases) == 2
    assert first.recorder.gaps == [None]


async def test_a_stray_session_that_is_resumed_where_it_was_stays_live(server: ValkeyServer, clock: Clock) -> None:
    """Its connection was lost while the server was away, so that it was taken for one of a node that is gone. Nobody
    had suspended it when its client came back to the same node.
    """
    async with ValkeyProxy(server.store(SHARED)) as proxy:
        node = Node(server, proxy, clock)  # nothing on it suspends sessions by itself
        await node.open(node.recorder)
        await node.login("bob")
        alice = await node.login("alice")
        await node.create_room("bob", "tea", ("alice",))
        node.cut_off()
        node.recorder.live.forget("c-alice")
        await proxy.listen()
        await poll_until(lambda: is_stray(server, alice))
        await return_soon(node, alice, "c2-alice")
        assert not await is_stray(server, alice)
        await node.suspend_orphaned_sessions()
        assert (await node.find_users("bob", "alice", 1)).users == ("alice",)
        await node.close(1)


async def is_stray(server: ValkeyServer, session: Session) -> bool:
    key = f"{{{SHARED}}}:live:lost"
    return bool(await server.command("SISMEMBER", key, f"{session.sid} {session.username}"))


async def return_soon(node: Node, session: Session, connection: str) -> None:
    """Resume a session on a new connection, as soon as the server is there."""
    while True:
        try:
            await node.resume(session, None, connection)
        except Unavailable:
            await asyncio.sleep(0.005)  # the server is not there yet
        else:
            return


async def test_what_a_client_did_before_it_moved_has_no_effect_after_that(add_node: AddNode) -> None:
    """It gave up waiting, came back on another node and went on there; what the first node had begun comes too late."""
    first, second = await add_node(), await add_node()
    alice, _ = await meet(first, second)
    await second.login("guest")
    await first.create_room("user0", "own", ("user1",))
    first.proxy.stall()
    late = [
        asyncio.ensure_future(call)
        for call in (
            first.append_message("user0", "tea", "late", None),
            first.create_room("user0", "late", ()),
            first.add_members("user0", "own", ("guest",)),
            first.open_direct("user0", "guest"),
            first.remove_member("user0", "tea"),
        )
    ]
    await asyncio.sleep(0.1)  # they are sent, and held by the proxy
    await second.resume(alice, None)
    await second.append_message("user0", "tea", "now", None)
    first.proxy.flow()
    results = await asyncio.gather(*late, return_exceptions=True)
    assert [str(result) for result in results] == ["The session moved to another connection; try again."] * 5
    assert [room.room for room in await second.list_rooms("user0")] == ["own", "tea"]
    assert await second.list_rooms("guest") == ()
    assert second.messages("tea") == ["now"]


async def test_what_a_stopped_node_had_begun_is_not_written_after_its_lease_was_taken(add_node: AddNode) -> None:
    """It was stopped in the middle of calls, whose commands arrive when its sessions are elsewhere."""
    first, second = await add_node(), await add_node()
    alice, _ = await meet(first, second)
    first.proxy.stall()
    late = [
        asyncio.ensure_future(call)
        for call in (
            first.append_message("user0", "tea", "late", "id1"),
            first.create_room("user0", "late", ()),
            first.remove_member("user0", "tea"),
            first.suspend_session(alice, "c-user0"),
        )
    ]
    await asyncio.sleep(0.1)  # the commands are sent, and held by the proxy
    await first.end_lease()
    await until(lambda: went_offline(second, "user0"))
    await second.resume(alice, None)
    first.proxy.flow()
    results = await asyncio.gather(*late, return_exceptions=True)
    assert isinstance(results[0], Unavailable)
    assert all(isinstance(result, GatewayError) for result in results[1:3])
    await until(lambda: None in first.recorder.gaps)
    assert [room.room for room in await second.list_rooms("user0")] == ["tea"]
    assert (await second.find_users("user1", "user0", 1)).users == ("user0",)
    assert (await second.read_history("user1", "tea", None, 10)).bodies == ()


async def test_a_node_that_closes_leaves_its_sessions_to_the_others(add_node: AddNode) -> None:
    """At once, without waiting for its lease."""
    first, second = await add_node(), await add_node()
    alice, _ = await meet(first, second)
    offset = first.recorder.last_attachment.offset
    began = time.monotonic()
    assert await first.close(5)
    await until(lambda: went_offline(second, "user0"))
    assert time.monotonic() - began < 5
    assert (await second.resume(alice, offset)).recovered
