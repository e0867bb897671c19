"""Sessions: how they end, how they are suspended, and how a client comes back to one without missing anything."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from typing import TYPE_CHECKING

import pytest

from harness.client import GROUP, RefusedError, check_error, make_room, members, succeed
from harness.http import WEBSOCKET_HEADERS, request
from harness.inbox import TIMEOUT, Event
from harness.names import fresh_name
from harness.plain import JsonClient
from harness.raw import RawSocketIO
from harness.stock import SocketIOClient

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.client import ChatClient, Join
    from harness.process import GatewayProcess, StartGateway

RETURNING = ["socketio-websocket", "socketio-polling", "socketio-polling-only", "json"]


async def come_back(client: ChatClient, join: Join, *, to: GatewayProcess | None = None) -> ChatClient:
    """Resume a client's session as its wire does it; its `welcome` is the new one."""
    if isinstance(client, JsonClient):
        query = {"pid": client.pid, "offset": client.offset}
        return await join("json", client.username, to=to, query=query)
    assert isinstance(client, SocketIOClient)
    await client.connect()
    await client.next_notice("connect")
    client.welcome = await client.next_event("welcome")
    return client


async def recovered(client: ChatClient) -> bool:
    """Whether the client knows that it has missed nothing; the stock client's own flag must agree with welcome."""
    reported: bool = client.welcome.fields["recovered"]
    if isinstance(client, SocketIOClient):
        assert (await client.state())["recovered"] is reported
    return reported


@pytest.mark.parametrize("wire", RETURNING)
async def test_a_resumed_session_receives_every_missed_event_once(join: Join, wire: str) -> None:
    """After a lost transport the session goes on: same rooms, and the missed events follow in order, each once."""
    bob, carol = await join(), await join()
    client: ChatClient = await join(wire)
    room = await make_room(bob, client)
    await succeed(bob, "send-msg", room=room, content="before")
    await client.next_event("message")
    await client.drop()
    assert (await bob.next_event("presence")).fields["online"] is False
    for number in range(50):
        await succeed(bob, "send-msg", room=room, content=str(number))
    await succeed(bob, "typing", room=room)
    await succeed(bob, "add-user", room=room, users=[carol.username])
    second = fresh_name("room")
    await succeed(bob, "create-room", room=second, users=[client.username])
    await succeed(carol, "leave-room", room=room)

    client = await come_back(client, join)
    assert await recovered(client)
    assert [entry["room"] for entry in client.welcome.fields["rooms"]] == sorted([room, second])
    await succeed(bob, "send-msg", room=room, content="after")
    missed: list[Event] = []
    while not missed or missed[-1].fields.get("content") != "after":
        missed.append(await client.events.take(lambda _: True, "a missed event"))
    expected = [("message", str(number)) for number in range(50)]
    expected += [("user-joined", carol.username), ("room-joined", second), ("user-left", carol.username)]
    expected += [("message", "after")]
    assert [(event.name, summary(event)) for event in missed] == expected
    history = (await succeed(client, "history", room=room))["messages"]
    assert history[0]["content"] == "before"
    assert history[1:] == [{**event.fields, "offset": event.offset} for event in missed if event.name == "message"]


def summary(event: Event) -> str:
    """What distinguishes an event from others of its name."""
    return str(event.fields.get("content") or event.fields.get("username") or event.fields.get("room"))


@pytest.mark.parametrize("wire", RETURNING)
async def test_a_session_can_be_resumed_repeatedly(join: Join, wire: str) -> None:
    """Each return goes on where the last ended: three losses in a row lose and repeat nothing."""
    bob = await join()
    client: ChatClient = await join(wire)
    room = await make_room(bob, client)
    received = []
    for number in range(3):
        await client.drop()
        await succeed(bob, "send-msg", room=room, content=f"away {number}")
        client = await come_back(client, join)
        assert await recovered(client)
        await succeed(bob, "send-msg", room=room, content=f"here {number}")
        received += [(await client.next_event("message")).fields["content"] for _ in range(2)]
    assert received == [f"{where} {number}" for number in range(3) for where in ("away", "here")]
    assert not [event for event in await client.drain() if event.name == "message"]


@pytest.mark.parametrize("wire", RETURNING)
async def test_members_receive_presence_when_a_session_is_resumed(join: Join, wire: str) -> None:
    """The rooms receive presence online: true, and lists show it; nobody has left or joined."""
    bob = await join()
    client: ChatClient = await join(wire)
    room = await make_room(bob, client)
    await client.drop()
    await bob.next_event("presence")
    await come_back(client, join)
    event = await bob.next_event("presence")
    assert event.fields == {"room": room, "username": client.username, "online": True}
    assert await bob.drain() == []
    everybody = members(**{bob.username: True, client.username: True})
    assert (await succeed(bob, "list-members", room=room))["members"] == everybody


