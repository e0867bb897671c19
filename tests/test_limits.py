"""Each limit, at its bound and one above it, and the state of the connection afterwards."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from harness.client import check_error, fail, make_room, succeed
from harness.http import request
from harness.inbox import TIMEOUT
from harness.names import fresh_name
from harness.plain import BareClient, JsonClient, dump
from harness.raw import RawSocketIO, open_polling

if TYPE_CHECKING:
    from harness.client import ChatClient, Join
    from harness.process import StartGateway


@pytest.mark.parametrize("letter", ["x", "é", "🙂", "\ue000"])
async def test_content_may_have_up_to_10000_characters(client: ChatClient, join: Join, letter: str) -> None:
    """Characters are Unicode code points: 10,000 arrive whole, whatever their bytes; one more is refused by name."""
    bob = await join()
    room = await make_room(client, bob)
    await succeed(client, "send-msg", room=room, content=letter * 10_000)
    assert (await bob.next_event("message")).fields["content"] == letter * 10_000
    error = await fail(client, "send-msg", "invalid_payload", room=room, content=letter * 10_001)
    assert set(error["fields"]) == {"content"}
    assert "10" in str(error["fields"]["content"])
    assert await bob.drain() == []


async def test_room_names_may_have_up_to_64_characters(client: ChatClient) -> None:
    """64 code points name a room, 65 do not; so does every action that takes a room."""
    room = fresh_name("room").ljust(64, "🙂")
    assert len(room) == 64
    await succeed(client, "create-room", room=room)
    await succeed(client, "send-msg", room=room, content="x")
    for action, more in (("create-room", {}), ("history", {}), ("send-msg", {"content": "x"}), ("typing", {})):
        error = await fail(client, action, "invalid_payload", room=f"{room}x", **more)
        assert set(error["fields"]) == {"room"}


async def test_ids_may_have_up_to_64_characters(client: ChatClient) -> None:
    """An id of 64 code points is kept, one of 65 refused."""
    room = await make_room(client)
    assert (await succeed(client, "send-msg", room=room, content="x", id="🙂" * 64))["id"] == "🙂" * 64
    error = await fail(client, "send-msg", "invalid_payload", room=room, content="x", id="🙂" * 65)
    assert set(error["fields"]) == {"id"}


async def test_users_may_have_up_to_100_entries(client: ChatClient, join: Join) -> None:
    """100 users may be named in one request, 101 not, repeated or not; then nobody is added."""
    bob = await join()
    room = await make_room(client)
    for action, name in (("add-user", room), ("create-room", fresh_name("room"))):
        error = await fail(client, action, "invalid_payload", room=name, users=[bob.username] * 101)
        assert set(error["fields"]) == {"users"}
    assert await bob.drain() == []
    reply = await succeed(client, "add-user", room=room, users=[bob.username] * 100)
    assert reply["added"] == [bob.username]


@pytest.mark.parametrize("action", ["history", "list-members", "find-users"])
async def test_limit_may_be_up_to_100(client: ChatClient, action: str) -> None:
    """1 and 100 are fine; 0 and 101 are not."""
    room = await make_room(client)
    for limit in (1, 100):
        await succeed(client, action, room=room, limit=limit)
    for limit in (0, 101):
        error = await fail(client, action, "invalid_payload", room=room, limit=limit)
        assert set(error["fields"]) == {"limit"}


async def test_a_full_store_still_lets_users_log_in_and_leave(
    start_gateway: StartGateway, join: Join, wire: str
) -> None:
    """--max-store: what adds is `limit_reached`, on every wire; reading, repeating, leaving and logging in work."""
    own = await start_gateway(on_disk=True, max_store="1MB")
    client = await join(wire, to=own)
    room = await make_room(client)
    await succeed(client, "send-msg", room=room, content="first", id="mine")
    replies = await client.burst([("send-msg", {"room": room, "content": "x" * 10_000})] * 150)
    check_error(replies[-1]["error"], "limit_reached")
    await fail(client, "create-room", "limit_reached", room=fresh_name("room"))
    bob = await join(to=own)
    await fail(client, "add-user", "limit_reached", room=room, users=[bob.username])
    assert (await succeed(client, "send-msg", room=room, content="first", id="mine"))["duplicate"]
    assert len((await succeed(client, "history", room=room, limit=3))["messages"]) == 3
    await succeed(client, "leave-room", room=room)
    async with asyncio.timeout(TIMEOUT):  # the messages of an ended room are deleted bit by bit
        while not (await client.call("create-room", room=fresh_name("room"), users=[bob.username]))["ok"]:
            pass


async def test_lengths_are_settings(start_gateway: StartGateway, join: Join, wire: str) -> None:
    """--max-content-length, --max-room-name-length and --max-users are obeyed at the bound and one above."""
    own = await start_gateway(max_content_length=3, max_room_name_length=4, max_users=2)
    client = await join(wire, to=own)
    others = [(await join(to=own)).username for _ in range(3)]
    await succeed(client, "create-room", room="abcd", users=others[:2])
    await fail(client, "create-room", "invalid_payload", room="abcde")
    await fail(client, "create-room", "invalid_payload", room="x", users=others)
    await succeed(client, "send-msg", room="abcd", content="🙂🙂🙂")
    await fail(client, "send-msg", "invalid_payload", room="abcd", content="1234")
    await fail(client, "add-user", "invalid_payload", room="abcd", users=others)
    await succeed(client, "add-user", room="abcd", users=others[1:])


async def test_rooms_per_user_are_limited(start_gateway: StartGateway, join: Join, wire: str) -> None:
    """--max-rooms holds for creating, and apart from that for being added; leaving one makes place, and nothing is half
    done.
    """
    own = await start_gateway(max_rooms=2)
    client, full, bob, other = await join(wire, to=own), await join(to=own), await join(to=own), await join(to=own)
    for room in ("a", "b"):
        await succeed(client, "create-room", room=room)
        await succeed(other, "create-room", room=f"{room} for full", users=[full.username])
    await fail(client, "create-room", "limit_reached", room="c")
    await succeed(client, "leave-room", room="b")
    await fail(client, "create-room", "limit_reached", room="c", users=[bob.username, full.username])
    await fail(client, "history", "room_not_found", room="c")
    await fail(client, "add-user", "limit_reached", room="a", users=[bob.username, full.username])
    assert (await succeed(client, "list-members", room="a"))["member_count"] == 1
    assert await bob.drain() == []
    await succeed(client, "create-room", room="c", users=[bob.username])


async def test_members_per_room_are_limited(start_gateway: StartGateway, join: Join, wire: str) -> None:
    """--max-members holds for create-room and add-user: with one too many nobody is added."""
    own = await start_gateway(max_members=3)
    client = await join(wire, to=own)
    bob, carol, dave = [await join(to=own) for _ in range(3)]
    users = [user.username for user in (bob, carol, dave)]
    await fail(client, "create-room", "limit_reached", room="r", users=users)
    await fail(client, "history", "room_not_found", room="r")
    await succeed(client, "create-room", room="r", users=users[:1])
    await fail(client, "add-user", "limit_reached", room="r", users=users[1:])
    assert (await succeed(client, "list-members", room="r"))["member_count"] == 2
    await succeed(client, "add-user", room="r", users=users[:2])
    await fail(client, "add-user", "limit_reached", room="r", users=users[2:])
    assert await dave.drain() == []
    await succeed(bob, "leave-room", room="r")
    await succeed(client, "add-user", room="r", users=users[2:])


async def test_history_is_capped(start_gateway: StartGateway, join: Join, wire: str) -> None:
    """--history-size keeps that many messages of a room, the newest; older ones are gone, and `more` says so."""
    own = await start_gateway(history_size=5)
    client = await join(wire, to=own)
    for room in ("r", "other"):
        await succeed(client, "create-room", room=room)
        await succeed(client, "send-msg", room=room, content="first of all")
    for number in range(20):
        await succeed(client, "send-msg", room="r", content=str(number))
    reply = await succeed(client, "history", room="r")
    assert [message["content"] for message in reply["messages"]] == ["15", "16", "17", "18", "19"]
    assert reply["more"] is False
    reply = await succeed(client, "history", room="r", limit=2, before=reply["messages"][2]["offset"])
    assert ([message["content"] for message in reply["messages"]], reply["more"]) == (["15", "16"], False)
    other = await succeed(client, "history", room="other")
    assert [message["content"] for message in other["messages"]] == ["first of all"]


async def test_actions_per_second_are_limited(start_gateway: StartGateway, join: Join, wire: str) -> None:
    """Above --rate-limit actions are `rate_limited` with `retry_after`; after that time the same call succeeds."""
    own = await start_gateway(rate_limit=5)
    client, bob = await join(wire, to=own), await join(to=own)
    replies = await client.burst([("list-rooms", {})] * 15)
    assert [reply["ok"] for reply in replies[:5]] == [True] * 5
    assert replies[-1]["ok"] is False
    for reply in replies:
        if not reply["ok"]:
            check_error(reply["error"], "rate_limited")
            assert 0 < reply["error"]["retry_after"] <= 1
    await succeed(bob, "list-rooms")
    await asyncio.sleep(replies[-1]["error"]["retry_after"])  # what it has promised
    await succeed(client, "list-rooms")


async def test_invalid_actions_count_towards_the_rate_limit(start_gateway: StartGateway, join: Join) -> None:
    """Frames that fail cost as much as those that succeed, and the bare form and `error` say `retry_after` as well."""
    own = await start_gateway(rate_limit=2)
    bare = await join("bare", to=own)
    for _ in range(6):
        await bare.send('{"action":"fly"}')
    errors = [json.loads(await bare.next_frame())["error"] for _ in range(6)]
    check_error(errors[-1], "rate_limited")
    assert errors[-1]["retry_after"] > 0
    stock = await join("socketio-websocket", to=own)
    for _ in range(6):
        await stock.emit_without_ack("fly", {})
    events = [(await stock.next_event("error")).fields for _ in range(6)]
    assert events[-1]["code"] == "rate_limited"
    assert events[-1]["retry_after"] > 0


SMALL = {"max_content_length": 10, "max_room_name_length": 4, "max_users": 10}
"""Content that fits into a frame of 2,000 bytes, however it is escaped."""


def padded(size: int, **payload: Any) -> str:
    """An action of exactly ``size`` bytes."""
    frame = dump({**payload, "pad": ""})
    return frame.replace('"pad":""', f'"pad":"{"x" * (size - len(frame))}"')


@pytest.mark.parametrize("form", ["json", "bare"])
@pytest.mark.parametrize("kind", ["text", "binary", "fragments"])
async def test_the_size_of_a_plain_frame_is_limited(
    start_gateway: StartGateway, join: Join, form: str, kind: str
) -> None:
    """A frame of --max-frame-size bytes gets a reply; one byte more closes with 1009, and bystanders do not notice."""
    own = await start_gateway(max_frame_size=2000, **SMALL)
    bob, carol = await join(to=own), await join("socketio-websocket", to=own)
    client: BareClient | JsonClient = BareClient(own.url, "alice") if form == "bare" else JsonClient(own.url, "alice")

    async def send(frame: str) -> None:
        if kind == "fragments":
            await client.socket.send([frame[:900], frame[900:1800], frame[1800:]])
        else:
            await client.send(frame.encode() if kind == "binary" else frame)

    async with client:
        await succeed(bob, "create-room", room="r", users=["alice", carol.username])
        await carol.next_event("room-joined")
        await client.drain()
        client.frames.take_all()
        for _ in range(2):
            await send(padded(2000, action="send-msg", room="r", content="fits"))
            reply = await client.next_frame()
            assert '"error"' not in str(reply), reply
            assert (await bob.next_event("message")).fields["content"] == "fits"
        await send(padded(2001, action="send-msg", room="r", content="too large"))
        assert await client.wait_closed() == 1009
    event = await bob.next_event("user-left" if form == "bare" else "presence")
    assert event.fields["username"] == "alice"
    assert await bob.drain() == []
    await succeed(bob, "send-msg", room="r", content="and on")
    assert (await carol.next_event("message")).fields["content"] == "fits"


async def test_the_size_of_a_socketio_frame_is_limited(start_gateway: StartGateway, join: Join) -> None:
    """On Socket.IO over WebSocket too: a frame at the limit gets its ack, one byte more is closed with 1009."""
    own = await start_gateway(max_frame_size=2000, **SMALL)
    bob = await join(to=own)
    async with RawSocketIO(own.url) as raw:
        assert raw.handshake["maxPayload"] == 2000
        await raw.connect({"username": "alice"})
        await succeed(bob, "create-room", room="r", users=["alice"])
        head, tail = '421["list-rooms",', "]"
        await raw.send(head + padded(2000 - len(head) - len(tail)) + tail)
        await raw.frames.take(lambda frame: str(frame).startswith('431[{"ok":true'), "the ack")
        await raw.send(head + padded(2001 - len(head) - len(tail)) + tail)
        assert await raw.wait_closed() == 1009
    assert (await bob.next_event("presence")).fields == {"room": "r", "username": "alice", "online": False}


async def test_the_size_of_a_polling_body_is_limited(start_gateway: StartGateway) -> None:
    """A long-polling body of --max-frame-size bytes is taken; one byte more is 413 with the code `too_large`."""
    own = await start_gateway(max_frame_size=2000, **SMALL)
    url = await open_polling(own.url)
    assert (await request("POST", url, data='40{"username":"alice"}')).status == 200
    head, tail = '421["list-rooms",', "]"
    body = head + padded(2000 - len(head) - len(tail)) + tail
    assert (await request("POST", url, data=body)).status == 200
    received = ""
    while "431[" not in received:
        received += (await request("GET", url)).text
    response = await request("POST", url, data=f"{body} ")
    assert response.status == 413, response
    check_error(response.error, "too_large")


async def test_the_size_of_a_polling_body_counts_bytes(start_gateway: StartGateway) -> None:
    """A body without a Content-Length is refused at the limit as well."""
    own = await start_gateway(max_frame_size=2000, **SMALL)
    url = await open_polling(own.url)
    await request("POST", url, data='40{"username":"alice"}')

    async def endless() -> Any:
        for _ in range(10_000):
            yield b"x" * 1000

    response = await request("POST", url, data=endless())
    assert response.status == 413, response


async def test_a_slow_client_is_disconnected_and_recovers(start_gateway: StartGateway, join: Join) -> None:
    """A member that stops reading is closed at --max-buffer; others go on, and it returns without a silent gap."""
    own = await start_gateway(max_buffer=200_000)
    alice, bob = await join(to=own), await join("socketio-websocket", to=own)
    address = urlsplit(own.url)
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    narrow.setblocking(False)
    await asyncio.get_running_loop().sock_connect(narrow, (address.hostname, address.port))
    async with JsonClient(own.url, "slow", sock=narrow) as slow:
        await succeed(alice, "create-room", room="r", users=[bob.username, "slow"])
        await slow.drain()
        slow.socket.transport.pause_reading()
        sent = 0
        while not any(event.name == "presence" for event in alice.events.log):
            assert sent < 2000, "the slow reader was never cut"
            await succeed(alice, "send-msg", room="r", content=f"{sent} ".ljust(10_000, "🙂"))
            sent += 1
        event = await alice.next_event("presence")
        assert event.fields == {"room": "r", "username": "slow", "online": False}
        for number in range(sent):
            assert (await bob.next_event("message")).fields["content"].startswith(f"{number} ")
        slow.socket.transport.resume_reading()
        await slow.wait_closed()
        seen = [event for event in slow.events.log if event.name == "message"]
    assert len(seen) < sent
    back = await join(username="slow", to=own, query={"pid": slow.pid, "offset": slow.offset})
    assert [room["room"] for room in back.welcome.fields["rooms"]] == ["r"]
    if back.welcome.fields["recovered"]:
        missed = [await back.next_event("message") for _ in range(sent - len(seen))]
        assert [int(event.fields["content"].split()[0]) for event in [*seen, *missed]] == list(range(sent))
    assert await back.drain() == []
    kept: list[int] = []
    page = await succeed(back, "history", room="r")
    while page["messages"]:
        kept = [int(message["content"].split()[0]) for message in page["messages"]] + kept
        page = await succeed(back, "history", room="r", before=page["messages"][0]["offset"])
    assert kept == list(range(sent))


async def test_a_slow_client_is_told_why(start_gateway: StartGateway, join: Join) -> None:
    """A client that reads again after too long a pause finds the close code 4008 after what was sent before."""
    own = await start_gateway(max_buffer=50_000)
    alice = await join(to=own)
    async with JsonClient(own.url, "slow") as slow:
        await succeed(alice, "create-room", room="r", users=["slow"])
        await slow.drain()
        slow.socket.transport.pause_reading()
        sent = 0
        while not any(event.name == "presence" for event in alice.events.log):
            assert sent < 2000, "the slow reader was never cut"
            await succeed(alice, "send-msg", room="r", content="🙂" * 10_000)
            sent += 1
        slow.socket.transport.resume_reading()
        assert await slow.wait_closed() == 4008
