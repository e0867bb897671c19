"""Lost connections and reloaded tabs: nothing is lost, and the page shows the state."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from harness.browser import OpenPage
from harness.client import Join, succeed
from harness.names import fresh_name
from harness.plain import JsonClient
from harness.process import GatewayProcess, StartGateway, stable_port


@pytest.fixture
async def own(start_gateway: StartGateway) -> GatewayProcess:
    """A gateway that can be killed and restarted on its port with all its data."""
    return await start_gateway(on_disk=True, port=stable_port())


async def come_back(bob: JsonClient, join: Join, own: GatewayProcess) -> JsonClient:
    return await join("json", bob.username, to=own, query={"pid": bob.pid, "offset": bob.offset})


async def contents(client: JsonClient) -> list[str]:
    return [message["content"] for message in (await succeed(client, "history", room="tea"))["messages"]]


async def test_a_kill_of_the_gateway_loses_nothing_typed_or_sent(
    own: GatewayProcess, join: Join, open_page: OpenPage
) -> None:
    """kill -9 and a restart: the page says so, keeps what is being typed and sends what waited, exactly once."""
    bob, client = await join("json", to=own), await open_page()
    await client.join(own.url, "alice")
    await client.create_room("tea", bob.username)
    await client.send("before")
    await bob.next_event("message")
    await client.page.keyboard.type("while it ")
    await own.kill9()
    await expect(client.connection).to_contain_text("Reconnecting… messages are queued")
    await client.page.keyboard.type("was down")
    await client.page.keyboard.press("Enter")
    await expect(client.message("while it was down")).to_contain_text("Waiting for a connection")
    await client.page.keyboard.type("half a")
    await own.restart()
    await expect(client.connection).to_have_text("Online")
    await client.page.keyboard.type(" sentence")
    await expect(client.box).to_have_value("half a sentence")
    bob = await come_back(bob, join, own)
    assert (await bob.next_event("message")).fields["content"] == "while it was down"
    assert await contents(bob) == ["before", "while it was down"]
    await expect(client.message("while it was down")).not_to_contain_text("Waiting")


async def test_the_page_works_without_long_polling(
    start_gateway: StartGateway, join: Join, open_page: OpenPage
) -> None:
    """With `--transports websocket`."""
    own = await start_gateway(transports="websocket")
    bob, client = await join("json", to=own), await open_page()
    await client.join(own.url, "alice")
    await client.create_room("tea", bob.username)
    await client.send("hello")
    assert (await bob.next_event("message")).fields["content"] == "hello"


async def test_a_reload_continues_the_session(gateway: GatewayProcess, join: Join, open_page: OpenPage) -> None:
    """The tab keeps its session: nobody is told that it left; its room, draft, history and unread counts are there."""
    client, bob = await open_page(), await join()
    await client.join(gateway.url, fresh_name())
    room, other = fresh_name("room"), fresh_name("other")
    await client.create_room(other, bob.username)
    await client.create_room(room, bob.username)
    await client.send("before")
    await succeed(bob, "send-msg", room=other, content="unread")
    await expect(client.row(other)).to_contain_text("1 unread")
    await client.box.fill("half a")
    await bob.drain()
    await client.page.reload()
    await expect(client.box).to_have_value("half a")
    await client.sees("before")
    await expect(client.row(other)).to_contain_text("1 unread")
    await client.box.fill("half a sentence")
    await succeed(bob, "send-msg", room=other, content="unread too")
    await expect(client.row(other)).to_contain_text("2 unread")
    await client.page.reload()
    await expect(client.box).to_have_value("half a sentence")
    await expect(client.row(other)).to_contain_text("2 unread")
    await client.send("after")
    assert (await bob.next_event("message")).fields["content"] == "after"
    assert {event.name for event in await bob.drain()} <= {"presence", "typing"}


async def test_unsent_messages_survive_a_reload(own: GatewayProcess, join: Join, open_page: OpenPage) -> None:
    """A message that waits for the connection is sent by the page that comes after the reload, once."""
    bob, carol, client = await join("json", to=own), await join("json", to=own), await open_page()
    await client.join(own.url, "alice")
    await client.create_room("tea", bob.username)
    await client.page.context.set_offline(True)
    await client.send("still here")
    # The gateway is full when it comes back: it serves the page, and accepts nobody.
    await own.kill9()
    await own.restart(max_connections=2)
    bob, carol = await come_back(bob, join, own), await come_back(carol, join, own)
    await client.page.context.set_offline(False)
    client.page.on("dialog", lambda dialog: dialog.accept())
    await client.page.reload()
    await expect(client.connection).to_contain_text("Reconnecting…")
    assert await contents(bob) == []
    await carol.drop()
    assert (await bob.next_event("message")).fields["content"] == "still here"
    await expect(client.message("still here").locator("time")).to_be_visible()
    assert await contents(bob) == ["still here"]


async def test_unsent_messages_are_sent_when_the_browser_is_online_again(
    gateway: GatewayProcess, join: Join, open_page: OpenPage
) -> None:
    """Without a network messages wait; with one, they go out and what was missed comes in, in order."""
    client, bob = await open_page(), await join()
    await client.join(gateway.url, fresh_name())
    room = fresh_name("room")
    await client.create_room(room, bob.username)
    await client.send("before")
    await bob.next_event("message")
    await client.page.context.set_offline(True)
    await expect(client.connection).to_contain_text("Reconnecting…")
    await client.send("from the tunnel")
    await succeed(bob, "send-msg", room=room, content="you were away")
    await client.page.context.set_offline(False)
    assert (await bob.next_event("message")).fields["content"] == "from the tunnel"
    await expect(client.message("from the tunnel").locator("time")).to_be_visible()
    texts = await client.log.get_by_role("article").locator("[dir=auto]").all_inner_texts()
    assert texts == ["before", "you were away", "from the tunnel"]


async def test_the_page_says_when_its_session_has_ended(
    start_gateway: StartGateway, join: Join, open_page: OpenPage
) -> None:
    """A user whose rooms are gone reads why, and how many messages were not sent."""
    own = await start_gateway(port=stable_port())  # it loses all its data
    client = await open_page()
    await client.join(own.url, "alice")
    await client.create_room("tea")
    await own.kill9()
    await client.send("too late")
    await own.restart()
    await expect(client.page.get_by_role("alert")).to_contain_text("A message was not sent.")
    await expect(client.rooms).to_contain_text("You are not in any room yet.")


async def test_closing_the_tab_asks_only_while_messages_are_unsent(own: GatewayProcess, open_page: OpenPage) -> None:
    """With everything sent the tab closes without a question; with a message that waits, the browser asks."""
    client, calm = await open_page(), await open_page()
    for page, name in ((client, "alice"), (calm, "bob")):
        await page.join(own.url, name)
        await page.create_room(f"room of {name}")
        await page.send("sent")
        await expect(page.message("sent").locator("time")).to_be_visible()
    asked: list[str] = []
    calm.page.on("dialog", lambda dialog: asked.append(dialog.type))
    async with calm.page.expect_event("close"):
        await calm.page.close(run_before_unload=True)
    assert asked == []
    await own.kill9()
    await client.send("not sent")
    async with client.page.expect_event("dialog") as question:
        await client.page.close(run_before_unload=True)
    dialog = await question.value
    assert dialog.type == "beforeunload"
    await dialog.dismiss()
    await expect(client.message("not sent")).to_be_visible()
