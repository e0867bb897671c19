"""Every row of the table of events in docs/protocol.md: exact fields, and the offset that stored events carry."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from harness.client import fail, make_room, members, succeed
from harness.inbox import Event
from harness.names import fresh_name
from harness.stock import SocketIOClient

if TYPE_CHECKING:
    from harness.client import ChatClient, Join
    from harness.process import StartGateway

STORED = {
    "welcome": {"username", "rooms", "recovered", "sid", "pid", "recovery_window"},
    "message": {"id", "room", "from", "content", "ts"},
    "room-joined": {"room", "kind", "history", "members", "member_count", "by"},
    "user-joined": {"room", "username", "by"},
    "user-left": {"room", "username"},
}
VOLATILE = {"presence": {"room", "username", "online"}, "typing": {"room", "username"}}


async def receive_everything(client: ChatClient, join: Join) -> list[Event]:
    """Make every event of the protocol happen to one client."""
    bob, carol, dave = await join(), await join(), await join()
    room = await make_room(bob, carol)
    await succeed(bob, "add-user", room=room, users=[client.username])
    await succeed(bob, "add-user", room=room, users=[dave.username])
    await succeed(bob, "send-msg", room=room, content="hello")
    await succeed(bob, "typing", room=room)
    await succeed(dave, "leave-room", room=room)
    await carol.drop()
    await client.next_event("presence")
    return client.events.log


async def test_events_have_exactly_their_fields(client: ChatClient, join: Join) -> None:
    """No event lacks a field of the table, and none has another."""
    events = await receive_everything(client, join)
    assert [event.name for event in events] == [
        "welcome",
        "room-joined",
        "user-joined",
        "message",
        "typing",
        "user-left",
        "presence",
    ]
    for event in events:
        assert set(event.fields) == (STORED | VOLATILE)[event.name], event


async def test_stored_events_carry_an_offset_and_volatile_ones_do_not(client: ChatClient, join: Join) -> None:
    """Offsets are strings and all different; presence and typing have none."""
    events = await receive_everything(client, join)
    for event in events:
        assert isinstance(event.offset, str) == (event.name in STORED), event
        assert event.offset is None or event.offset
    offsets = [event.offset for event in events if event.offset is not None]
    assert len(set(offsets)) == len(offsets)


async def test_on_socket_io_the_offset_is_the_last_argument(join: Join) -> None:
    """A stored event is (object, string); a volatile one ends with its object, as recovery in the client needs."""
    client = await join("socketio-websocket")
    await receive_everything(client, join)
    assert len(client.raw) == 7
    for name, args in client.raw:
        kinds = [type(arg) for arg in args]
        assert kinds == ([dict, str] if name in STORED else [dict]), (name, args)


async def test_welcome_lists_no_rooms_for_a_new_user(client: ChatClient) -> None:
    """Welcome names the user, says that nothing was recovered, and lists no rooms."""
    fields = client.welcome.fields
    assert (fields["username"], fields["rooms"], fields["recovered"]) == (client.username, [], False)
    assert isinstance(client.welcome.offset, str)


async def test_room_joined_lists_members_in_order_with_their_presence(client: ChatClient, join: Join) -> None:
    """A member whose connection was lost is listed with online: false."""
    bob, carol = await join(), await join()
    room = await make_room(bob, carol)
    await carol.drop()
    await bob.next_event("presence")
    await succeed(bob, "add-user", room=room, users=[client.username])
    event = await client.next_event("room-joined")
    assert event.fields["members"] == members(
        **{client.username: True, bob.username: True, carol.username: False},
    )


async def test_presence_is_published_when_a_transport_is_lost(client: ChatClient, join: Join) -> None:
    """Members of every room of a lost client receive presence online: false, and no user-left."""
    bob = await join()
    rooms = {await make_room(client, bob), await make_room(client, bob)}
    await client.drop()
    received = [await bob.next_event("presence") for _ in rooms]
    assert {event.fields["room"] for event in received} == rooms
    for event in received:
        assert event == Event("presence", {**event.fields, "username": client.username, "online": False}, None)
    assert await bob.drain() == []
    for room in rooms:
        reply = await succeed(bob, "list-members", room=room)
        assert reply["members"] == members(**{client.username: False, bob.username: True})


async def test_user_left_is_published_when_a_user_logs_out(client: ChatClient, join: Join) -> None:
    """Members of every room of a user who logs out receive user-left, and no presence."""
    bob = await join()
    rooms = {await make_room(client, bob), await make_room(client, bob)}
    await client.leave()
    received = [await bob.next_event("user-left") for _ in rooms]
    assert {event.fields["room"] for event in received} == rooms
    assert {event.fields["username"] for event in received} == {client.username}
    assert await bob.drain() == []
    for room in rooms:
        assert (await succeed(bob, "list-members", room=room))["members"] == members(**{bob.username: True})


async def test_user_left_is_published_when_a_bare_client_closes(client: ChatClient, join: Join) -> None:
    """The bare form has no suspended sessions: a lost connection is user-left at once."""
    for end in ("leave", "drop"):
        bare = await join("bare")
        room = fresh_name("room")
        await succeed(client, "create-room", room=room, users=[bare.username])
        await getattr(bare, end)()
        event = await client.next_event("user-left")
        assert event.fields == {"room": room, "username": bare.username}
    assert await client.drain() == []


async def test_nobody_outside_a_room_receives_its_events(client: ChatClient, join: Join) -> None:
    """Messages, typing, comings, goings and presence stay among the members."""
    bob, carol, dave = await join(), await join(), await join()
    room = await make_room(bob, carol)
    await succeed(bob, "add-user", room=room, users=[dave.username])
    await succeed(dave, "leave-room", room=room)
    await succeed(bob, "send-msg", room=room, content="secret")
    await succeed(bob, "typing", room=room)
    await carol.drop()
    await bob.next_event("presence")
    assert await client.drain() == []


async def test_offsets_are_the_same_for_all_members(client: ChatClient, join: Join) -> None:
    """One event has one offset, for every recipient on every wire."""
    bob, carol = await join("json"), await join("socketio-websocket")
    dave = await join()
    room = await make_room(dave, client, bob, carol)
    await succeed(dave, "send-msg", room=room, content="x")
    events = [await user.next_event("message") for user in (client, bob, carol)]
    assert events[0] == events[1] == events[2]


async def test_large_rooms_do_not_announce_who_comes_and_goes(
    start_gateway: StartGateway, join: Join, wire: str
) -> None:
    """Above --presence-limit members, presence, typing, user-joined and user-left are not sent; at it they are."""
    own = await start_gateway(presence_limit=3)
    client = await join(wire, to=own)
    bob, carol, dave = [await join(to=own) for _ in range(3)]
    room = await make_room(client, bob)
    await succeed(client, "add-user", room=room, users=[carol.username])
    assert (await bob.next_event("user-joined")).fields["username"] == carol.username
    await succeed(carol, "typing", room=room)
    assert (await client.next_event("typing")).fields["username"] == carol.username

    await succeed(bob, "add-user", room=room, users=[dave.username])
    assert (await dave.next_event("room-joined")).fields["member_count"] == 4
    small = await make_room(dave, bob)
    await dave.drop()
    assert (await bob.next_event("presence")).fields["room"] == small
    await succeed(bob, "send-msg", room=room, content="still here")
    names = [event.name for event in await client.drain()]
    assert names[-1] == "message", names
    assert "presence" not in names

    await succeed(carol, "typing", room=room)
    await succeed(carol, "send-msg", room=room, content="typed")
    assert [event.name for event in await client.drain()] == ["message"]


async def test_leaving_a_large_room_publishes_nothing(start_gateway: StartGateway, join: Join, wire: str) -> None:
    """Above --presence-limit members nobody is told who leaves."""
    own = await start_gateway(presence_limit=2)
    client = await join(wire, to=own)
    others = [await join(to=own) for _ in range(4)]
    room = await make_room(client, *others)
    small = await make_room(others[0], others[2])
    await others[0].leave()
    assert (await others[2].next_event("user-left")).fields["room"] == small
    await succeed(others[1], "leave-room", room=room)
    await succeed(others[2], "send-msg", room=room, content="x")
    assert [event.name for event in await client.drain()] == ["message"]


async def test_stock_clients_and_a_bare_client_talk_to_each_other(join: Join) -> None:
    """A browser-like client that upgrades, a WebSocket-only client, a JSON and a bare client talk in one room."""
    alice, bob = await join("socketio-polling"), await join("socketio-websocket")
    carol, tester = await join("json"), await join("bare")
    room = fresh_name("room")
    users = [bob.username, carol.username, tester.username]
    await succeed(alice, "create-room", room=room, users=users)
    people: list[ChatClient] = [alice, bob, carol]
    for person in people:
        await succeed(person, "send-msg", room=room, content=f"I am {person.username}")
    await tester.echo("send-msg", room=room, content="and I")
    contents = [*(f"I am {person.username}" for person in people), "and I"]
    for index, person in enumerate(people):
        received = [(await person.next_event("message")).fields for _ in range(3)]
        assert [fields["content"] for fields in received] == contents[:index] + contents[index + 1 :]
        assert received[-1]["from"] == tester.username
    assert await tester.drain() == contents[:3]


async def test_all_members_receive_the_same_order(join: Join) -> None:
    """Many send at once over all wires: everybody sees the same order, and each sender's messages in their own."""
    wires = ["socketio-websocket", "socketio-polling", "json", "socketio-websocket", "json", "socketio-polling-only"]
    senders: list[ChatClient] = [await join(wire) for wire in wires]
    listeners: list[ChatClient] = [await join(wire) for wire in ("json", "socketio-websocket", "socketio-polling")]
    bare = await join("bare")
    room = fresh_name("room")
    everybody = [*senders[1:], *listeners]
    await succeed(senders[0], "create-room", room=room, users=[*(user.username for user in everybody), bare.username])

    async def talk(sender: ChatClient) -> None:
        contents = [f"{sender.username} {number}" for number in range(40)]
        replies = await sender.burst([("send-msg", {"room": room, "content": content}) for content in contents])
        assert all(reply["ok"] for reply in replies)

    await asyncio.gather(*(talk(sender) for sender in senders))
    orders = []
    for listener in listeners:
        events = [await listener.next_event("message") for _ in range(40 * len(senders))]
        orders.append([(event.offset, event.fields["content"]) for event in events])
    assert orders[0] == orders[1] == orders[2]
    contents = [content for _, content in orders[0]]
    assert await bare.drain() == contents
    for sender in senders:
        own = [content for content in contents if content.startswith(f"{sender.username} ")]
        assert own == [f"{sender.username} {number}" for number in range(40)]
        received = [(await sender.next_event("message")).fields["content"] for _ in range(40 * (len(senders) - 1))]
        assert received == [content for content in contents if content not in own]


