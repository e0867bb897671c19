"""People: private chats, who is added to a room and what they see of it, and who is in it."""

from __future__ import annotations

import re

from playwright.async_api import expect

from harness.browser import OpenPage
from harness.client import Join, succeed
from harness.names import fresh_name
from harness.process import GatewayProcess


async def test_picking_one_person_is_enough_to_talk(gateway: GatewayProcess, open_page: OpenPage) -> None:
    """A private chat needs no name, is the same for both, is called by the other one, in the list it is said to be
    private, and nobody can be added.
    """
    left, right, alice, bob = await open_page(), await open_page(), fresh_name(), fresh_name()
    await left.join(gateway.url, alice)
    await right.join(gateway.url, bob)
    await expect(right.connection).to_have_text("Online")
    await left.create_room("", bob)
    await left.send("just the two of us")
    await expect(right.row(alice)).to_contain_text("just the two of us")
    await right.create_room("", alice)
    await right.sees("just the two of us")
    for page, other in ((left, bob), (right, alice)):
        assert await page.rooms.get_by_role("link").all_inner_texts() == [other]
        await expect(page.row(other)).to_contain_text("Private chat.")
        await expect(page.page.get_by_text("Private chat · online")).to_be_visible()
        await expect(page.button("Add people")).to_have_count(0)
    await right.page.reload()
    await right.sees("just the two of us")
    await right.is_in(alice)
    await right.button("Log out").click()
    await expect(left.page.get_by_text(f"Private chat · {bob} has left")).to_be_visible()


async def test_a_room_cannot_look_like_a_private_chat(gateway: GatewayProcess, join: Join, open_page: OpenPage) -> None:
    """Whatever a stranger calls a room with the two in it, they get one of their own, which looks different."""
    client, bob, eve, alice = await open_page(), await join(), await join(), fresh_name()
    await client.join(gateway.url, alice)
    await expect(client.connection).to_have_text("Online")
    trap = " & ".join(sorted((alice, bob.username)))
    for name in (trap, bob.username):
        await succeed(eve, "create-room", room=name, users=[alice, bob.username])
    await expect(client.room(trap)).to_be_visible()
    await expect(client.rooms.get_by_text("Private chat")).to_have_count(0)
    await client.create_room("", bob.username)
    await expect(client.page.get_by_text("Private chat · online")).to_be_visible()
    await client.send("nobody else hears this")
    assert (await bob.next_event("message")).fields["room"] not in {trap, bob.username}
    assert [event.name for event in await eve.drain() if event.name == "message"] == []


async def test_history_can_begin_for_each_member_when_they_join(
    gateway: GatewayProcess, join: Join, open_page: OpenPage
) -> None:
    """It is chosen with the room, said where people are added, and seen by anyone who is added later."""
    client, other, bob = await open_page(), await open_page(), await join()
    room, carol = fresh_name("room"), fresh_name()
    await client.join(gateway.url, fresh_name())
    await other.join(gateway.url, carol)
    await expect(other.connection).to_have_text("Online")
    await client.button("New room").click()
    await client.dialog.get_by_role("textbox", name="Room name").fill(room)
    await client.dialog.get_by_role("radio", name="only messages sent after they join").check()
    await client.button("Create").click()
    await client.is_in(room)
    await client.send("before")
    await expect(client.message("before").locator("time")).to_be_visible()
    await client.button("Add people").click()
    await expect(client.dialog).to_contain_text("They will only see messages sent after they join.")
    await client.page.keyboard.press("Escape")
    await client.add_people(bob.username, carol)
    await other.open_room(room)
    await expect(other.log).to_contain_text("No messages since you joined.")
    await client.send("after")
    await other.sees("after")
    await expect(other.log.get_by_role("article")).to_have_count(1)


async def test_the_page_says_that_a_user_who_left_is_not_added_again(
    gateway: GatewayProcess, join: Join, open_page: OpenPage
) -> None:
    client, bob, carol, room = await open_page(), await join(), await join(), fresh_name("room")
    await client.join(gateway.url, fresh_name())
    await client.create_room(room, bob.username)
    await succeed(bob, "leave-room", room=room)
    await client.add_people(bob.username, carol.username)
    await expect(client.page.get_by_role("alert")).to_contain_text(f"{bob.username} was not added")
    await carol.next_event("room-joined")