@pytest.mark.parametrize("wire", ["socketio-websocket", "socketio-polling"])
async def test_the_stock_client_recovers_by_itself(join: Join, wire: str) -> None:
    """With its default of reconnecting, nobody has to do anything, and `socket.recovered` is true."""
    bob = await join()
    client: ChatClient = await join(wire, reconnection=True, reconnectionDelay=10)
    assert isinstance(client, SocketIOClient)
    room = await make_room(bob, client)
    await client.drop()
    await client.notices.take(lambda notice: notice.name == "connect" and notice.fields["recovered"], "the return")
    await succeed(client, "send-msg", room=room, content="back")
    assert (await bob.next_event("message")).fields["content"] == "back"


async def test_a_large_replay_does_not_count_as_a_slow_client(start_gateway: StartGateway, join: Join) -> None:
    """The welcome of a member of many rooms and all that was missed may be more than --max-buffer together."""
    own = await start_gateway(max_buffer=20_000)
    alice, bob = await join(to=own), await join(to=own)
    for number in range(100):
        await succeed(alice, "create-room", room=f"a room with a long name, number {number}", users=[bob.username])
        await bob.next_event("room-joined")
    await bob.drop()
    await alice.next_event("presence")
    await succeed(alice, "send-msg", room="a room with a long name, number 7", content="x" * 9000)
    back = await join("json", bob.username, to=own, query={"pid": bob.pid, "offset": bob.offset})
    assert back.welcome.fields["recovered"] is True
    assert len(back.welcome.fields["rooms"]) == 100
    assert (await back.next_event("message")).fields["content"] == "x" * 9000
    await succeed(alice, "send-msg", room="a room with a long name, number 7", content="after")
    assert (await back.next_event("message")).fields["content"] == "after"


async def test_a_valid_pid_wins_over_a_connection_that_seems_alive(join: Join) -> None:
    """On the JSON form the old connection is closed with 4001, and the rooms receive nothing."""
    bob, client = await join(), await join("json")
    room = await make_room(bob, client)
    again = await join("json", client.username, query={"pid": client.pid, "offset": client.offset})
    assert await client.wait_closed() == 4001
    assert again.welcome.fields["recovered"] is True
    await succeed(bob, "send-msg", room=room, content="x")
    assert (await again.next_event("message")).fields["content"] == "x"
    assert "user-left" not in [event.name for event in await bob.drain()]
    everybody = members(**{bob.username: True, client.username: True})
    assert (await succeed(bob, "list-members", room=room))["members"] == everybody


async def test_a_valid_pid_wins_on_socket_io(gateway: GatewayProcess, join: Join) -> None:
    """The old Socket.IO connection is told to stay away (DISCONNECT) or closed; the new one has the session."""
    bob, name = await join(), fresh_name()
    async with RawSocketIO(gateway.url) as old, RawSocketIO(gateway.url) as new:
        session = json.loads((await old.connect({"username": name}))[2:])
        room = fresh_name("room")
        await succeed(bob, "create-room", room=room, users=[name])
        joined = str(await old.frames.take(lambda frame: '"room-joined"' in str(frame), "room-joined"))
        offset = json.loads(joined[2:])[-1]
        reply = await new.connect({"username": name, "pid": session["pid"], "offset": offset})
        assert json.loads(reply[2:])["pid"] == session["pid"]
        assert str(await old.frames.take(lambda frame: str(frame) == "41", "DISCONNECT"))
        await succeed(bob, "send-msg", room=room, content="x")
        await new.frames.take(lambda frame: str(frame).startswith('42["message"'), "the message")


async def test_a_session_moves_between_wires(gateway: GatewayProcess, join: Join) -> None:
    """A session that began on Socket.IO can continue on the JSON form."""
    name = fresh_name()
    bob = await join()
    async with RawSocketIO(gateway.url) as raw:
        session = json.loads((await raw.connect({"username": name}))[2:])
        room = fresh_name("room")
        await succeed(bob, "create-room", room=room, users=[name])
        joined = str(await raw.frames.take(lambda frame: '"room-joined"' in str(frame), "room-joined"))
    query = {"pid": session["pid"], "offset": json.loads(joined[2:])[-1]}
    client = await join("json", name, query=query)
    assert client.welcome.fields["recovered"] is True
    assert [entry["room"] for entry in client.welcome.fields["rooms"]] == [room]


