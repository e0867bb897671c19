"""Every row of the table of actions in docs/protocol.md, on every wire that speaks the full protocol."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from harness.client import GROUP, fail, make_room, members, succeed
from harness.inbox import Event
from harness.names import fresh_name

if TYPE_CHECKING:
    from harness.client import Action, ChatClient, Join


async def test_create_room_replies_with_the_room_and_its_members(client: ChatClient) -> None:
    """The creator is a member of the new room, and the only one where no users were named."""
    room = fresh_name("room")
    assert await client.call("create-room", room=room) == {
        "ok": True,
        "room": room,
        **GROUP,
        "members": members(**{client.username: True}),
        "member_count": 1,
    }
    assert await client.drain() == []


async def test_create_room_takes_an_empty_list_of_users(client: ChatClient) -> None:
    """`users` may be empty in create-room: that is the same as leaving it out."""
    reply = await succeed(client, "create-room", room=fresh_name("room"), users=[])
    assert reply["member_count"] == 1


async def test_create_room_adds_the_users_and_notifies_them(client: ChatClient, join: Join) -> None:
    """Users named in create-room are members at once, and each receives room-joined."""
    bob, carol = await join(), await join()
    room = fresh_name("room")
    everybody = members(**{client.username: True, bob.username: True, carol.username: True})
    assert await client.call("create-room", room=room, users=[carol.username, bob.username]) == {
        "ok": True,
        "room": room,
        **GROUP,
        "members": everybody,
        "member_count": 3,
    }
    for user in (bob, carol):
        event = await user.next_event("room-joined")
        assert event.fields == {"room": room, **GROUP, "members": everybody, "member_count": 3, "by": client.username}
        assert await user.drain() == []
    assert await client.drain() == []


async def test_create_room_ignores_the_caller_and_repeated_names_in_users(client: ChatClient, join: Join) -> None:
    """A name that is repeated counts once, and naming oneself changes nothing."""
    bob = await join()
    room = fresh_name("room")
    names = [client.username, bob.username, bob.username, client.username]
    reply = await succeed(client, "create-room", room=room, users=names)
    assert reply["members"] == members(**{client.username: True, bob.username: True})
    assert reply["member_count"] == 2
    assert [event.name for event in await bob.drain()] == ["room-joined"]
    assert await client.drain() == []


async def test_a_room_name_may_hold_any_visible_text(client: ChatClient) -> None:
    """Spaces, slashes, quotes, emoji and other scripts are fine in the name of a room."""
    for name in ("a b", "a/b", '"', "теа", "🫖", "'; drop table rooms; --", "0", "%s", "../"):
        room = f"{name} {fresh_name('room')}"
        reply = await succeed(client, "create-room", room=room)
        assert reply["room"] == room


async def test_room_names_that_look_alike_are_one_name(client: ChatClient) -> None:
    """Case, accents and spaces inside matter: such names are different rooms."""
    room = fresh_name("room")
    for name in (f"{room}é", f"{room}e", f"{room}É", f"{room} é", f"{room}-é"):
        await succeed(client, "create-room", room=name)


@pytest.mark.parametrize("action", ["add-user", "add-users"])
async def test_add_user_replies_with_who_was_added_and_who_was_a_member_already(
    client: ChatClient, join: Join, action: str
) -> None:
    """`added` and `already` hold the names in the order given, under both spellings of the action."""
    bob, carol, dave = await join(), await join(), await join()
    room = await make_room(client, bob)
    names = [dave.username, bob.username, carol.username, client.username]
    assert await client.call(action, room=room, users=names) == {
        "ok": True,
        "added": [dave.username, carol.username],
        "already": [bob.username, client.username],
    }


async def test_add_user_notifies_the_added_and_the_other_members(client: ChatClient, join: Join) -> None:
    """The added receive room-joined, members receive user-joined, and the caller nothing but the reply."""
    bob, carol, dave = await join(), await join(), await join()
    room = await make_room(client, bob)
    await succeed(client, "add-user", room=room, users=[carol.username])
    event = await carol.next_event("room-joined")
    everybody = members(**{client.username: True, bob.username: True, carol.username: True})
    assert event.fields == {"room": room, **GROUP, "members": everybody, "member_count": 3, "by": client.username}
    joined = await bob.next_event("user-joined")
    assert joined.fields == {"room": room, "username": carol.username, "by": client.username}

    await succeed(carol, "add-user", room=room, users=[dave.username])
    for member in (client, bob):
        joined = await member.next_event("user-joined")
        assert joined.fields == {"room": room, "username": dave.username, "by": carol.username}
    assert [event.name for event in await dave.drain()] == ["room-joined"]
    for other in (client, bob, carol):
        assert await other.drain() == []


async def test_members_receive_one_event_for_each_user_added(client: ChatClient, join: Join) -> None:
    """Two users added by one request are two user-joined events for each other member."""
    bob, carol, dave = await join(), await join(), await join()
    room = await make_room(client, bob)
    await succeed(client, "add-user", room=room, users=[dave.username, carol.username])
    assert [(event.name, event.fields["username"]) for event in await bob.drain()] == [
        ("user-joined", dave.username),
        ("user-joined", carol.username),
    ]
    for added in (carol, dave):
        event = await added.next_event("room-joined")
        assert event.fields["member_count"] == 4


async def test_add_user_counts_a_repeated_name_once(client: ChatClient, join: Join) -> None:
    """A name given twice is added once and reported once."""
    bob = await join()
    room = await make_room(client)
    reply = await succeed(client, "add-user", room=room, users=[bob.username, bob.username])
    assert reply["added"] == [bob.username]
    assert [event.name for event in await bob.drain()] == ["room-joined"]


async def test_adding_members_again_publishes_nothing(client: ChatClient, join: Join) -> None:
    """Adding those who are members already succeeds, and nothing is published."""
    bob = await join()
    room = await make_room(client, bob)
    reply = await succeed(client, "add-user", room=room, users=[bob.username])
    assert reply == {"ok": True, "added": [], "already": [bob.username]}
    assert await bob.drain() == []


async def test_send_msg_is_delivered_to_the_other_members(client: ChatClient, join: Join) -> None:
    """The reply names the message's id and time; the other members get the same, the sender and outsiders nothing."""
    bob, outsider = await join(), await join()
    room = await make_room(client, bob)
    before = time.time() * 1000
    reply = await succeed(client, "send-msg", room=room, content="Hello, world")
    after = time.time() * 1000
    assert set(reply) == {"ok", "id", "ts"}
    assert isinstance(reply["id"], str)
    assert reply["id"]
    assert isinstance(reply["ts"], int)
    assert before - 2 <= reply["ts"] <= after + 2
    event = await bob.next_event("message")
    assert event.fields == {
        "id": reply["id"],
        "room": room,
        "from": client.username,
        "content": "Hello, world",
        "ts": reply["ts"],
    }
    assert await client.drain() == []
    assert await outsider.drain() == []


