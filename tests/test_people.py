"""What one user can do to another: add, be added, talk in private, on every wire that speaks the full protocol."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from harness.client import fail, make_room, members, succeed
from harness.names import fresh_name

if TYPE_CHECKING:
    from harness.client import ChatClient, Join
    from harness.process import StartGateway


async def test_open_direct_is_the_same_room_for_both(client: ChatClient, join: Join) -> None:
    """The reply is the room as the caller sees it; the other receives room-joined once, with the caller's name."""
    bob = await join()
    both = members(**{client.username: True, bob.username: True})
    reply = await succeed(client, "open-direct", user=bob.username)
    room = reply["room"]
    shape = {"room": room, "kind": "direct", "history": "all", "members": both, "member_count": 2}
    assert reply == {"ok": True, **shape, "user": bob.username}
    event = await bob.next_event("room-joined")
    assert event.fields == {**shape, "user": client.username, "by": client.username}
    assert await succeed(bob, "open-direct", user=client.username) == {"ok": True, **shape, "user": client.username}
    assert await succeed(client, "open-direct", user=bob.username) == reply
    assert [event.name for event in await bob.drain()] == []
    assert await client.drain() == []
    assert (await succeed(client, "list-rooms"))["rooms"] == [{**shape, "user": bob.username}]
    await succeed(bob, "send-msg", room=room, content="psst")
    assert (await client.next_event("message")).fields["content"] == "psst"


async def test_a_direct_room_is_recovered_with_its_session(client: ChatClient, join: Join) -> None:
    """welcome shows its kind and the other's name."""
    bob = await join("json")
    room = (await succeed(client, "open-direct", user=bob.username))["room"]
    await bob.next_event("room-joined")
    await bob.drop()
    await client.next_event("presence")
    back = await join(username=bob.username, query={"pid": bob.pid, "offset": bob.offset})
    (entry,) = back.welcome.fields["rooms"]
    assert (entry["room"], entry["kind"], entry["user"]) == (room, "direct", client.username)


async def test_two_users_who_open_at_once_get_one_direct_room(join: Join) -> None:
    """Over different wires, round after round: one room."""
    for _ in range(10):
        alice, bob = await join("json"), await join("socketio-websocket")
        calls = [("open-direct", bob.username, alice), ("open-direct", alice.username, bob)] * 3
        replies = await asyncio.gather(*(each.call(action, user=user) for action, user, each in calls))
        assert len({reply["room"] for reply in replies}) == 1
        assert replies[0]["member_count"] == 2


async def test_a_stranger_has_no_access_to_a_direct_room(client: ChatClient, join: Join) -> None:
    """Nobody is added to it, no client makes a room of its name or one that looks like one, and it is not there for
    anybody else.
    """
    bob, eve = await join(), await join()
    room = (await succeed(client, "open-direct", user=bob.username))["room"]
    assert room.startswith("@")
    for member in (client, bob):
        await fail(member, "add-user", "forbidden", room=room, users=[eve.username])
        await fail(member, "add-user", "forbidden", room=room, users=[bob.username])
    for action, more in (("history", {}), ("send-msg", {"content": "x"}), ("list-members", {}), ("leave-room", {})):
        await fail(eve, action, "room_not_found", room=room, **more)
    await fail(eve, "add-user", "room_not_found", room=room, users=[eve.username])
    for name in (room, "@", f"@{bob.username}"):
        error = await fail(eve, "create-room", "invalid_payload", room=name, users=[client.username, bob.username])
        assert set(error["fields"]) == {"room"}
    assert (await succeed(eve, "list-rooms"))["rooms"] == []


async def test_open_direct_needs_another_user_who_exists(client: ChatClient) -> None:
    """A user who is not here, who cannot be, or who is oneself."""
    nobody = fresh_name()
    error = await fail(client, "open-direct", "unknown_user", user=nobody)
    assert error["fields"] == {"users": [nobody]}
    for user in (client.username, "Bob", "", 5, None, ["bob"]):
        error = await fail(client, "open-direct", "invalid_payload", user=user)
        assert set(error["fields"]) == {"user"}
    await fail(client, "open-direct", "invalid_payload")