@pytest.mark.parametrize("wire", ["socketio-websocket", "socketio-polling", "socketio-polling-only"])
async def test_send_is_equivalent_to_the_event_it_names(join: Join, wire: str) -> None:
    """`socket.send({action, …})` does what the event named by `action` does, and has the same reply."""
    client: ChatClient = await join(wire)
    assert isinstance(client, SocketIOClient)
    bob = await join()
    room = fresh_name("room")
    reply = await client.emit("message", {"action": "create-room", "room": room, "users": [bob.username]})
    assert reply["member_count"] == 2
    await client.emit_without_ack("message", {"action": "send-msg", "room": room, "content": "hello"})
    assert (await bob.next_event("message")).fields["content"] == "hello"
    reply = await client.emit("message", {"action": "send-msg", "room": "nowhere", "content": "x"})
    assert (reply["ok"], reply["error"]["code"]) == (False, "room_not_found")
    reply = await client.emit("message", {"action": "fly"})
    assert (reply["ok"], reply["error"]["code"]) == (False, "unknown_action")


async def test_an_event_without_arguments_has_an_empty_object(join: Join) -> None:
    """`socket.emit("list-rooms", ack)` gets the ack of `socket.emit("list-rooms", {}, ack)`."""
    client = await join("socketio-websocket")
    assert await client.emit("list-rooms") == {"ok": True, "rooms": []}
    reply = await client.emit("create-room")
    assert reply["error"]["code"] == "invalid_payload"
    assert set(reply["error"]["fields"]) == {"room"}


async def test_actions_without_an_ack_take_effect(join: Join) -> None:
    """An event that asks for no ack is handled like one that does, and nothing comes back."""
    client, bob = await join("socketio-websocket"), await join()
    room = fresh_name("room")
    await client.emit_without_ack("create-room", {"room": room, "users": [bob.username]})
    await client.emit_without_ack("send-msg", {"room": room, "content": "no ack"})
    assert (await bob.next_event("message")).fields["content"] == "no ack"
    assert await client.drain() == []


async def test_a_user_who_left_receives_nothing_more(client: ChatClient, join: Join) -> None:
    """After leave-room no message, typing, coming or going of the room arrives."""
    bob, carol = await join(), await join()
    room = await make_room(bob, client)
    await succeed(client, "leave-room", room=room)
    await succeed(bob, "add-user", room=room, users=[carol.username])
    await succeed(bob, "send-msg", room=room, content="x")
    await succeed(bob, "typing", room=room)
    await succeed(carol, "leave-room", room=room)
    assert await client.drain() == []
    await fail(client, "typing", "room_not_found", room=room)