@pytest.mark.parametrize(
    "content",
    [
        "  spaced \n\t out ",
        "a\u2028\u2029",
        "a\x00",
        "\x7f\x1b[31m",
        "👩‍👩‍👧‍👦 \U0010ffff",
        '{"a": "\\"}',
        "<b>&amp;",
        "\ufeffbom",
    ],
)
async def test_content_arrives_character_for_character(client: ChatClient, join: Join, content: str) -> None:
    """No character of a message is changed, trimmed or escaped on its way, nor in history."""
    bob = await join()
    room = await make_room(client, bob)
    await succeed(client, "send-msg", room=room, content=content)
    assert (await bob.next_event("message")).fields["content"] == content
    assert (await succeed(bob, "history", room=room))["messages"][0]["content"] == content


async def test_send_msg_keeps_the_id_of_the_client(client: ChatClient, join: Join) -> None:
    """An `id` of the client's choice is the message's id in the reply, the event and history."""
    bob = await join()
    room = await make_room(client, bob)
    reply = await succeed(client, "send-msg", room=room, content="x", id="my own / id 🙂")
    assert reply["id"] == "my own / id 🙂"
    assert (await bob.next_event("message")).fields["id"] == reply["id"]
    assert (await succeed(bob, "history", room=room))["messages"][0]["id"] == reply["id"]


async def test_send_msg_with_the_same_id_stores_nothing_again(client: ChatClient, join: Join) -> None:
    """Sending an id again gets the first reply with `duplicate`, whatever the content; nothing is published."""
    bob = await join()
    room = await make_room(client, bob)
    first = await succeed(client, "send-msg", room=room, content="once", id="i1")
    again = await succeed(client, "send-msg", room=room, content="twice", id="i1")
    assert again == {**first, "duplicate": True}
    assert [event.fields["content"] for event in await bob.drain()] == ["once"]
    assert [message["content"] for message in (await succeed(client, "history", room=room))["messages"]] == ["once"]


