"""The bare plain wire, byte for byte as the older Go server had it, and better where docs/protocol.md says so."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from harness.client import check_error, make_room, succeed
from harness.names import fresh_name
from harness.plain import BareClient, dump

if TYPE_CHECKING:
    from harness.client import ChatClient, Join
    from harness.plain import Frame
    from harness.process import GatewayProcess


async def bare_room(creator: BareClient, *others: ChatClient | BareClient) -> str:
    room = fresh_name("room")
    await creator.echo("create-room", room=room, users=[other.username for other in others])
    return room


def odd_frames(room: str, action: str, rest: str) -> list[str]:
    """One action written in ways that no encoder would choose."""
    return [
        f'{{"action":"{action}","room":"{room}",{rest}}}',
        f'  {{ "action" : "{action}" ,\n\t"room":"{room}",\r\n{rest} }}  \n',
        f'{{{rest},"unknown":{{"deep":[1,2.50,1e3,null]}},"room":"{room}","action":"{action}","":""}}',
        f'{{"action":"\\u0{ord(action[0]):03x}{action[1:]}","room":"{room}",{rest},"note":"\\u00e9é\\/"}}',
        f'{{"action":"fly","action":"{action}","room":"{room}",{rest}}}',
    ]


@pytest.mark.parametrize("binary", [False, True])
async def test_a_frame_that_succeeds_comes_back_byte_for_byte(join: Join, binary: bool) -> None:
    """Whitespace, order, escapes and unknown fields return as they were sent; a binary frame gets a binary one."""
    client, bob = await join("bare"), await join("bare")
    room = await bare_room(client)
    frames = odd_frames(room, "add-user", f'"users":["{bob.username}"]')
    frames += odd_frames(room, "add-users", f'"users":["{bob.username}"]')
    frames += odd_frames(room, "send-msg", '"content":"h\\u0069","id":"once"')
    frames += [odd_frames(fresh_name("room"), "create-room", '"users":[]')[number] for number in range(5)]
    for text in frames:
        frame: Frame = text.encode() if binary else text
        await client.send(frame)
        reply = await client.next_frame()
        assert reply == frame
        assert type(reply) is type(frame)


async def test_every_way_to_write_create_room_is_echoed(join: Join) -> None:
    """create-room too, and what it created is there."""
    client = await join("bare")
    for number in range(5):
        room = fresh_name("room")
        frame = odd_frames(room, "create-room", '"content":"ignored"')[number]
        await client.send(frame)
        assert await client.next_frame() == frame
        await client.echo("send-msg", room=room, content="x")


async def test_other_members_receive_the_content_and_nothing_else(join: Join) -> None:
    """A message is the content in a text frame: no object, no sender, whatever frame it was sent in."""
    client, bob, carol = await join("bare"), await join("bare"), await join("json")
    room = await bare_room(client, bob, carol)
    contents = ["hello", " . ", '{"action":"x"}', "\u2028\x00é🙂", "x" * 10_000]
    for content in contents:
        await client.echo("send-msg", room=room, content=content)
    await client.send(dump({"action": "send-msg", "room": room, "content": "from binary"}).encode())
    assert isinstance(await client.next_frame(), bytes)
    for content in [*contents, "from binary"]:
        assert await bob.next_frame() == content
        assert (await carol.next_event("message")).fields["content"] == content
    assert await bob.drain() == []


async def test_bare_clients_receive_only_messages(join: Join) -> None:
    """No welcome, no room-joined, no user-joined, no presence, no typing, no user-left."""
    client, bob, carol, dave = await join("bare"), await join(), await join(), await join()
    room = await make_room(bob, carol)
    await succeed(bob, "add-user", room=room, users=[client.username])
    await succeed(bob, "add-user", room=room, users=[dave.username])
    await succeed(bob, "typing", room=room)
    await succeed(dave, "leave-room", room=room)
    await carol.drop()
    await bob.next_event("presence")
    await succeed(bob, "send-msg", room=room, content="the only thing")
    assert await client.drain() == ["the only thing"]
    assert client.frames.log[0] == "the only thing"


FAILURES = [
    ('{"action":"create-room"}', "invalid_payload"),
    ('{"action":"create-room","room":""}', "invalid_payload"),
    ('{"action":"add-user","room":"x","users":[]}', "invalid_payload"),
    ('{"action":"send-msg","room":"nowhere","content":""}', "invalid_payload"),
    ('{"action":"send-msg","room":"nowhere","content":"x"}', "room_not_found"),
    ('{"action":"add-users","room":"nowhere","users":["bob"]}', "room_not_found"),
    ('{"action":"create-room","room":"x","users":["nobodyhasthisname"]}', "unknown_user"),
    ('{"action":"fly"}', "unknown_action"),
    ('{"action":""}', "unknown_action"),
    ('{"action":"Send-Msg","room":"x","content":"x"}', "unknown_action"),
    ('{"action":5}', "invalid_payload"),
    ("{}", "invalid_payload"),
    ("[]", "invalid_payload"),
    ("hello", "invalid_payload"),
    ("", "invalid_payload"),
    ('"send-msg"', "invalid_payload"),
    ("null", "invalid_payload"),
    ('{"action":"send-msg","room":"x","content":"x"', "invalid_payload"),
]


@pytest.mark.parametrize("binary", [False, True])
async def test_a_frame_that_fails_gets_an_error_frame(join: Join, binary: bool) -> None:
    """An object with nothing but `error` instead of the echo; in binary where the frame was. The socket stays open."""
    client = await join("bare")
    for text, code in FAILURES:
        await client.send(text.encode() if binary else text)
        reply = await client.next_frame()
        assert isinstance(reply, bytes if binary else str), text
        body = json.loads(reply)
        assert set(body) == {"error"}, (text, body)
        check_error(body["error"], code)
    assert await client.drain() == []


async def test_bytes_that_are_not_text_get_an_error_frame(join: Join) -> None:
    """A binary frame that is not UTF-8 is not JSON."""
    client = await join("bare")
    for frame in (b"\xff\xfe", b"\x00", b"", b'{"action":"send-msg","room":"\xff","content":"x"}', bytes(range(256))):
        check_error(await client.refuse(frame), "invalid_payload")
    assert await client.drain() == []


async def test_only_the_sender_receives_an_error_frame(join: Join) -> None:
    """A user outside the room cannot write to it, and its members receive nothing of the attempt."""
    client, bob = await join("bare"), await join("bare")
    room = await bare_room(bob)
    error = await client.refuse(dump({"action": "send-msg", "room": room, "content": "intruder"}))
    check_error(error, "room_not_found")
    error = await client.refuse(dump({"action": "add-user", "room": room, "users": [client.username]}))
    check_error(error, "room_not_found")
    error = await client.refuse(dump({"action": "create-room", "room": room}))
    check_error(error, "room_exists")
    assert await bob.drain() == []


async def test_other_actions_get_reply_frames(join: Join) -> None:
    """leave-room, the lists, history, find-users and typing get the reply frame of the full form."""
    client, bob = await join("bare"), await join("json")
    room = await bare_room(client, bob)
    await client.echo("send-msg", room=room, content="x")

    async def call(action: str, **payload: object) -> dict[str, object]:
        await client.send(dump({"action": action, "ref": {"n": 1}, **payload}))
        reply = json.loads(await client.next_frame())
        assert (reply.pop("event"), reply.pop("ref")) == ("reply", {"n": 1})
        return dict(reply)

    expected = await bob.call("list-members", room=room)
    assert await call("list-members", room=room) == expected
    assert await call("list-rooms") == await bob.call("list-rooms")
    assert await call("history", room=room) == await bob.call("history", room=room)
    assert await call("find-users", prefix=bob.username) == {"ok": True, "users": [bob.username], "more": False}
    assert await call("typing", room=room) == {"ok": True}
    assert await call("leave-room", room=room) == {"ok": True}
    assert (await bob.next_event("user-left")).fields == {"room": room, "username": client.username}


async def test_binary_reply_frames(join: Join) -> None:
    """A binary frame gets a binary reply, whatever the reply is."""
    client = await join("bare")
    await client.send(b'{"action":"list-rooms","ref":1}')
    reply = await client.next_frame()
    assert isinstance(reply, bytes)
    assert json.loads(reply) == {"event": "reply", "ref": 1, "ok": True, "rooms": []}


@pytest.mark.parametrize("action", ["leave-room", "list-members", "history", "typing"])
async def test_other_actions_that_fail_get_reply_frames(join: Join, action: str) -> None:
    """One of the other actions that fails says so with the code, in one frame, and the socket stays open."""
    client = await join("bare")
    await client.send(dump({"action": action, "room": "nowhere", "ref": 1}))
    reply = json.loads(await client.next_frame())
    check_error(reply["error"], "room_not_found")
    assert await client.drain() == []


async def test_the_conversation_of_the_older_testers(join: Join) -> None:
    """The session that the older server's own documentation shows, word by word."""
    foo, bar = await join("bare"), await join("bare")
    room = fresh_name("room")
    for frame in (
        f'{{"action": "create-room", "room": "{room}"}}',
        f'{{"action": "add-users", "room": "{room}", "users": ["{bar.username}"]}}',
        f'{{"action": "send-msg", "room": "{room}", "content": "hello from foo"}}',
    ):
        await foo.send(frame)
        assert await foo.next_frame() == frame
    assert await bar.next_frame() == "hello from foo"
    frame = f'{{"action": "send-msg", "room": "{room}", "content": "hello from bar"}}'
    await bar.send(frame)
    assert await bar.next_frame() == frame
    assert await foo.next_frame() == "hello from bar"


