"""Whatever was acked is kept: through kill -9, a stop, a full disk, and the start of a second gateway."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import sys
import time
from typing import TYPE_CHECKING

import pytest

from harness.client import RefusedError, check_error, fail, make_room, succeed
from harness.http import request
from harness.inbox import TIMEOUT
from harness.plain import JsonClient
from harness.process import GatewayProcess, stable_port
from harness.proxy import Proxy
from harness.stock import TRANSPORTS, SocketIOClient
from harness.syncs import HeldSyncs
from harness.waiting import until

if TYPE_CHECKING:
    from harness.client import ChatClient, Join
    from harness.node import Driver
    from harness.process import StartGateway


async def resume(client: JsonClient, gateway: GatewayProcess, join: Join) -> JsonClient:
    query = {"pid": client.pid, "offset": client.offset}
    return await join("json", client.username, to=gateway, query=query)


async def test_an_acked_message_survives_kill_9(start_gateway: StartGateway, join: Join) -> None:
    """Killed right after the ack, started again on the same file: the session, its room and the message are there."""
    own = await start_gateway(on_disk=True)
    for number in range(3):
        if number == 0:
            alice = await join(to=own)
            room = await make_room(alice)
        reply = await succeed(alice, "send-msg", room=room, content=f"kept {number}", id=f"id {number}")
        await own.kill9()
        await alice.wait_closed()
        await own.restart()
        alice = await resume(alice, own, join)
        assert [entry["room"] for entry in alice.welcome.fields["rooms"]] == [room]
        history = (await succeed(alice, "history", room=room))["messages"]
        assert [message["content"] for message in history] == [f"kept {past}" for past in range(number + 1)]
        assert (history[-1]["id"], history[-1]["ts"]) == (reply["id"], reply["ts"])
        again = await succeed(alice, "send-msg", room=room, content="again", id=f"id {number}")
        assert again == {**reply, "duplicate": True}


@pytest.mark.skipif(sys.platform != "linux", reason="holds system calls back as Linux can")
async def test_nothing_is_acked_or_delivered_before_it_is_synced(start_gateway: StartGateway, join: Join) -> None:
    """Until the disk has confirmed a message, it is neither acked nor delivered."""
    syncs = HeldSyncs()
    with contextlib.closing(syncs):
        own = await start_gateway(on_disk=True, syncs=syncs)
        alice, bob, carol = [await join(wire, to=own) for wire in ("json", "socketio-websocket", "json")]
        room = await make_room(alice, bob, carol)
        syncs.hold()
        sending = asyncio.create_task(succeed(alice, "send-msg", room=room, content="hello"))
        async with asyncio.timeout(TIMEOUT):
            await syncs.came.wait()
        await request("GET", own.url + "/health")  # an iteration of the loop after that
        for client in (alice, carol):
            await (await client.socket.ping())  # its pong comes after whatever was sent to the client before
        await bob.state()
        assert not sending.done()
        assert not alice.replies.take_all()
        for member in (bob, carol):
            assert "message" not in [event.name for event in member.events.log]
        syncs.release()
        assert (await sending)["ok"]
        for member in (bob, carol):
            assert (await member.next_event("message")).fields["content"] == "hello"
        await own.stop()


async def test_the_stock_client_recovers_from_kill_9_by_itself(start_gateway: StartGateway, join: Join) -> None:
    """It reconnects, recovers its session, and receives what it missed, without any code."""
    own = await start_gateway(on_disk=True, port=stable_port())
    alice = await join("socketio-polling", to=own, reconnection=True, reconnectionDelay=20, reconnectionDelayMax=50)
    bob = await join("socketio-websocket", to=own, reconnection=True, reconnectionDelay=20, reconnectionDelayMax=50)
    room = await make_room(alice, bob)
    await succeed(alice, "send-msg", room=room, content="before")
    await own.kill9()
    for client in (alice, bob):
        await client.next_notice("disconnect")
    await own.restart()
    for client in (alice, bob):
        await client.notices.take(lambda notice: notice.name == "connect", "the return")
        assert (await client.state())["recovered"] is True
    await succeed(bob, "send-msg", room=room, content="after")
    for client in (alice, bob):
        history = (await succeed(client, "history", room=room))["messages"]
        assert [message["content"] for message in history] == ["before", "after"]
    contents = [event.fields["content"] for event in bob.events.log if event.name == "message"]
    assert contents == ["before"]
    assert (await alice.next_event("message")).fields["content"] == "after"


@pytest.mark.parametrize("wire", ["socketio-websocket", "socketio-polling-only"])
async def test_a_retry_after_a_kill_between_commit_and_ack_is_a_duplicate(
    start_gateway: StartGateway, join: Join, driver: Driver, wire: str
) -> None:
    """The `retries` of the stock client send what was kept already: with an `id` it is stored once."""
    own = await start_gateway(on_disk=True, port=stable_port())
    bob = await join(to=own)
    options = {"reconnection": True, "reconnectionDelay": 20, "reconnectionDelayMax": 50}
    options |= {"retries": 3, "ackTimeout": 5000, "transports": TRANSPORTS[wire]}
    async with (
        Proxy(own.url) as proxy,
        SocketIOClient(driver, proxy.url, "alice", **options) as alice,
    ):
        room = await make_room(bob, alice)
        proxy.muted = True
        sending = asyncio.create_task(alice.call("send-msg", room=room, content="once", id="mine"))
        received = await bob.next_event("message")
        await own.kill9()
        proxy.muted = False
        await own.restart()
        reply = await sending
    assert reply == {"ok": True, "id": "mine", "ts": received.fields["ts"], "duplicate": True}
    bob = await resume(bob, own, join)
    assert "message" not in [event.name for event in await bob.drain()]
    assert [message["id"] for message in (await succeed(bob, "history", room=room))["messages"]] == ["mine"]


async def test_every_ack_of_a_burst_is_kept(start_gateway: StartGateway, join: Join) -> None:
    """Killed with many messages in flight: what was acked or received is in history, once, and no other order."""
    own = await start_gateway(on_disk=True, history_size=5000)
    alice, bob = await join(to=own), await join(to=own)
    room = await make_room(alice, bob)
    for number in range(2000):
        await alice.send(f'{{"action":"send-msg","room":"{room}","content":"{number}","id":"{number}","ref":{number}}}')
        if number == 1000:
            await alice.replies.take(lambda reply: reply.get("ref") == 500, "the 500th reply")
            await own.kill9()
            break
    await alice.wait_closed()
    await bob.wait_closed()
    acked = [reply["id"] for reply in alice.replies.log if reply["ok"] and "id" in reply]
    received = [event.fields["content"] for event in bob.events.log if event.name == "message"]
    await own.restart()
    alice = await resume(alice, own, join)
    kept: list[str] = []
    before: dict[str, str] = {}
    while True:
        page = await succeed(alice, "history", room=room, **before)
        kept = [message["content"] for message in page["messages"]] + kept
        if not page["more"]:
            break
        before = {"before": page["messages"][0]["offset"]}
    assert kept == [str(number) for number in range(len(kept))]
    assert len(acked) > 500
    assert set(acked) <= set(kept)
    assert received == kept[: len(received)]
    bob = await resume(bob, own, join)
    assert bob.welcome.fields["recovered"] is True
    missed = [event.fields["content"] for event in await bob.drain() if event.name == "message"]
    assert received + missed == kept


async def test_a_restart_keeps_all_sessions(start_gateway: StartGateway, join: Join) -> None:
    """SIGTERM closes with 1012 and exits 0 within a moment; after the start every session continues."""
    own = await start_gateway(on_disk=True, port=stable_port())
    alice = await join(to=own)
    bob = await join("socketio-polling", to=own, reconnection=True, reconnectionDelay=20, reconnectionDelayMax=50)
    room = await make_room(alice, bob)
    began = time.monotonic()
    assert await own.stop() == 0
    assert time.monotonic() - began < 10
    assert await alice.wait_closed() == 1012
    reason = await bob.next_notice("disconnect")
    assert reason["reason"] in {"transport close", "transport error"}
    await own.restart()
    await bob.notices.take(lambda notice: notice.name == "connect" and notice.fields["recovered"], "the return")
    alice = await resume(alice, own, join)
    assert alice.welcome.fields["recovered"] is True
    await succeed(alice, "send-msg", room=room, content="x")
    assert (await bob.next_event("message")).fields["content"] == "x"


async def test_bare_sessions_end_with_the_gateway(start_gateway: StartGateway, join: Join) -> None:
    """A bare client has no way back: after a restart its name is free and it is in no room."""
    for end in ("stop", "kill9"):
        own = await start_gateway(on_disk=True)
        alice, bare = await join(to=own), await join("bare", to=own)
        await succeed(alice, "create-room", room=end, users=[bare.username])
        await getattr(own, end)()
        await bare.wait_closed()
        await own.restart()
        await join("bare", bare.username, to=own)
        alice = await resume(alice, own, join)
        await own.stop()


async def test_a_wiped_store_is_noticed(start_gateway: StartGateway, join: Join) -> None:
    """A pid and an offset of a log that is gone recover nothing, and never a wrong part of another log."""
    own = await start_gateway()
    alice, bob = await join(to=own), await join("socketio-websocket", to=own)
    room = await make_room(alice, bob)
    for _ in range(5):
        await succeed(alice, "send-msg", room=room, content="old")
    await own.kill9()
    await alice.wait_closed()
    await own.restart()
    alice = await resume(alice, own, join)
    assert (alice.welcome.fields["recovered"], alice.welcome.fields["rooms"]) == (False, [])
    await fail(alice, "history", "room_not_found", room=room)


async def test_a_second_gateway_on_the_same_store_is_refused(start_gateway: StartGateway, join: Join) -> None:
    """It exits with 1 and one clear line on stderr; the first goes on."""
    own = await start_gateway(on_disk=True)
    alice = await join(to=own)
    second = GatewayProcess(store=own.store)
    await second.spawn()
    assert await second.wait() == 1
    lines = second.log.strip().splitlines()
    assert len(lines) == 1, second.log
    assert "chat.db" in lines[0], lines
    second.check_log()
    room = await make_room(alice)
    await succeed(alice, "send-msg", room=room, content="undisturbed")


full_disk = pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs prlimit(2), which Linux has")


@full_disk
async def test_a_full_disk_makes_the_gateway_unavailable(start_gateway: StartGateway, join: Join, wire: str) -> None:
    """While the store cannot write, actions are `unavailable` and nothing is delivered; when it can, all is well."""
    own = await start_gateway(on_disk=True)
    client, bob = await join(wire, to=own), await join(to=own)
    room = await make_room(client, bob)
    await succeed(client, "send-msg", room=room, content="before")
    own.limit_file_size(0)
    for action, payload in (("send-msg", {"room": room, "content": "x", "id": "i"}), ("create-room", {"room": "y"})):
        await fail(client, action, "unavailable", **payload)
    assert [entry["room"] for entry in (await succeed(client, "list-rooms"))["rooms"]] == [room]
    own.limit_file_size(-1)
    assert "duplicate" not in await succeed(client, "send-msg", room=room, content="x", id="i")
    await succeed(client, "create-room", room="y")
    assert [event.fields["content"] for event in await bob.drain() if event.name == "message"] == ["before", "x"]


@full_disk
async def test_nobody_can_log_in_while_the_disk_is_full(start_gateway: StartGateway, join: Join) -> None:
    """A login that cannot be kept is `unavailable`, 503 on the plain wire; afterwards it succeeds."""
    own = await start_gateway(on_disk=True)
    own.limit_file_size(0)
    for wire in ("socketio-websocket", "socketio-polling", "json", "bare"):
        with pytest.raises(RefusedError) as refusal:
            await join(wire, f"user{wire[-1]}", to=own)
        check_error(refusal.value.error, "unavailable")
        assert refusal.value.status == (None if wire.startswith("socketio") else 503)
    own.limit_file_size(-1)
    for wire in ("socketio-websocket", "socketio-polling", "json", "bare"):
        await join(wire, f"user{wire[-1]}", to=own)


@full_disk
async def test_a_client_that_leaves_while_the_disk_is_full_is_gone_afterwards(
    start_gateway: StartGateway, join: Join
) -> None:
    """A lost connection and a log-out that the store could not take reach it, and the rooms, later."""
    own = await start_gateway(on_disk=True)
    alice, bob, carol = [await join(to=own) for _ in range(3)]
    await make_room(alice, bob, carol)
    own.limit_file_size(0)
    await bob.leave()
    await carol.drop()
    await fail(alice, "create-room", "unavailable", room="x")
    own.limit_file_size(-1)
    assert (await alice.next_event("user-left")).fields["username"] == bob.username
    assert (await alice.next_event("presence")).fields["username"] == carol.username


@full_disk
async def test_an_idle_gateway_notices_that_its_disk_is_full(start_gateway: StartGateway) -> None:
    """It is noticed, and so is its end, although nobody sends a message."""
    own = await start_gateway(on_disk=True)
    for size, news in ((0, "the store fails"), (-1, "the store works again")):
        own.limit_file_size(size)
        await until(lambda news=news: news in own.log, 8)  # type: ignore[misc]


async def test_a_kill_while_many_come_and_go_loses_nobody(start_gateway: StartGateway, join: Join) -> None:
    """Killed during log-ins and actions, the store opens again, and a session that was welcomed can be resumed."""
    own = await start_gateway(on_disk=True)
    clients: list[ChatClient] = []

    async def come() -> None:
        client = await join(to=own)
        clients.append(client)
        await make_room(client)

    coming = [asyncio.create_task(come()) for _ in range(40)]
    await asyncio.wait(coming, return_when=asyncio.FIRST_COMPLETED)
    await own.kill9()
    await asyncio.gather(*coming, return_exceptions=True)
    await own.restart()
    assert clients
    for client in clients:
        assert isinstance(client, JsonClient)
        back = await resume(client, own, join)
        rooms = {event["room"] for event in back.welcome.fields["rooms"]}
        acked = {reply["room"] for reply in client.replies.log if reply["ok"]}
        assert acked <= rooms


async def test_the_stock_client_retries_until_the_gateway_is_up(start_gateway: StartGateway, join: Join) -> None:
    """A gateway that is down for a while is found again without any code."""
    own = await start_gateway(on_disk=True, port=stable_port())
    alice = await join("socketio-websocket", to=own, reconnection=True, reconnectionDelay=20, reconnectionDelayMax=50)
    assert isinstance(alice, SocketIOClient)
    await own.kill9()
    for _ in range(3):
        await alice.next_notice("connect_error")
    await own.restart()
    await alice.next_notice("connect")
    await succeed(alice, "list-rooms")