async def test_a_message_id_is_unique_per_room(client: ChatClient, join: Join) -> None:
    """The same id in two rooms is two messages, each delivered and kept; after that it is a duplicate in both."""
    bob = await join()
    rooms = [await make_room(client, bob), await make_room(client, bob)]
    replies = {}
    for room in rooms:
        replies[room] = await succeed(client, "send-msg", room=room, content=f"in {room}", id="same")
        assert "duplicate" not in replies[room]
        message = (await bob.next_event("message")).fields
        assert (message["id"], message["room"], message["content"]) == ("same", room, f"in {room}")
    for room in rooms:
        again = await succeed(client, "send-msg", room=room, content="again", id="same")
        assert again == {**replies[room], "duplicate": True}
        history = (await succeed(client, "history", room=room))["messages"]
        assert [(message["id"], message["content"]) for message in history] == [("same", f"in {room}")]
    assert await bob.drain() == []


async def test_ids_that_the_gateway_assigns_are_unique(client: ChatClient) -> None:
    """Messages without an id get different ones."""
    room = await make_room(client)
    replies = await client.burst([("send-msg", {"room": room, "content": "same"})] * 20)
    assert len({reply["id"] for reply in replies}) == 20


async def test_leave_room_notifies_the_remaining_members(client: ChatClient, join: Join) -> None:
    """The reply has no fields, the others receive user-left, and the caller is not a member any more."""
    bob, carol = await join(), await join()
    room = await make_room(client, bob, carol)
    assert await client.call("leave-room", room=room) == {"ok": True}
    for member in (bob, carol):
        event = await member.next_event("user-left")
        assert event.fields == {"room": room, "username": client.username}
    await succeed(bob, "send-msg", room=room, content="gone?")
    assert await client.drain() == []
    await fail(client, "send-msg", "room_not_found", room=room, content="x")
    await fail(client, "leave-room", "room_not_found", room=room)
    assert (await succeed(bob, "list-members", room=room))["member_count"] == 2


async def test_a_room_ends_with_its_last_member(client: ChatClient) -> None:
    """When the last member leaves, the room and its log are gone, and the name is free for a new room."""
    room = await make_room(client)
    await succeed(client, "send-msg", room=room, content="old", id="i1")
    await succeed(client, "leave-room", room=room)
    await fail(client, "history", "room_not_found", room=room)
    await succeed(client, "create-room", room=room)
    assert await client.call("history", room=room) == {"ok": True, "messages": [], "more": False}
    assert "duplicate" not in await succeed(client, "send-msg", room=room, content="new", id="i1")


async def test_a_user_who_left_can_be_added_to_a_later_room_of_the_same_name(client: ChatClient, join: Join) -> None:
    """A user who left a room declines that room only, and can be added to a later one of the same name."""
    bob = await join()
    room = await make_room(client, bob)
    await succeed(bob, "leave-room", room=room)
    assert (await succeed(client, "add-user", room=room, users=[bob.username]))["declined"] == [bob.username]
    await succeed(client, "leave-room", room=room)
    await succeed(client, "create-room", room=room, users=[bob.username])
    await bob.next_event("room-joined")
    await succeed(client, "send-msg", room=room, content="welcome back")
    assert (await bob.next_event("message")).fields["content"] == "welcome back"


async def test_list_rooms_lists_the_rooms_of_the_caller(client: ChatClient, join: Join) -> None:
    """The caller's rooms with their members, and no room of others."""
    bob = await join()
    mine, shared = await make_room(client), await make_room(bob, client)
    await make_room(bob)
    reply = await client.call("list-rooms")
    assert set(reply) == {"ok", "rooms"}
    assert sorted(reply["rooms"], key=lambda entry: str(entry["room"])) == sorted(
        [
            {"room": mine, **GROUP, "members": members(**{client.username: True}), "member_count": 1},
            {
                "room": shared,
                **GROUP,
                "members": members(**{client.username: True, bob.username: True}),
                "member_count": 2,
            },
        ],
        key=lambda entry: str(entry["room"]),
    )
    await succeed(client, "leave-room", room=shared)
    assert [entry["room"] for entry in (await client.call("list-rooms"))["rooms"]] == [mine]