async def test_fragmented_frames_are_one_message(join: Join) -> None:
    """A message that a client sends in fragments is put together before it is read."""
    client = await join("bare")
    frame = dump({"action": "create-room", "room": fresh_name("room")})
    await client.socket.send([frame[:10], frame[10:20], frame[20:]])
    assert await client.next_frame() == frame


async def test_frames_are_replied_to_in_order(join: Join) -> None:
    """Frames sent without waiting get their replies one by one, in the order they were sent."""
    client = await join("bare")
    room = await bare_room(client)
    frames = [dump({"action": "send-msg", "room": room, "content": str(number)}) for number in range(200)]
    for frame in frames:
        await client.send(frame)
    assert [await client.next_frame() for _ in frames] == frames


async def test_a_websocket_ping_gets_a_pong(join: Join) -> None:
    """A tester's ping gets its pong (RFC 6455)."""
    client = await join("bare")
    await (await client.socket.ping())
    assert await client.drain() == []


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4999])
async def test_a_close_frame_gets_a_close_frame(join: Join, code: int) -> None:
    """Whatever code a tester closes with, the gateway finishes the closing handshake and the name is free."""
    client = await join("bare")
    await client.socket.close(code)
    assert await client.wait_closed() == code
    await join("bare", client.username)


@pytest.mark.parametrize("text", ['"half an emoji \\ud83d"', '"\\ude00 the other half"'])
async def test_half_a_surrogate_pair_gets_an_error_frame(join: Join, text: str) -> None:
    """An unpaired surrogate cannot be stored, and must not break anything."""
    client = await join("bare")
    room = await bare_room(client)
    check_error(await client.refuse(f'{{"action":"send-msg","room":"{room}","content":{text}}}'), "invalid_payload")
    await client.echo("send-msg", room=room, content="fine")


async def test_text_that_is_not_utf8_closes_the_connection(gateway: GatewayProcess) -> None:
    """A text frame must be UTF-8; another one fails the connection with 1007 (RFC 6455, section 8.1)."""
    async with BareClient(gateway.url, fresh_name()) as client:
        await client.socket.send(b"\xff\xff", text=True)
        assert await client.wait_closed() == 1007
