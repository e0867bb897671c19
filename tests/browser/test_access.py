"""The page for everybody: by keyboard, with assistive tools, on small screens, in the dark, without motion."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from harness.browser import OpenPage, WebClient
from harness.client import Join, make_room, succeed
from harness.names import fresh_name
from harness.process import GatewayProcess, StartGateway, stable_port


@pytest.fixture(params=[(320, "dark"), (1440, "light")], ids=["narrow-dark", "wide-light"])
async def client(request: pytest.FixtureRequest, open_page: OpenPage) -> WebClient:
    """A user of the page; narrow or wide, dark or light, and without motion."""
    width, scheme = request.param
    return await open_page(width=width, color_scheme=scheme, reduced_motion="reduce")


async def look_at(client: WebClient) -> None:
    """axe finds no violation, the page is not wider than the screen, and nothing moves."""
    await client.check_accessibility()
    assert not await client.is_wider_than_the_screen()
    durations = "document.getAnimations().map((animation) => animation.effect.getComputedTiming().activeDuration)"
    assert [time for time in await client.page.evaluate(durations) if time is None or time > 1] == []


async def test_the_page_has_no_accessibility_violations(gateway: GatewayProcess, join: Join, client: WebClient) -> None:
    """In each of its states, the longest names and words included."""
    bob, room = await join(), fresh_name().ljust(64, "W")
    await client.page.goto(gateway.url)
    await look_at(client)
    await client.join(gateway.url, bob.username)
    await expect(client.page.get_by_role("alert")).to_contain_text("taken")
    await look_at(client)
    await client.join(gateway.url, fresh_name())
    await expect(client.rooms).to_contain_text("not in any room yet")
    await look_at(client)
    await client.button("New room").click()
    await client.dialog.get_by_role("combobox", name="Add people").fill(bob.username)
    await client.dialog.get_by_role("option", name=bob.username, exact=True).wait_for()
    await look_at(client)
    await client.page.keyboard.press("Escape")  # the suggestions
    await client.page.keyboard.press("Escape")
    await client.create_room(room, bob.username)
    await look_at(client)
    await succeed(bob, "send-msg", room=room, content=f"{'W' * 500} https://a.example/{'W' * 200}")
    await client.send("hello")
    await succeed(bob, "typing", room=room)
    await client.page.get_by_text("is typing").wait_for()
    await look_at(client)
    await client.page.get_by_role("button", name=f"{bob.username}, you").click()
    await look_at(client)
    await client.page.keyboard.press("Escape")
    await client.page.keyboard.press("Escape")
    await expect(client.row(room)).to_contain_text("hello")
    await look_at(client)


async def test_error_states_have_no_accessibility_violations(start_gateway: StartGateway, client: WebClient) -> None:
    """When a message is refused, without a connection, and when the session goes on in another tab."""
    own = await start_gateway(on_disk=True, port=stable_port())
    await client.join(own.url, "alice")
    await client.create_room("tea")
    own.limit_file_size(0)
    await client.send("no place for this")
    await expect(client.message("no place for this")).to_contain_text("Not sent")
    await look_at(client)
    own.limit_file_size(-1)
    await own.kill9()
    await expect(client.connection).to_contain_text("Reconnecting")
    await client.send("anybody?")
    await look_at(client)
    await own.restart()
    await expect(client.connection).to_have_text("Online")
    async with client.page.expect_popup():
        await client.page.evaluate("void window.open(location.href)")
    await expect(client.connection).to_have_text("Taken over elsewhere")
    await look_at(client)


async def test_everything_works_with_the_keyboard(gateway: GatewayProcess, join: Join, open_page: OpenPage) -> None:
    """From the login to a message without a mouse; Escape closes what is innermost, and the focus goes back."""
    client, bob = await open_page(), await join()
    keyboard = client.page.keyboard
    await client.page.goto(gateway.url)
    await keyboard.type(fresh_name())
    await keyboard.press("Enter")
    await expect(client.button("New room")).to_be_focused()
    await keyboard.press("Enter")
    await expect(client.dialog.get_by_role("textbox", name="Room name")).to_be_focused()
    await keyboard.press("Escape")
    await expect(client.dialog).to_have_count(0)
    await expect(client.button("New room")).to_be_focused()

    await keyboard.press("Enter")
    room = fresh_name("room")
    await keyboard.type(room)
    await keyboard.press("Tab")
    await keyboard.type(bob.username)
    await client.dialog.get_by_role("option", name=bob.username, exact=True).wait_for()
    await keyboard.press("ArrowDown")
    await keyboard.press("Enter")
    await keyboard.press("Enter")
    await expect(client.box).to_be_focused()
    await keyboard.type("hello")
    await keyboard.press("Enter")
    assert (await bob.next_event("message")).fields["content"] == "hello"

    await keyboard.press("Escape")
    await expect(client.room(room)).to_be_focused()
    await expect(client.box).to_have_count(0)
    outline = "element => getComputedStyle(element, '::after').outlineStyle"
    assert await client.room(room).evaluate(outline) == "solid"
    await keyboard.press("Enter")
    await expect(client.box).to_be_focused()
    await client.button("Add people").focus()
    await keyboard.press("Enter")
    await expect(client.dialog.get_by_role("combobox", name="Add people")).to_be_focused()
    await keyboard.press("Escape")
    await expect(client.button("Add people")).to_be_focused()


async def test_on_a_small_screen_the_list_and_the_room_alternate(
    gateway: GatewayProcess, join: Join, open_page: OpenPage
) -> None:
    """One at a time, with a button and the browser's "back" to return; a touch screen gets no keyboard unasked."""
    client, bob, alice = (
        await open_page(width=320, height=568, has_touch=True, is_mobile=True),
        await join(),
        fresh_name(),
    )
    await client.join(gateway.url, alice)
    await expect(client.connection).to_have_text("Online")
    room = await make_room(bob)
    await succeed(bob, "add-user", room=room, users=[alice])
    for leave in (client.button("Back to rooms").click, client.page.go_back):
        await client.open_room(room)
        await expect(client.box).to_be_visible()
        await expect(client.box).not_to_be_focused()
        await expect(client.rooms).to_be_hidden()
        await expect(client.connection).to_have_text("Online")
        await leave()
        await expect(client.rooms).to_be_visible()
        await expect(client.box).to_have_count(0)


async def test_the_message_box_grows_to_a_few_lines(gateway: GatewayProcess, open_page: OpenPage) -> None:
    """With what is typed, and no further than leaves room for the messages."""
    client = await open_page(width=320, height=568)
    await client.join(gateway.url, fresh_name())
    await client.create_room(fresh_name("room"))

    async def height(lines: int) -> float:
        await client.box.fill("\n".join(["line"] * lines))
        box = await client.box.bounding_box()
        assert box is not None
        return box["height"]

    one, three, many = await height(1), await height(3), await height(40)
    assert one < three < many < 568 / 2