async def test_list_rooms_is_empty_at_first(client: ChatClient) -> None:
    """Somebody new is in no room."""
    assert await client.call("list-rooms") == {"ok": True, "rooms": []}


async def test_list_members_replies_in_order_of_name(client: ChatClient, join: Join) -> None:
    """All members, sorted by name, and whether they are online."""
    prefix = fresh_name()
    others = [await join(username=f"{prefix}{letter}") for letter in "cab"]
    room = await make_room(client, *others)
    everybody = members(**{user.username: True for user in (client, *others)})
    assert await client.call("list-members", room=room) == {
        "ok": True,
        "members": everybody,
        "member_count": 4,
        "more": False,
    }


async def test_list_members_pages(client: ChatClient, join: Join) -> None:
    """`after` is the last name of the page before, `limit` the size of a page, `more` whether another follows."""
    others = [await join() for _ in range(6)]
    room = await make_room(client, *others)
    everybody = [entry["username"] for entry in (await succeed(client, "list-members", room=room))["members"]]
    pages = []
    after: dict[str, str] = {}
    while True:
        reply = await succeed(client, "list-members", room=room, limit=3, **after)
        assert reply["member_count"] == 7
        pages.append([entry["username"] for entry in reply["members"]])
        if not reply["more"]:
            break
        after = {"after": pages[-1][-1]}
    assert [len(page) for page in pages] == [3, 3, 1]
    assert [name for page in pages for name in page] == everybody


async def test_more_is_true_only_when_there_are_more_members(client: ChatClient, join: Join) -> None:
    """A page that ends exactly at the last member has no more, and the page after it is empty."""
    bob = await join()
    room = await make_room(client, bob)
    reply = await succeed(client, "list-members", room=room, limit=2)
    assert (len(reply["members"]), reply["more"]) == (2, False)
    reply = await succeed(client, "list-members", room=room, after=reply["members"][-1]["username"])
    assert reply == {"ok": True, "members": [], "member_count": 2, "more": False}


async def test_history_is_oldest_first_with_offsets(client: ChatClient, join: Join) -> None:
    """The messages are the events the members got, each with the offset that its event had."""
    bob = await join()
    room = await make_room(client, bob)
    for content in "abc":
        await succeed(client, "send-msg", room=room, content=content)
    events = [await bob.next_event("message") for _ in range(3)]
    expected = [{**event.fields, "offset": event.offset} for event in events]
    for member in (client, bob):
        assert await member.call("history", room=room) == {"ok": True, "messages": expected, "more": False}


@pytest.mark.parametrize("key", ["offset", "id"])
async def test_history_pages_backwards(client: ChatClient, key: str) -> None:
    """`before`, an offset or an id, ends the page right before that message; `more` says whether older ones remain."""
    room = await make_room(client)
    for number in range(7):
        await succeed(client, "send-msg", room=room, content=str(number), id=f"id {number}")
    pages = []
    before: dict[str, str] = {}
    while True:
        reply = await succeed(client, "history", room=room, limit=3, **before)
        pages.append([message["content"] for message in reply["messages"]])
        if not reply["more"]:
            break
        before = {"before": reply["messages"][0][key]}
    assert pages == [["4", "5", "6"], ["1", "2", "3"], ["0"]]
    oldest = reply["messages"][0][key]
    assert await client.call("history", room=room, before=oldest) == {"ok": True, "messages": [], "more": False}


async def test_history_accepts_the_offset_of_an_event(client: ChatClient, join: Join) -> None:
    """A client may page back from a message it got as an event."""
    bob = await join()
    room = await make_room(bob, client)
    for content in "abc":
        await succeed(bob, "send-msg", room=room, content=content)
    events = [await client.next_event("message") for _ in range(3)]
    reply = await succeed(client, "history", room=room, before=events[2].offset)
    assert [message["content"] for message in reply["messages"]] == ["a", "b"]


async def test_history_contains_only_messages(client: ChatClient, join: Join) -> None:
    """Events of joining and leaving are not messages: they take no place in a page."""
    bob, carol = await join(), await join()
    room = await make_room(client, bob)
    await succeed(client, "send-msg", room=room, content="first")
    await succeed(client, "add-user", room=room, users=[carol.username])
    await succeed(carol, "leave-room", room=room)
    await succeed(client, "send-msg", room=room, content="second")
    reply = await succeed(client, "history", room=room, limit=2)
    assert [message["content"] for message in reply["messages"]] == ["first", "second"]
    assert reply["more"] is False