WRONG_PIDS = {
    "empty": lambda pid: "",
    "short": lambda pid: "x",
    "sql": lambda pid: "' or 1=1 --",
    "a part of it": lambda pid: pid[:-1],
    "more than it": lambda pid: f"{pid}x",
    "one letter off": lambda pid: pid[:-1] + ("A" if pid[-1] != "A" else "B"),
    "as long as may be": lambda pid: pid.ljust(256, "x"),
}


@pytest.mark.parametrize("wrong", WRONG_PIDS.values(), ids=WRONG_PIDS)
async def test_a_wrong_pid_is_refused(join: Join, wrong: Callable[[str], str]) -> None:
    """It resumes no session: a live name and a suspended one stay taken, and a free name gets a new session."""
    alice, bob = await join(), await join()
    room = await make_room(alice, bob)
    query = {"pid": wrong(bob.pid), "offset": bob.offset}
    with pytest.raises(RefusedError) as refusal:
        await join("json", bob.username, query=query)
    assert refusal.value.code == "username_taken"
    assert await bob.drain() == []
    await bob.drop()
    await alice.next_event("presence")
    with pytest.raises(RefusedError) as refusal:
        await join("json", bob.username, query=query)
    check_error(refusal.value.error, "username_taken")
    assert "retry_after" in refusal.value.error
    fresh = await join("json", query=query)
    assert (fresh.welcome.fields["recovered"], fresh.welcome.fields["rooms"]) == (False, [])
    assert fresh.pid != query["pid"]
    back = await join("json", bob.username, query={**query, "pid": bob.pid})
    assert [entry["room"] for entry in back.welcome.fields["rooms"]] == [room]


async def test_a_pid_that_is_too_long_is_refused(join: Join) -> None:
    """By its length alone, whatever the name: a live one and a free one."""
    bob = await join()
    for username in (bob.username, fresh_name()):
        with pytest.raises(RefusedError) as refusal:
            await join("json", username, query={"pid": bob.pid.ljust(257, "x")})
        assert (refusal.value.code, refusal.value.status) == ("invalid_payload", 400)
        assert set(refusal.value.error["fields"]) == {"pid"}


async def test_a_pid_is_valid_only_for_its_own_name(join: Join) -> None:
    """With another name it is invalid."""
    bob = await join()
    room = await make_room(bob)
    mallory = await join("json", query={"pid": bob.pid, "offset": bob.offset})
    assert mallory.welcome.fields["recovered"] is False
    assert mallory.welcome.fields["rooms"] == []
    await succeed(bob, "send-msg", room=room, content="still mine")
    assert await mallory.drain() == []


@pytest.mark.parametrize("claimant", ["socketio-websocket", "socketio-polling", "json", "bare"])
async def test_a_suspended_name_is_reserved_for_its_holder(join: Join, wire: str, claimant: str) -> None:
    """Nobody else gets it while its holder may come back, and anyone who asks learns how long that is."""
    bob, client = await join(), await join(wire)
    room = await make_room(bob, client)
    await client.drop()
    await bob.next_event("presence")
    with pytest.raises(RefusedError) as refusal:
        await join(claimant, client.username)
    check_error(refusal.value.error, "username_taken")
    assert 100 < refusal.value.error["retry_after"] <= 120
    client = await come_back(client, join)
    assert [entry["room"] for entry in client.welcome.fields["rooms"]] == [room]
    assert "user-left" not in [event.name for event in await bob.drain()]


@pytest.mark.parametrize("form", ["", "?format=json"])
async def test_the_plain_wire_says_when_to_retry(gateway: GatewayProcess, join: Join, form: str) -> None:
    """409 has a Retry-After in whole seconds where the name is only reserved, and none where its holder is there."""
    bob, client = await join(), await join("json")
    await make_room(bob, client)
    url = f"{gateway.url}/username/{client.username}{form}"
    response = await request("GET", url, headers=WEBSOCKET_HEADERS)
    assert (response.status, "retry-after" in response.headers, "retry_after" in response.error) == (409, False, False)
    await client.drop()
    await bob.next_event("presence")
    response = await request("GET", url, headers=WEBSOCKET_HEADERS)
    assert response.status == 409
    assert int(response.headers["retry-after"]) - response.error["retry_after"] == pytest.approx(0.5, abs=0.5)


