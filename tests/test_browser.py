"""The web client in a real Chromium, against a real gateway, with clients of all other kinds around it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, async_playwright, expect

from harness.browser import WebClient, launch
from harness.client import Join, succeed
from harness.names import fresh_name
from harness.process import GatewayProcess, StartGateway, quiet_port

OpenPage = Callable[..., Awaitable[WebClient]]


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await launch(playwright)
        yield browser
        await browser.close()


@pytest.fixture
async def open_page(browser: Browser) -> AsyncIterator[OpenPage]:
    """Opens the page for one user, in a browser profile of its own."""
    opened: list[WebClient] = []

    async def open_one(*, width: int = 1280, **options: object) -> WebClient:
        context = await browser.new_context(viewport={"width": width, "height": 720}, **options)  # type: ignore[arg-type]
        context.set_default_timeout(15_000)
        opened.append(WebClient(await context.new_page()))
        return opened[-1]

    yield open_one
    for client in opened:
        await client.page.context.close()


async def test_all_kinds_of_clients_hold_one_conversation(
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
    await expect(right.page.get_by_role("status", name="Connection")).to_contain_text("Online")

    room = fresh_name("room")
    await left.create_room(room, bob, node_name)
    await left.page.get_by_role("textbox", name="Message").wait_for()
    await left.add_people(json_name)
    await succeed(tester, "add-user", room=room, users=[bare_name])
    await right.open_room(room)

    await left.say("from a browser")
    await succeed(node, "send-msg", room=room, content="from Node")
    await right.sees("from Node")
    await succeed(tester, "send-msg", room=room, content="from a tester")
    await bare.echo("send-msg", room=room, content="from the bare wire")
    await left.sees("from the bare wire")
    await right.say("from the other browser")

    everything = [
        "from a browser", "from Node", "from a tester", "from the bare wire", "from the other browser",
    ]  # fmt: skip
    for page in (left, right):
        for text in everything:
            await page.sees(text)
    for client, own in ((node, "from Node"), (tester, "from a tester")):
        heard = [(await client.next_event("message")).fields["content"] for _ in range(4)]
        assert heard == [text for text in everything if text != own]
    assert [await bare.next_frame() for _ in range(4)] == [text for text in everything if text != "from the bare wire"]
    history = (await succeed(tester, "history", room=room))["messages"]
    assert [message["from"] for message in history] == [alice, node_name, json_name, bare_name, bob]


async def test_the_page_asks_nobody_but_the_gateway(gateway: GatewayProcess, open_page: OpenPage) -> None:
    """No request leaves the origin, nothing breaks the Content-Security-Policy, and the console stays clean."""
    client = await open_page()
    await client.join(gateway.url, fresh_name())
    await client.create_room(fresh_name("room"))
    await client.say("to myself")
    await client.sees("to myself")
    assert {urlsplit(url).netloc for url in client.requests} == {urlsplit(gateway.url).netloc}
    assert client.problems == []


@pytest.mark.parametrize("username", ["Not A Name", "taken"])
async def test_a_name_that_cannot_be_had_is_refused_with_a_reason(
    gateway: GatewayProcess, join: Join, open_page: OpenPage, username: str
) -> None:
    """A name that is invalid or taken brings an alert and keeps the login open; another one then gets in."""
    if username == "taken":
        username = (await join("json")).username
    client = await open_page()
    await client.join(gateway.url, username)
    await expect(client.page.get_by_role("alert")).not_to_be_empty()
    await client.page.get_by_role("textbox", name="Username").fill(fresh_name())
    await client.page.get_by_role("button", name="Join").click()
    await client.page.get_by_role("button", name="New room").wait_for()


async def test_logging_out_frees_the_name(gateway: GatewayProcess, join: Join, open_page: OpenPage) -> None:
    """After "Log out" the page asks for a name again, and anyone may take the one that was left."""
    client, name = await open_page(), fresh_name()
    await client.join(gateway.url, name)
    await client.page.get_by_role("button", name="Log out").click()
    await client.page.get_by_role("textbox", name="Username").wait_for()
    await join("json", name)


async def test_leaving_a_room_takes_it_off_the_list(gateway: GatewayProcess, open_page: OpenPage) -> None:
    """The button "Leave room" removes the room from the navigation, and its name is free."""
    client, room = await open_page(), fresh_name("room")
    await client.join(gateway.url, fresh_name())
    for _ in range(2):
        await client.create_room(room)
        await client.page.get_by_role("button", name="Leave room").click()
        await expect(client.page.get_by_role("navigation", name="Rooms").get_by_text(room)).to_have_count(0)


async def test_a_message_sent_while_the_gateway_was_killed_arrives_once(
    start_gateway: StartGateway, join: Join, open_page: OpenPage
) -> None:
    """kill -9 and a restart: the page comes back by itself and sends what waited, exactly once."""
    own = await start_gateway(on_disk=True, port=quiet_port())
    bob = await join("json", to=own)
    client = await open_page()
    await client.join(own.url, "alice")
    await client.create_room("tea", bob.username)
    await client.say("before")
    await bob.next_event("message")
    await own.kill9()
    await client.say("while it was down")
    await own.restart()
    back = await join("json", bob.username, to=own, query={"pid": bob.pid, "offset": bob.offset})
    await expect(client.page.get_by_role("status", name="Connection")).to_contain_text("Online")
    assert (await back.next_event("message")).fields["content"] == "while it was down"
    history = (await succeed(back, "history", room="tea"))["messages"]
    assert [message["content"] for message in history] == ["before", "while it was down"]