async def test_a_later_member_reads_the_whole_history(client: ChatClient, join: Join) -> None:
    """A member who is added later may read earlier messages."""
    bob = await join()
    room = await make_room(client)
    await succeed(client, "send-msg", room=room, content="earlier")
    await succeed(client, "add-user", room=room, users=[bob.username])
    assert [message["content"] for message in (await succeed(bob, "history", room=room))["messages"]] == ["earlier"]


async def test_find_users_finds_online_users_by_prefix(client: ChatClient, join: Join) -> None:
    """Sorted names that start with the prefix; `limit` and `more` as elsewhere."""
    prefix = fresh_name("find")
    for letter in "cab":
        await join(username=f"{prefix}{letter}")
    names = [f"{prefix}{letter}" for letter in "abc"]
    assert await client.call("find-users", prefix=prefix) == {"ok": True, "users": names, "more": False}
    assert await client.call("find-users", prefix=prefix, limit=3) == {"ok": True, "users": names, "more": False}
    assert await client.call("find-users", prefix=prefix, limit=2) == {"ok": True, "users": names[:2], "more": True}
    assert await client.call("find-users", prefix=f"{prefix}b") == {"ok": True, "users": names[1:2], "more": False}
    assert await client.call("find-users", prefix=f"{prefix}nobody") == {"ok": True, "users": [], "more": False}


async def test_find_users_omits_users_who_are_away(client: ChatClient, join: Join) -> None:
    """Only online users: neither those who have left nor those whose connection is lost."""
    prefix = fresh_name("find")
    here, lost, left = [await join(username=f"{prefix}{what}") for what in ("here", "lost", "left")]
    await make_room(client, lost, left)
    await lost.drop()
    await left.leave()
    await client.next_event("presence")
    await client.next_event("user-left")
    assert (await succeed(client, "find-users", prefix=prefix))["users"] == [here.username]


async def test_typing_is_delivered_to_the_other_members_and_not_stored(client: ChatClient, join: Join) -> None:
    """The others get typing without an offset; the caller gets the reply; history stays empty."""
    bob = await join()
    room = await make_room(client, bob)
    assert await client.call("typing", room=room) == {"ok": True}
    assert await bob.next_event("typing") == Event("typing", {"room": room, "username": client.username}, None)
    assert await client.drain() == []
    assert (await succeed(bob, "history", room=room))["messages"] == []


async def test_unknown_fields_are_ignored(client: ChatClient, join: Join) -> None:
    """A payload may carry anything besides the fields the action knows, and it goes no further."""
    bob = await join()
    room = fresh_name("room")
    extra = {"ok": False, "event": "x", "sid": 5, "pid": None, "from": "eve", "ts": 0, "offset": "x", "by": [], "": {}}
    reply = await succeed(client, "create-room", room=room, users=[bob.username], **extra)
    assert set(reply) == {"ok", "room", "kind", "history", "members", "member_count"}
    await succeed(client, "send-msg", room=room, content="x", **extra)
    message = await bob.next_event("message")
    assert set(message.fields) == {"id", "room", "from", "content", "ts"}
    assert message.fields["from"] == client.username
    for action in ("list-rooms", "find-users"):
        await succeed(client, action, **extra)
    for action in ("list-members", "history", "typing", "leave-room"):
        await succeed(client, action, room=room, **extra)


async def test_the_actions_of_one_client_are_handled_in_order(client: ChatClient, join: Join) -> None:
    """Actions sent without waiting for replies are handled, and replied to, in the order they were sent."""
    bob = await join()
    room = fresh_name("room")
    actions: list[Action] = [("create-room", {"room": room}), ("add-user", {"room": room, "users": [bob.username]})]
    for number in range(100):
        actions.append(("send-msg", {"room": room, "content": str(number)}))
        actions.append(("fly", {}))  # refused at once, while earlier messages are still on their way to the disk
    actions += [("leave-room", {"room": room}), ("send-msg", {"room": room, "content": "too late"})]
    replies = await client.burst(actions)
    assert [reply["ok"] for reply in replies] == [True] * 2 + [True, False] * 100 + [True, False]
    assert replies[-1]["error"]["code"] == "room_not_found"
    contents = [(await bob.next_event("message")).fields["content"] for _ in range(100)]
    assert contents == [str(number) for number in range(100)]
    assert [event.name for event in await bob.drain()] == ["room-joined", "user-left"]
