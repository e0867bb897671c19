"""The list of rooms, and what is done with a room."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from harness.browser import HeldConnection, OpenPage
from harness.client import Join, make_room, succeed
from harness.names import fresh_name
from harness.process import GatewayProcess


async def test_the_room_list_updates_by_itself(gateway: GatewayProcess, join: Join, open_page: OpenPage) -> None:
    """Being added brings a room into the list; its last message, who wrote it, and how many are unread follow; the
    liveliest room is first; opening it clears the count.
    """
    client, bob, alice = await open_page(), await join("socketio-websocket"), fresh_name()
    await client.join(gateway.url, alice)
    await expect(client.rooms).to_contain_text("You are not in any room yet.")
    mine = fresh_name("mine")
    await client.create_room(mine)
    await expect(client.room(mine)).to_have_attribute("aria-current", "page")

    room = await make_room(bob)
    await succeed(bob, "add-user", room=room, users=[alice])
    await expect(client.row(room)).to_contain_text(f"{bob.username} added you")
    for text in ("one", "two"):
        await succeed(bob, "send-msg", room=room, content=text)
    await expect(client.row(room)).to_contain_text(f"{bob.username}: two")
    await expect(client.row(room)).to_contain_text("2 unread")
    await expect(client.page).to_have_title(f"(2) {mine}")
    assert await client.rooms.get_by_role("link").all_inner_texts() == [room, mine]
    await client.send("and this is lively again")
    await expect(client.rooms.get_by_role("link").first).to_have_text(mine)

    await client.open_room(room)
    await expect(client.row(room)).not_to_contain_text("unread")
    await expect(client.page).to_have_title(room)
    await expect(client.log.get_by_text("New messages")).to_be_visible()
    await client.send("read, and answered")
    await expect(client.log.get_by_text("New messages")).to_have_count(0)
    await client.page.go_back()
    await expect(client.room(mine)).to_have_attribute("aria-current", "page")


# What a person would see and write into, in the moment in which a dialog has closed.
WATCH_DIALOGS = """() => {
  window.closings = [];
  const look = () => window.closings.push([
    document.querySelector("section h2")?.textContent, document.activeElement.getAttribute("aria-label"),
  ]);
  const close = HTMLDialogElement.prototype.close;
  HTMLDialogElement.prototype.close = function () {
    this.addEventListener("close", look, { capture: true, once: true });
    close.call(this);
  };
}"""


@pytest.mark.parametrize("way", ["named", "for two", "from the members", "open already"])
async def test_creating_a_room_opens_it(gateway: GatewayProcess, join: Join, open_page: OpenPage, way: str) -> None:
    """However long the reply takes: when the dialog has closed the new room is there and has the keyboard. Nothing
    that is typed meanwhile ends up in the room that was open before.
    """
    client, bob, connection = await open_page(), await join(), HeldConnection()
    await connection.carry(client.page)
    await client.join(gateway.url, fresh_name())
    old, new = fresh_name("old"), fresh_name("new") if way == "named" else bob.username
    if way == "open already":
        await client.create_room("", bob.username)
    else:
        await client.create_room(old, bob.username)
    await client.page.evaluate(WATCH_DIALOGS)
    if way == "from the members":
        await client.page.get_by_role("button", name=f"{bob.username}, you").click()
        await client.button(f"Chat with {bob.username}").focus()
    else:
        await client.button("New room").click()
        people = "combobox" if way != "named" else "textbox"
        await client.dialog.get_by_role(people).first.fill(new if way == "named" else bob.username)
        if way != "named":
            await client.dialog.get_by_role("option", name=bob.username).click()
            await client.button("Create").focus()
    connection.hold()
    await client.page.keyboard.press("Enter")
    await client.page.keyboard.type("too soon")
    await expect(client.dialog).to_be_visible()
    await expect(client.page.get_by_label("Message", exact=True)).to_have_value("")
    connection.release()
    await expect(client.dialog).to_have_count(0)
    await client.page.wait_for_function("window.closings.length")  # a dialog is closed a moment before its event comes
    assert await client.page.evaluate("window.closings") == [[new, "Message"]]
    await client.page.keyboard.type("in time")
    await expect(client.box).to_have_value("in time")
    await expect(client.rooms).not_to_contain_text("Draft:")


async def test_a_cancelled_dialog_opens_no_room(gateway: GatewayProcess, open_page: OpenPage) -> None:
    """Escape, while the reply is on its way: the room comes into the list, and the one that is open stays."""
    client, connection, old, new = await open_page(), HeldConnection(), fresh_name("old"), fresh_name("new")
    await connection.carry(client.page)
    await client.join(gateway.url, fresh_name())
    await client.create_room(old)
    await client.button("New room").click()
    await client.dialog.get_by_role("textbox").first.fill(new)
    connection.hold()
    await client.page.keyboard.press("Enter")
    await client.page.keyboard.press("Escape")
    await expect(client.dialog).to_have_count(0)
    await client.box.fill("half a")
    connection.release()
    await client.room(new).wait_for()
    await client.is_in(old)
    await expect(client.box).to_be_focused()
    await expect(client.box).to_have_value("half a")


async def test_the_page_says_why_a_room_cannot_be_created(
    gateway: GatewayProcess, join: Join, open_page: OpenPage
) -> None:
    """The dialog stays open with the gateway's words, and with what was typed."""
    client, bob = await open_page(), await join()
    room = await make_room(bob)
    await client.join(gateway.url, fresh_name())
    await client.button("New room").click()
    await client.dialog.get_by_role("textbox", name="Room name").fill(room)
    await client.button("Create").click()
    await expect(client.dialog.get_by_role("alert")).to_contain_text("already exists")
    await client.dialog.get_by_role("combobox", name="Add people").fill("nobodyatall")
    await client.dialog.get_by_role("textbox", name="Room name").fill(fresh_name("room"))
    await client.button("Create").click()
    await expect(client.dialog.get_by_role("alert")).to_contain_text("nobodyatall")


async def test_leaving_a_room_removes_it_from_the_list(gateway: GatewayProcess, open_page: OpenPage) -> None:
    """The button "Leave room" removes the room from the navigation, and its name is free."""
    client, room = await open_page(), fresh_name("room")
    await client.join(gateway.url, fresh_name())
    for _ in range(2):
        await client.create_room(room)
        await client.button("Leave room").click()
        await expect(client.room(room)).to_have_count(0)
        await expect(client.button("New room")).to_be_focused()
