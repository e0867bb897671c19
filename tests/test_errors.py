"""Every error code of docs/protocol.md that an action can have, on every wire, and how errors reach the client."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from websockets.exceptions import ConnectionClosed

from harness.client import check_error, fail, make_room, succeed
from harness.names import fresh_name
from harness.plain import dump
from harness.raw import RawSocketIO

if TYPE_CHECKING:
    from harness.client import ChatClient, Join
    from harness.process import GatewayProcess

OTHERS_ROOM = ["add-user", "add-users", "send-msg", "leave-room", "list-members", "history", "typing"]
PAYLOADS: dict[str, dict[str, Any]] = {
    "create-room": {},
    "add-user": {"users": ["bob"]},
    "add-users": {"users": ["bob"]},
    "send-msg": {"content": "x"},
    "leave-room": {},
    "list-members": {},
    "history": {},
    "typing": {},
}

NO_NAMES: list[Any] = [..., "", 5, None, [], {}, True]
NO_LIMITS: list[Any] = [0, -1, 101, 1.5, "5", True, [], {}, 10**30]
NO_TEXTS: list[Any] = [5, [], {}, True]
WRONG: list[tuple[str, str, Any]] = [
    *[(action, "room", value) for action in PAYLOADS for value in NO_NAMES],
    ("create-room", "room", "a\nb"),
    ("create-room", "room", "\x00"),
    ("create-room", "room", "\x7f"),
    ("create-room", "room", "\x85"),
    ("create-room", "room", " "),
    ("create-room", "room", "te\u0430"),
    ("create-room", "room", "@bob"),
    ("create-room", "history", "some"),
    ("open-direct", "user", "Bob"),
    ("send-msg", "content", " \u3164"),
    ("create-room", "users", "bob"),
    ("create-room", "users", {"0": "bob"}),
    ("create-room", "users", [5]),
    ("create-room", "users", None),
    ("add-user", "users", ...),
    ("add-user", "users", []),
    ("add-user", "users", "bob"),
    ("add-user", "users", [["bob"]]),
    ("add-user", "users", [None]),
    ("add-user", "users", None),
    ("send-msg", "content", ...),
    ("send-msg", "content", ""),
    ("send-msg", "content", 5),
    ("send-msg", "content", None),
    ("send-msg", "content", ["x"]),
    ("send-msg", "content", {"x": 1}),
    ("send-msg", "content", True),
    ("send-msg", "id", ""),
    ("send-msg", "id", 5),
    ("send-msg", "id", ["x"]),
    *[(action, "limit", value) for action in ("list-members", "history", "find-users") for value in NO_LIMITS],
    *[("list-members", "after", value) for value in NO_TEXTS],
    *[("history", "before", value) for value in NO_TEXTS],
    *[("find-users", "prefix", value) for value in NO_TEXTS],
]


async def test_every_wrong_field_is_named(client: ChatClient) -> None:
    """A field that is missing, of the wrong type or out of bounds is `invalid_payload`: `fields` says which and why."""
    room = await make_room(client)
    for action, field, value in WRONG:
        payload: dict[str, Any] = {**PAYLOADS.get(action, {}), "room": room, field: value}
        if value is ...:
            del payload[field]
        reply = await client.call(action, **payload)
        assert reply["ok"] is False, (action, field, value, reply)
        check_error(reply["error"], "invalid_payload")
        assert set(reply["error"]["fields"]) == {field}, (action, field, value, reply)
        assert reply["error"]["fields"][field], (action, field, value, reply)
    assert (await succeed(client, "history", room=room))["messages"] == []
    assert [entry["room"] for entry in (await succeed(client, "list-rooms"))["rooms"]] == [room]


async def test_all_wrong_fields_are_named_at_once(client: ChatClient) -> None:
    """All mistakes of a payload are reported together."""
    error = await fail(client, "send-msg", "invalid_payload", room="", content=5)
    assert set(error["fields"]) == {"room", "content"}


async def test_a_malformed_username_in_users_is_an_invalid_payload(client: ChatClient, join: Join) -> None:
    """A name in `users` that no user can have is refused, and nobody is added."""
    bob = await join()
    room = await make_room(client)
    for name in ("Bob", "", "a" * 33, "a b"):
        reply = await client.call("add-user", room=room, users=[bob.username, name])
        assert reply["ok"] is False
        assert reply["error"]["code"] in {"invalid_username", "invalid_payload"}, reply
        assert "users" in reply["error"]["fields"], reply
    assert await bob.drain() == []


@pytest.mark.parametrize("action", OTHERS_ROOM)
async def test_a_missing_room_is_not_found(client: ChatClient, action: str) -> None:
    """Every action in a room that does not exist is `room_not_found`."""
    await fail(client, action, "room_not_found", room=fresh_name("nowhere"), **PAYLOADS[action])


@pytest.mark.parametrize("action", OTHERS_ROOM)
async def test_a_room_the_caller_is_not_in_is_not_found(client: ChatClient, join: Join, action: str) -> None:
    """Every action in a room that the caller is not in is as if it did not exist, and its members receive
    nothing.
    """
    bob = await join()
    room = await make_room(bob)
    await fail(client, action, "room_not_found", room=room, **PAYLOADS[action])
    assert await bob.drain() == []


async def test_an_existing_room_cannot_be_created(client: ChatClient, join: Join) -> None:
    """create-room with a name in use is `room_exists`, one's own or another's; nobody is added."""
    bob, carol = await join(), await join()
    for room in (await make_room(client), await make_room(bob)):
        await fail(client, "create-room", "room_exists", room=room, users=[carol.username])
    assert await carol.drain() == []


@pytest.mark.parametrize("action", ["create-room", "add-user"])
async def test_users_without_a_session_are_unknown(client: ChatClient, join: Join, action: str) -> None:
    """`unknown_user` names exactly those who have no session, and nobody is added."""
    bob = await join()
    nobody, noone = fresh_name(), fresh_name()
    room = fresh_name("room") if action == "create-room" else await make_room(client)
    error = await fail(client, action, "unknown_user", room=room, users=[nobody, bob.username, noone])
    assert set(error["fields"]) == {"users"}
    assert nobody in str(error["fields"]["users"])
    assert noone in str(error["fields"]["users"])
    assert bob.username not in str(error["fields"]["users"])
    assert await bob.drain() == []
    if action == "create-room":
        await fail(client, "history", "room_not_found", room=room)
    else:
        assert (await succeed(client, "list-members", room=room))["member_count"] == 1


async def test_unknown_users_are_listed_by_name(client: ChatClient) -> None:
    """`fields.users` of `unknown_user` is the list of the names, in the order given."""
    names = [fresh_name(), fresh_name()]
    error = await fail(client, "create-room", "unknown_user", room=fresh_name("room"), users=names)
    assert error["fields"] == {"users": names}


async def test_a_user_who_left_is_unknown(client: ChatClient, join: Join) -> None:
    """A session that has ended can be added no more."""
    bob = await join()
    room = await make_room(client, bob)
    await bob.leave()
    await client.next_event("user-left")
    await fail(client, "add-user", "unknown_user", room=room, users=[bob.username])


async def test_a_suspended_user_can_be_added(client: ChatClient, join: Join) -> None:
    """A session whose connection is lost counts: it is added, and listed as offline."""
    bob = await join()
    await make_room(client, bob)
    await bob.drop()
    await client.next_event("presence")
    reply = await succeed(client, "create-room", room=fresh_name("room"), users=[bob.username])
    assert {"username": bob.username, "online": False} in reply["members"]


@pytest.mark.parametrize(
    "action", ["fly", "", "Create-Room", "create_room", "create-room ", "__init__", "welcome", "é"]
)
async def test_an_unknown_action_is_refused(client: ChatClient, action: str) -> None:
    """A name that is not an action is `unknown_action`, whatever its payload."""
    await fail(client, action, "unknown_action")
    await fail(client, action, "unknown_action", room="x", users=5)


async def test_the_connection_survives_errors(client: ChatClient, join: Join) -> None:
    """The same connection goes on, and others receive nothing of errors."""
    bob = await join()
    room = await make_room(client, bob)
    for _ in range(50):
        await fail(client, "send-msg", "invalid_payload", room=room)
    await succeed(client, "send-msg", room=room, content="fine")
    assert [event.fields["content"] for event in await bob.drain()] == ["fine"]


FAILING: list[tuple[str, dict[str, Any], str]] = [
    ("send-msg", {"room": "no such room", "content": "x"}, "room_not_found"),
    ("send-msg", {"room": 5, "content": ""}, "invalid_payload"),
    ("create-room", {"room": "r", "users": ["nobodyhasthisname"]}, "unknown_user"),
    ("history", {}, "invalid_payload"),
    ("fly", {}, "unknown_action"),
]


async def test_without_an_ack_a_failure_is_an_error_event(join: Join) -> None:
    """A failing Socket.IO event without an ack gets an `error` event with the error of its ack."""
    client = await join("socketio-websocket")
    for action, payload, code in FAILING:
        error = await fail(client, action, code, **payload)
        await client.emit_without_ack(action, payload)
        event = await client.next_event("error")
        assert event.offset is None
        assert event.fields == {"action": action, **error}
    assert await client.drain() == []
    assert all(len(args) == 1 for name, args in client.raw if name == "error")


async def test_the_error_of_send_names_the_action(join: Join) -> None:
    """`socket.send({action, …})` that fails without an ack is an `error` event for that action."""
    client = await join("socketio-websocket")
    await client.emit_without_ack("message", {"action": "send-msg", "room": "nowhere", "content": "x"})
    event = await client.next_event("error")
    assert (event.fields["action"], event.fields["code"]) == ("send-msg", "room_not_found")


@pytest.mark.parametrize("payload", ["x", 5, None, True, [], ["x"], [{}], ""])
async def test_a_payload_that_is_not_an_object_is_refused(join: Join, payload: object) -> None:
    """On Socket.IO a payload of another JSON type is `invalid_payload`, by name or through `send`."""
    client = await join("socketio-websocket")
    for name in ("list-rooms", "send-msg", "message"):
        reply = await client.emit(name, payload)
        assert reply["ok"] is False, (name, reply)
        check_error(reply["error"], "invalid_payload")


async def test_more_than_one_argument_is_refused(join: Join) -> None:
    """An action takes one object: more arguments are `invalid_payload`, and nothing is done."""
    client = await join("socketio-websocket")
    room = fresh_name("room")
    for args in ([{"room": room}, {}], [{"room": room}, "x"], [{"room": room}, {}, {}], [{"room": room}, None]):
        reply = await client.emit("create-room", *args)
        assert reply["ok"] is False, (args, reply)
        check_error(reply["error"], "invalid_payload")
    assert await client.call("list-rooms") == {"ok": True, "rooms": []}


async def test_binary_in_a_payload_is_refused(join: Join) -> None:
    """A Buffer where text belongs is `invalid_payload` for that field, and the connection goes on."""
    client = await join("socketio-websocket")
    room = await make_room(client)
    binary = {"$bytes": "AAEC"}
    error = await fail(client, "send-msg", "invalid_payload", room=room, content=binary)
    assert set(error["fields"]) == {"content"}
    error = await fail(client, "create-room", "invalid_payload", room=binary, users=[binary])
    assert "room" in error["fields"]
    reply = await client.emit("list-rooms", binary)
    check_error(reply["error"], "invalid_payload")
    await succeed(client, "list-rooms", extra=binary)


async def test_send_without_an_action_is_refused(join: Join) -> None:
    """`send` needs to know which action: it is a missing field."""
    client = await join("socketio-websocket")
    for payload in ({}, {"room": "x"}, {"action": 5}, {"action": None}, {"action": ["list-rooms"]}):
        reply = await client.emit("message", payload)
        check_error(reply["error"], "invalid_payload")
        assert set(reply["error"]["fields"]) == {"action"}


async def test_send_cannot_nest(join: Join) -> None:
    """`message` itself is not an action."""
    client = await join("socketio-websocket")
    reply = await client.emit("message", {"action": "message"})
    check_error(reply["error"], "unknown_action")


NOT_OBJECTS = ["", " ", "x", "{", "[]", "5", '"x"', "null", "true", "NaN", "{'action':1}", '{"action":"list-rooms"']
NOT_OBJECTS += ['{"action":"list-rooms","ref":NaN}', '{"action":"list-rooms"} {}', "\ufeff{}"]
NOT_OBJECTS += ["[" * 5000, "{" * 5000, '{"a":' * 20000, "[" * 2000 + "]" * 2000]


@pytest.mark.parametrize("binary", [False, True])
async def test_a_plain_frame_that_is_not_a_json_object_is_refused(join: Join, binary: bool) -> None:
    """On the full form it gets a failing reply without a ref, and the connection goes on."""
    client = await join("json")
    for frame in NOT_OBJECTS:
        await client.send(frame.encode() if binary else frame)
        reply = await client.replies.take(lambda _: True, f"the reply to {frame[:50]!r}")
        assert set(reply) == {"ok", "error"}, (frame[:50], reply)
        assert reply["ok"] is False
        check_error(reply["error"], "invalid_payload")
    assert await client.drain() == []


async def test_a_plain_frame_without_an_action_is_refused(join: Join) -> None:
    """A frame whose `action` is missing or no string is `invalid_payload`, and its ref comes back."""
    client = await join("json")
    frames: list[dict[str, Any]] = [{}, {"room": "x"}, {"action": 5}, {"action": None}, {"action": {}}]
    for frame in frames:
        reply = await client.call_with(frame)
        check_error(reply["error"], "invalid_payload")
        assert set(reply["error"]["fields"]) == {"action"}


NASTY = [
    '"limit":1e400',
    '"limit":-1e400',
    '"limit":' + "9" * 5000,
    '"limit":1e-400',
    '"limit":' + "[" * 2000 + "]" * 2000,
    '"limit":' + '{"a":' * 500 + "1" + "}" * 500,
]


@pytest.mark.parametrize("nasty", NASTY, ids=lambda nasty: str(nasty)[:20])
async def test_huge_numbers_and_deep_nesting_are_refused(gateway: GatewayProcess, join: Join, nasty: str) -> None:
    """JSON that is legal but absurd is `invalid_payload`; on Socket.IO, where no stock client sends it, it
    may also close the connection.
    """
    text = f'{{"room":"x",{nasty}}}'
    client = await join("json")
    await client.send(text.replace("{", '{"action":"history",', 1))
    reply = await client.replies.take(lambda _: True, "a reply")
    check_error(reply["error"], "invalid_payload")
    async with RawSocketIO(gateway.url) as raw:
        await raw.connect({"username": fresh_name()})
        try:
            reply = await raw.call_text(f'["history",{text}]')
        except AssertionError:
            assert raw.closed
        else:
            check_error(acked(reply)["error"], "invalid_payload")


@pytest.mark.parametrize("text", ["half an emoji \ud83d", "\ude00 the other half"])
async def test_half_a_surrogate_pair_is_refused(client: ChatClient, text: str) -> None:
    """Half an emoji, which `text.slice(0, n)` in a browser leaves, is `invalid_payload`; the connection stays."""
    room = await make_room(client)
    await fail(client, "send-msg", "invalid_payload", room=room, content=text)
    await fail(client, "send-msg", "invalid_payload", room=room, content="x", id=text)
    await fail(client, "create-room", "invalid_payload", room=text)
    await fail(client, "create-room", "invalid_payload", room=fresh_name("room"), users=[text])
    await fail(client, "find-users", "invalid_payload", prefix=text)


def acked(packet: str) -> dict[str, Any]:
    """The one object in an ACK packet."""
    (reply,) = json.loads(packet[packet.index("[") :])
    return dict(reply)


@pytest.mark.parametrize("depth", [100, 254, 255, 990, 1020, 5000])
async def test_a_deeply_nested_ref_gets_a_reply(join: Join, depth: int) -> None:
    """However deep a `ref` is nested, its frame gets a reply, and the connection stays."""
    client = await join("json")
    await client.send(f'{{"action":"list-rooms","ref":{"[" * depth}{"]" * depth}}}')
    reply = await client.replies.take(lambda _: True, "a reply")
    if not reply["ok"]:
        check_error(reply["error"], "invalid_payload")
    await succeed(client, "list-rooms")


@pytest.mark.parametrize("depth", [100, 700, 5000])
async def test_a_deeply_nested_binary_packet_does_no_harm(gateway: GatewayProcess, depth: int) -> None:
    """An attachment at any depth gets an ack, or its sender is closed; the log stays clean, as in every test."""
    placeholder = '{"_placeholder":true,"num":0}'
    async with RawSocketIO(gateway.url) as raw:
        await raw.connect({"username": fresh_name()})
        await raw.send(f'451-7["list-rooms",{"[" * depth}{placeholder}{"]" * depth}]')
        with suppress(ConnectionClosed):
            await raw.send(b"attachment")
        try:
            reply = await raw.frames.take(lambda frame: str(frame).startswith("437"), "the ack")
        except AssertionError:
            assert raw.closed
        else:
            check_error(acked(str(reply))["error"], "invalid_payload")


async def test_refs_are_echoed_unchanged(join: Join) -> None:
    """`ref` may be any JSON value; a reply has one only where the frame had one."""
    client = await join("json")
    refs: list[Any] = [0, -1, 1.5, "", "x", None, True, [1, [2]], {"a": {"b": []}}, "\u2028é🙂", 2**53]
    for ref in refs:
        for action in ("list-rooms", "fly", "send-msg"):
            await client.send(dump({"action": action, "ref": ref}))
            reply = await client.replies.take(lambda _: True, "a reply")
            assert "ref" in reply, (ref, reply)
            assert reply["ref"] == ref
            assert type(reply["ref"]) is type(ref)
    await client.send('{"action":"list-rooms"}')
    assert "ref" not in await client.replies.take(lambda _: True, "a reply")


@pytest.mark.parametrize("word", ["connect", "disconnect", "connect_error", "disconnecting", "newListener"])
async def test_reserved_event_names_are_unknown_actions(gateway: GatewayProcess, join: Join, word: str) -> None:
    """A client that sends a reserved event is refused or closed; that neither logs it in nor out."""
    witness = await join()
    name = fresh_name()
    async with RawSocketIO(gateway.url) as raw:
        await raw.connect({"username": name})
        room = fresh_name("room")
        await succeed(witness, "create-room", room=room, users=[name])
        try:
            reply = await raw.call_text(f'["{word}",{{"username":"mallory"}}]')
        except AssertionError:
            assert raw.closed
        else:
            check_error(acked(reply)["error"], "unknown_action")
            rooms = acked(await raw.call_text('["list-rooms",{}]'))["rooms"]
            assert [entry["room"] for entry in rooms] == [room]
            assert await witness.drain() == []