@pytest.mark.parametrize("goes", ["leave", "expire"])
async def test_a_later_holder_of_a_name_reads_nothing_of_the_former_holder(
    start_gateway: StartGateway, join: Join, goes: str
) -> None:
    """Whether the former holder logged out or its session expired."""
    own = await start_gateway(recovery_window=1)
    alice, bob = await join(to=own), await join(to=own)
    room = (await succeed(alice, "open-direct", user=bob.username))["room"]
    await succeed(alice, "send-msg", room=room, content="secret")
    await (bob.leave() if goes == "leave" else bob.drop())
    await alice.next_event("user-left")
    query = {"pid": bob.pid, "offset": bob.offset}
    later = await join(username=bob.username, to=own, query=query)
    assert later.welcome.fields["rooms"] == []
    opened = await succeed(later, "open-direct", user=alice.username)
    assert opened["room"] != room
    assert (await succeed(later, "history", room=opened["room"]))["messages"] == []
    await fail(later, "history", "room_not_found", room=room)
    await fail(alice, "add-user", "forbidden", room=room, users=[bob.username])
    assert "secret" not in str(later.events.log)


async def test_a_user_who_left_is_not_added_again(client: ChatClient, join: Join) -> None:
    """`declined` names who left the room within the hour; they receive nothing, no matter who adds them."""
    bob, carol = await join(), await join()
    room = await make_room(client, bob, carol)
    await succeed(bob, "leave-room", room=room)
    for member in (client, carol):
        reply = await member.call("add-user", room=room, users=[bob.username, carol.username])
        assert reply == {"ok": True, "added": [], "already": [carol.username], "declined": [bob.username]}
    assert await bob.drain() == []
    direct = (await succeed(client, "open-direct", user=bob.username))["room"]
    await bob.next_event("room-joined")
    await succeed(bob, "leave-room", room=direct)
    reply = await succeed(client, "open-direct", user=bob.username)
    assert (reply["declined"], reply["room"], reply["member_count"]) == ([bob.username], direct, 1)
    assert await bob.drain() == []


async def test_invitations_do_not_use_up_a_users_own_rooms(start_gateway: StartGateway, join: Join, wire: str) -> None:
    """However many rooms others add a user to, beyond --max-rooms it is refused to them, and the user makes rooms."""
    own = await start_gateway(max_rooms=3)
    victim, eve = await join(wire, to=own), await join(to=own)
    for number in range(3):
        await succeed(eve, "create-room", room=f"e{number}", users=[victim.username])
        await succeed(victim, "create-room", room=f"v{number}")
    mallory = await join(to=own)
    await succeed(mallory, "create-room", room="m")
    for action, payload in (
        ("add-user", {"room": "m", "users": [victim.username]}),
        ("create-room", {"room": "m2", "users": [victim.username]}),
        ("open-direct", {"user": victim.username}),
    ):
        error = await fail(mallory, action, "limit_reached", **payload)
        assert error["fields"] == {"users": [victim.username]}
    await fail(victim, "create-room", "limit_reached", room="v3")
    await succeed(victim, "leave-room", room="e0")
    await succeed(mallory, "add-user", room="m", users=[victim.username])


async def test_adds_are_limited_over_time(start_gateway: StartGateway, join: Join, wire: str) -> None:
    """--add-limit counts the users that one user adds, in whatever way and on whatever connections; it says when to try
    again, and then it works.
    """
    own = await start_gateway(add_limit=30)
    names = [(await join(to=own)).username for _ in range(10)]
    client, bob = await join(wire, "alice", to=own), await join(to=own)
    await succeed(client, "create-room", room="a", users=names)
    await succeed(client, "add-user", room="a", users=names)
    await succeed(client, "create-room", room="b", users=names[:9])
    await succeed(client, "open-direct", user=names[0])
    for action, payload in (
        ("create-room", {"room": "c", "users": names[:1]}),
        ("add-user", {"room": "a", "users": names[:1]}),
        ("open-direct", {"user": names[1]}),
    ):
        error = await fail(client, action, "rate_limited", **payload)
        assert 0 < error["retry_after"] <= 2
    await succeed(client, "create-room", room="of nobody else")
    await succeed(bob, "create-room", room="bobs", users=names)
    await client.leave()

    again = await join(wire, "alice", to=own)
    error = await fail(again, "create-room", "rate_limited", room="c", users=names[:1])
    await asyncio.sleep(error["retry_after"])  # what it has promised
    await succeed(again, "create-room", room="c", users=names[:1])