async def test_disconnecting_a_client_does_not_free_its_name(start_gateway: StartGateway, join: Join) -> None:
    """A flood that disconnects a slow client is followed by claims at once, over all wires: the client comes back."""
    own = await start_gateway(max_buffer=50_000)
    eve = await join(to=own)
    async with JsonClient(own.url, "victim") as victim:
        await succeed(eve, "create-room", room="r", users=["victim"])
        await victim.drain()
        victim.socket.transport.pause_reading()
        while not any(event.name == "presence" for event in eve.events.log):
            await succeed(eve, "send-msg", room="r", content="🙂" * 10_000)
        for claimant in ("json", "bare", "socketio-websocket"):
            with pytest.raises(RefusedError) as refusal:
                await join(claimant, "victim", to=own)
            assert refusal.value.code == "username_taken"
        victim.socket.transport.resume_reading()
        await victim.wait_closed()
    back = await join(username="victim", to=own, query={"pid": victim.pid, "offset": victim.offset})
    assert [room["room"] for room in back.welcome.fields["rooms"]] == ["r"]


async def test_a_reservation_may_be_shorter_than_the_window(start_gateway: StartGateway, join: Join) -> None:
    """With --reserve-names the name is free after that long, while its holder can still come back."""
    own = await start_gateway(reserve_names=1)
    bob, first, second = await join(to=own), await join(to=own), await join(to=own)
    await make_room(bob, first, second)
    for client in (first, second):
        await client.drop()
        await bob.next_event("presence")
    with pytest.raises(RefusedError) as refusal:
        await join(username=first.username, to=own)
    assert 0 < refusal.value.error["retry_after"] <= 1
    await asyncio.sleep(refusal.value.error["retry_after"])  # what it has promised
    claimed = await join(username=first.username, to=own)
    assert claimed.welcome.fields["rooms"] == []
    back = await join(username=second.username, to=own, query={"pid": second.pid, "offset": second.offset})
    assert back.welcome.fields["recovered"] is True


@pytest.mark.parametrize("claimant", ["socketio-websocket", "socketio-polling", "json", "bare"])
async def test_a_suspended_name_that_is_not_reserved_may_be_claimed(
    start_gateway: StartGateway, join: Join, wire: str, claimant: str
) -> None:
    """With --reserve-names 0: the suspended session ends, its rooms receive user-left, the claimant is in none, the
    old pid is invalid.
    """
    own = await start_gateway(reserve_names=0)
    bob, client = await join(to=own), await join(wire, to=own)
    room = await make_room(bob, client)
    await client.drop()
    await bob.next_event("presence")
    await join(claimant, client.username, to=own)
    event = await bob.next_event("user-left")
    assert event.fields == {"room": room, "username": client.username}
    assert (await succeed(bob, "list-rooms"))["rooms"][0]["member_count"] == 1
    await succeed(bob, "send-msg", room=room, content="x")
    if isinstance(client, JsonClient):
        with pytest.raises(RefusedError) as refusal:
            await join("json", client.username, to=own, query={"pid": client.pid, "offset": client.offset})
        assert refusal.value.code == "username_taken"


async def test_a_suspended_session_ends_after_the_recovery_window(
    start_gateway: StartGateway, join: Join, wire: str
) -> None:
    """After --recovery-window seconds: user-left is sent, and a client that comes back gets a new session."""
    own = await start_gateway(recovery_window=1)
    bob, client = await join(to=own), await join(wire, to=own)
    room = await make_room(bob, client)
    await client.drop()
    assert (await bob.next_event("presence")).fields["online"] is False
    assert (await bob.next_event("user-left")).fields == {"room": room, "username": client.username}
    client = await come_back(client, join, to=own)
    assert not await recovered(client)
    assert client.welcome.fields["rooms"] == []


@pytest.mark.parametrize(("code", "event"), [(1000, "user-left"), (1001, "presence"), (4000, "presence")])
async def test_the_json_form_uses_the_documented_close_codes(join: Join, code: int, event: str) -> None:
    """1000 ends the session; another code, such as 1001 of a tab that goes away, leaves the session suspended."""
    bob, client = await join(), await join("json")
    await make_room(bob, client)
    await client.socket.close(code)
    assert (await bob.events.take(lambda _: True, event)).name == event


async def test_logging_out_ends_the_session(join: Join) -> None:
    """After a log-out the pid is invalid: a client that sends it gets a new session."""
    bob, client = await join(), await join("json")
    await make_room(bob, client)
    await client.leave()
    await bob.next_event("user-left")
    again = await join("json", client.username, query={"pid": client.pid, "offset": client.offset})
    assert (again.welcome.fields["recovered"], again.welcome.fields["rooms"]) == (False, [])