async def test_people_who_share_a_room_are_suggested_at_once(
    gateway: GatewayProcess, join: Join, open_page: OpenPage
) -> None:
    """Others are found by two letters, and the box says so; where one is picked, it says what will happen."""
    client, bob, carol = await open_page(), await join("json", fresh_name("7")), await join("json", fresh_name("7"))
    await client.join(gateway.url, fresh_name())
    await client.create_room(fresh_name("room"), bob.username)
    await client.button("New room").click()
    box = client.dialog.get_by_role("combobox", name="Add people")
    hint = client.dialog.get_by_text("Type at least two letters to search beyond your rooms.")
    await box.click()
    await expect(client.dialog.get_by_role("option")).to_have_text([re.compile(bob.username)])
    await box.press_sequentially("7")
    await expect(hint).to_be_visible()
    await expect(client.dialog.get_by_role("option")).to_have_text([re.compile(bob.username)])
    await box.press_sequentially(carol.username[1:])
    await expect(hint).to_have_count(0)
    await expect(client.dialog.get_by_role("option")).to_have_text([re.compile(carol.username)])
    await client.dialog.get_by_role("option").click()
    await expect(client.dialog).to_contain_text(f"A private chat, just between you and {carol.username}.")


async def test_members_can_be_seen(gateway: GatewayProcess, join: Join, open_page: OpenPage) -> None:
    """All members with who is online, as it changes; any other than oneself can be talked to from there."""
    client, bob, alice = await open_page(), await join(), fresh_name()
    eve = await join("json", f"{bob.username}eve")
    await client.join(gateway.url, alice)
    await client.create_room(fresh_name("room"), bob.username, eve.username)
    await client.page.get_by_role("button", name=bob.username).click()
    await expect(client.dialog).to_contain_text("3 members, 3 online")
    await eve.drop()
    row = client.dialog.get_by_role("listitem").filter(has_text=eve.username)
    await expect(row).to_contain_text("offline")
    await expect(client.dialog).to_contain_text("3 members, 2 online")
    await expect(client.dialog.get_by_role("listitem").filter(has_text=f"{alice} (you)")).to_be_visible()
    await expect(client.button(f"Chat with {alice}")).to_have_count(0)
    await client.button(f"Chat with {bob.username}").click()
    await client.is_in(bob.username)


async def test_the_page_counts_all_members_of_a_room(gateway: GatewayProcess, join: Join, open_page: OpenPage) -> None:
    """Of a room with more people than the gateway names at once, the page knows too who is online, as that changes; and
    they are not suggested to be added.
    """
    client = await open_page()
    await client.join(gateway.url, fresh_name("a"))
    room = fresh_name("room")
    await client.create_room(room)
    others = [await join("json", fresh_name("zz")) for _ in range(12)]
    await client.add_people(others[0].username)
    await succeed(others[0], "add-user", room=room, users=[other.username for other in others])
    await client.page.reload()
    await expect(client.page.get_by_role("button", name="8 more, you · 13 online")).to_be_visible()
    await others[11].drop()
    await client.page.get_by_role("button", name="8 more, you · 12 online").click()
    people = client.dialog.get_by_role("list", name="Members").get_by_role("listitem")
    await expect(people).to_have_count(13)
    await expect(people.filter(has_text=others[11].username)).to_contain_text("offline")
    await client.page.keyboard.press("Escape")
    await client.button("Add people").click()
    await client.dialog.get_by_role("combobox", name="Add people").fill("zz")
    stranger = await join("json", fresh_name("zz"))
    await client.dialog.get_by_role("combobox", name="Add people").fill(stranger.username[:-1])
    await expect(client.dialog.get_by_role("option").filter(has_text=stranger.username)).to_be_visible()
    for other in others:
        await expect(client.dialog.get_by_role("option", name=other.username, exact=True)).to_have_count(0)


async def test_all_members_of_a_large_room_can_be_seen(
    gateway: GatewayProcess, join: Join, open_page: OpenPage
) -> None:
    """The list is fetched a hundred at a time, as it is scrolled."""
    client, alice = await open_page(), fresh_name("a")
    await client.join(gateway.url, alice)
    room = fresh_name("room")
    await client.create_room(room)
    others = [await join("json", fresh_name("z")) for _ in range(101)]
    names = sorted(other.username for other in others)
    creator = others[0]
    await client.add_people(creator.username)
    for some in (names[:50], names[50:]):
        await succeed(creator, "add-user", room=room, users=some)
    await client.page.reload()
    people = client.dialog.get_by_role("list", name="Members").get_by_role("listitem")
    await client.page.get_by_role("button", name="97 more, you").click()
    await expect(people).to_have_count(101)  # with the button
    await people.nth(99).scroll_into_view_if_needed()
    await expect(people.last).to_contain_text(names[-1])
    await expect(people).to_have_count(102)
    await client.page.evaluate("document.activeElement.blur()")
    await client.page.keyboard.press("Escape")  # closes the dialog, and not the room under it
    await expect(client.dialog).to_have_count(0)
    await client.is_in(room)