async def test_history_can_begin_where_a_member_joined(client: ChatClient, join: Join) -> None:
    """A room created with `history: "joined"` says so in its shape, and what came before one joined is as if it did not
    exist: no page has it, and no `before` finds it.
    """
    bob, carol = await join(), await join()
    room = fresh_name("room")
    reply = await succeed(client, "create-room", room=room, users=[bob.username], history="joined")
    assert reply["history"] == "joined"
    assert (await bob.next_event("room-joined")).fields["history"] == "joined"
    ids = [(await succeed(client, "send-msg", room=room, content=str(number)))["id"] for number in range(3)]
    early = (await succeed(bob, "history", room=room))["messages"]
    assert [message["content"] for message in early] == ["0", "1", "2"]
    await succeed(client, "add-user", room=room, users=[carol.username])
    await succeed(client, "send-msg", room=room, content="3", id="same")
    await succeed(carol, "send-msg", room=room, content="4", id=ids[2])
    page = await succeed(carol, "history", room=room)
    assert ([message["content"] for message in page["messages"]], page["more"]) == (["3", "4"], False)
    assert await succeed(carol, "history", room=room, limit=1, before=ids[2]) == {
        **page,
        "messages": page["messages"][:1],
    }
    nothing = await fail(carol, "history", "invalid_payload", room=room, before=fresh_name("id"))
    for name in ids[:2]:
        error = await fail(carol, "history", "invalid_payload", room=room, before=name)
        assert error["message"].replace(name, "") == nothing["message"].replace(nothing["message"].split("'")[1], "")
    for message in early:
        page = await succeed(carol, "history", room=room, before=message["offset"])
        assert page == {"ok": True, "messages": [], "more": False}
    assert len((await succeed(bob, "history", room=room))["messages"]) == 5
    for value in ("none", "ALL", 5, None, []):
        error = await fail(client, "create-room", "invalid_payload", room=fresh_name("room"), history=value)
        assert set(error["fields"]) == {"history"}


async def test_a_room_of_others_looks_like_no_room(client: ChatClient, join: Join) -> None:
    """The same code and the same words, but for the name."""
    bob = await join()
    theirs, nowhere = await make_room(bob), fresh_name("room")
    for action, more in (
        ("send-msg", {"content": "x"}),
        ("add-user", {"users": [client.username]}),
        ("leave-room", {}),
        ("list-members", {}),
        ("history", {}),
        ("history", {"before": "x"}),
        ("typing", {}),
    ):
        errors = [await fail(client, action, "room_not_found", room=room, **more) for room in (theirs, nowhere)]
        assert errors[0]["message"].replace(theirs, nowhere) == errors[1]["message"]


async def found(client: ChatClient, prefix: str | None = None, limit: int = 100) -> list[str]:
    """The users that one finds with a prefix, or without any."""
    reply = await succeed(client, "find-users", limit=limit, **({} if prefix is None else {"prefix": prefix}))
    assert set(reply) == {"ok", "users", "more"}
    return list(reply["users"])


async def test_strangers_are_found_by_two_letters(start_gateway: StartGateway, join: Join, wire: str) -> None:
    """One letter finds those who share a room with the caller; nobody can list all users without knowing names."""
    own = await start_gateway()
    client, friend, away, stranger = [
        await join(where, name, to=own)
        for where, name in ((wire, "xalice"), ("json", "xbob"), ("json", "xcarol"), ("json", "xeve"))
    ]
    await make_room(client, friend, away)
    await make_room(away, client, stranger)
    await succeed(stranger, "leave-room", room=(await succeed(stranger, "list-rooms"))["rooms"][0]["room"])
    await away.drop()
    await client.next_event("presence")
    for prefix in (None, "", "x"):
        assert await found(client, prefix) == ["xalice", "xbob"]
        assert await found(stranger, prefix) == ["xeve"]
    assert await found(client, "y") == []
    assert await found(client, limit=1) == ["xalice"]
    assert (await succeed(client, "find-users", limit=1))["more"] is True
    assert await found(client, "xe") == ["xeve"]
    assert await found(client, "xa") == ["xalice"]


@pytest.mark.parametrize(("whom", "expected"), [("all", ["alice", "bob", "eve"]), ("none", ["alice", "bob"])])
async def test_list_users_decides_who_is_found(
    start_gateway: StartGateway, join: Join, whom: str, expected: list[str]
) -> None:
    """--list-users all lists everybody, and none nobody but those one shares a room with, whatever one types."""
    own = await start_gateway(list_users=whom)
    alice, bob, eve = [await join(username=name, to=own) for name in ("alice", "bob", "eve")]
    await make_room(alice, bob)
    assert await found(alice) == expected
    assert await found(alice, "ev") == ([eve.username] if whom == "all" else [])
    assert await found(alice, "bo") == ["bob"]