@pytest.mark.parametrize("wire", RETURNING)
async def test_a_client_that_missed_too_much_is_not_recovered(
    start_gateway: StartGateway, join: Join, wire: str
) -> None:
    """Where the log no longer has every missed event, `recovered` is false, no part of them is replayed, and welcome
    lists the rooms, so that history can be fetched.
    """
    own = await start_gateway(history_size=5)
    bob = await join(to=own)
    client: ChatClient = await join(wire, to=own)
    room = await make_room(bob, client)
    await client.drop()
    await bob.next_event("presence")
    for number in range(40):
        await succeed(bob, "send-msg", room=room, content=str(number))
    client = await come_back(client, join, to=own)
    assert not await recovered(client)
    everybody = members(**{bob.username: True, client.username: True})
    assert client.welcome.fields["rooms"] == [{"room": room, **GROUP, "members": everybody, "member_count": 2}]
    assert await client.drain() == []
    history = (await succeed(client, "history", room=room))["messages"]
    assert [message["content"] for message in history] == [str(number) for number in range(35, 40)]
    await succeed(bob, "send-msg", room=room, content="on")
    assert (await client.next_event("message")).fields["content"] == "on"


async def test_a_client_that_was_not_recovered_can_recover_the_next_time(
    start_gateway: StartGateway, join: Join
) -> None:
    """A welcome without recovery is a new start: from its pid and offset on, everything is kept again."""
    own = await start_gateway(history_size=5)
    bob, client = await join(to=own), await join("json", to=own)
    room = await make_room(bob, client)
    await client.drop()
    for number in range(40):
        await succeed(bob, "send-msg", room=room, content=str(number))
    client = await join("json", client.username, to=own, query={"pid": client.pid, "offset": client.offset})
    assert client.welcome.fields["recovered"] is False
    await client.drop()
    await succeed(bob, "send-msg", room=room, content="missed")
    client = await join("json", client.username, to=own, query={"pid": client.pid, "offset": client.offset})
    assert client.welcome.fields["recovered"] is True
    assert (await client.next_event("message")).fields["content"] == "missed"


async def test_a_pid_without_an_offset_keeps_the_session(join: Join) -> None:
    """The rooms are kept; nothing can be replayed, and welcome says so."""
    bob, client = await join(), await join("json")
    room = await make_room(bob, client)
    await client.drop()
    await bob.next_event("presence")
    await succeed(bob, "send-msg", room=room, content="x")
    again = await join("json", client.username, query={"pid": client.pid})
    assert again.welcome.fields["recovered"] is False
    assert [entry["room"] for entry in again.welcome.fields["rooms"]] == [room]
    assert await again.drain() == []
    assert "user-left" not in [event.name for event in await bob.drain()]


async def test_secrets_are_not_logged(start_gateway: StartGateway, join: Join) -> None:
    """No pid and no message content is in the log, or in what others receive."""
    own = await start_gateway(log_level="debug")
    clients = [await join(wire, to=own) for wire in ("json", "socketio-websocket", "socketio-polling", "json")]
    json_client = clients[0]
    assert isinstance(json_client, JsonClient)
    room = await make_room(clients[1], clients[0], *clients[2:])
    await succeed(clients[1], "send-msg", room=room, content="tell nobody")
    for client in (clients[0], *clients[2:]):
        await client.next_event("message")
    await own.stop()  # the log is read to its end
    assert all(client.username in own.log for client in clients)
    assert json_client.pid not in own.log
    assert "tell nobody" not in own.log
    for client in clients[1:]:
        assert json_client.pid not in str(client.events.log)


@pytest.mark.parametrize("path", ["/username/{name}?format=json", "/socket.io/?EIO=4&transport=websocket"])
async def test_a_connection_reset_during_its_handshake_leaves_no_session(
    gateway: GatewayProcess, join: Join, path: str
) -> None:
    """A reset right after the handshake leaves no session that nobody can resume, and no traceback in the log."""
    bob = await join("json")
    host, port = gateway.url.removeprefix("http://").split(":")
    names = [fresh_name() for _ in range(20)]
    for name in names:
        with socket.create_connection((host, int(port))) as hasty:
            hasty.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close is a reset
            head = "".join(f"{field}: {value}\r\n" for field, value in WEBSOCKET_HEADERS.items())
            hasty.sendall(f"GET {path.format(name=name)} HTTP/1.1\r\nHost: {host}\r\n{head}\r\n".encode())
    for name in names:
        async with asyncio.timeout(TIMEOUT):
            while (await bob.call("create-room", room=name, users=[name]))["ok"]:
                await succeed(bob, "leave-room", room=name)  # its session is still to be ended
