"""Messages: written, sent, shown, and read again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from playwright.async_api import Locator, expect

from harness.browser import OpenPage
from harness.client import Join, make_room, succeed
from harness.names import fresh_name
from harness.process import GatewayProcess, StartGateway


async def test_all_kinds_of_clients_share_one_conversation(
    gateway: GatewayProcess, join: Join, open_page: OpenPage
) -> None:
    """Two browsers, the stock client in Node and plain WebSocket testers read each other in one room."""
    names = [fresh_name() for _ in range(5)]
    alice, bob, node_name, json_name, bare_name = names
    node, tester = await join("socketio-polling", node_name), await join("json", json_name)
    bare = await join("bare", bare_name)
    left, right = await open_page(), await open_page(width=320)
    await left.join(gateway.url, alice)
    await right.join(gateway.url, bob)
    await expect(right.connection).to_have_text("Online")

    room = fresh_name("room")
    await left.create_room(room, bob, node_name)
    await left.add_people(json_name)
    await succeed(tester, "add-user", room=room, users=[bare_name])
    await right.open_room(room)

    await left.send("from a browser")
    await succeed(node, "send-msg", room=room, content="from Node")
    await right.sees("from Node")
    await succeed(tester, "send-msg", room=room, content="from a tester")
    await bare.echo("send-msg", room=room, content="from the bare wire")
    await left.sees("from the bare wire")
    await right.send("from the other browser")

    everything = [
        "from a browser", "from Node", "from a tester", "from the bare wire", "from the other browser",
    ]  # fmt: skip
    for page in (left, right):
        for text in everything:
            await page.sees(text)
    for client, own in ((node, "from Node"), (tester, "from a tester")):
        received = [(await client.next_event("message")).fields["content"] for _ in range(4)]
        assert received == [text for text in everything if text != own]
    assert [await bare.next_frame() for _ in range(4)] == [text for text in everything if text != "from the bare wire"]
    history = (await succeed(tester, "history", room=room))["messages"]
    assert [message["from"] for message in history] == [alice, node_name, json_name, bare_name, bob]


async def test_messages_are_shown_as_written(gateway: GatewayProcess, join: Join, open_page: OpenPage) -> None:
    """One's own are on the right, others' on the left with their name and the time. Lines are kept, right-to-left text
    starts at the right, links lead away safely, what looks like HTML is text, and long words do not widen the page.
    """
    client, bob = await open_page(width=320), await join()
    await client.join(gateway.url, fresh_name())
    room = fresh_name("room")
    await client.create_room(room, bob.username)
    await client.box.fill("mine")
    await client.box.press("Shift+Enter")
    await client.page.keyboard.type("goes on")
    await client.box.press("Enter")
    assert (await bob.next_event("message")).fields["content"] == "mine\ngoes on"
    for text in ("theirs", "x" * 2000, "שלום עולם", "(see https://a.example/b?c.)", "<img src=x onerror=alert(1)>"):
        await succeed(bob, "send-msg", room=room, content=text)
    await client.sees("<img src=x onerror=alert(1)>")
    assert not await client.is_wider_than_the_screen()

    mine, theirs = client.log.get_by_text("mine"), client.log.get_by_text("theirs", exact=True)
    assert (await middle(mine))[0] > 160 > (await middle(theirs))[0]
    assert await mine.inner_text() == "mine\ngoes on"
    await expect(client.message("theirs")).to_contain_text(bob.username)
    await expect(client.message("<img src=x onerror=alert(1)>").locator("time")).to_be_visible()
    assert await client.log.get_by_text("שלום עולם").evaluate("element => getComputedStyle(element).direction") == "rtl"
    link = client.log.get_by_role("link")
    assert {name: await link.get_attribute(name) for name in ("href", "target", "rel")} == {
        "href": "https://a.example/b?c",
        "target": "_blank",
        "rel": "noopener noreferrer nofollow",
    }


async def test_days_are_separated_by_their_dates(gateway: GatewayProcess, join: Join, open_page: OpenPage) -> None:
    """Messages stand under the day they were sent on, relative to the day on which they are read."""
    client, bob = await open_page(), await join()
    room = await make_room(bob)
    await succeed(bob, "send-msg", room=room, content="said then")
    await client.page.clock.set_fixed_time(datetime.now(UTC) + timedelta(days=1))
    alice = fresh_name()
    await client.join(gateway.url, alice)
    await expect(client.connection).to_have_text("Online")
    await succeed(bob, "add-user", room=room, users=[alice])
    await client.open_room(room)
    await client.sees("said then")
    await expect(client.log).to_contain_text("Yesterday")


async def test_history_is_loaded_when_the_reader_scrolls_up(
    gateway: GatewayProcess, join: Join, open_page: OpenPage
) -> None:
    """Older pages are put in above without moving what is read; what arrives meanwhile does not move it either, and
    is counted on a button that leads to it. Coming back to the room, the reader is where they were.
    """
    client, bob, alice = await open_page(), await join(), fresh_name()
    room, other = await make_room(bob), fresh_name("other")
    for number in range(120):
        await succeed(bob, "send-msg", room=room, content=f"message {number}")
    await client.join(gateway.url, alice)
    await client.create_room(other)
    await succeed(bob, "add-user", room=room, users=[alice])
    await client.open_room(room)
    await client.sees("message 119")
    await expect(client.log.get_by_role("article")).to_have_count(50)
    await expect(client.message("message 119")).to_be_in_viewport()

    first = client.message("message 82")
    await client.log.evaluate("log => log.scrollTop = 300")
    await expect(client.log.get_by_role("article")).to_have_count(100)
    await expect(first).to_be_in_viewport()
    before = await middle(first)
    await succeed(bob, "send-msg", room=room, content="just now")
    await expect(client.button("1 new")).to_be_visible()
    assert await middle(first) == before
    await expect(client.row(room)).to_contain_text("1 unread")

    await client.open_room(other)
    await client.open_room(room)
    await expect(first).to_be_in_viewport()
    assert await middle(first) == pytest.approx(before, abs=2)

    await client.log.evaluate("log => log.scrollTop = 0")
    await client.sees("message 0")
    await expect(client.button("Load earlier messages")).to_have_count(0)
    await client.button("Latest").click()
    await expect(client.message("just now")).to_be_in_viewport()


async def test_the_log_stays_at_the_end_for_a_reader_who_is_there(
    gateway: GatewayProcess, join: Join, open_page: OpenPage
) -> None:
    """However much comes in at once."""
    client, bob = await open_page(), await join()
    await client.join(gateway.url, fresh_name())
    room = fresh_name("room")
    await client.create_room(room, bob.username)
    for burst in range(2):
        await bob.burst([("send-msg", {"room": room, "content": f"{burst} {number}"}) for number in range(80)])
        await expect(client.message(f"{burst} 79")).to_be_in_viewport()
    await expect(client.button("Latest")).to_have_count(0)
    await expect(client.row(room)).not_to_contain_text("unread")


async def middle(locator: Locator) -> tuple[float, float]:
    box = await locator.bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


async def test_each_room_has_its_own_draft(gateway: GatewayProcess, open_page: OpenPage) -> None:
    """What was typed and not sent is kept in its room, and the list shows it."""
    client, one, other = await open_page(), fresh_name("one"), fresh_name("other")
    await client.join(gateway.url, fresh_name())
    await client.create_room(one)
    await client.box.fill("half a thought")
    await client.create_room(other)
    await expect(client.box).to_have_value("")
    await expect(client.row(one)).to_contain_text("Draft: half a thought")
    await client.open_room(one)
    await expect(client.box).to_have_value("half a thought")


async def test_blank_messages_are_not_sent(gateway: GatewayProcess, open_page: OpenPage) -> None:
    """Spaces, fillers and formatting alone cannot be sent, by key or by button."""
    client = await open_page()
    await client.join(gateway.url, fresh_name())
    await client.create_room(fresh_name("room"))
    for text in (" ", "\u200b\u202e", "\u3164", "\u2800"):
        await client.box.fill(text)
        await client.page.keyboard.press("Enter")
        await expect(client.button("Send")).to_be_disabled()
        await expect(client.box).to_have_value(text)
    await client.send("\u200bvisible")
    await client.sees("\u200bvisible")
    await expect(client.log.get_by_role("article")).to_have_count(1)


async def test_the_page_shows_who_is_typing(gateway: GatewayProcess, join: Join, open_page: OpenPage) -> None:
    """Others are told that we type, from time to time; we see that they type until their message arrives."""
    client, bob = await open_page(), await join("socketio-polling")
    await client.join(gateway.url, fresh_name())
    room = fresh_name("room")
    await client.create_room(room, bob.username)
    await bob.next_event("room-joined")
    await client.box.press_sequentially("something long")
    await bob.next_event("typing")
    assert [event.name for event in await bob.drain()] == []
    await succeed(bob, "typing", room=room)
    await expect(client.page.get_by_text(f"{bob.username} is typing")).to_be_visible()
    await succeed(bob, "send-msg", room=room, content="done")
    await expect(client.page.get_by_text(f"{bob.username} is typing")).to_have_count(0)


async def test_a_refused_message_can_be_sent_again(
    start_gateway: StartGateway, join: Join, open_page: OpenPage
) -> None:
    """While the disk is full a message fails with the gateway's words, also after a reload; "Retry" then sends it."""
    own = await start_gateway(on_disk=True)
    bob = await join("json", to=own)
    client = await open_page()
    await client.join(own.url, "alice")
    await client.create_room("tea", bob.username)
    own.limit_file_size(0)
    await client.send("hello?")
    await expect(client.message("hello?")).to_contain_text("Not sent: ")
    own.limit_file_size(-1)
    await client.page.reload()
    await client.message("hello?").get_by_role("button", name="Retry").click()
    await expect(client.message("hello?").locator("time")).to_be_visible()
    assert (await bob.next_event("message")).fields["content"] == "hello?"
    own.limit_file_size(0)
    await client.send("and this?")
    await client.message("and this?").get_by_role("button", name="Discard").click()
    await expect(client.message("and this?")).to_have_count(0)
    own.limit_file_size(-1)
